package engine

import (
	"time"

	"example.com/tollgate/internal/refill"
)

// A Status is a snapshot of one key. Times are those of the engine.
type Status struct {
	Limits      []LimitStatus
	Waiting     int           // in the queue
	InFlight    int           // sent, and the response's body not closed yet
	PausedUntil time.Duration // 0: there is no pause
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
	t := e.t
	s := Status{Waiting: e.queue.Len(), InFlight: e.inFlight}
	if e.backoff.until > t {
		s.PausedUntil = e.backoff.until
	}
	for i, l := range e.limits.list {
		if l.void {
			continue
		}
		var left int64
		var full time.Duration
		ok := e.shared.up()
		if ok {
			left, full, ok = e.shared.states.left(t, i)
		}
		if !ok {
			left, full = l.Free(t), l.Ready(t, l.n())
		}
		s.Limits = append(s.Limits, LimitStatus{Limit: l.Limit(), Learned: l.learned, Left: left, Full: full})
		if l.Dry() > t {
			s.PausedUntil = max(s.PausedUntil, l.Dry())
		}
	}
	return s
}
