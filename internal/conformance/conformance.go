// Package conformance is what a limiter has to do, whether it keeps its tokens in
// memory or shares them.
package conformance

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/refill"
)

// per is the span of the limits that are waited for: real servers' clocks run
// while they are tested.
const per = time.Second

// Run tests a kind of Limiter. late is how much later than it could a request may
// go, at an idle machine's worst.
func Run(t *testing.T, late time.Duration, run func(t *testing.T, f func(t *testing.T, limiter func(q []refill.Limit) *limiter.Limiter))) {
	for name, test := range map[string]func(s suite){
		"window":                      suite.window,
		"steady":                      suite.steady,
		"calendar":                    suite.calendar,
		"all limits or none":          suite.allOrNone,
		"a drain":                     suite.drain,
		"a drain of one limit":        suite.drainOne,
		"a pause":                     suite.pause,
		"a debt":                      suite.debt,
		"less than estimated":         func(s suite) { s.refund(false) },
		"less, as turns out later":    func(s suite) { s.refund(true) },
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
			run(t, func(t *testing.T, limiter func(q []refill.Limit) *limiter.Limiter) {
				test(suite{T: t, late: late, limiter: limiter})
			})
		})
	}
}

type suite struct {
	*testing.T
	late    time.Duration
	limiter func(q []refill.Limit) *limiter.Limiter
}

// ask is a request for tokens.
func ask(place uint64, c refill.Cost) *limiter.Request {
	return &limiter.Request{Request: engine.Request{Place: place, Draw: estimate.Draw{Cost: c, Fixed: true}}}
}

// acquire lets a request through, and says when.
func (s suite) acquire(l *limiter.Limiter, place uint64, c refill.Cost) (*limiter.Request, time.Time) {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	g := ask(place, c)
	if err := l.Acquire(ctx, g); err != nil {
		s.Fatal(err)
	}
	return g, time.Now()
}

// answered is a request that was let through and answered.
func (s suite) answered(l *limiter.Limiter, place uint64, c refill.Cost) time.Time {
	s.Helper()
	g, at := s.acquire(l, place, c)
	g.Sent()
	g.Answered(engine.Answer{})
	g.Closed()
	return at
}

// after checks that something came in its time and not before.
func (s suite) after(what string, got, want time.Duration) {
	s.Helper()
	if got < want || got > want+s.late {
		s.Errorf("%s after %v, want %v and at most %v more", what, got, want, s.late)
	}
}

// status is a snapshot of a limiter.
func status(l *limiter.Limiter) engine.Status {
	s, _ := l.Status()
	return s
}

var one = refill.Cost{refill.Requests: 1}

func tokens(n int64) refill.Cost {
	return refill.Cost{refill.Requests: 1, refill.Tokens: n}
}

func (s suite) window() {
	l := s.limiter([]refill.Limit{{N: 3, Per: per, Rule: refill.Window}})
	var at [7]time.Time
	for i := range at {
		at[i] = s.answered(l, uint64(i+1), one)
	}
	for i := 3; i < len(at); i++ {
		s.after("one more", at[i].Sub(at[i-3]), per)
	}
}

func (s suite) steady() {
	l := s.limiter([]refill.Limit{{N: 10, Per: per, Rule: refill.Steady, Burst: 2}})
	first := s.answered(l, 1, one)
	for i := range 6 {
		at := s.answered(l, uint64(i+2), one)
		if i > 0 {
			s.after("one more", at.Sub(first), time.Duration(i)*per/10)
		}
	}
}

func (s suite) calendar() {
	l := s.limiter([]refill.Limit{{N: 2, Per: 3 * per, Rule: refill.Calendar}})
	// A server whose clock says what ours does.
	ask := func(place uint64) time.Time {
		g, at := s.acquire(l, place, one)
		g.Sent()
		g.Answered(engine.Answer{Date: time.Duration(time.Now().Truncate(time.Second).UnixNano())})
		g.Closed()
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
	l := s.limiter([]refill.Limit{{N: 5, Per: per, Rule: refill.Window}, {Unit: refill.Tokens, N: 100, Per: 3 * per, Rule: refill.Window}})
	first := s.answered(l, 1, tokens(90))
	done := make(chan time.Time)
	go func() { done <- s.answered(l, 2, tokens(20)) }()
	time.Sleep(per + per/2) // its requests are back, and it has taken none
	for _, x := range status(l).Limits {
		if x.Unit == refill.Requests && x.Left != 5 {
			s.Errorf("%d requests left, want all 5", x.Left)
		}
	}
	s.after("the one with many tokens", (<-done).Sub(first), 3*per)
}

func (s suite) drain() {
	l := s.limiter([]refill.Limit{{N: 50, Per: per, Rule: refill.Window}})
	g, _ := s.acquire(l, 1, one)
	g.Sent()
	g.Answered(engine.Answer{Refused: true})
	g.Refused(engine.Refusal{Wait: per})
	g.Closed()
	began := time.Now()
	s.after("the first one", s.answered(l, 2, one).Sub(began), per)
	s.after("the next one", s.answered(l, 3, one).Sub(began), per+per/50)
}

func (s suite) drainOne() {
	l := s.limiter([]refill.Limit{{N: 50, Per: per, Rule: refill.Window}, {Unit: refill.Tokens, N: 1000, Per: per, Rule: refill.Window}})
	g, _ := s.acquire(l, 1, tokens(10))
	g.Sent()
	g.Answered(engine.Answer{Refused: true})
	g.Refused(engine.Refusal{Wait: 3 * per, Limits: []engine.Named{{Unit: refill.Tokens, Per: per}}})
	g.Closed()
	began := time.Now()
	s.after("one without tokens", s.answered(l, 2, one).Sub(began), 0)
	s.after("one with tokens", s.answered(l, 3, tokens(1)).Sub(began), 3*per)
}

func (s suite) pause() {
	l := s.limiter(nil)
	g, _ := s.acquire(l, 1, one)
	g.Sent()
	g.Answered(engine.Answer{Refused: true})
	g.Refused(engine.Refusal{Wait: per})
	g.Closed()
	began := time.Now()
	s.after("the first one", s.answered(l, 2, one).Sub(began), per)
}

func (s suite) debt() {
	l := s.limiter([]refill.Limit{{Unit: refill.Tokens, N: 100, Per: per, Rule: refill.Steady}})
	g, _ := s.acquire(l, 1, tokens(100))
	g.Sent()
	g.Answered(engine.Answer{})
	began := time.Now()
	g.Settle(refill.Cost{-1, 200, -1})
	g.Closed()
	s.after("the next one", s.answered(l, 2, tokens(10)).Sub(began), per+per/10)
}

func (s suite) refund(later bool) {
	l := s.limiter([]refill.Limit{{Unit: refill.Tokens, N: 100, Per: 5 * per, Rule: refill.Window}})
	g, _ := s.acquire(l, 1, tokens(100))
	g.Sent()
	g.Answered(engine.Answer{})
	began := time.Now()
	if later {
		ended := g
		g = g.Later()
		ended.Closed()
	}
	g.Settle(refill.Cost{-1, 10, -1})
	g.Closed()
	s.after("the next one", s.answered(l, 2, tokens(90)).Sub(began), 0)
}

func (s suite) unsent() {
	l := s.limiter([]refill.Limit{{N: 1, Per: 5 * per, Rule: refill.Window}})
	g, at := s.acquire(l, 1, one)
	g.Failed(false)
	s.after("the next one", s.answered(l, 2, one).Sub(at), 0)
}

func (s suite) concurrency() {
	l := s.limiter([]refill.Limit{{N: 2}})
	a, _ := s.acquire(l, 1, one)
	b, _ := s.acquire(l, 2, one)
	done := make(chan time.Time)
	go func() {
		g, at := s.acquire(l, 3, one)
		g.Closed()
		done <- at
	}()
	began := time.Now()
	time.Sleep(per / 2)
	a.Closed()
	s.after("the third one", (<-done).Sub(began), per/2)
	b.Closed()
}

func (s suite) line() {
	l := s.limiter([]refill.Limit{{N: 1, Per: per / 4, Rule: refill.Window}})
	s.answered(l, 1, one)
	var mu sync.Mutex
	var order []uint64
	var wg sync.WaitGroup
	for _, place := range []uint64{7, 3, 5, 2, 4, 6} {
		joined := make(chan bool)
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			g := ask(place, one)
			g.Waiting = func(int, time.Duration) { close(joined) }
			if err := l.Acquire(ctx, g); err != nil {
				s.Error(err)
				return
			}
			mu.Lock()
			order = append(order, place)
			mu.Unlock()
			g.Answered(engine.Answer{})
			g.Closed()
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
	l := s.limiter([]refill.Limit{{N: 1, Per: per, Rule: refill.Window}})
	at := s.answered(l, 1, one)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(per/4, cancel)
	if err := l.Acquire(ctx, ask(2, one)); err != context.Canceled {
		s.Errorf("error %v, want the context's", err)
	}
	s.after("the next one", s.answered(l, 3, one).Sub(at), per)
}

func (s suite) deadline() {
	l := s.limiter([]refill.Limit{{N: 1, Per: time.Hour, Rule: refill.Window}})
	s.answered(l, 1, one)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	began := time.Now()
	g := ask(2, one)
	err := l.Acquire(ctx, g)
	if err != limiter.ErrRejected || g.Rejection.Reason != engine.PastDeadline || g.Rejection.After < 59*time.Minute || g.Rejection.After > 61*time.Minute {
		s.Errorf("error %v, %+v, want it rejected for its deadline, by about an hour", err, g.Rejection)
	}
	s.after("the rejection", time.Since(began), 0)
}

func (s suite) never() {
	l := s.limiter([]refill.Limit{{N: 1, Per: time.Hour, Rule: refill.Window}})
	for place := range uint64(2) {
		began := time.Now()
		g := ask(place+1, one)
		g.MaxWait = -1
		err := l.Acquire(context.Background(), g)
		if place == 0 && err != nil || place == 1 && !errors.Is(err, limiter.ErrRejected) {
			s.Errorf("request %d: %v, want the first one let through and the other one not", place, err)
		}
		if err == nil {
			g.Answered(engine.Answer{})
			g.Closed()
		}
		s.after("an answer", time.Since(began), 0)
	}
}

func (s suite) learned() {
	l := s.limiter(nil)
	g, _ := s.acquire(l, 1, one)
	g.Sent()
	began := time.Now()
	g.Answered(engine.Answer{Levels: []engine.Level{{Unit: refill.Requests, N: 2, Per: 2 * per, Left: 0, Full: -1}}})
	g.Closed()
	s.after("the next one", s.answered(l, 2, one).Sub(began), 2*per)
}

func (s suite) lowered() {
	l := s.limiter([]refill.Limit{{N: 100, Per: 2 * per, Rule: refill.Window}})
	g, _ := s.acquire(l, 1, one)
	g.Sent()
	began := time.Now()
	changes := g.Answered(engine.Answer{Levels: []engine.Level{{Unit: refill.Requests, N: 2, Per: 2 * per, Left: 1, Full: -1}}})
	g.Closed()
	if len(changes) != 1 || changes[0].From.N != 100 || changes[0].To.N != 2 {
		s.Errorf("learned %v, want 2 instead of 100", changes)
	}
	s.answered(l, 2, one)
	s.after("the third one", s.answered(l, 3, one).Sub(began), 2*per)
}

func (s suite) day() {
	l := s.limiter([]refill.Limit{{N: 2, Per: 24 * time.Hour, Rule: refill.Calendar}})
	s.answered(l, 1, one)
	s.answered(l, 2, one)
	g := ask(3, one)
	err := l.Acquire(context.Background(), g)
	if err != limiter.ErrRejected || g.Rejection.Reason != engine.DailySpent || g.Rejection.After <= 0 || g.Rejection.After > 25*time.Hour {
		s.Errorf("error %v, %+v, want it rejected until the day's are back", err, g.Rejection)
	}
}

func (s suite) tooLarge() {
	l := s.limiter([]refill.Limit{{Unit: refill.Tokens, N: 100, Per: per, Rule: refill.Window}})
	began := time.Now()
	s.after("an estimate beyond the limit", s.answered(l, 1, tokens(500)).Sub(began), 0)
	l = s.limiter([]refill.Limit{{N: 0, Per: per, Rule: refill.Window}})
	g := ask(2, one)
	err := l.Acquire(context.Background(), g)
	if err != limiter.ErrRejected || g.Rejection.Reason != engine.TooLarge {
		s.Errorf("error %v, want that it never fits", err)
	}
}

func (s suite) status() {
	l := s.limiter([]refill.Limit{{N: 5, Per: time.Hour, Rule: refill.Window}})
	g, _ := s.acquire(l, 1, one)
	g.Sent()
	if st := status(l); st.InFlight != 1 || st.Waiting != 0 || len(st.Limits) != 1 || st.Limits[0].Left != 4 || st.Limits[0].N != 5 {
		s.Errorf("%+v", st)
	}
	g.Answered(engine.Answer{})
	g.Closed()
	if st := status(l); st.InFlight != 0 || st.Limits[0].Left != 4 {
		s.Errorf("%+v", st)
	}
}
