package tollgate

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate/provider"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int) (*http.Response, error) {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("x"))}, nil
}

func newGet(ctx context.Context, t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// One that comes back into the middle of the line waits for those before it, not
// for all.
func TestLineRetryEstimate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		var mu sync.Mutex
		c := &Retry{Base: &Transport{Quotas: Quotas{"*": {RPM(10)}}, Base: roundTrip(func(*http.Request) (*http.Response, error) {
			mu.Lock()
			n++
			status := http.StatusOK
			if n <= 10 {
				status = http.StatusServiceUnavailable
			}
			mu.Unlock()
			time.Sleep(50 * time.Millisecond)
			return answer(status)
		})}}
		var wg sync.WaitGroup
		for i := range 100 {
			ctx := t.Context()
			if i < 10 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 5*time.Minute)
				defer cancel()
			}
			wg.Go(func() {
				resp, err := c.RoundTrip(newGet(ctx, t, "http://a/"))
				if err != nil {
					t.Errorf("%d: %v", i, err)
					return
				}
				resp.Body.Close()
			})
			synctest.Wait()
		}
		wg.Wait()
	})
}

func TestLineBefore(t *testing.T) {
	var l line
	for place := uint64(10); place <= 100; place += 10 {
		l.insert(&waiter{place: place, cost: cost{Requests: int64(place)}})
	}
	for place, want := range map[uint64]int{1: 0, 10: 1, 15: 1, 45: 4, 55: 5, 75: 7, 100: 10, 200: 10} {
		sum := int64(0)
		for i := 1; i <= want; i++ {
			sum += int64(10 * i)
		}
		if n, c := l.before(place); n != want || c[Requests] != sum {
			t.Errorf("before %d: %d, %d; want %d, %d", place, n, c[Requests], want, sum)
		}
	}
}

// A hint that no bucket can heed closes the gate as a whole.
func TestGateHintWithoutBucket(t *testing.T) {
	named := provider.Refusal{Wait: 30 * s, Hinted: true, Limits: []provider.Violation{{Unit: Tokens, Per: time.Minute}}}
	for name, test := range map[string]struct {
		quota   Quota
		refusal provider.Refusal
	}{
		"only a limit of a day":         {Quota{{N: 1000, Per: day}}, provider.Refusal{Wait: 30 * s, Hinted: true}},
		"a limit that it draws not on":  {Quota{RPM(1000), TPM(1000)}, named},
		"a limit that nobody stated":    {Quota{Concurrency(5)}, named},
		"no limit":                      {nil, named},
		"an output limit of this quota": {Quota{OTPM(1000)}, provider.Refusal{Wait: 30 * s, Hinted: true, Limits: []provider.Violation{{Unit: OutputTokens, Per: time.Minute}}}},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := NewGate("k", test.quota)
			w := mustAcquire(t, g, 1)
			w.Answered(429, time.Time{}, nil)
			w.Refused(429, test.refusal)
			w.Done()
			if got := freeAt(t, g, time.Now()); got != 30*s {
				t.Errorf("%s: open after %v, want 30s", name, got)
			}
		})
	}
}

// "As long as you like" is not less than a minute.
func TestGateForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate("k", Quota{RPM(1)})
		mustAcquire(t, g, 1)
		ctx, cancel := context.WithTimeout(t.Context(), math.MaxInt64)
		defer cancel()
		for _, wait := range []time.Duration{0, math.MaxInt64} {
			w, err := g.Acquire(ctx, Ask{Place: 2, Cost: one, MaxWait: wait})
			if err != nil {
				t.Fatal(err)
			}
			w.Sent()
		}
		b := NewBucket(RPM(10))
		b.Drain(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
		if n := b.Level(); n != 0 {
			t.Errorf("%d tokens before the year 9999, want none", n)
		}
	})
}

// MaxWait is everyone's own.
func TestGateOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate("k", Quota{Concurrency(1)})
		mustAcquire(t, g, 1)
		began := time.Now()
		for i, wait := range []time.Duration{time.Minute, 10 * s, 20 * s, 0} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			go func() {
				_, err := g.Acquire(ctx, Ask{Place: uint64(2 + i), Cost: one, MaxWait: wait})
				if wait == 0 {
					if err != context.DeadlineExceeded {
						t.Errorf("without MaxWait: %v", err)
					}
					return
				}
				var limit *LimitError
				if got := time.Since(began); !errors.As(err, &limit) || limit.Reason != PastMaxWait || got != wait {
					t.Errorf("%v after %v, want a rejection after %v", err, got, wait)
				}
			}()
			synctest.Wait()
		}
		time.Sleep(10 * time.Minute)
	})
}

// A slow connection does not hold up a gate that opens slowly, and one that
// fails leaves no trace after a drain.
func TestGateSlowStartLeavesNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate("k", nil)
		w := mustAcquire(t, g, 1)
		w.Answered(429, time.Time{}, nil)
		w.Refused(429, provider.Refusal{Wait: 5 * s, Hinted: true})
		if _, err := g.Acquire(t.Context(), Ask{Place: 2, Cost: one}); err != nil { // is never sent
			t.Fatal(err)
		}
		if got := freeAt(t, g, time.Now()); got != flight {
			t.Errorf("the next one after %v, want %v", got, flight)
		}

		g = NewGate("k", Quota{RPM(2)})
		w = mustAcquire(t, g, 1)
		w.Answered(429, time.Time{}, nil)
		w.Refused(429, provider.Refusal{Wait: 90 * s, Hinted: true})
		freeAt(t, g, time.Now()) // and fails
		if got := freeAt(t, g, time.Now()); got != 0 {
			t.Errorf("after one that failed the next had to wait %v", got)
		}
	})
}

// What is taken and given back leaves nothing behind.
func TestWindowForgets(t *testing.T) {
	b := NewBucket(Limit{N: 10, Per: time.Hour})
	for range 10_000 {
		if !b.TryTake(2) {
			t.Fatal("no token")
		}
		b.Put(2)
	}
	if n := len(b.pool.rule.(*window).spent); n > 1 {
		t.Errorf("%d entries of nothing", n)
	}
}

// More than a Steady bucket gives at once is too much, whichever way it is asked.
func TestBucketBurst(t *testing.T) {
	b := NewBucket(Limit{N: 10, Per: 10 * time.Second, Refill: Steady, Burst: 3})
	if b.TryTake(4) {
		t.Error("took 4 with a burst of 3")
	}
	var limit *LimitError
	if err := b.Take(t.Context(), 4); !errors.As(err, &limit) || limit.Reason != TooLarge {
		t.Errorf("4 with a burst of 3: %v", err)
	}
	if !b.TryTake(3) {
		t.Error("3 with a burst of 3 are not there")
	}
}

// A limit that is stated in another time than it was configured in is another
// one, unless the number is the same.
func TestGateLearns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate("k", Quota{{N: 10, Per: 2 * s}, {N: 5, Per: s}})
		w := mustAcquire(t, g, 1)
		w.Answered(200, time.Time{}, []provider.Level{
			{N: 10, Per: time.Minute, Left: -1, Full: -1},                                     // the first one
			{N: 4, Per: s, Left: 1, Full: -1},                                                 // the second one, and less
			{N: 100, Per: time.Minute, Left: 50, Full: -1},                                    // a new one
			{Unit: Tokens, N: 1000, Per: time.Minute, Left: 10, Full: s},                      // and another
			{Per: time.Minute, Left: -1}, {N: 7, Left: -1}, {Unit: 9, N: 1, Per: s, Left: -1}, // nothing
		})
		var got []LimitStatus
		for _, l := range g.Status().Limits {
			l.Full = time.Time{}
			got = append(got, l)
		}
		want := []LimitStatus{
			{Limit: Limit{N: 10, Per: 2 * s}, Left: 9},
			{Limit: Limit{N: 4, Per: s}, Left: 1},
			{Limit: RPM(100), Learned: true, Left: 50},
			{Limit: TPM(1000), Learned: true, Left: 10},
		}
		if !slices.Equal(got, want) {
			t.Errorf("%#v, want %#v", got, want)
		}
	})
}
