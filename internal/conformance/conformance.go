// Package conformance is what every tollgate.Limiter has to do, whether it keeps
// its tokens in memory or shares them.
package conformance

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/provider"
)

// per is the span of the limits that are waited for: real servers' clocks run
// while they are tested.
const per = time.Second

// Run tests a kind of Limiter. late is how much later than it could a request may
// go, at an idle machine's worst.
func Run(t *testing.T, late time.Duration, run func(t *testing.T, f func(t *testing.T, limiter func(q tollgate.Quota) tollgate.Limiter))) {
	for name, test := range map[string]func(s suite){
		"window":                      suite.window,
		"steady":                      suite.steady,
		"calendar":                    suite.calendar,
		"all limits or none":          suite.allOrNone,
		"a drain":                     suite.drain,
		"a drain of one limit":        suite.drainOne,
		"a pause":                     suite.pause,
		"a debt":                      suite.debt,
		"less than estimated":         suite.refund,
		"never sent":                  suite.unsent,
		"requests at once":            suite.concurrency,
		"in line":                     suite.line,
		"gone from the line":          suite.cancel,
		"a deadline that is too soon": suite.deadline,
		"never waits":                 suite.never,
		"learned":                     suite.learned,
		"lowered":                     suite.lowered,
		"a day":                       suite.day,
		"more than there is":          suite.tooLarge,
		"status":                      suite.status,
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, limiter func(q tollgate.Quota) tollgate.Limiter) {
				test(suite{T: t, late: late, limiter: limiter})
			})
		})
	}
}

type suite struct {
	*testing.T
	late    time.Duration
	limiter func(q tollgate.Quota) tollgate.Limiter
}

// acquire lets a request through, and says when.
func (s suite) acquire(l tollgate.Limiter, place uint64, c provider.Cost) (tollgate.Grant, time.Time) {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	g, err := l.Acquire(ctx, tollgate.Ask{Place: place, Cost: c, Fixed: true})
	if err != nil {
		s.Fatal(err)
	}
	return g, time.Now()
}

// answered is a request that was let through and answered.
func (s suite) answered(l tollgate.Limiter, place uint64, c provider.Cost) time.Time {
	s.Helper()
	g, at := s.acquire(l, place, c)
	g.Sent()
	g.Answered(200, time.Time{}, nil)
	g.Done()
	return at
}

// after checks that something came in its time and not before.
func (s suite) after(what string, got, want time.Duration) {
	s.Helper()
	if got < want || got > want+s.late {
		s.Errorf("%s after %v, want %v and at most %v more", what, got, want, s.late)
	}
}

var one = provider.Cost{provider.Requests: 1}

func tokens(n int64) provider.Cost {
	return provider.Cost{provider.Requests: 1, provider.Tokens: n}
}

func (s suite) window() {
	l := s.limiter(tollgate.Quota{{N: 3, Per: per, Refill: tollgate.Window}})
	var at [7]time.Time
	for i := range at {
		at[i] = s.answered(l, uint64(i+1), one)
	}
	for i := 3; i < len(at); i++ {
		s.after("one more", at[i].Sub(at[i-3]), per)
	}
}

func (s suite) steady() {
	l := s.limiter(tollgate.Quota{{N: 10, Per: per, Refill: tollgate.Steady, Burst: 2}})
	first := s.answered(l, 1, one)
	for i := range 6 {
		at := s.answered(l, uint64(i+2), one)
		if i > 0 {
			s.after("one more", at.Sub(first), time.Duration(i)*per/10)
		}
	}
}

func (s suite) calendar() {
	l := s.limiter(tollgate.Quota{{N: 2, Per: 3 * per, Refill: tollgate.Calendar}})
	// A server whose clock says what ours does.
	ask := func(place uint64) time.Time {
		g, at := s.acquire(l, place, one)
		g.Sent()
		g.Answered(200, time.Now().Truncate(time.Second), nil)
		g.Done()
		return at
	}
	var last time.Time
	spans := make(map[int64]int)
	for i := range 5 {
		last = ask(uint64(i + 1))
		spans[last.UnixNano()/int64(3*per)]++
	}
	for _, n := range spans {
		if n > 2 {
			s.Errorf("%v in the spans of the server's clock, want at most 2 each", spans)
		}
	}
	// A Date is a second's: that much later they may be back.
	if since := last.UnixNano() % int64(3*per); time.Duration(since) > time.Second+s.late {
		s.Errorf("the last one came %v after the span began", time.Duration(since))
	}
}

func (s suite) allOrNone() {
	l := s.limiter(tollgate.Quota{{N: 5, Per: per, Refill: tollgate.Window}, {Unit: tollgate.Tokens, N: 100, Per: 3 * per, Refill: tollgate.Window}})
	first := s.answered(l, 1, tokens(90))
	done := make(chan time.Time)
	go func() { done <- s.answered(l, 2, tokens(20)) }()
	time.Sleep(per + per/2) // its requests are back, and it has taken none
	for _, x := range l.Status().Limits {
		if x.Unit == tollgate.Requests && x.Left != 5 {
			s.Errorf("%d requests left, want all 5", x.Left)
		}
	}
	s.after("the one with many tokens", (<-done).Sub(first), 3*per)
}

func (s suite) drain() {
	l := s.limiter(tollgate.Quota{{N: 50, Per: per, Refill: tollgate.Window}})
	g, _ := s.acquire(l, 1, one)
	g.Sent()
	g.Answered(429, time.Time{}, nil)
	g.Refused(429, provider.Refusal{Wait: per, Hinted: true})
	g.Done()
	began := time.Now()
	s.after("the first one", s.answered(l, 2, one).Sub(began), per)
	s.after("the next one", s.answered(l, 3, one).Sub(began), per+per/50)
}

func (s suite) drainOne() {
	l := s.limiter(tollgate.Quota{{N: 50, Per: per, Refill: tollgate.Window}, {Unit: tollgate.Tokens, N: 1000, Per: per, Refill: tollgate.Window}})
	g, _ := s.acquire(l, 1, tokens(10))
	g.Sent()
	g.Answered(429, time.Time{}, nil)
	g.Refused(429, provider.Refusal{Wait: 3 * per, Hinted: true, Limits: []provider.Violation{{Unit: provider.Tokens, Per: per}}})
	g.Done()
	began := time.Now()
	s.after("one without tokens", s.answered(l, 2, one).Sub(began), 0)
	s.after("one with tokens", s.answered(l, 3, tokens(1)).Sub(began), 3*per)
}

func (s suite) pause() {
	l := s.limiter(nil)
	g, _ := s.acquire(l, 1, one)
	g.Sent()
	g.Answered(429, time.Time{}, nil)
	g.Refused(429, provider.Refusal{Wait: per, Hinted: true})
	g.Done()
	began := time.Now()
	s.after("the first one", s.answered(l, 2, one).Sub(began), per)
}

func (s suite) debt() {
	l := s.limiter(tollgate.Quota{{Unit: tollgate.Tokens, N: 100, Per: per, Refill: tollgate.Steady}})
	g, _ := s.acquire(l, 1, tokens(100))
	g.Sent()
	g.Answered(200, time.Time{}, nil)
	began := time.Now()
	g.Settle(provider.Cost{-1, 200, -1})
	g.Done()
	s.after("the next one", s.answered(l, 2, tokens(10)).Sub(began), per+per/10)
}

func (s suite) refund() {
	l := s.limiter(tollgate.Quota{{Unit: tollgate.Tokens, N: 100, Per: 5 * per, Refill: tollgate.Window}})
	g, _ := s.acquire(l, 1, tokens(100))
	g.Sent()
	g.Answered(200, time.Time{}, nil)
	began := time.Now()
	g.Settle(provider.Cost{-1, 10, -1})
	g.Done()
	s.after("the next one", s.answered(l, 2, tokens(90)).Sub(began), 0)
}

func (s suite) unsent() {
	l := s.limiter(tollgate.Quota{{N: 1, Per: 5 * per, Refill: tollgate.Window}})
	g, at := s.acquire(l, 1, one)
	g.Failed(false)
	s.after("the next one", s.answered(l, 2, one).Sub(at), 0)
}

func (s suite) concurrency() {
	l := s.limiter(tollgate.Quota{tollgate.Concurrency(2)})
	a, _ := s.acquire(l, 1, one)
	b, _ := s.acquire(l, 2, one)
	done := make(chan time.Time)
	go func() {
		g, at := s.acquire(l, 3, one)
		g.Done()
		done <- at
	}()
	began := time.Now()
	time.Sleep(per / 2)
	a.Done()
	s.after("the third one", (<-done).Sub(began), per/2)
	b.Done()
}

func (s suite) line() {
	l := s.limiter(tollgate.Quota{{N: 1, Per: per / 4, Refill: tollgate.Window}})
	s.answered(l, 1, one)
	var mu sync.Mutex
	var order []uint64
	var wg sync.WaitGroup
	for _, place := range []uint64{7, 3, 5, 2, 4, 6} {
		joined := make(chan bool)
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			g, err := l.Acquire(ctx, tollgate.Ask{Place: place, Cost: one, Waiting: func(int, time.Duration) { close(joined) }})
			if err != nil {
				s.Error(err)
				return
			}
			mu.Lock()
			order = append(order, place)
			mu.Unlock()
			g.Answered(200, time.Time{}, nil)
			g.Done()
		})
		<-joined
	}
	wg.Wait()
	for i, place := range order {
		// The one that asked first may have asked the store before the others came.
		if place != uint64(i+2) && place != 7 && (i == 0 || order[0] != 7 || place != uint64(i+1)) {
			s.Errorf("they went in the order %v", order)
			break
		}
	}
}

func (s suite) cancel() {
	l := s.limiter(tollgate.Quota{{N: 1, Per: per, Refill: tollgate.Window}})
	at := s.answered(l, 1, one)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(per/4, cancel)
	if _, err := l.Acquire(ctx, tollgate.Ask{Place: 2, Cost: one}); err != context.Canceled {
		s.Errorf("error %v, want the context's", err)
	}
	s.after("the next one", s.answered(l, 3, one).Sub(at), per)
}

func (s suite) deadline() {
	l := s.limiter(tollgate.Quota{{N: 1, Per: time.Hour, Refill: tollgate.Window}})
	s.answered(l, 1, one)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	began := time.Now()
	_, err := l.Acquire(ctx, tollgate.Ask{Place: 2, Cost: one})
	var limit *tollgate.LimitError
	if !errors.As(err, &limit) || !errors.Is(err, context.DeadlineExceeded) || limit.RetryAfter < 59*time.Minute || limit.RetryAfter > 61*time.Minute {
		s.Errorf("error %v, want a LimitError of about an hour that is the deadline's too", err)
	}
	s.after("the rejection", time.Since(began), 0)
}

func (s suite) never() {
	l := s.limiter(tollgate.Quota{{N: 1, Per: time.Hour, Refill: tollgate.Window}})
	for place := range uint64(2) {
		began := time.Now()
		g, err := l.Acquire(context.Background(), tollgate.Ask{Place: place + 1, Cost: one, MaxWait: -1})
		if place == 0 && err != nil || place == 1 && !errors.Is(err, tollgate.ErrLimited) {
			s.Errorf("request %d: %v, want the first one let through and the other one not", place, err)
		}
		if g != nil {
			g.Answered(200, time.Time{}, nil)
			g.Done()
		}
		s.after("an answer", time.Since(began), 0)
	}
}

func (s suite) learned() {
	l := s.limiter(nil)
	g, _ := s.acquire(l, 1, one)
	g.Sent()
	began := time.Now()
	g.Answered(200, time.Time{}, []provider.Level{{Unit: provider.Requests, N: 2, Per: 2 * per, Left: 0, Full: -1}})
	g.Done()
	s.after("the next one", s.answered(l, 2, one).Sub(began), 2*per)
}

func (s suite) lowered() {
	l := s.limiter(tollgate.Quota{{N: 100, Per: 2 * per, Refill: tollgate.Window}})
	g, _ := s.acquire(l, 1, one)
	g.Sent()
	began := time.Now()
	changes := g.Answered(200, time.Time{}, []provider.Level{{Unit: provider.Requests, N: 2, Per: 2 * per, Left: 1, Full: -1}})
	g.Done()
	if len(changes) != 1 || changes[0].From.N != 100 || changes[0].To.N != 2 {
		s.Errorf("learned %v, want 2 instead of 100", changes)
	}
	s.answered(l, 2, one)
	s.after("the third one", s.answered(l, 3, one).Sub(began), 2*per)
}

func (s suite) day() {
	l := s.limiter(tollgate.Quota{{N: 2, Per: 24 * time.Hour, Refill: tollgate.Calendar}})
	s.answered(l, 1, one)
	s.answered(l, 2, one)
	_, err := l.Acquire(context.Background(), tollgate.Ask{Place: 3, Cost: one})
	var limit *tollgate.LimitError
	if !errors.As(err, &limit) || limit.Reason != tollgate.DailySpent || limit.RetryAfter <= 0 || limit.RetryAfter > 25*time.Hour {
		s.Errorf("error %v, want a LimitError that says when the day's are back", err)
	}
}

func (s suite) tooLarge() {
	l := s.limiter(tollgate.Quota{{Unit: tollgate.Tokens, N: 100, Per: per, Refill: tollgate.Window}})
	began := time.Now()
	s.after("an estimate beyond the limit", s.answered(l, 1, tokens(500)).Sub(began), 0)
	l = s.limiter(tollgate.Quota{{N: 0, Per: per, Refill: tollgate.Window}})
	_, err := l.Acquire(context.Background(), tollgate.Ask{Place: 2, Cost: one})
	var limit *tollgate.LimitError
	if !errors.As(err, &limit) || limit.Reason != tollgate.TooLarge {
		s.Errorf("error %v, want that it never fits", err)
	}
}

func (s suite) status() {
	l := s.limiter(tollgate.Quota{{N: 5, Per: time.Hour, Refill: tollgate.Window}})
	g, _ := s.acquire(l, 1, one)
	g.Sent()
	if st := l.Status(); st.InFlight != 1 || st.Waiting != 0 || len(st.Limits) != 1 || st.Limits[0].Left != 4 || st.Limits[0].N != 5 {
		s.Errorf("%+v", st)
	}
	g.Answered(200, time.Time{}, nil)
	g.Done()
	if st := l.Status(); st.InFlight != 0 || st.Limits[0].Left != 4 {
		s.Errorf("%+v", st)
	}
}
