package engine

import (
	"testing"
	"time"

	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/refill"
)

// A sleeper is an engine on a machine that sleeps: its monotonic clock stands still
// then, and the wall clock goes on.
type sleeper struct {
	t          *testing.T
	e          *Engine
	mono, wall time.Duration
	place      uint64
}

// newSleeper is one at five in the afternoon.
func newSleeper(t *testing.T, limits ...refill.Limit) *sleeper {
	t.Helper()
	begin, err := time.Parse(time.RFC3339, "2026-03-10T17:00:00Z")
	if err != nil {
		t.Fatal(err)
	}
	s := &sleeper{t: t, mono: time.Hour, wall: time.Duration(begin.UnixNano())}
	s.e = New(s.now(), Config{Limits: limits})
	return s
}

func (s *sleeper) now() Now { return Now{s.mono, s.wall} }

func (s *sleeper) pass(d time.Duration) { s.mono, s.wall = s.mono+d, s.wall+d }

func (s *sleeper) sleep(d time.Duration) { s.wall += d }

// ask has a request come, and answered if it goes.
func (s *sleeper) ask(r *Request) *Request {
	s.place++
	r.Place, r.Draw = s.place, estimate.Draw{Cost: refill.Cost{1}, Fixed: true}
	s.e.Arrive(s.now(), r)
	s.e.Decide()
	if r.Going() {
		s.e.Answered(s.now(), r, Answer{})
		s.e.Closed(s.now(), r)
	}
	return r
}

// went returns how many of n requests that do not wait go.
func (s *sleeper) went(n int) (k int) {
	for range n {
		if s.ask(&Request{MaxWait: -1}).Going() {
			k++
		}
	}
	return k
}

// A day that was spent before the machine slept over midnight is over when it wakes, and
// what is asked for then is the new day's.
func TestSleepOverMidnight(t *testing.T) {
	s := newSleeper(t, refill.Limit{N: 50, Per: refill.Day, Rule: refill.Calendar})
	if n := s.went(60); n != 50 {
		t.Fatalf("%d went, want 50", n)
	}
	s.sleep(15 * time.Hour)
	if n := s.went(60); n != 50 {
		t.Errorf("%d went after the sleep, want the new day's 50", n)
	}
	s.pass(15 * time.Hour)
	if n := s.went(1); n != 0 {
		t.Errorf("one more went on the same day")
	}
}

// A machine that wakes sends no more at once than it would have otherwise: a quota,
// not one for each span that it slept through.
func TestSleepBurst(t *testing.T) {
	for _, rule := range []refill.Rule{refill.Window, refill.Steady, refill.Calendar} {
		s := newSleeper(t, refill.Limit{N: 10, Per: time.Minute, Rule: rule})
		s.went(10)
		var waiting []*Request
		for range 100 {
			waiting = append(waiting, s.ask(&Request{}))
		}
		s.pass(time.Second)
		s.sleep(15 * time.Hour)
		n := 0
		for range 10 {
			s.e.Tick(s.now())
			d := s.e.Decide()
			n += len(d.Go)
			for _, r := range d.Go {
				s.e.Answered(s.now(), r, Answer{})
				s.e.Closed(s.now(), r)
			}
			s.pass(100 * time.Millisecond)
		}
		if n > 10 {
			t.Errorf("rule %d: %d of %d went within a second of waking, want at most 10", rule, n, len(waiting))
		}
	}
}

// Who would have been turned away meanwhile is turned away when the machine wakes.
func TestSleepExpired(t *testing.T) {
	s := newSleeper(t, refill.Limit{N: 1, Per: time.Minute, Rule: refill.Window})
	s.went(1)
	r := s.ask(&Request{MaxWait: 10 * time.Minute})
	if !r.Waiting() {
		t.Fatalf("%+v, want it to wait", r.Rejection)
	}
	s.sleep(15 * time.Hour)
	s.e.Tick(s.now())
	s.e.Decide()
	if r.Going() || r.Rejection == nil || r.Rejection.Reason != PastMaxWait {
		t.Errorf("it goes %v, rejected %+v; want it rejected, since it has waited for 15 hours", r.Going(), r.Rejection)
	}
}

// A wall clock that is set does not give a day back, nor takes more than one.
func TestClockSet(t *testing.T) {
	for _, by := range []time.Duration{-5 * time.Hour, -26 * time.Hour, 3 * time.Hour} {
		s := newSleeper(t, refill.Limit{N: 20, Per: refill.Day, Rule: refill.Calendar}, refill.Limit{N: 10, Per: time.Minute, Rule: refill.Window})
		s.went(10)
		s.pass(time.Minute + time.Second)
		s.went(5)
		s.wall += by
		if n := s.went(10); n > 5 {
			t.Errorf("%d went when the clock was set by %v, want at most the 5 of the minute", n, by)
		}
		for range 48 * 60 { // two days
			s.pass(time.Minute)
		}
		if n := s.went(10); n != 10 {
			t.Errorf("%d went two days after the clock was set by %v, want 10", n, by)
		}
	}
}
