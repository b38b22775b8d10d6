package engine

import (
	"time"

	"example.com/tollgate/internal/queue"
	"example.com/tollgate/internal/refill"
)

// ready returns when a request may go, as far as that can be said: what comes
// before must be looked at again then.
func (e *Engine) ready(r *Request) time.Duration {
	at := max(e.backoff.ready(e.t), e.ramp.ready())
	if e.backoff.width != 1 || e.pacer.accepted > 0 { // else one goes at a time
		at = max(at, e.pacer.next)
	}
	if e.shared.open() {
		return max(at, e.limits.dry(&r.cost))
	}
	if at = max(at, e.limits.ready(e.t, &r.cost)); at == refill.Never {
		return e.flights.due()
	}
	return at
}

// turn estimates when what weighs w, those ahead included, will have been let go,
// and which limit takes the longest.
func (e *Engine) turn(w *queue.Weight) (time.Duration, refill.Limit) {
	var at time.Duration
	var l *limit
	if e.shared.up() {
		at, l = e.shared.states.turn(e, w)
	} else {
		at, l = e.limits.turn(e.t, max(e.t, e.backoff.until), w)
	}
	if l == nil {
		return at, refill.Limit{}
	}
	return at, l.Limit()
}

// join puts a request into the queue unless its turn would come too late.
func (e *Engine) join(r *Request) {
	w := r.queue()
	w.Item, w.Place, w.Until, w.Weight = r, r.Place, refill.Never, e.limits.weigh(r.Draw)
	if w.Class == nil && e.queue.Classed() {
		w.Class = &queue.Class{}
	}
	if w.Class != nil {
		w.Class.Since = e.t
	}
	if r.MaxWait != 0 {
		w.Until, r.due, w.Expire = refill.After(e.t, max(r.MaxWait, 0)), PastMaxWait, true
	}
	if r.Deadline < w.Until {
		w.Until, r.due, w.Expire = r.Deadline, PastDeadline, false
	}
	stale := e.shared.up() && !e.shared.states.fresh(e.t, w.Until < refill.Never) && e.backoff.ready(e.t) <= e.t // the store may know better
	var n int
	var turn time.Duration
	var slowest refill.Limit
	if w.Class != nil {
		n, turn, slowest = e.ranks.foresee(e, r)
	} else { // and nobody else has one
		var sum queue.Weight
		n, sum = e.queue.Before(w.Place)
		sum = sum.Plus(w.Weight)
		turn, slowest = e.turn(&sum)
	}
	e.ahead, e.estimate = n, turn-e.t
	x := &Rejection{Limit: slowest, After: turn - e.t}
	switch {
	case turn == refill.Never:
		x.Reason, x.After = TooLarge, refill.Never
	case e.backoff.long > e.t && (!r.stays || turn > w.Until):
		x.Reason = LongPause
	case stale && (r.MaxQueue == 0 || e.queue.Beside(w.Class) < r.MaxQueue):
		e.shared.next = 0
		push(e, r)
		return
	case slowest.Per >= refill.Day && turn > e.t && (!r.stays || turn > w.Until):
		x.Reason = DailySpent
	case turn > w.Until || r.MaxWait < 0:
		x.Reason = r.due
	case r.MaxQueue > 0 && e.queue.Beside(w.Class) >= r.MaxQueue:
		x.Reason = PastMaxQueue
	default:
		push(e, r)
		return
	}
	e.reject(r, x)
}

// reject turns a request away.
func (e *Engine) reject(r *Request, x *Rejection) {
	if r.Rejection = x; x.Limit == (refill.Limit{}) && e.backoff.until > e.t {
		x.Why = e.backoff.why
	}
	e.out.Reject = append(e.out.Reject, r)
}

// unreachable turns a request away, since the store does not answer.
func (e *Engine) unreachable(r *Request) {
	e.reject(r, &Rejection{Reason: Unreachable})
}

// next returns who goes next.
func (e *Engine) next() *queue.Waiter[*Request] {
	if e.queue.Classed() {
		e.ranks.rank(e)
	}
	return e.queue.Head()
}

// serve lets those at the head of the queue go whose turn it is, and says when to
// look again.
func (e *Engine) serve() {
	e.shared.release(e)
	if e.shared.up() {
		e.next()
		e.shared.serve(e)
		e.wake = min(e.wake, e.ranks.wake(e))
		return
	}
	for w := e.next(); w != nil; w = e.next() {
		r := w.Item
		r.cost = e.limits.estimates.Cost(r.Draw)
		at := e.ready(r)
		if at <= e.t && e.journal.needs(&e.limits, &r.cost) && !e.journal.synced {
			if at = e.journal.busy; at <= e.t {
				e.out.Sync, e.wake = true, refill.Never
				return
			}
		}
		if at <= e.t {
			e.queue.Remove(w)
			e.admit(r)
			e.out.Go = append(e.out.Go, r)
			continue
		}
		if e.expire() {
			continue
		}
		hold(&e.limits, e.t, &r.cost)
		if e.queue.Classed() {
			at = min(at, e.ranks.wake(e))
		}
		e.wake = e.shared.wake(at)
		if x := e.queue.Expire(); x > 0 {
			e.wake = min(e.wake, x)
		}
		return
	}
	hold(&e.limits, e.t, nil)
	e.wake = e.shared.wake(refill.Never)
	e.backoff.idle(e.t)
}

// admit takes the tokens of a request, which counts as written from now on.
func (e *Engine) admit(r *Request) {
	r.let, r.stage = e.t, held
	e.inFlight++
	if e.told > 0 {
		resume(e)
	}
	if r.queued != nil {
		e.queue.Served(&r.waiter, e.t)
	}
	e.limits.take(e.t, r)
	e.journal.take(e, &r.cost)
	r.slow = e.backoff.admit(e.t)
	r.slot = e.limits.slots()
	e.pacer.admit(e.t)
	e.ramp.admit(e.t)
	e.flights.link(e.t, r)
}

// arrive counts the tokens of a request as spent at the given time.
func (e *Engine) arrive(at time.Duration, r *Request) {
	if r.stage >= arrived {
		return
	}
	e.flights.unlink(r)
	if trip := at - r.let; e.trip == 0 {
		e.trip = trip
	} else {
		e.trip += (trip - e.trip) / 8
	}
	r.stage, r.when = arrived, at
	e.limits.arrive(at, r)
	e.shared.spend(e, r, at)
	e.backoff.land(r)
}

// land counts those as arrived that must have by now.
func (e *Engine) land() {
	for e.flights.due() <= e.t {
		r := e.flights.first
		e.arrive(e.flights.due(), r)
		if r.deemed = !r.closed; r.deemed {
			e.paceAccepted(r)
		}
	}
}

// paceAccepted counts a request as accepted for the pacer.
func (e *Engine) paceAccepted(r *Request) {
	r.deemedOK = true
	gap, _ := e.limits.gap()
	e.pacer.accept(e.t, r.let, gap)
}

// recall has a request not on its way yet, whatever was thought. It may have been
// something else that was written, such as what fetches credentials.
func (e *Engine) recall(r *Request) {
	e.flights.unlink(r)
	if !r.deemed {
		e.shared.hold(e, r)
		return
	}
	r.stage, r.deemed = held, false
	e.shared.hold(e, r)
	e.limits.coming += r.cost[refill.Requests]
	for _, d := range r.drawn {
		if d.n > 0 {
			d.Settle(e.t, r.when, -d.n)
			d.Take(e.t, d.n)
		}
	}
}

// pardon takes back most of the tokens that a request has taken which the server
// found invalid: what it states, such as the most tokens of an answer, is nobody's
// cost then, and must not keep all others out.
func (e *Engine) pardon(r *Request) {
	for i, d := range r.drawn {
		l, n := d.limit, d.n
		if most := max(1, l.n()/pardoned); l.Limit().Unit != refill.Requests && l.Limit().Per > 0 && n > most {
			l.Settle(e.t, r.when, most-n)
			e.shared.settle(e, l, r, most-n)
			e.journal.note(e, l, r.let, most-n)
			r.drawn[i].n = most
		}
	}
}

// pardoned is which part of a limit of tokens an invalid request takes at the most.
const pardoned = 20

// fail ends a request that gets no response. If it was given up on its way, it may
// still arrive.
func (e *Engine) fail(r *Request, reached bool) {
	r.deemed = false
	if reached && r.stage == held {
		e.flights.link(e.t, r)
	} else if !reached && r.stage < arrived {
		e.flights.unlink(r)
		r.stage = over
		e.limits.coming -= r.cost[refill.Requests]
		for _, d := range r.drawn {
			if d.n > 0 {
				d.Put(d.n)
				d.counts(r.let, -d.n)
				e.journal.note(e, d.limit, r.let, -d.n)
			}
		}
		e.shared.unspend(e, r)
		e.pacer.put()
		e.backoff.land(r)
	}
	e.close(r)
}

// close ends a request, and gives back the tokens that it held all the while.
func (e *Engine) close(r *Request) {
	if r.closed {
		return
	}
	r.closed = true
	e.inFlight--
	homecoming(&e.limits, r)
	if r.stage == over {
		return
	}
	for _, d := range r.drawn {
		if d.Limit().Per == 0 {
			d.Put(d.n)
			e.shared.freed(e)
		}
	}
}

// changed notes that a limit is another one, which the store is told if l is not
// nil: the server has stated it.
func (e *Engine) changed(l *limit, c Change) {
	e.out.Changes = append(e.out.Changes, c)
	if c.To.Unit != refill.Requests {
		e.reweigh()
	}
	if l != nil && e.shared != nil {
		i := e.limits.index(l)
		l.told, l.news = l.stated, true
		e.shared.due(e.t)
		if c.From == (refill.Limit{}) && c.To.Unit == refill.Requests && e.shared.gen != 0 {
			l.Spent(e.t, func(at time.Duration, n int64) {
				e.shared.outbox.move(c.To, i, n, 0, e.shared.stamp(at))
			})
		}
	}
}

// reweigh has the queue's sums follow the caps that limits put on requests. Most
// are smaller than any limit: for those nothing changes.
func (e *Engine) reweigh() {
	if e.capped || e.caps(e.heaviest) {
		e.capped = false
		e.queue.Reweigh(func(w *queue.Waiter[*Request]) queue.Weight {
			e.capped = e.capped || e.caps(w.Item.Draw.Cost[refill.Tokens])
			return e.limits.weigh(w.Item.Draw)
		})
	}
}

// caps reports whether an estimate is more than a request is charged at most.
func (e *Engine) caps(tokens int64) bool {
	short, long := e.limits.caps()
	most := min(short[refill.Tokens], long[refill.Tokens])
	return float64(tokens)*max(e.limits.estimates.Factor(), 1) > float64(most)
}

const (
	// look is how many of the queue are looked at in one event, more or less:
	// others wait for the lock meanwhile.
	look = 4096
	// tell is how many are turned away in one event.
	tell = 1024
)

// expire turns away those who have waited for longer than MaxWait, and reports
// whether there were any.
func (e *Engine) expire() bool {
	list, sums := e.queue.Expired(e.t, tell)
	for i, w := range list {
		turn, slowest := e.turn(&sums[i])
		e.queue.Remove(w)
		e.reject(w.Item, rejection(e, w.Item, turn, slowest))
	}
	return len(list) > 0
}

// putOff turns away those in the queue whose turn will come too late by now. Of
// many refusals of one moment, each of which puts it off a little, it heeds few:
// to look at the queue takes its time.
func (e *Engine) putOff() {
	until := e.backoff.until
	for _, l := range e.limits.list {
		if !l.daily() {
			until = max(until, l.Dry())
		}
	}
	if e.queue.Timed() > 0 && until-e.drained > (until-e.t)/64 {
		e.drained = until
		e.lateFrom = 0
		e.late(false)
	}
}

// late turns away those in the queue whose turn will come too late by now. strict
// has those looked at as well who would wait for ever, but not for another day.
func (e *Engine) late(strict bool) {
	var slowest refill.Limit
	turn := func(w queue.Weight) (at time.Duration) {
		at, slowest = e.turn(&w)
		return at
	}
	late := func(w *queue.Waiter[*Request], at time.Duration) bool {
		return at > w.Until || at == refill.Never || !w.Item.stays && (slowest.Per >= refill.Day && at > e.t || e.backoff.long > e.t)
	}
	e.strict = strict
	e.lateFrom = e.queue.Late(e.lateFrom, look, strict, e.t, turn, late, func(w *queue.Waiter[*Request], sum queue.Weight) {
		at, slowest := e.turn(&sum)
		e.reject(w.Item, rejection(e, w.Item, at, slowest))
	})
}
