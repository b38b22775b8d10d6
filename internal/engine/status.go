package engine

import (
	"time"

	"example.com/tollgate/internal/refill"
)

// A Why is why nothing is sent.
type Why uint8

// The reasons for a pause.
const (
	NoPause     Why = iota
	Refusing        // the server refuses requests
	Overloaded      // the server says that it is busy, whatever the quota
	NothingLeft     // the server says that nothing is left
	DayOver         // the server says that the day's quota is spent
	LongWait        // the server asks to wait for hours, which no limit explains
	Elsewhere       // another process has been told to wait
)

// A Pause is a time in which nothing is sent, since the server has said so. The
// zero value: there is none.
type Pause struct {
	Until time.Duration
	Why   Why
}

// A Status is a snapshot of one key. Times are those of the engine.
type Status struct {
	Limits      []LimitStatus
	Waiting     int           // in the queue
	InFlight    int           // sent, and the response's body not closed yet
	PausedUntil time.Duration // 0: there is no pause
	Why         Why           // there is one
}

// A LimitStatus is a snapshot of one limit.
type LimitStatus struct {
	refill.Limit
	Learned bool          // the server has stated it, nobody else
	Left    int64         // tokens that could be taken now; less than 0 is a debt
	Full    time.Duration // when all of them are back if none is taken; refill.Never: not known yet
}

// Snapshot returns what there is to be seen of an engine.
func Snapshot(e *Engine, now Now) Status {
	e.at(now)
	s := Status{Waiting: e.queue.Len(), InFlight: e.inFlight}
	p := pauseOf(e)
	s.PausedUntil, s.Why = p.Until, p.Why
	s.Limits = make([]LimitStatus, 0, len(e.limits.list))
	for i, l := range e.limits.list {
		if l.void {
			continue
		}
		x := LimitStatus{Limit: l.Limit(), Learned: l.learned}
		x.Left, x.Full = left(e, i)
		s.Limits = append(s.Limits, x)
	}
	return s
}

// left returns what is left of the i-th limit, and when all of it is back.
func left(e *Engine, i int) (n int64, full time.Duration) {
	l := e.limits.list[i]
	if e.shared.up() {
		if n, full, ok := e.shared.states.left(e.t, i); ok {
			return n, full
		}
	}
	return l.Free(e.t), l.Ready(e.t, l.n())
}

// pauseOf returns the pause that is in force.
func pauseOf(e *Engine) (p Pause) {
	if e.backoff.until > e.t {
		p = Pause{e.backoff.until, e.backoff.why}
	}
	for _, l := range e.limits.list {
		if dry := l.Dry(); dry > max(p.Until, e.t) {
			if p = (Pause{dry, Refusing}); l.daily() {
				p.Why = DayOver
			}
		}
	}
	return p
}

// tellPause tells of a pause that has begun or was put off. Of many refusals of
// one moment, each of which puts it off a little, it tells of few.
func tellPause(e *Engine) {
	if p := pauseOf(e); p.Until > e.t && p.Until-max(e.told, e.t) > (p.Until-e.t)/64 {
		e.told = p.Until
		e.out.Pauses = append(e.out.Pauses, p)
	}
}

// resume tells that a pause is over, now that a request goes.
func resume(e *Engine) {
	if pauseOf(e) == (Pause{}) {
		e.told = 0
		e.out.Pauses = append(e.out.Pauses, Pause{})
	}
}

// Slots returns the limit of requests at once that keeps a request waiting; ok is
// false if none does.
func Slots(e *Engine, now Now, r *Request) (l refill.Limit, ok bool) {
	e.at(now)
	for i, x := range e.limits.list {
		if n, _ := left(e, i); x.Limit().Per == 0 && n < x.draws(&r.cost) {
			return x.Limit(), true
		}
	}
	return refill.Limit{}, false
}

// Outlook returns how many are in the queue, and in how long the first of them
// will be looked at; refill.Never: that depends on what is on its way.
func Outlook(e *Engine) (waiting int, next time.Duration) {
	if next = e.wake; next < refill.Never {
		next = max(next-e.t, 0)
	}
	return e.queue.Len(), next
}
