package queue

import (
	"slices"
	"sort"
	"time"
)

// A Class is who a waiter waits for.
type Class struct {
	Level  int           // the higher one goes first
	Tenant string        // tenants of a level share it
	Weight float64       // in proportion to this; 0: 1
	Since  time.Duration // when the waiter joined first
}

// normal is the class of those without one.
var normal Class

// Ageing is how long those of a lower level are kept back by a higher one: from
// then on the two go in turns.
const Ageing = time.Minute

const (
	// lightest and heaviest weights: those beyond count as these, and virtual times
	// stay finite.
	lightest, weightiest = 1e-9, 1e9
	// spare is how many tenants with nothing waiting are remembered at least.
	spare = 1024
	// far is when virtual time starts over, so that it stays exact.
	far = 1 << 32
)

func (c *Class) weight() float64 {
	if c.Weight == 0 {
		return 1
	}
	return min(max(c.Weight, lightest), weightiest)
}

// Prices say what each number of a Weight comes to, in the units that tenants
// share.
type Prices [Dims]float64

// of returns what a weight, or a sum of several, comes to.
func (p *Prices) of(w *Weight) (cost float64) {
	for i := range w {
		cost += p[i] * float64(w[i])
	}
	return cost
}

// one returns what a single waiter is charged: nobody goes for nothing, or those who
// do could keep out all others.
func (p *Prices) one(w *Weight) float64 {
	var x Weight
	x.add(w)
	return max(p.of(&x), 1)
}

// classes hold the waiters of levels and tenants.
type classes[T any] struct {
	levels []*level[T] // those with waiters, the highest first
	prices Prices
	n      int
	timed  int
	sum    Weight
	expire time.Duration // no waiter with Expire set has an earlier Until; 0: none is in
	until  time.Duration // no waiter has an earlier Until
	seen   time.Duration // nor has one of those that late has looked at, or that came since it began
	risen  *level[T]     // goes next, though there is a higher one; nil: the highest one does
	owed   float64       // what those of the highest level may take before another one rises
	from   cursor
}

// find returns where a level is, or would be.
func (c *classes[T]) find(number int) (i int, found bool) {
	i = sort.Search(len(c.levels), func(i int) bool { return c.levels[i].number <= number })
	return i, i < len(c.levels) && c.levels[i].number == number
}

// level returns the one of a number, made at the given time if there is none.
func (c *classes[T]) level(number int, now time.Duration) *level[T] {
	i, found := c.find(number)
	if !found {
		c.levels = slices.Insert(c.levels, i, &level[T]{number: number, tenants: make(map[string]*tenant[T]), held: now, served: now})
		if i == 0 && len(c.levels) > 1 {
			c.levels[1].held, c.levels[1].passed = now, false
		}
	}
	return c.levels[i]
}

// adopt takes over a queue of waiters without classes.
func (c *classes[T]) adopt(q *Queue[T], now time.Duration) {
	c.until, c.seen = forever, forever
	if q.n == 0 {
		return
	}
	l := c.level(normal.Level, now)
	t := &tenant[T]{queue: *q, weight: normal.weight()}
	l.tenants[t.name] = t
	l.n, l.sum = q.n, q.sum
	l.move(t)
	c.n, c.sum, c.timed, c.expire = q.n, q.sum, q.timed, q.expire
	for _, x := range q.chunks {
		c.until = min(c.until, x.until)
	}
}

func (c *classes[T]) push(w *Waiter[T], now time.Duration) {
	c.level(classOf(w).Level, now).add(w)
	c.n++
	c.sum.add(&w.Weight)
	if w.Until != forever {
		c.timed++
	}
	c.until, c.seen = min(c.until, w.Until), min(c.seen, w.Until)
	if w.Expire && (c.expire == 0 || w.Until < c.expire) {
		c.expire = w.Until
	}
}

func (c *classes[T]) remove(w *Waiter[T]) {
	i, _ := c.find(classOf(w).Level)
	l := c.levels[i]
	l.remove(w)
	c.n--
	c.sum.sub(&w.Weight)
	if w.Until != forever {
		c.timed--
	}
	if l.n > 0 {
		return
	}
	c.levels = slices.Delete(c.levels, i, i+1)
	if c.risen == l || len(c.levels) < 2 {
		c.risen = nil
	}
	if len(c.levels) < 2 {
		c.owed = 0
	}
}

// head returns who goes next.
func (c *classes[T]) head() *Waiter[T] {
	if c.risen != nil {
		return c.risen.head()
	}
	return c.levels[0].head()
}

// rise chooses the level that goes next: of those that are due, or can go before they
// are only if the highest one does not go first, the one that was served the longest
// time ago. What it takes, those of the highest level may take as well before another
// one rises.
func (c *classes[T]) rise(now time.Duration, ready func(*Waiter[T]) bool, turn func(Weight) time.Duration) {
	c.risen = nil
	if c.owed > 0 {
		return
	}
	var all Weight // of all levels that go in turns with the highest one
	for _, l := range c.levels[1:] {
		if l.passed {
			all = all.Plus(c.levels[0].head().Weight).Plus(l.head().Weight)
		}
	}
	for _, l := range c.levels[1:] {
		if due := l.due(); due > now && (!l.passed || !ready(l.head()) || turn(all) <= due) {
			continue
		}
		if c.risen == nil || l.served < c.risen.served {
			c.risen = l
		}
	}
}

// rises returns when a level will be due that is not yet; forever: none will.
func (c *classes[T]) rises(now time.Duration) time.Duration {
	at := forever
	if c.owed > 0 {
		return at
	}
	for _, l := range c.levels[1:] {
		if due := l.due(); due > now {
			at = min(at, due)
		}
	}
	return at
}

// served notes that one has gone that was taken out.
func (c *classes[T]) served(w *Waiter[T], now time.Duration) {
	class, cost := classOf(w), c.prices.one(&w.Weight)
	i, found := c.find(class.Level)
	if i > 0 {
		c.owed += cost
	} else {
		c.owed = max(0, c.owed-cost)
	}
	if found {
		l := c.levels[i]
		l.served, l.passed = now, false
		l.charge(class, cost)
		i++
	}
	for _, l := range c.levels[i:] {
		l.passed = true
	}
	if c.risen = nil; len(c.levels) < 2 {
		c.owed = 0 // nobody was kept back
	}
}
