package redislimit_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate"
	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/redislimit"
	"example.com/tollgate/redislimit/internal/redistest"
)

// watch notes when Redis was lost and when it was back.
type watch struct {
	mu    sync.Mutex
	lost  []time.Time
	found []time.Time
}

func (w *watch) trace() *tollgate.Trace {
	return &tollgate.Trace{StoreError: func(_ string, err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if err != nil {
			w.lost = append(w.lost, time.Now())
		} else {
			w.found = append(w.found, time.Now())
		}
	}}
}

func (w *watch) counts() (lost, found int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.lost), len(w.found)
}

func (s *strict) RoundTrip(r *http.Request) (*http.Response, error) {
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}
	if ok, wait := s.arrive(r.Header.Get("Process")); !ok {
		resp.StatusCode = http.StatusTooManyRequests
		resp.Header.Set("Retry-After", strconv.FormatFloat(wait.Seconds(), 'f', 6, 64))
	}
	return resp, nil
}

// batch sends n requests from each of some limiters of one quota, as processes
// would, while something happens.
type batch struct {
	server  *strict
	clients int
	each    int
	options redislimit.Options
	connect func() redis.UniversalClient
	happens func()
}

// run returns how many were answered, and what each noticed of Redis.
func (b batch) run(t *testing.T) (ok int, watches []*watch) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range b.clients {
		c := b.connect()
		t.Cleanup(func() { c.Close() })
		w := new(watch)
		watches = append(watches, w)
		client := &http.Client{Transport: &tollgate.Retry{Max: 20, Base: &tollgate.Transport{
			Base:    b.server,
			Quotas:  tollgate.Quotas{"*": {{N: int64(b.server.n), Per: b.server.per}}},
			Limiter: redislimit.New(c, b.options),
			Trace:   w.trace(),
		}}}
		for range b.each {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				req, _ := http.NewRequestWithContext(ctx, "GET", "http://api.example.com/", nil)
				req.Header.Set("Process", strconv.Itoa(i))
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				mu.Lock()
				defer mu.Unlock()
				if resp.StatusCode == http.StatusOK {
					ok++
				}
			})
		}
	}
	wg.Go(b.happens)
	wg.Wait()
	return ok, watches
}

func connect(s *redistest.Server) func() redis.UniversalClient {
	return func() redis.UniversalClient { return s.Client() }
}

// Redis is killed and comes back, knowing nothing: every request completes, the
// server refuses at most a window's worth, and the quota is shared again soon.
func TestKill(t *testing.T) {
	s := redistest.Start(t)
	server := &strict{n: 100, per: 2 * time.Second}
	var back time.Time
	ok, watches := batch{server: server, clients: 4, each: 150, options: redislimit.Options{Instances: 4, Timeout: 300 * time.Millisecond}, connect: connect(s), happens: func() {
		time.Sleep(3 * time.Second)
		s.Kill()
		time.Sleep(2 * time.Second)
		s.Restart()
		back = time.Now()
	}}.run(t)
	t.Logf("%d ok, %d refused, %.3f of ideal", ok, server.Refused, server.Took.Seconds()/10)
	if ok != 600 || server.Refused > server.n {
		t.Errorf("want 600 ok and at most %d refused", server.n)
	}
	for _, w := range watches {
		if lost, found := w.counts(); lost != 1 || found != 1 {
			t.Errorf("Redis was noticed to be lost %d times and found %d times, want once", lost, found)
			continue
		}
		t.Logf("shared again %v after it was back", w.found[0].Sub(back).Round(time.Millisecond))
		if d := w.found[0].Sub(back); d > 2*time.Second {
			t.Errorf("shared again after %v, want 2s", d)
		}
	}
}

// What does not hurt: scripts are forgotten, the server pauses its clients or
// stands still for less than the timeout, the network is slow.
func TestTroubles(t *testing.T) {
	for name, trouble := range map[string]func(s *redistest.Server, p *redistest.Proxy){
		"script flush": func(s *redistest.Server, _ *redistest.Proxy) {
			c := s.Client()
			defer c.Close()
			for range 20 {
				c.ScriptFlush(context.Background())
				time.Sleep(100 * time.Millisecond)
			}
		},
		"client pause": func(s *redistest.Server, _ *redistest.Proxy) {
			c := s.Client()
			defer c.Close()
			c.ClientPause(context.Background(), 500*time.Millisecond)
		},
		"standing still": func(s *redistest.Server, _ *redistest.Proxy) {
			time.Sleep(time.Second)
			s.Stop()
			time.Sleep(500 * time.Millisecond)
			s.Continue()
		},
		"slow network": func(_ *redistest.Server, p *redistest.Proxy) { p.Delay(50 * time.Millisecond) },
		"connections cut": func(_ *redistest.Server, p *redistest.Proxy) {
			time.Sleep(time.Second)
			p.Cut()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			p := redistest.NewProxy(t, s.Addr())
			server := &strict{n: 50, per: time.Second}
			ok, watches := batch{server: server, clients: 3, each: 60, options: redislimit.Options{Timeout: 5 * time.Second}, connect: func() redis.UniversalClient {
				return redis.NewClient(&redis.Options{Addr: p.Addr(), ContextTimeoutEnabled: true})
			}, happens: func() { trouble(s, p) }}.run(t)
			if ok != 180 || server.Refused > 0 {
				t.Errorf("%d ok, %d refused; want 180 and none", ok, server.Refused)
			}
			for _, w := range watches {
				if lost, _ := w.counts(); lost > 0 {
					t.Error("Redis was thought to be lost")
				}
			}
		})
	}
}

// While Redis does not answer, OnError says what is done, at once, and nobody
// waits past a deadline.
func TestOnError(t *testing.T) {
	for _, stop := range []bool{false, true} {
		for _, on := range []redislimit.OnError{redislimit.FallBack, redislimit.FailOpen, redislimit.FailClosed} {
			s := redistest.Start(t)
			if stop {
				s.Stop()
			} else {
				s.Kill()
			}
			c := s.Client()
			defer c.Close()
			l := limiter.New("k", limiter.Options{
				Limits: []refill.Limit{{N: 10, Per: time.Hour, Rule: refill.Window}},
				Shared: redislimit.New(c, redislimit.Options{OnError: on, Instances: 5, Timeout: 50 * time.Millisecond}),
			})
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			passed := 0
			var last error
			for i := range 5 {
				g := ask(uint64(i + 1))
				if last = l.Acquire(ctx, g); last == nil {
					passed++
					g.Closed()
				}
			}
			want := map[redislimit.OnError]int{redislimit.FallBack: 2, redislimit.FailOpen: 5, redislimit.FailClosed: 0}[on]
			if passed != want {
				t.Errorf("%v: %d passed, want %d", on, passed, want)
			}
			if limited := errors.Is(last, limiter.ErrRejected); on == redislimit.FallBack && !limited || on == redislimit.FailClosed && (last == nil || limited) {
				t.Errorf("%v: error %v", on, last)
			}
			if stop {
				s.Continue()
			}
		}
	}
}

// A request gives up with its context, whatever Redis does.
func TestContext(t *testing.T) {
	s := redistest.Start(t)
	s.Stop()
	defer s.Continue()
	c := s.Client()
	defer c.Close()
	l := limiter.New("k", limiter.Options{
		Limits: []refill.Limit{{N: 10, Per: time.Minute}},
		Shared: redislimit.New(c, redislimit.Options{Timeout: time.Hour}),
	})
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := l.Acquire(ctx, ask(1)); err != context.Canceled {
		t.Errorf("error %v, want the context's", err)
	}
}

// ask is a request for one token.
func ask(place uint64) *limiter.Request {
	return &limiter.Request{Request: engine.Request{Place: place, Draw: estimate.Draw{Cost: refill.Cost{1}}}}
}

// A drain that one process hears of holds up the others from their next decision
// on, and those who wait already.
func TestDrain(t *testing.T) {
	s := redistest.Start(t)
	process := func() *limiter.Limiter {
		c := s.Client()
		t.Cleanup(func() { c.Close() })
		return limiter.New("k", limiter.Options{
			Limits: []refill.Limit{{N: 10, Per: time.Second, Rule: refill.Window}},
			Shared: redislimit.New(c, redislimit.Options{Timeout: time.Second}),
		})
	}
	acquire := func(l *limiter.Limiter, place uint64) *limiter.Request {
		g := ask(place)
		if err := l.Acquire(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		g.Sent()
		return g
	}
	one, other := process(), process()
	g := acquire(one, 1)
	for i := range 9 {
		acquire(other, uint64(i+1)).Answered(engine.Answer{})
	}
	waited := make(chan time.Time)
	go func() {
		acquire(other, 10)
		waited <- time.Now()
	}()
	g.Answered(engine.Answer{Refused: true})
	g.Refused(engine.Refusal{Wait: 3 * time.Second})
	began := time.Now()
	time.Sleep(100 * time.Millisecond)
	if st, _ := other.Status(); st.Waiting != 1 {
		t.Errorf("%+v, want one that waits", st)
	}
	if got := (<-waited).Sub(began); got < 2900*time.Millisecond {
		t.Errorf("the other process went on after %v, want 3s", got)
	}
}
