package limiter

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/refill"
)

const s = time.Second

var one = refill.Cost{refill.Requests: 1}

// perMinute is the time after which a token is back: a minute, and what the
// clocks may drift apart in it.
const perMinute = time.Minute + 30*time.Millisecond

// Limits as they are stated.
func rpm(n int64) refill.Limit    { return refill.Limit{N: n, Per: time.Minute} }
func atOnce(n int64) refill.Limit { return refill.Limit{N: n} }
func perUnit(unit int, n int64) refill.Limit {
	return refill.Limit{Unit: unit, N: n, Per: time.Minute}
}

// newLimiter returns the limiter of some limits, kept in memory.
func newLimiter(limits ...refill.Limit) *Limiter { return New("k", Options{Limits: limits}) }

// ask is a request for one token, or for what c draws.
func ask(place uint64, c ...refill.Cost) *Request {
	r := &Request{Request: engine.Request{Place: place, Draw: estimate.Draw{Cost: one}}}
	if len(c) > 0 {
		r.Draw.Cost = c[0]
	}
	return r
}

// acquire lets a request go that has to go at once, and sends it.
func acquire(t *testing.T, l *Limiter, place uint64) *Request {
	t.Helper()
	r := ask(place)
	r.MaxWait = -1
	if err := l.Acquire(t.Context(), r); err != nil {
		t.Fatalf("%v: %+v", err, r.Rejection)
	}
	r.Sent()
	return r
}

// accept answers a request.
func accept(r *Request) { r.Answered(engine.Answer{}) }

// refuse answers a request with a refusal.
func refuse(r *Request, f engine.Refusal) {
	r.Answered(engine.Answer{Refused: true})
	r.Refused(f)
}

// freeAt waits for the next request to go, which fails, and returns when that was,
// from start.
func freeAt(t *testing.T, l *Limiter, start time.Time) time.Duration {
	t.Helper()
	r := ask(1000)
	if err := l.Acquire(t.Context(), r); err != nil {
		t.Fatalf("%v: %+v", err, r.Rejection)
	}
	r.Failed(false)
	return time.Since(start)
}

// status is a snapshot of a limiter.
func status(l *Limiter) engine.Status {
	st, _ := l.Status()
	return st
}

// A token counts from when its response's headers arrive, or a second after the
// request was written, whichever is first.
func TestSpent(t *testing.T) {
	tests := []struct {
		name string
		do   func(r *Request)
		want time.Duration // until the token is back
	}{
		{"answered soon", func(r *Request) { time.Sleep(300 * time.Millisecond); accept(r) }, 300*time.Millisecond + perMinute},
		{"answered late", func(r *Request) { time.Sleep(20 * s); accept(r) }, 1*s + perMinute},
		{"written late", func(r *Request) {
			r.Unsent()
			time.Sleep(5 * s)
			r.Sent()
			time.Sleep(20 * s)
			accept(r)
		}, 6*s + perMinute},
		{"written late, answered soon", func(r *Request) {
			r.Unsent()
			time.Sleep(5 * s)
			r.Sent()
			time.Sleep(s / 2)
			accept(r)
			r.Sent() // reported out of order
		}, 5*s + s/2 + perMinute},
		{"refused", func(r *Request) {
			time.Sleep(s / 2)
			refuse(r, engine.Refusal{Overload: true})
		}, s/2 + perMinute},
		{"never sent", func(r *Request) { r.Unsent(); time.Sleep(5 * s); r.Failed(false); r.Failed(true) }, 5 * s},
		{"given up", func(r *Request) { time.Sleep(s / 2); r.Failed(true) }, 1*s + perMinute},
		{"given up when it was not written", func(r *Request) { r.Unsent(); time.Sleep(s / 2); r.Failed(true) }, s/2 + 1*s + perMinute},
		{"given up late", func(r *Request) { time.Sleep(20 * s); r.Failed(true); r.Failed(false) }, 1*s + perMinute},
		{"something else was written before", func(r *Request) {
			r.Unsent()
			r.Sent()
			time.Sleep(5 * s)
			r.Unsent()
			r.Sent()
			time.Sleep(20 * s)
			accept(r)
			r.Sent()
		}, 6*s + perMinute},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(rpm(1))
				start := time.Now()
				r := acquire(t, l, 1)
				go test.do(r)
				if got := freeAt(t, l, start); got != test.want {
					t.Errorf("token back after %v, want %v", got, test.want)
				}
			})
		})
	}
}

// All limits of a quota or none: a request that lacks one takes from no other.
func TestAllOrNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(rpm(5), atOnce(2))
		a, b := acquire(t, l, 1), acquire(t, l, 2)
		accept(a)
		accept(b)
		r := ask(3)
		r.MaxWait = -1
		if err := l.Acquire(t.Context(), r); err != ErrRejected || r.Rejection.Reason != engine.PastMaxWait {
			t.Fatalf("a third at once: %v, %+v", err, r.Rejection)
		}
		if st := status(l); st.Limits[0].Left != 3 || st.Limits[1].Left != 0 || st.InFlight != 2 {
			t.Errorf("status %+v, want 3 and 0 left and 2 in flight", st)
		}
		a.Closed()
		a.Closed()
		b.Failed(true)
		if st := status(l); st.Limits[0].Left != 3 || st.Limits[1].Left != 2 || st.InFlight != 0 || st.Waiting != 0 {
			t.Errorf("status %+v, want 3 and 2 left and none in flight", st)
		}
	})
}

func TestRejects(t *testing.T) {
	tests := []struct {
		name     string
		limit    refill.Limit
		queue    int
		maxWait  time.Duration
		maxQueue int
		limitOf  time.Duration // of the context
		waits    bool
		want     engine.Reason
		after    time.Duration
	}{
		{name: "waits", limit: rpm(1), waits: true},
		{name: "never waits", limit: rpm(1), maxWait: -1, want: engine.PastMaxWait, after: perMinute},
		{name: "MaxWait too short", limit: rpm(1), maxWait: time.Minute, want: engine.PastMaxWait, after: perMinute},
		{name: "MaxWait long enough", limit: rpm(1), maxWait: time.Minute + s, waits: true},
		{name: "MaxWait too short for the queue", limit: rpm(1), queue: 3, maxWait: 2 * time.Minute, want: engine.PastMaxWait, after: 4 * perMinute},
		{name: "deadline too soon", limit: rpm(1), limitOf: time.Minute, want: engine.PastDeadline, after: perMinute},
		{name: "deadline before MaxWait", limit: rpm(1), limitOf: s, maxWait: 2 * s, want: engine.PastDeadline, after: perMinute},
		{name: "deadline late enough", limit: rpm(1), limitOf: time.Minute + s, waits: true},
		{name: "queue full", limit: rpm(1), queue: 2, maxQueue: 2, want: engine.PastMaxQueue, after: 3 * perMinute},
		{name: "queue not full", limit: rpm(1), queue: 2, maxQueue: 3, waits: true},
		{name: "nothing allowed", limit: rpm(0), want: engine.TooLarge, after: refill.Never},
		{name: "steady", limit: refill.Limit{N: 60, Per: time.Minute, Rule: refill.Steady, Burst: 1}, queue: 10, maxWait: 10 * s, want: engine.PastMaxWait, after: 11*s + 11*s/2000},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(test.limit)
				if test.limit.N > 0 {
					accept(acquire(t, l, 1))
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				for i := range test.queue {
					go l.Acquire(ctx, ask(uint64(2+i)))
				}
				synctest.Wait()
				if test.limitOf > 0 {
					var stop context.CancelFunc
					ctx, stop = context.WithTimeout(ctx, test.limitOf)
					defer stop()
				}
				time.AfterFunc(s, cancel)
				start := time.Now()
				r := ask(500)
				r.MaxWait, r.MaxQueue = test.maxWait, test.maxQueue
				err := l.Acquire(ctx, r)
				if test.waits {
					if err != context.Canceled || r.Rejection != nil {
						t.Errorf("got %v, want it to wait until it is cancelled", err)
					}
					return
				}
				if x := r.Rejection; err != ErrRejected || x == nil || x.Reason != test.want || x.After != test.after || x.Limit.Unit != refill.Requests || x.Limit != test.limit {
					t.Fatalf("got %v, %+v, want reason %d in %v", err, x, test.want, test.after)
				}
				if time.Since(start) != 0 {
					t.Errorf("rejected after %v, want at once", time.Since(start))
				}
			})
		})
	}
}

// "As long as you like" is not less than a minute.
func TestForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(rpm(1))
		acquire(t, l, 1)
		ctx, cancel := context.WithTimeout(t.Context(), math.MaxInt64)
		defer cancel()
		for _, wait := range []time.Duration{0, math.MaxInt64} {
			r := ask(2)
			r.MaxWait = wait
			if err := l.Acquire(ctx, r); err != nil {
				t.Fatal(err)
			}
			r.Sent()
		}
	})
}

// MaxWait is everyone's own.
func TestMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(atOnce(1))
		acquire(t, l, 1)
		began := time.Now()
		for i, wait := range []time.Duration{time.Minute, 10 * s, 20 * s, 0} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			go func() {
				r := ask(uint64(2 + i))
				r.MaxWait = wait
				err := l.Acquire(ctx, r)
				if wait == 0 {
					if err != context.DeadlineExceeded {
						t.Errorf("without MaxWait: %v", err)
					}
					return
				}
				if got := time.Since(began); err != ErrRejected || r.Rejection.Reason != engine.PastMaxWait || got != wait {
					t.Errorf("%v, %+v after %v, want a rejection after %v", err, r.Rejection, got, wait)
				}
			}()
			synctest.Wait()
		}
		time.Sleep(10 * time.Minute)
	})
}

// Half of a thousand in the queue are cancelled at random: the rest move up, every
// token is used, and nothing stays behind.
func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(rpm(10))
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
				r := ask(uint64(i + 1))
				if err := l.Acquire(ctx, r); err != nil {
					return
				}
				r.Sent()
				accept(r)
				r.Closed()
				mu.Lock()
				served, last = served+1, time.Since(start)
				mu.Unlock()
			})
		}
		wg.Wait()
		if want := time.Duration((served-1)/10) * perMinute; last != want {
			t.Errorf("%d served in %v, want %v", served, last, want)
		}
		if st := status(l); st.Waiting != 0 || st.InFlight != 0 || l.waiting.Load() != 0 || l.at != refill.Never || l.engine.Idle(Now()) == refill.Never || l.reports.Load() != nil {
			t.Errorf("something stayed behind: %+v, %d waiting, next event at %v, idle from %v", st, l.waiting.Load(), l.at, l.engine.Idle(Now()))
		}
		time.Sleep(2 * time.Minute)
		if left := status(l).Limits[0].Left; left != 10 {
			t.Errorf("%d tokens in the end, want 10", left)
		}
	})
}

// A limit that is stated in another time than it was configured in is another
// one, unless the number is the same.
func TestLearns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(refill.Limit{N: 10, Per: 2 * s}, refill.Limit{N: 5, Per: s})
		r := acquire(t, l, 1)
		r.Answered(engine.Answer{Levels: []engine.Level{
			{N: 10, Per: time.Minute, Left: -1, Full: -1},                                     // the first one
			{N: 4, Per: s, Left: 1, Full: -1},                                                 // the second one, and less
			{N: 100, Per: time.Minute, Left: 50, Full: -1},                                    // a new one
			{Unit: refill.Tokens, N: 1000, Per: time.Minute, Left: 10, Full: s},               // and another
			{Per: time.Minute, Left: -1}, {N: 7, Left: -1}, {Unit: 9, N: 1, Per: s, Left: -1}, // nothing
		}})
		var got []engine.LimitStatus
		for _, x := range status(l).Limits {
			x.Full = 0
			got = append(got, x)
		}
		want := []engine.LimitStatus{
			{Limit: refill.Limit{N: 10, Per: 2 * s}, Left: 9},
			{Limit: refill.Limit{N: 4, Per: s}, Left: 1},
			{Limit: rpm(100), Learned: true, Left: 50},
			{Limit: perUnit(refill.Tokens, 1000), Learned: true, Left: 10},
		}
		if !slices.Equal(got, want) {
			t.Errorf("%#v, want %#v", got, want)
		}
	})
}
