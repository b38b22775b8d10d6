package tollgate

import (
	"time"

	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/refill"
)

// Status is a snapshot of one key.
type Status struct {
	Key         string
	Limits      []LimitStatus
	Waiting     int       // requests in the queue
	InFlight    int       // requests sent whose response body is not closed yet
	PausedUntil time.Time // nothing is sent until then; zero: there is no pause
}

// LimitStatus is a snapshot of one limit.
type LimitStatus struct {
	Limit
	Learned bool      // the server has stated it, nobody else
	Left    int64     // tokens that could be taken now; less than 0 is a debt
	Full    time.Time // when all of them are back if none is taken; zero: not known yet
}

func statusOf(l *limiter.Limiter) Status {
	is, now := l.Status()
	at := func(t time.Duration) time.Time { return time.Unix(0, int64(now.Wall)).Add(t - now.Mono) }
	s := Status{Key: l.Key(), Waiting: is.Waiting, InFlight: is.InFlight}
	if is.PausedUntil > 0 {
		s.PausedUntil = at(is.PausedUntil)
	}
	for _, x := range is.Limits {
		y := LimitStatus{Limit: limitOf(x.Limit), Learned: x.Learned, Left: x.Left}
		if x.Full != refill.Never {
			y.Full = at(x.Full)
		}
		s.Limits = append(s.Limits, y)
	}
	return s
}
