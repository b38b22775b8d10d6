package engine

import (
	"slices"
	"time"

	"example.com/tollgate/internal/queue"
	"example.com/tollgate/internal/refill"
)

// modelClasses is who goes first in worlds in which requests have classes. It is a
// queue of its own, which package queue holds against a model of that: what is tried
// here is that the engine tells its queue of all that comes and goes, at the right
// price and time.
type modelClasses struct {
	queue  queue.Fair[*ticket]
	levels map[int]bool // that there were
}

// priced has tenants share the given unit.
func (c *modelClasses) priced(unit int) {
	var p queue.Prices
	if p[wRequests] = 1; unit == refill.Tokens {
		p = queue.Prices{}
		p[wTokens] = 1
	}
	c.queue.Price(p, 1)
}

// join puts one into the queue that the engine has put into its own.
func (c *modelClasses) join(t *ticket, now time.Duration) {
	t.shadow = queue.Waiter[*ticket]{Item: t, Place: t.Place, Until: refill.Never, Class: t.whom(), Weight: t.waiter.Weight}
	c.levels[t.class().Level] = true
	c.queue.Push(&t.shadow, now)
}

// order is the one in which those who wait go if no level rises.
func (c *modelClasses) order() (list []*ticket) {
	c.queue.Rise(-refill.Never/2, notReady, tooLate)
	c.queue.All(func(w *queue.Waiter[*ticket]) bool { list = append(list, w.Item); return true })
	return list
}

// notReady has levels rise only when they are due, and tooLate whenever they can.
func notReady(*queue.Waiter[*ticket]) bool { return false }
func tooLate(queue.Weight) time.Duration   { return refill.Never }

// nexts returns who may go next: if no level rises before it is due, and if one does.
func (c *modelClasses) nexts(now time.Duration) (list []*ticket) {
	c.queue.Rise(now, notReady, tooLate)
	list = append(list, c.queue.Head().Item)
	for level := range c.levels {
		c.queue.Rise(now, func(w *queue.Waiter[*ticket]) bool { return w.Item.class().Level == level }, tooLate)
		list = append(list, c.queue.Head().Item)
	}
	return list
}

// head is who goes next if no level rises before it is due.
func (m *model) head() *ticket {
	if m.classes != nil {
		return m.classes.nexts(m.now)[0]
	}
	return m.queue[0]
}

// ordered is who waits, in the order in which they go.
func (m *model) ordered() []*ticket {
	if m.classes != nil {
		return m.classes.order()
	}
	return m.queue
}

// ahead returns those that go before t: all of them, if it has not joined those that
// have classes.
func (m *model) ahead(t *ticket) (list []*ticket) {
	if m.classes == nil || !t.shadow.In() {
		classed := m.classes != nil && (t.whom() != nil || m.classes.queue.Classed())
		for _, x := range m.queue {
			if x != t && (x.Place <= t.Place || classed) {
				list = append(list, x)
			}
		}
		return list
	}
	list = m.classes.order()
	return list[:slices.Index(list, t)]
}

// all is in how long t goes at the latest if all others go first.
func (m *model) all(t *ticket) (in time.Duration) {
	for _, l := range m.limits {
		n := l.asked(m, t)
		for _, x := range m.queue {
			if x != t {
				n += l.asked(m, x)
			}
		}
		if n > 0 {
			in = max(in, m.nth(l, n, false)-m.now)
			if most := n - n%max(l.N, 1); most > 0 { // the last one of a round is foreseen later than the first of the next
				in = max(in, m.nth(l, most, false)-m.now)
			}
		}
	}
	return in
}

// beside is how many wait who are of the tenant that t is of, and t itself.
func (m *model) beside(t *ticket) (n int) {
	for _, x := range m.queue {
		if a, b := t.class(), x.class(); a.Level == b.Level && a.Tenant == b.Tenant {
			n++
		}
	}
	return n
}

func (t *ticket) class() queue.Class {
	if t.whom() == nil {
		return queue.Class{}
	}
	return *t.whom()
}

// class gives a request one, in some worlds.
func (w *world) class(r *Request) {
	if w.m.classes == nil || w.in.next(4) == 0 {
		return
	}
	r.queue().Class = &queue.Class{
		Level:  pick(&w.in, 0, 0, 1, -1) * w.leveled,
		Tenant: pick(&w.in, "a", "b", "c", ""),
	}
	r.whom().Weight = map[string]float64{"a": 1, "b": 4, "c": 0.5, "": 0}[r.whom().Tenant]
}

// punctual sees that nobody waits who can no longer make it, now that another has
// joined.
func (w *world) punctual() {
	if c := w.m.classes; c == nil || !c.queue.Classed() || len(c.levels) > 1 || !w.plain() || w.m.vague {
		return
	}
	order := w.m.classes.order()
	last, _ := w.m.turn(order[len(order)-1], true) // may be foreseen earlier than of those before it: see all
	for _, t := range order {
		if in, _ := w.m.turn(t, true); w.m.now+min(in, last) > t.until {
			w.fail("place %d waits until %v, though its turn comes in %v", t.Place, t.until-time.Hour, in)
		}
	}
}
