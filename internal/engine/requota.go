package engine

import (
	"slices"
	"time"

	"example.com/tollgate/internal/queue"
	"example.com/tollgate/internal/refill"
)

// maxDormant is how many limits that are not configured any more are kept for what
// was spent of them.
const maxDormant = 8

// Requota is the event that other limits are configured. What was spent stays
// spent, also of a limit that is not configured for a while; what the server has
// stated that nobody configured stays as well. Those who wait are judged again: they
// go if there is room, and are turned away if their turn comes too late now, or
// because they have Moved if stays says no. nil: all stay.
func Requota(e *Engine, now Now, list []refill.Limit, stays func(*Request) bool) {
	e.at(now)
	old := slices.Clone(e.limits.list)
	if requota(&e.limits, e.t, list, int64(e.inFlight)) {
		e.pacer = pacer{} // it was learned at the old ones
	}
	for _, l := range e.limits.dormant {
		if slices.Contains(old, l) && !l.daily() && l.Dry() > e.t { // what the server asked for holds
			e.backoff.shut(l.Dry(), Refusing)
		}
	}
	recall(&e.limits, e.t)
	for _, l := range e.limits.list {
		if !slices.Contains(old, l) {
			e.journal.catchUp(e, l)
		}
	}
	retell(e, old)
	if stays != nil {
		var moved []*Request
		e.queue.All(func(w *queue.Waiter[*Request]) bool {
			if !stays(w.Item) {
				moved = append(moved, w.Item)
			}
			return true
		})
		for _, r := range moved {
			e.queue.Remove(&r.waiter)
			e.reject(r, &Rejection{Reason: Moved})
		}
	}
	e.capped = true
	e.reweigh()
	e.lateFrom = 0
	e.late(true)
	e.serve()
}

// Configured returns the limits that are configured.
func Configured(e *Engine) (list []refill.Limit) {
	for _, l := range e.limits.list {
		if !l.learned {
			list = append(list, l.config)
		}
	}
	return list
}

// requota has the limits be those configured, while so many are in flight, and
// reports whether one of requests allows more than before.
func requota(ls *limits, t time.Duration, list []refill.Limit, inFlight int64) (more bool) {
	find := func(in []*limit, x refill.Limit) int {
		return slices.IndexFunc(in, func(l *limit) bool { return l.config.Unit == x.Unit && l.config.Per == x.Per })
	}
	old, known := ls.list, slices.Concat(ls.list, ls.dormant)
	ls.list = nil
	for _, l := range old { // in the order that they have
		if i := slices.IndexFunc(list, func(x refill.Limit) bool { return x.Unit == l.config.Unit && x.Per == l.config.Per }); i >= 0 {
			more = revise(l, t, list[i]) || more
			list = slices.Delete(slices.Clone(list), i, i+1)
			ls.list = append(ls.list, l)
		} else if l.learned || l.others {
			ls.list = append(ls.list, l)
		} else {
			l.dormant, l.trial = true, nil
			ls.dormant = append(ls.dormant, l)
		}
	}
	for _, x := range list {
		if i := find(ls.dormant, x); i >= 0 {
			l := ls.dormant[i]
			ls.dormant = slices.Delete(ls.dormant, i, i+1)
			l.dormant = false
			more = revise(l, t, x) || more
			ls.list = append(ls.list, l)
			continue
		}
		l := ls.add(t, x)
		if x.Per > 0 {
			carry(ls, t, l, known)
		} else if x.Unit == refill.Requests {
			l.foreign = inFlight
			l.Take(t, inFlight)
		}
		more = more || x.Unit == refill.Requests
	}
	if n := len(ls.dormant) - maxDormant; n > 0 {
		ls.dormant = slices.Delete(ls.dormant, 0, n)
	}
	return more
}

// revise has a limit be configured in another way, and reports whether it is one of
// requests that allows more than before. What the server was found to enforce
// holds unless more is configured than was: whoever does that knows of it.
func revise(l *limit, t time.Duration, x refill.Limit) (more bool) {
	was := l.config
	if l.learned || l.others {
		l.learned, l.others, l.void = false, false, false
		was.N = max(l.stated, x.N) // nobody has configured it: what is stated holds
	}
	l.config, l.most = x, x.N
	if x == was {
		return false
	}
	if x.Rule != was.Rule {
		l.even = false
		follow(l, t, x)
	}
	burst := x.Burst
	if l.even {
		burst = 1
	}
	switch {
	case x.N > was.N:
		l.stated, l.trial = x.N, nil
		l.Rebound(t, l.ceiling(), burst)
		return x.Unit == refill.Requests
	case x.N < was.N:
		l.stated, l.trial = min(l.stated, x.N), nil
	}
	if n := min(l.n(), l.ceiling()); n != l.n() || burst != l.Limit().Burst {
		l.Rebound(t, n, burst)
	}
	return false
}

// follow has a limit's tokens come back by another rule, with what was spent.
func follow(l *limit, t time.Duration, x refill.Limit) {
	type spent struct {
		at time.Duration
		n  int64
	}
	var list []spent
	l.Spent(t, func(at time.Duration, n int64) { list = append(list, spent{at, n}) })
	x.N = l.n()
	l.Change(t, x)
	for _, s := range list {
		l.Inherit(t, s.at, s.n)
	}
}

// carry counts for a new limit what is known to have been spent: by that of the known
// ones of its unit which remembers it best.
func carry(ls *limits, t time.Duration, l *limit, known []*limit) {
	x := l.Limit()
	var best *refill.Bucket
	for _, o := range known {
		y := o.Limit()
		if y.Unit == x.Unit && y.Per > 0 && (!o.daily() || l.daily()) && (best == nil || y.Per > best.Limit().Per) {
			best = o.Bucket
		}
	}
	if best == nil && x.Unit == refill.Requests {
		best = ls.past
	}
	if best == nil {
		return
	}
	best.Spent(t, func(at time.Duration, n int64) { l.Inherit(t, at, n) })
	coming := best.Flying()
	if best == ls.past {
		coming = ls.coming
	}
	if coming > 0 { // they will arrive within a flight
		l.Inherit(t, t+refill.Flight, coming)
	}
}

// recall keeps what a limit of requests must know that is learned later, if there is
// none now.
func recall(ls *limits, t time.Duration) {
	for _, l := range ls.list {
		if x := l.Limit(); x.Unit == refill.Requests && x.Per > 0 {
			ls.past = nil
			return
		}
	}
	if ls.past != nil {
		return
	}
	ls.remember()
	for _, l := range ls.dormant {
		if x := l.Limit(); x.Unit == refill.Requests && x.Per > 0 && !l.daily() {
			l.Spent(t, func(at time.Duration, n int64) { ls.past.Elsewhere(t, at, n) })
			return
		}
	}
}

// homecoming gives back the tokens without a Per that a request holds of limits that
// it did not draw on, as they came when it was in flight.
func homecoming(ls *limits, r *Request) {
	for _, list := range [2][]*limit{ls.list, ls.dormant} {
		for _, l := range list {
			if l.foreign > 0 {
				if _, drew := r.took(l); !drew {
					l.foreign--
					l.Put(1)
				}
			}
		}
	}
}

// retell sees to it that the store learns of other limits, and that what is still
// to be told is of the right ones.
func retell(e *Engine, old []*limit) {
	s := e.shared
	if s == nil {
		return
	}
	s.recast = s.busy || s.doubt
	for _, l := range e.limits.list {
		l.set = true
	}
	s.states, s.next = nil, 0 // they are by index, and of other limits
	s.outbox.renumber(func(i int) int { return e.limits.index(old[i]) })
	for i, l := range e.limits.list {
		if !slices.Contains(old, l) && s.gen != 0 {
			l.Spent(e.t, func(at time.Duration, n int64) { s.outbox.move(l.Limit(), i, n, 0, s.stamp(at)) })
		}
	}
	s.due(e.t)
}
