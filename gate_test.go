package tollgate

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate/provider"
)

var one = provider.Cost{Requests: 1}

// mustAcquire gets a grant that has to be there at once, sent and answered.
func mustAcquire(t *testing.T, g Limiter, place uint64) *grant {
	t.Helper()
	w, err := g.Acquire(t.Context(), Ask{Place: place, Cost: one, MaxWait: -1})
	if err != nil {
		t.Fatal(err)
	}
	w.Sent()
	return w.(*grant)
}

// freeAt waits for the next grant and returns when it came, from start.
func freeAt(t *testing.T, g Limiter, start time.Time) time.Duration {
	t.Helper()
	w, err := g.Acquire(t.Context(), Ask{Place: 1000, Cost: one})
	if err != nil {
		t.Fatal(err)
	}
	w.Failed(false)
	return time.Since(start)
}

// perMinute is the time after which a token is back: a minute, and what the
// clocks may drift apart in it.
const perMinute = time.Minute + 30*time.Millisecond

// A token counts from when its response's headers arrive, or a second after the
// request was written, whichever is first.
func TestGateSpent(t *testing.T) {
	tests := []struct {
		name string
		do   func(w *grant)
		want time.Duration // until the token is back
	}{
		{"answered soon", func(w *grant) { time.Sleep(300 * time.Millisecond); w.Answered(200, time.Time{}, nil) }, 300*time.Millisecond + perMinute},
		{"answered late", func(w *grant) { time.Sleep(20 * s); w.Answered(200, time.Time{}, nil) }, 1*s + perMinute},
		{"written late", func(w *grant) {
			w.Unsent()
			time.Sleep(5 * s)
			w.Sent()
			time.Sleep(20 * s)
			w.Answered(200, time.Time{}, nil)
		}, 6*s + perMinute},
		{"written late, answered soon", func(w *grant) {
			w.Unsent()
			time.Sleep(5 * s)
			w.Sent()
			time.Sleep(s / 2)
			w.Answered(200, time.Time{}, nil)
			w.Sent() // reported out of order
		}, 5*s + s/2 + perMinute},
		{"refused", func(w *grant) {
			time.Sleep(s / 2)
			w.Answered(503, time.Time{}, nil)
			w.Refused(503, provider.Refusal{})
		}, s/2 + perMinute},
		{"never sent", func(w *grant) { w.Unsent(); time.Sleep(5 * s); w.Failed(false); w.Failed(true) }, 5 * s},
		{"given up", func(w *grant) { time.Sleep(s / 2); w.Failed(true) }, 1*s + perMinute},
		{"given up when it was not written", func(w *grant) { w.Unsent(); time.Sleep(s / 2); w.Failed(true) }, s/2 + 1*s + perMinute},
		{"given up late", func(w *grant) { time.Sleep(20 * s); w.Failed(true); w.Failed(false) }, 1*s + perMinute},
		{"something else was written before", func(w *grant) {
			w.Unsent()
			w.Sent()
			time.Sleep(5 * s)
			w.Unsent()
			w.Sent()
			time.Sleep(20 * s)
			w.Answered(200, time.Time{}, nil)
			w.Sent()
		}, 6*s + perMinute},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewGate("k", Quota{RPM(1)})
				start := time.Now()
				w := mustAcquire(t, g, 1)
				go test.do(w)
				if got := freeAt(t, g, start); got != test.want {
					t.Errorf("token back after %v, want %v", got, test.want)
				}
			})
		})
	}
}

// All limits of a quota or none: a request that lacks one takes from no other.
func TestGateAllOrNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate("k", Quota{RPM(5), Concurrency(2)})
		a, b := mustAcquire(t, g, 1), mustAcquire(t, g, 2)
		a.Answered(200, time.Time{}, nil)
		b.Answered(200, time.Time{}, nil)
		_, err := g.Acquire(t.Context(), Ask{Place: 3, Cost: one, MaxWait: -1})
		var limit *LimitError
		if !errors.As(err, &limit) || limit.Reason != PastMaxWait {
			t.Fatalf("a third at once: %v", err)
		}
		if st := g.Status(); st.Limits[0].Left != 3 || st.Limits[1].Left != 0 || st.InFlight != 2 {
			t.Errorf("status %+v, want 3 and 0 left and 2 in flight", st)
		}
		a.Done()
		a.Done()
		b.Failed(true)
		if st := g.Status(); st.Limits[0].Left != 3 || st.Limits[1].Left != 2 || st.InFlight != 0 || st.Waiting != 0 {
			t.Errorf("status %+v, want 3 and 2 left and none in flight", st)
		}
	})
}

func TestGateRejects(t *testing.T) {
	tests := []struct {
		name  string
		quota Quota
		line  int
		ask   Ask
		limit time.Duration // of the context
		want  Reason        // "": waits
		after time.Duration
	}{
		{name: "waits", quota: Quota{RPM(1)}, ask: Ask{}},
		{name: "never waits", quota: Quota{RPM(1)}, ask: Ask{MaxWait: -1}, want: PastMaxWait, after: perMinute},
		{name: "MaxWait too short", quota: Quota{RPM(1)}, ask: Ask{MaxWait: time.Minute}, want: PastMaxWait, after: perMinute},
		{name: "MaxWait long enough", quota: Quota{RPM(1)}, ask: Ask{MaxWait: time.Minute + s}},
		{name: "MaxWait too short for the line", quota: Quota{RPM(1)}, line: 3, ask: Ask{MaxWait: 2 * time.Minute}, want: PastMaxWait, after: 4 * perMinute},
		{name: "deadline too soon", quota: Quota{RPM(1)}, limit: time.Minute, want: PastDeadline, after: perMinute},
		{name: "deadline before MaxWait", quota: Quota{RPM(1)}, limit: s, ask: Ask{MaxWait: 2 * s}, want: PastDeadline, after: perMinute},
		{name: "deadline late enough", quota: Quota{RPM(1)}, limit: time.Minute + s},
		{name: "line full", quota: Quota{RPM(1)}, line: 2, ask: Ask{MaxQueue: 2}, want: PastMaxQueue, after: 3 * perMinute},
		{name: "line not full", quota: Quota{RPM(1)}, line: 2, ask: Ask{MaxQueue: 3}},
		{name: "nothing allowed", quota: Quota{RPM(0)}, ask: Ask{}, want: TooLarge, after: never},
		{name: "steady", quota: Quota{{N: 60, Per: time.Minute, Refill: Steady, Burst: 1}}, line: 10, ask: Ask{MaxWait: 10 * s}, want: PastMaxWait, after: 11*s + 11*s/2000},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewGate("k", test.quota)
				if test.quota[0].N > 0 {
					mustAcquire(t, g, 1).Answered(200, time.Time{}, nil)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				for i := range test.line {
					go g.Acquire(ctx, Ask{Place: uint64(2 + i), Cost: one})
				}
				synctest.Wait()
				if test.limit > 0 {
					var stop context.CancelFunc
					ctx, stop = context.WithTimeout(ctx, test.limit)
					defer stop()
				}
				time.AfterFunc(s, cancel)
				start := time.Now()
				ask := test.ask
				ask.Place, ask.Cost = 500, one
				_, err := g.Acquire(ctx, ask)
				if test.want == "" {
					if err != context.Canceled {
						t.Errorf("got %v, want it to wait until it is cancelled", err)
					}
					return
				}
				var limit *LimitError
				if !errors.As(err, &limit) || limit.Reason != test.want || limit.RetryAfter != test.after || limit.Key != "k" || limit.Limit.Unit != Requests {
					t.Fatalf("got %+v, want %q in %v", err, test.want, test.after)
				}
				if time.Since(start) != 0 {
					t.Errorf("rejected after %v, want at once", time.Since(start))
				}
				if got := errors.Is(err, context.DeadlineExceeded); got != (test.want == PastDeadline) {
					t.Errorf("errors.Is(err, context.DeadlineExceeded) is %v", got)
				}
			})
		})
	}
}

// What comes back keeps its place, and whoever is in line is turned away as
// soon as a drain puts its turn off too far.
func TestGateDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate("k", Quota{{N: 60, Per: time.Minute, Refill: Steady, Burst: 1}})
		w := mustAcquire(t, g, 1)
		start := time.Now()
		var mu sync.Mutex
		got := map[uint64]time.Duration{}
		var order []uint64
		var wg sync.WaitGroup
		acquire := func(place uint64, maxWait time.Duration) {
			wg.Go(func() {
				w, err := g.Acquire(t.Context(), Ask{Place: place, Cost: one, MaxWait: maxWait})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					w.Answered(200, time.Time{}, nil)
					order = append(order, place)
				}
				got[place] = time.Since(start)
				if (err != nil) != (place == 3) {
					t.Errorf("place %d: %v", place, err)
				}
			})
			synctest.Wait()
		}
		acquire(2, 0)
		acquire(3, 5*s)
		acquire(4, time.Hour)
		time.Sleep(s / 2)
		w.Answered(429, time.Time{}, nil)
		w.Refused(429, provider.Refusal{Wait: 10 * s, Hinted: true})
		synctest.Wait()
		acquire(1, 0) // the refused one is back
		wg.Wait()
		if want := []uint64{1, 2, 4}; !slices.Equal(order, want) {
			t.Errorf("let through in the order %v, want %v", order, want)
		}
		want := map[uint64]time.Duration{3: s / 2, 1: 10*s + s/2, 2: 11*s + s/2, 4: 12*s + s/2}
		for place, at := range want {
			if d := got[place] - at; d < 0 || d > 5*time.Millisecond {
				t.Errorf("place %d was done after %v, want %v", place, got[place], at)
			}
		}
	})
}

// A 429 of a server whose limits nobody knows closes the gate for as long as it
// says, and it opens slowly: one in flight, two, four.
func TestGatePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate("k", nil)
		refused := []*grant{mustAcquire(t, g, 1), mustAcquire(t, g, 2), mustAcquire(t, g, 3)}
		start := time.Now()
		for _, w := range refused {
			w.Answered(429, time.Time{}, nil)
			w.Refused(429, provider.Refusal{Wait: 7 * s, Hinted: true})
		}
		var mu sync.Mutex
		var at []time.Duration
		for i := range 10 {
			go func() {
				w, err := g.Acquire(t.Context(), Ask{Place: uint64(i + 1), Cost: one})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				at = append(at, time.Since(start))
				mu.Unlock()
				w.Sent()
				if i == 9 {
					time.Sleep(10 * s)
				} else {
					time.Sleep(100 * time.Millisecond)
				}
				w.Answered(200, time.Time{}, nil)
				w.Done()
			}()
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		const ms = time.Millisecond
		want := []time.Duration{7 * s, 7100 * ms, 7100 * ms, 7200 * ms, 7200 * ms, 7200 * ms, 7200 * ms, 7300 * ms, 7300 * ms, 7300 * ms}
		if !slices.Equal(at, want) {
			t.Errorf("let through at %v, want %v", at, want)
		}
		synctest.Wait()
		if p := g.(*gate).pause; p.width != 0 || p.flying != 0 {
			t.Errorf("the pause is not over: %+v", p)
		}
	})
}

// Bare refusals double the pause up to a minute, those of one moment count as
// one, and a success ends the doubling.
func TestGateBare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate("k", nil)
		for i, want := range []time.Duration{1 * s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 60 * s, 60 * s} {
			a := mustAcquire(t, g, 1)
			var b *grant
			if i == 0 {
				b = mustAcquire(t, g, 2)
			}
			start := time.Now()
			a.Answered(429, time.Time{}, nil)
			a.Refused(429, provider.Refusal{})
			if b != nil {
				b.Answered(429, time.Time{}, nil)
				b.Refused(429, provider.Refusal{})
			}
			if got := freeAt(t, g, start); got < want || got > want*5/4 {
				t.Errorf("pause %d of %v, want %v to a quarter more", i, got, want)
			}
		}
		mustAcquire(t, g, 1).Answered(200, time.Time{}, nil)
		w := mustAcquire(t, g, 1)
		start := time.Now()
		w.Answered(429, time.Time{}, nil)
		w.Refused(429, provider.Refusal{})
		if got := freeAt(t, g, start); got > 2*s {
			t.Errorf("pause of %v after a success, want a second", got)
		}
	})
}

func TestGateRefusals(t *testing.T) {
	hint := func(d time.Duration) provider.Refusal { return provider.Refusal{Wait: d, Hinted: true} }
	tests := []struct {
		name    string
		status  int
		refusal provider.Refusal
		want    time.Duration
	}{
		{"429 with a hint", 429, hint(20 * s), 20 * s},
		{"429 with an absurd hint", 429, hint(1 << 62), time.Hour},
		{"429 that no waiting cures", 429, provider.Refusal{Never: true, Hinted: true, Wait: 20 * s}, 0},
		{"503 without a hint", http.StatusServiceUnavailable, provider.Refusal{}, 0},
		{"503 with a hint", http.StatusServiceUnavailable, hint(20 * s), 20 * s},
		{"529 without a hint", statusOverloaded, provider.Refusal{}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewGate("k", Quota{RPM(100), {N: 1000, Per: day}})
				w := mustAcquire(t, g, 1)
				start := time.Now()
				w.Answered(test.status, time.Time{}, nil)
				w.Refused(test.status, test.refusal)
				if got := freeAt(t, g, start); got != test.want {
					t.Errorf("open after %v, want %v", got, test.want)
				}
			})
		})
	}
}

// A violation of one limit drains that one alone.
func TestGateDrainsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate("k", Quota{RPM(100), {Unit: Tokens, N: 1000, Per: time.Minute}, {N: 1000, Per: day}})
		w := mustAcquire(t, g, 1)
		w.Answered(429, time.Time{}, nil)
		w.Refused(429, provider.Refusal{Wait: 20 * s, Hinted: true, Limits: []provider.Violation{{Unit: Tokens, Per: time.Minute}}})
		st := g.Status()
		if st.Limits[0].Left != 99 || st.Limits[1].Left != 0 || st.Limits[2].Left != 999 {
			t.Errorf("left %+v, want the tokens drained and nothing else", st.Limits)
		}
		if st.PausedUntil != time.Now().Add(20*s) {
			t.Errorf("paused until %v", st.PausedUntil)
		}
	})
}

// Half of a thousand in line are cancelled at random: the rest move up, every
// token is used, and nothing stays behind.
func TestGateLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate("k", Quota{RPM(10)}).(*gate)
		start := time.Now()
		var wg sync.WaitGroup
		var mu sync.Mutex
		served, last := 0, time.Duration(0)
		for i := range 1000 {
			ctx, cancel := context.WithCancel(t.Context())
			if i%2 == 0 {
				time.AfterFunc(rand.N(time.Minute), cancel)
			}
			wg.Go(func() {
				defer cancel()
				w, err := g.Acquire(ctx, Ask{Place: uint64(i + 1), Cost: one})
				if err != nil {
					return
				}
				w.Sent()
				w.Answered(200, time.Time{}, nil)
				w.Done()
				mu.Lock()
				served, last = served+1, time.Since(start)
				mu.Unlock()
			})
		}
		wg.Wait()
		if want := time.Duration((served-1)/10) * perMinute; last != want {
			t.Errorf("%d served in %v, want %v", served, last, want)
		}
		l := g.line
		if l.head != nil || l.tail != nil || l.n != 0 || l.sum != (cost{}) || l.at != 0 || g.first != nil || g.last != nil || g.inFlight != 0 {
			t.Errorf("something stayed behind: %+v", g)
		}
		time.Sleep(2 * time.Minute)
		if left := g.Status().Limits[0].Left; left != 10 {
			t.Errorf("%d tokens in the end, want 10", left)
		}
	})
}
