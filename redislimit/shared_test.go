package redislimit_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/redislimit"
	"example.com/tollgate/redislimit/internal/redistest"
)

// processes returns limiters that share the quota of a key, each with a client of its
// own.
func limiters(t *testing.T, addr string, n int, o redislimit.Options, limits ...refill.Limit) (list []*limiter.Limiter) {
	t.Helper()
	for range n {
		c := redis.NewClient(&redis.Options{Addr: addr})
		t.Cleanup(func() { c.Close() })
		list = append(list, limiter.New("k", limiter.Options{Limits: limits, Shared: redislimit.New(c, o)}))
	}
	return list
}

// spend takes n tokens.
func spend(t *testing.T, l *limiter.Limiter, n int) {
	t.Helper()
	for i := range n {
		r := ask(uint64(i + 1))
		if err := l.Acquire(t.Context(), r); err != nil {
			t.Fatalf("%v: %+v", err, r.Rejection)
		}
		r.Sent()
		r.Answered(engine.Answer{})
		r.Closed()
	}
}

// A day that another process has spent rejects as one that was spent here, at once, for
// the same reason and until the same time, in every order of the limits.
func TestDaySpent(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	t.Cleanup(func() { c.Close() })
	minute := refill.Limit{N: 3, Per: time.Minute, Rule: refill.Window}
	for name, day := range map[string]refill.Limit{
		"a day of the calendar": {N: 3, Per: refill.Day, Rule: refill.Calendar},
		"any 24 hours":          {N: 3, Per: refill.Day, Rule: refill.Window},
	} {
		for _, limits := range [][]refill.Limit{{minute, day}, {day, minute}, {day}} {
			c.FlushAll(context.Background())
			own := limiter.New("k", limiter.Options{Limits: limits})
			list := limiters(t, s.Addr(), 2, redislimit.Options{Timeout: time.Second}, limits...)
			spend(t, own, 3)
			spend(t, list[0], 3)
			time.Sleep(1100 * time.Millisecond) // all that was spent is told
			for _, deadline := range []time.Duration{0, 30 * time.Second} {
				reject := func(l *limiter.Limiter) engine.Rejection {
					ctx := t.Context()
					if deadline > 0 {
						var cancel func()
						ctx, cancel = context.WithTimeout(ctx, deadline)
						defer cancel()
					}
					r := ask(10)
					began := time.Now()
					if err := l.Acquire(ctx, r); err != limiter.ErrRejected || time.Since(began) > 10*time.Second {
						t.Fatalf("%s, %v: %v after %v, want it rejected at once", name, limits, err, time.Since(began))
					}
					return *r.Rejection
				}
				want, got := reject(own), reject(list[1])
				if got.Reason != want.Reason || got.Limit.Per != want.Limit.Per || (got.After-want.After).Abs() > 10*time.Minute {
					t.Errorf("%s, %v, deadline %v: %+v, want %+v", name, limits, deadline, got, want)
				}
			}
		}
	}
}

// How long a request would have to wait is told as it is in memory, also where all was
// spent at once.
func TestWait(t *testing.T) {
	s := redistest.Start(t)
	limit := refill.Limit{N: 10, Per: 3 * time.Minute, Rule: refill.Window}
	list := limiters(t, s.Addr(), 2, redislimit.Options{Timeout: time.Second}, limit)
	spend(t, list[0], 10)
	time.Sleep(1100 * time.Millisecond)
	for i := range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		r := ask(uint64(i + 1))
		err := list[1].Acquire(ctx, r)
		cancel()
		if err != limiter.ErrRejected || r.Rejection.After < 165*time.Second || r.Rejection.After > 182*time.Second {
			t.Errorf("%v, %+v; want it rejected, by nearly three minutes", err, r.Rejection)
		}
	}
}

// When Redis has lost everything, all who have spent something are asked for it.
func TestForgotten(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	t.Cleanup(func() { c.Close() })
	list := limiters(t, s.Addr(), 8, redislimit.Options{Timeout: time.Second}, refill.Limit{N: 80, Per: time.Hour, Rule: refill.Window})
	for _, l := range list {
		spend(t, l, 10)
	}
	time.Sleep(100 * time.Millisecond)
	c.FlushAll(context.Background())
	more := func(each int) (n int) {
		for _, l := range list {
			for i := range each {
				r := ask(uint64(100 + i))
				r.MaxWait = -1
				if l.Acquire(t.Context(), r) == nil {
					n++
				}
			}
		}
		return n
	}
	if n := more(1); n > 8 {
		t.Errorf("%d more went", n)
	}
	time.Sleep(500 * time.Millisecond)
	if n := more(10); n > 0 {
		t.Errorf("%d more went when all were asked what they had spent, want none", n)
	}
}

// A limit that is evenly spread is used up whatever the network takes, also where that
// is longer than Timeout.
func TestLatency(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	p.Delay(100 * time.Millisecond)
	list := limiters(t, p.Addr(), 2, redislimit.Options{}, refill.Limit{N: 30, Per: time.Second, Rule: refill.Steady, Burst: 1})
	var n atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	for _, l := range list {
		for i := range 20 {
			wg.Go(func() {
				for {
					r := ask(uint64(i + 1))
					if l.Acquire(ctx, r) != nil {
						return
					}
					n.Add(1)
					r.Sent()
					r.Answered(engine.Answer{})
					r.Closed()
				}
			})
		}
	}
	time.Sleep(3 * time.Second) // it is known how far away Redis is
	before, began := n.Load(), time.Now()
	time.Sleep(5 * time.Second)
	got, took := float64(n.Load()-before), time.Since(began).Seconds()
	cancel()
	wg.Wait()
	t.Logf("%.1f a second", got/took)
	least := 27.0
	if race {
		least = 15
	}
	if got/took < least || got/took > 31 {
		t.Errorf("%.1f a second, want 30", got/took)
	}
}

// A thousand keys that are used at once are no outage.
func TestManyKeys(t *testing.T) {
	s := redistest.Start(t)
	c := redis.NewClient(&redis.Options{Addr: s.Addr()})
	t.Cleanup(func() { c.Close() })
	o := redislimit.Options{}
	if race {
		o.Timeout = late
	}
	shared := redislimit.New(c, o)
	var told, went atomic.Int64
	var wg sync.WaitGroup
	for i := range 1000 {
		l := limiter.New(fmt.Sprint("key ", i), limiter.Options{
			Limits: []refill.Limit{{N: 1, Per: time.Minute, Rule: refill.Window}},
			Shared: shared,
			Tell:   func(error) { told.Add(1) },
		})
		wg.Go(func() {
			r := ask(1)
			if l.Acquire(t.Context(), r) == nil {
				went.Add(1)
				r.Closed()
			}
		})
	}
	wg.Wait()
	if went.Load() != 1000 || told.Load() > 0 {
		t.Errorf("%d went, and an outage was told %d times; want 1000 and none", went.Load(), told.Load())
	}
}
