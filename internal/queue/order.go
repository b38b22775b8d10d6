package queue

import (
	"time"
)

// before counts those of a tenant that go before one of another tenant that starts at
// a given virtual time and has a given place. chunk and i are where the next one is.
func (t *tenant[T]) before(p *Prices, at float64, place uint64) (chunk, i, n int, sum Weight, cost float64) {
	for chunk, c := range t.queue.chunks {
		last := c.list[len(c.list)-1]
		if whole := p.of(&c.sum); before(t.start(cost+whole-p.part(&last.Weight)), last.Place, at, place) {
			n += len(c.list)
			sum.add64(&c.sum)
			cost += whole
			continue
		}
		for i, w := range c.list {
			if !before(t.start(cost), w.Place, at, place) {
				return chunk, i, n, sum, cost
			}
			n++
			sum.add(&w.Weight)
			cost += p.part(&w.Weight)
		}
	}
	return len(t.queue.chunks), 0, n, sum, cost
}

// start returns when w starts, and how many of its own tenant go before it, and what
// those wait for.
func (c *classes[T]) start(l *level[T], w *Waiter[T]) (t *tenant[T], at float64, n int, sum Weight) {
	class := classOf(w)
	if t = l.tenants[class.Tenant]; t == nil || t.place == 0 {
		if at = l.clock; t != nil {
			at = max(at, t.at)
		}
		return t, at, 0, Weight{}
	}
	n, sum = t.queue.Ahead(w.Place)
	if w.In() {
		n--
		sum.sub(&w.Weight)
	}
	return t, t.start(c.prices.of(&sum)), n, sum
}

// ahead returns how many go before w, what they wait for, and what those of them and
// w itself wait for that are of its level.
func (c *classes[T]) ahead(w *Waiter[T]) (n int, sum, own Weight) {
	i, found := c.find(classOf(w).Level)
	for _, l := range c.levels[:i] {
		n += l.n
		sum.add64(&l.sum)
	}
	if found {
		l := c.levels[i]
		t, at, k, mine := c.start(l, w)
		n += k
		own = mine
		for _, x := range l.waiting {
			if x != t {
				_, _, k, s, _ := x.before(&c.prices, at, w.Place)
				n += k
				own.add64(&s)
			}
		}
	}
	sum.add64(&own)
	own.add(&w.Weight)
	return n, sum, own
}

// when estimates when the turn of w comes, ahead of which sum is waited for, own of it
// and of w itself in its level.
//
// Where a higher level keeps it back for longer than Ageing, it goes in turns with that,
// and with other levels that have risen. Where it would itself keep others back for as
// long, it goes in turns with those.
func (c *classes[T]) when(w *Waiter[T], sum, own Weight, now time.Duration, turn func(Weight) time.Duration) time.Duration {
	sum.add(&w.Weight)
	at := turn(sum)
	i, found := c.find(classOf(w).Level)
	lower := c.levels[i:]
	if found {
		lower = lower[1:]
	}
	if i > 0 {
		since := now
		if found {
			since = c.levels[i].held
		}
		if class := classOf(w); class.Since > 0 {
			since = max(since, class.Since)
		}
		if rises := since + Ageing; rises < at {
			var higher Weight
			for _, l := range c.levels[:i] {
				higher.add64(&l.sum)
			}
			others := i + len(lower)
			meanwhile := own.Plus(higher.part(float64(2*others-1) * c.prices.of(&own) / max(c.prices.of(&higher), 1)))
			at = min(at, max(rises, turn(meanwhile)))
		}
	}
	if len(lower) == 0 || at == forever {
		return at
	}
	rises := forever
	var risen Weight
	for _, l := range lower {
		risen.add64(&l.sum)
		since := now // if w makes its level the highest one
		if i > 0 || found {
			since = l.held
		}
		rises = min(rises, since+Ageing)
	}
	if rises = max(rises, now); rises < at {
		part := float64(at-rises) / float64(at-now) * c.prices.of(&sum) / max(c.prices.of(&risen), 1)
		risen = risen.part(part)
		risen.add64(&sum)
		at = max(at, turn(risen))
	}
	return at
}

// part returns a part of a sum, not more than all of it.
func (w Weight) part(of float64) Weight {
	for i := range w {
		w[i] = int64(float64(w[i]) * min(of, 1))
	}
	return w
}

// part is what a single waiter comes to in sums.
func (p *Prices) part(w *Weight) float64 {
	var x Weight
	x.add(w)
	return p.of(&x)
}

// A cursor is a place in the order in which waiters go: that of the level, and of the
// virtual time and place of the next one.
type cursor struct {
	on    bool
	level int
	at    float64
	place uint64
}

// A reader goes through the waiters of one tenant.
type reader[T any] struct {
	tenant   *tenant[T]
	chunk, i int
	cost     float64 // of those before
	at       float64 // when the next one starts
	place    uint64
}

func (r *reader[T]) next() *Waiter[T] { return r.tenant.queue.chunks[r.chunk].list[r.i] }

// look takes in the next one, and reports whether there is one.
func (r *reader[T]) look() bool {
	if r.chunk == len(r.tenant.queue.chunks) {
		return false
	}
	r.at, r.place = r.tenant.start(r.cost), r.next().Place
	return true
}

// An order goes through the waiters of one level. The reader that is at the one that
// goes first is at the root of the heap.
type order[T any] struct {
	prices  *Prices
	readers []reader[T]
}

// order returns the waiters of a level that do not go before a cursor, and what those
// that do wait for.
func (c *classes[T]) order(l *level[T], from *cursor) (o order[T], ahead Weight) {
	o = order[T]{&c.prices, make([]reader[T], 0, len(l.waiting))}
	for _, t := range l.waiting {
		r := reader[T]{tenant: t}
		if from.on {
			var sum Weight
			r.chunk, r.i, _, sum, r.cost = t.before(&c.prices, from.at, from.place)
			ahead.add64(&sum)
		}
		if r.look() {
			o.readers = append(o.readers, r)
		}
	}
	for i := len(o.readers)/2 - 1; i >= 0; i-- {
		o.down(i)
	}
	return o, ahead
}

func (o *order[T]) less(i, k int) bool {
	a, b := &o.readers[i], &o.readers[k]
	return before(a.at, a.place, b.at, b.place)
}

func (o *order[T]) down(i int) {
	for {
		k := 2*i + 1
		if k+1 < len(o.readers) && o.less(k+1, k) {
			k++
		}
		if k >= len(o.readers) || !o.less(k, i) {
			return
		}
		o.readers[i], o.readers[k] = o.readers[k], o.readers[i]
		i = k
	}
}

// step goes on to the next one. If the last one stays, those behind it start later.
func (o *order[T]) step(stays bool) {
	r := &o.readers[0]
	if stays {
		r.cost += o.prices.part(&r.next().Weight)
	}
	if r.i++; r.i == len(r.tenant.queue.chunks[r.chunk].list) {
		r.chunk, r.i = r.chunk+1, 0
	}
	if !r.look() {
		last := len(o.readers) - 1
		o.readers[0] = o.readers[last]
		o.readers = o.readers[:last]
	}
	o.down(0)
}

func (c *classes[T]) all(do func(*Waiter[T]) bool) {
	var first *Waiter[T]
	if c.risen != nil {
		if first = c.head(); !do(first) {
			return
		}
	}
	for _, l := range c.levels {
		for o, _ := c.order(l, &cursor{}); len(o.readers) > 0; o.step(true) {
			if w := o.readers[0].next(); w != first && !do(w) {
				return
			}
		}
	}
}

// late returns those that are rejected, which are to be taken out. It goes on from
// where it was, and reports whether there is more.
func (c *classes[T]) late(most int, strict bool, now time.Duration, turn func(Weight) time.Duration, late func(*Waiter[T], time.Duration) bool, reject func(*Waiter[T], Weight)) (gone []*Waiter[T], more bool) {
	if !c.from.on {
		if !strict && (c.timed == 0 || turn(c.sum) <= c.until) {
			return nil, false
		}
		c.seen = forever
	}
	var higher Weight // what those of higher levels wait for
	for _, l := range c.levels {
		if c.from.on && l.number > c.from.level {
			higher.add64(&l.sum)
			continue
		}
		if c.from.on && l.number < c.from.level {
			c.from = cursor{}
		}
		o, own := c.order(l, &c.from)
		for ; len(o.readers) > 0; most-- {
			r := &o.readers[0]
			if most <= 0 {
				c.from = cursor{true, l.number, r.at, r.place}
				return gone, true
			}
			w := r.next()
			sum, mine := higher, own
			sum.add64(&own)
			mine.add(&w.Weight)
			stays := !strict && w.Until == forever || !late(w, c.when(w, sum, mine, now, turn))
			if stays {
				own = mine
				c.seen = min(c.seen, w.Until)
			} else {
				sum.add(&w.Weight)
				reject(w, sum)
				gone = append(gone, w)
			}
			o.step(stays)
		}
		higher.add64(&own)
		c.from = cursor{}
	}
	c.until = c.seen
	return gone, false
}

func (c *classes[T]) expired(now time.Duration, most int) (list []*Waiter[T], sums []Weight) {
	if c.expire == 0 || c.expire > now {
		return nil, nil
	}
	next := forever
	for _, l := range c.levels {
		for _, t := range l.waiting {
			found, _ := t.queue.Expired(now, most-len(list))
			for _, w := range found {
				_, sum, _ := c.ahead(w)
				list, sums = append(list, w), append(sums, sum.Plus(w.Weight))
			}
			if x := t.queue.Expire(); x > 0 {
				next = min(next, x)
			}
		}
	}
	if c.expire = next; next == forever {
		c.expire = 0
	}
	return list, sums
}
