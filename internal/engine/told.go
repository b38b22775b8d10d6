package engine

import (
	"slices"
	"time"

	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
)

// What a shared has the store know, with the next exchange.

// stamp returns what the store's clock shows at one of our times, at most.
func (s *shared) stamp(at time.Duration) time.Duration {
	return (at + s.off + time.Microsecond - 1).Truncate(time.Microsecond)
}

// spend has the store know that a request's tokens have reached the server, or
// will at a time to come.
func (s *shared) spend(e *Engine, r *Request, at time.Duration) {
	if s == nil || s.gen == 0 {
		return // it is told of all that was spent when it answers for the first time
	}
	from, to := s.counted(r), s.stamp(at)
	if from > 0 && to-from < time.Millisecond && from-to < 50*time.Millisecond {
		return // as it thinks
	}
	s.move(e, r.drawn, from, to)
	r.counted, r.gen = to, s.gen
	s.due(e.t + s.patience(r.drawn))
}

// counted returns the store's time at which it counts a request as spent; 0: it
// does not.
func (s *shared) counted(r *Request) time.Duration {
	if r.gen != s.gen {
		return 0
	}
	return r.counted
}

func (s *shared) move(e *Engine, drawn []draw, from, to time.Duration) {
	for _, d := range drawn {
		if i := e.limits.index(d.limit); i >= 0 && d.Limit().Per > 0 {
			s.outbox.move(d.Limit(), i, d.n, from, to)
		}
	}
}

// patience is how long the store may do without knowing that tokens have arrived:
// a quarter of the time in which they are back.
func (s *shared) patience(drawn []draw) time.Duration {
	d := 2 * time.Second
	for _, x := range drawn {
		if l := x.Limit(); x.n > 0 && l.Per > 0 {
			d = min(d, l.Per/4)
		}
	}
	return max(d, 20*time.Millisecond)
}

// unspend has the store know that a request's tokens will never reach the server.
func (s *shared) unspend(e *Engine, r *Request) {
	if s == nil || s.gen == 0 {
		return
	}
	if from := s.counted(r); from > 0 {
		s.move(e, r.drawn, from, 0)
		s.due(e.t)
	}
}

// settle has the store know that a request has taken n more tokens of a limit than
// was told, or fewer.
func (s *shared) settle(e *Engine, l *limit, r *Request, n int64) {
	i := e.limits.index(l)
	if s == nil || s.gen == 0 || n == 0 || i < 0 {
		return
	}
	at := s.counted(r)
	if at == 0 {
		at = s.stamp(r.when)
	}
	if n > 0 {
		s.outbox.move(l.Limit(), i, n, 0, at)
	} else {
		s.outbox.move(l.Limit(), i, -n, at, 0)
	}
	in := gather
	if max(n, -n) > l.n()/4 {
		in = 0
	}
	s.due(e.t + in)
}

// note has something else told; times are ours.
func (s *shared) note(e *Engine, r share.Report, in time.Duration) {
	if s == nil || r.Limit < 0 { // of a limit that is gone
		return
	}
	if r.Event == share.Clock {
		s.date = r
	}
	if s.gen == 0 {
		return
	}
	if r.From > 0 {
		r.From = s.stamp(r.From)
	}
	r.At = s.stamp(min(r.At, refill.Never/2))
	s.outbox.note(r)
	s.due(e.t + in)
}

// drained has the store know that a limit is drained.
func (s *shared) drained(e *Engine, l *limit, anew bool) {
	s.note(e, share.Report{Event: share.Drain, Limit: e.limits.index(l), At: l.Dry(), Anew: anew}, 0)
}

// paused has it know that nothing may go until then.
func (s *shared) paused(e *Engine, until time.Duration) {
	s.note(e, share.Report{Event: share.Pause, At: until}, 0)
}

// freed says that a token of a limit of requests at once is back.
func (s *shared) freed(e *Engine) {
	switch {
	case s == nil:
	case s.rivals > 0 || e.queue.Head() != nil:
		s.due(e.t)
	default:
		s.due(e.t + gather/8)
	}
}

// hold sees to it that the tokens of a request that is let go and not on its way
// do not come back.
func (s *shared) hold(e *Engine, r *Request) {
	if s != nil && r.stage == held && !r.upheld {
		r.upheld, r.renew = true, e.t+refill.Flight/10
		s.unsent = append(s.unsent, r)
		s.due(r.renew)
	}
}

// uphold has the store count those as on their way that still are not.
func (s *shared) uphold(e *Engine) {
	s.unsent = slices.DeleteFunc(s.unsent, func(r *Request) bool {
		if r.upheld = r.stage == held; !r.upheld {
			return true
		}
		if r.renew <= e.t {
			s.spend(e, r, e.t+5*refill.Flight/2)
			r.renew = e.t + refill.Flight + s.patience(r.drawn)
		}
		s.due(r.renew)
		return false
	})
}

// remind tells a store that knows nothing of it what this process has spent, and
// all else that it was told.
func (s *shared) remind(e *Engine) {
	s.outbox = outbox{}
	for i, l := range e.limits.list {
		l.news = l.told >= 0
		l.Spent(e.t, func(at time.Duration, n int64) {
			s.outbox.move(l.Limit(), i, n, 0, s.stamp(at))
		})
		if l.Dry() > e.t {
			s.drained(e, l, !l.Paced(l.Dry()))
		}
	}
	if e.backoff.until > e.t {
		s.paused(e, e.backoff.until)
	}
	if s.date.Date > 0 {
		s.note(e, s.date, 0)
	}
	if !s.outbox.empty() {
		s.due(e.t)
	}
}

// keep sees to it that the store hears of this process while it holds tokens, and
// twice in the time in which they come back what it has spent, lest the store has
// forgotten it.
func (s *shared) keep(e *Engine) {
	for _, l := range e.limits.list {
		switch x := l.Limit(); {
		case l.Held() > 0:
			s.due(e.t + share.Lease/3)
		case x.Per >= share.Lease && !s.waits && l.Full(e.t) > e.t:
			s.due(e.t + min(x.Per/2, 5*time.Minute))
		}
	}
	if !s.outbox.empty() {
		s.due(e.t + gather)
	}
}

// Patience is how long the exchange that begins now is worth waiting for.
func Patience(e *Engine, now Now) time.Duration {
	e.at(now)
	return e.shared.patient(e.t)
}
