package queue

import (
	"cmp"
	"slices"
	"time"
)

// A tenant is those of one level that are served in turn, first come, first
// served.
//
// Tenants share by start-time fair queuing (Goyal, Vin and Cheng, SIGCOMM 1996).
// Each request has a virtual time at which it starts, the end of the one before it
// of its tenant; it ends later by what it costs over the tenant's weight. The one
// that starts first goes next, and virtual time is when the last one that went
// started. A tenant without requests is where virtual time is, so that it neither
// saves nor owes anything. Only the first request's start is kept: one that leaves
// moves up those behind it.
type tenant[T any] struct {
	queue  Queue[T]
	name   string
	weight float64
	base   float64 // where it was when used was 0
	used   float64 // what it was charged since
	at     float64 // when its first request starts; while none waits, where the last one ended
	place  uint64  // of its first request; 0: none waits
	index  int     // in its heap
}

// start returns when a request starts that others go before for so much.
func (t *tenant[T]) start(ahead float64) float64 { return t.base + (t.used+ahead)/t.weight }

// rest has the tenant be at the given time.
func (t *tenant[T]) rest(at float64) { t.base, t.used, t.at = at, 0, at }

// before reports whether one that starts at a given time goes before another.
func before(at float64, place uint64, other float64, otherPlace uint64) bool {
	return at < other || at == other && place < otherPlace
}

// A heap has the tenant that goes first at its root.
type heap[T any] []*tenant[T]

func (h heap[T]) less(i, k int) bool { return before(h[i].at, h[i].place, h[k].at, h[k].place) }

func (h heap[T]) swap(i, k int) {
	h[i], h[k] = h[k], h[i]
	h[i].index, h[k].index = i, k
}

// fix puts a tenant in its place.
func (h heap[T]) fix(i int) {
	for ; i > 0 && h.less(i, (i-1)/2); i = (i - 1) / 2 {
		h.swap(i, (i-1)/2)
	}
	for {
		k := 2*i + 1
		if k+1 < len(h) && h.less(k+1, k) {
			k++
		}
		if k >= len(h) || !h.less(k, i) {
			return
		}
		h.swap(i, k)
		i = k
	}
}

func (h *heap[T]) add(t *tenant[T]) {
	t.index = len(*h)
	*h = append(*h, t)
	h.fix(t.index)
}

func (h *heap[T]) remove(t *tenant[T]) {
	i, last := t.index, len(*h)-1
	h.swap(i, last)
	(*h)[last] = nil
	if *h = (*h)[:last]; i < last {
		h.fix(i)
	}
}

func (h heap[T]) sort() {
	slices.SortFunc(h, func(a, b *tenant[T]) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.place, b.place))
	})
	for i, t := range h {
		t.index = i
	}
}

// A level is tenants that share what higher levels leave.
type level[T any] struct {
	number  int
	tenants map[string]*tenant[T]
	waiting heap[T]
	idle    heap[T] // have nothing waiting, and are ahead of virtual time
	clock   float64 // virtual time
	n       int
	sum     Weight
	held    time.Duration // since when a higher level has somebody waiting, if one has
	served  time.Duration // when one went last, or the first one came
	passed  bool          // one of a higher level has gone since
}

func (l *level[T]) head() *Waiter[T] { return l.waiting[0].queue.Head() }

// due returns when the level goes in spite of higher ones: it has not been served
// for long, or who is to go next has been kept back for long.
func (l *level[T]) due() time.Duration {
	return max(l.held, min(l.served, classOf(l.head()).Since)) + Ageing
}

func classOf[T any](w *Waiter[T]) *Class {
	if w.Class != nil {
		return w.Class
	}
	return &normal
}

// add puts w behind others of its tenant.
func (l *level[T]) add(w *Waiter[T]) {
	c := classOf(w)
	t := l.tenants[c.Tenant]
	if t == nil {
		t = &tenant[T]{name: c.Tenant, weight: c.weight()}
		t.rest(l.clock)
		l.tenants[t.name] = t
	} else if t.place == 0 {
		l.idle.remove(t)
		t.rest(max(t.at, l.clock))
	}
	if c.weight() != t.weight {
		t.rest(t.at)
		t.weight = c.weight()
	}
	t.queue.Push(w)
	l.n++
	l.sum.add(&w.Weight)
	l.move(t)
}

// move puts a tenant in its place after it has changed.
func (l *level[T]) move(t *tenant[T]) {
	is := uint64(0)
	if w := t.queue.Head(); w != nil {
		is = max(w.Place, 1)
	}
	was := t.place
	t.place = is
	switch {
	case was == 0 && is > 0:
		l.waiting.add(t)
	case was > 0 && is == 0:
		l.waiting.remove(t)
		l.idle.add(t)
		l.retire()
	case is > 0:
		l.waiting.fix(t.index)
	}
}

// retire forgets the tenants without requests that virtual time has caught up with,
// and those that it soon will if there are too many.
func (l *level[T]) retire() {
	for len(l.idle) > 0 && (l.idle[0].at <= l.clock || len(l.idle) > spare+2*len(l.waiting)) {
		delete(l.tenants, l.idle[0].name)
		l.idle.remove(l.idle[0])
	}
}

// remove takes w out.
func (l *level[T]) remove(w *Waiter[T]) {
	t := l.tenants[classOf(w).Tenant]
	t.queue.Remove(w)
	l.n--
	l.sum.sub(&w.Weight)
	l.move(t)
}

// charge has the tenant of one that has gone pay for it.
func (l *level[T]) charge(c *Class, cost float64) {
	t := l.tenants[c.Tenant]
	if t == nil { // forgotten when its last request went
		t = &tenant[T]{name: c.Tenant, weight: c.weight()}
		t.rest(l.clock)
		l.tenants[t.name] = t
		l.idle.add(t)
	}
	l.clock = max(l.clock, t.at)
	t.used += cost
	t.at = t.start(0)
	if t.place > 0 {
		l.waiting.fix(t.index)
	} else {
		l.idle.fix(t.index)
	}
	l.retire()
	if l.clock > far {
		l.scale(1)
	}
}

// scale has virtual time start over, in other units.
func (l *level[T]) scale(by float64) {
	for _, t := range l.tenants {
		t.rest((t.at - l.clock) * by)
	}
	l.clock = 0
	l.waiting.sort()
	l.idle.sort()
}
