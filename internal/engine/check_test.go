package engine

import (
	"slices"
	"time"

	"example.com/tollgate/internal/queue"
	"example.com/tollgate/internal/refill"
)

// follow holds what the engine has decided against the model.
func (w *world) follow(came *ticket, d Decisions) {
	m := w.m
	var in time.Duration // in which the newcomer is to go, at the earliest and at the latest
	var most time.Duration
	var daily bool
	var ahead int
	if came != nil {
		m.join(came)
		ahead = len(m.ahead(came))
		if !m.blind {
			in, _ = m.turn(came, true)
			most, daily = m.turn(came, false)
			if m.classes != nil && len(m.classes.levels) > 1 { // they may rise
				in, most = 0, m.all(came)
			}
		}
	}
	for _, r := range d.Reject {
		w.rejected(r.Owner.(*ticket), came, most, daily)
	}
	list := d.Go
	if came != nil && came.Going() && !slices.Contains(list, came.Request) {
		list = append([]*Request{came.Request}, list...)
	} else if came != nil && came.Rejection == nil {
		w.waits(came, ahead, in, most)
	}
	for _, r := range list {
		w.goes(r.Owner.(*ticket))
	}
	w.wake = d.WakeAt
	switch {
	case d.WakeAt < w.mono:
		w.fail("the engine wants to be woken at %v, which is past", d.WakeAt)
	case d.Sync || d.Exchange || d.TellAt != refill.Never || len(d.Book) > 0:
		w.fail("%+v: there is no journal and no store", d)
	case len(m.queue) == 0:
		return
	}
	if came != nil && came.Waiting() {
		w.punctual()
	}
	head := m.head()
	if !m.blind && !m.vague && m.fits(head, m.now, false, false) {
		w.fail("place %d has room and does not go", head.Place)
	}
	latest := refill.Never
	for _, t := range m.queue {
		if t.MaxWait > 0 && t.until <= m.now && t.MaxWait <= t.Deadline-t.came {
			w.fail("place %d has waited for too long", t.Place)
		}
		if t.MaxWait > 0 && t.MaxWait <= t.Deadline-t.came {
			latest = min(latest, t.until)
		}
	}
	if !m.blind && !m.vague {
		latest = min(latest, m.when(head))
	}
	if d.WakeAt > latest {
		w.fail("the engine wants to be woken at %v: place %d is to be seen to at %v", d.WakeAt-time.Hour, head.Place, latest-time.Hour)
	}
	if d.WakeAt == refill.Never && !w.pending() {
		w.fail("place %d waits for nothing: %+v", head.Place, Snapshot(w.e, w.now()))
	}
}

// pending reports whether something is in flight that will be heard of.
func (w *world) pending() bool {
	return slices.ContainsFunc(w.busy, func(t *ticket) bool { return !t.closed })
}

// goes sees one let go: it is the first in the queue, and there is room for it.
func (w *world) goes(t *ticket) {
	m := w.m
	if w.mono < w.shut {
		w.fail("place %d goes, but the server said: not before %v", t.Place, w.shut-time.Hour)
	}
	if !m.blind && !m.fits(t, m.now, true, false) {
		w.fail("place %d goes, and there is no room for it: %v", t.Place, m.full(t))
	}
	if t.Waiting() || t.Rejection != nil || !t.Going() {
		w.fail("place %d goes, and something else as well", t.Place)
	}
	if err := m.goes(t); err != nil {
		w.fail("%v", err)
	}
	w.busy = append(w.busy, t)
	w.note("    place %d goes", t.Place)
}

// waits sees one join the queue.
func (w *world) waits(t *ticket, ahead int, in, most time.Duration) {
	said, estimate := w.e.Joined()
	switch {
	case t.MaxWait < 0:
		w.fail("place %d waits, and did not want to", t.Place)
	case t.MaxQueue > 0 && w.m.beside(t) > t.MaxQueue:
		w.fail("place %d joins a queue of %d", t.Place, len(w.m.queue)-1)
	case !t.Told: // it need not be looked for
	case said != ahead:
		w.fail("place %d has %d ahead, not %d", t.Place, ahead, said)
	case w.m.blind || !w.plain():
	case estimate < in || estimate > most && !w.m.vague:
		w.fail("place %d goes in %v, it is said: it is %v to %v", t.Place, estimate, in, most)
	case w.m.now+in > t.until:
		w.fail("place %d waits, though its turn comes in %v", t.Place, in)
	}
}

// plain reports whether estimates of times can be foreseen: nothing was corrected.
func (w *world) plain() bool {
	return w.exact && !w.corrected && !slices.ContainsFunc(w.m.limits, func(l *modelLimit) bool { return l.refunded })
}

// rejected sees one turned away: it would have come too late.
func (w *world) rejected(t, came *ticket, most time.Duration, daily bool) {
	m := w.m
	n := m.beside(t) - 1
	last := most
	if m.classes != nil {
		last = m.all(t)
	}
	if !m.leave(t) {
		w.fail("place %d is turned away, and does not wait", t.Place)
	}
	if t.Rejection == nil || t.Going() {
		w.fail("place %d is turned away: %+v", t.Place, t.Request)
	}
	x := *t.Rejection
	w.note("place %d is turned away: %+v", t.Place, x)
	late := t.until < refill.Never && (t != came || !w.plain() || m.vague || m.blind || m.now+last > t.until)
	ok := false
	switch x.Reason {
	case PastMaxQueue:
		ok = t == came && t.MaxQueue > 0 && n >= t.MaxQueue
	case PastDeadline:
		ok = t.Deadline < refill.Never && late
	case PastMaxWait:
		ok = t.MaxWait < 0 || t.MaxWait > 0 && late
	case DailySpent:
		ok = m.blind || m.vague || daily || t != came || !w.plain()
	case TooLarge, LongPause:
		ok = m.blind
	}
	if t != came && !m.blind {
		overtaken := m.classes != nil && (!w.plain() || m.vague || m.now+last > t.until)
		slept := t.until < refill.Never && t.until-t.overslept <= m.now
		ok = ok && (t.MaxWait > 0 && t.until <= m.now || overtaken || slept)
	}
	if !ok || x.After < 0 {
		w.fail("place %d is turned away for no reason: %+v", t.Place, x)
	}
}

// consistent looks at what must be so after every event.
func (w *world) consistent() {
	e, m := w.e, w.m
	i := 0
	var sum queue.Weight
	order := m.ordered()
	e.queue.Rise(-refill.Never/2, func(*queue.Waiter[*Request]) bool { return false }, tooLate)
	e.queue.All(func(x *queue.Waiter[*Request]) bool {
		if i >= len(order) || order[i].Request != x.Item {
			w.fail("the queue is in another order")
		}
		if want := e.limits.weigh(x.Item.Draw); x.Weight != want && x.Item.Draw.Fixed {
			w.fail("place %d weighs %v, not %v", x.Place, x.Weight, want)
		}
		sum = sum.Plus(x.Weight)
		i++
		return true
	})
	if i != len(m.queue) || e.queue.Len() != i || e.queue.Sum() != sum {
		w.fail("the queue is %d long and weighs %v, not %d and %v", e.queue.Len(), e.queue.Sum(), len(m.queue), sum)
	}
	open, coming := 0, int64(0)
	for _, t := range m.gone {
		if !t.closed {
			open++
		}
		if !t.failed && t.spent == none {
			coming++
		}
	}
	if e.inFlight != open || e.limits.coming != coming {
		w.fail("%d in flight and %d on their way, not %d and %d", e.inFlight, e.limits.coming, open, coming)
	}
	if b := &e.backoff; b.flying < 0 || b.width < 0 {
		w.fail("backoff: %+v", b)
	}
}

// finish has the server answer all there is, and sees that everything comes to
// an end, that everything is full again, and that the server was content.
func (w *world) finish() {
	w.kind = true
	w.note("the end")
	for n := 0; ; n++ {
		for len(w.busy) > 0 {
			t := w.busy[0]
			w.end(t)
			w.busy = w.busy[1:]
		}
		if len(w.m.queue) == 0 {
			break
		}
		if n > 2000 || w.wake == refill.Never {
			w.fail("place %d never goes", w.m.queue[0].Place)
		}
		w.tick()
	}
	w.mono += refill.Flight // who was given up may still be on its way
	w.event(nil, w.e.Tick)
	for range 8 {
		at := w.e.Idle(w.now())
		if at <= w.mono {
			break
		}
		if at == refill.Never {
			w.fail("not everything comes back: %+v", Snapshot(w.e, w.now()))
		}
		w.mono = at
		w.event(nil, w.e.Tick)
	}
	if w.m.blind { // what comes back one at a time ends with its time
		w.mono += 3 * refill.Day
		w.event(nil, w.e.Tick)
	}
	w.full()
	if !w.m.blind {
		w.content()
	}
}

// end brings one in flight to its end.
func (w *world) end(t *ticket) {
	if !t.heard && !t.closed {
		t.heard = true
		t.arrival[1] = min(t.arrival[1], w.mono)
		w.note("place %d is answered at last", t.Place)
		w.event(nil, func(now Now) {
			if t.spent == none {
				w.m.spend(t, w.mono)
			}
			w.e.Answered(now, t.Request, Answer{})
		})
	}
	if !t.closed {
		w.note("place %d is closed at last", t.Place)
		t.closed = true
		w.event(nil, func(now Now) { w.e.Closed(now, t.Request) })
	}
}

// full sees that every token is back.
func (w *world) full() {
	e := w.e
	if e.inFlight != 0 || e.limits.coming != 0 || e.flights.first != nil || e.backoff.flying != 0 {
		w.fail("in flight %d, coming %d, slow %d", e.inFlight, e.limits.coming, e.backoff.flying)
	}
	for _, l := range e.limits.list {
		x := l.Limit()
		want := x.N
		if x.Rule == refill.Steady && x.Per > 0 {
			want = min(x.N, x.Capacity())
		}
		if n := l.Free(e.t); n != want {
			w.fail("%d of %+v are back, not %d", n, x, want)
		}
	}
	for _, t := range w.tickets {
		if t.Waiting() || !t.Going() && t.Rejection == nil && !t.left {
			w.fail("place %d has come to no end", t.Place)
		}
	}
}
