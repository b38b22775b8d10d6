// Package queue keeps who waits, and in which order: a Queue by their places alone, a
// Fair by levels and tenants first. It knows nothing of limits or of what is waited
// for: costs are weights that it sums up.
package queue

import (
	"math"
	"slices"
	"sort"
	"time"
)

// Dims is how many numbers a Weight has.
const Dims = 8

// A Weight is what a waiter waits for, in numbers that add up.
type Weight [Dims]int64

// heaviest is the most of a number that is added up: sums do not overflow with
// eight million waiters.
const heaviest = 1 << 40

func (w *Weight) add(d *Weight) {
	for i := range w {
		w[i] += min(d[i], heaviest)
	}
}

func (w *Weight) sub(d *Weight) {
	for i := range w {
		w[i] -= min(d[i], heaviest)
	}
}

// Plus returns the sum of two weights.
func (w Weight) Plus(d Weight) Weight {
	w.add(&d)
	return w
}

// A Waiter is one place in a Queue. Its fields do not change while it is in.
type Waiter[T any] struct {
	Item   T             // who waits
	Place  uint64        // the lower one goes first
	Until  time.Duration // when it is no longer worth waiting
	Expire bool          // at Until it has to be told
	Weight Weight
	Class  *Class // nil: the one of those who have none

	chunk *chunk[T] // which it is in; nil: it is not
}

// In reports whether w is in a queue.
func (w *Waiter[T]) In() bool { return w.chunk != nil }

// A Queue holds waiters in the order of their places. Its zero value is empty.
//
// It is a list of chunks of up to 512 waiters, so that to insert one anywhere,
// to remove one, and to say what those ahead of it wait for takes about as long
// as to go through the chunks: some microseconds with a million waiters.
type Queue[T any] struct {
	chunks []*chunk[T]
	n      int
	sum    Weight
	expire time.Duration // no waiter with Expire set has an earlier Until; 0: none is in
	timed  int           // how many have an Until
}

type chunk[T any] struct {
	list  []*Waiter[T]
	sum   Weight
	until time.Duration // no waiter has an earlier Until
	// The earliest Until of those that have to be told; forever: there are none.
	expire time.Duration
}

const (
	full    = 512
	forever = time.Duration(math.MaxInt64)
)

// Len is how many wait.
func (q *Queue[T]) Len() int { return q.n }

// Sum is what all of them wait for.
func (q *Queue[T]) Sum() Weight { return q.sum }

// Timed is how many of them do not wait for ever.
func (q *Queue[T]) Timed() int { return q.timed }

// Head returns who goes first; nil: nobody waits.
func (q *Queue[T]) Head() *Waiter[T] {
	if len(q.chunks) == 0 {
		return nil
	}
	return q.chunks[0].list[0]
}

// Last returns who goes last; nil: nobody waits.
func (q *Queue[T]) Last() *Waiter[T] {
	if len(q.chunks) == 0 {
		return nil
	}
	list := q.chunks[len(q.chunks)-1].list
	return list[len(list)-1]
}

// find returns the first chunk that a place is before the end of.
func (q *Queue[T]) find(place uint64) int {
	last := len(q.chunks) - 1
	if last < 0 || q.chunks[last].last() < place {
		return last + 1
	}
	return sort.Search(last, func(i int) bool { return q.chunks[i].last() >= place })
}

func (c *chunk[T]) last() uint64 { return c.list[len(c.list)-1].Place }

// after returns how many of a chunk are at a place or before it.
func (c *chunk[T]) after(place uint64) int {
	return sort.Search(len(c.list), func(i int) bool { return c.list[i].Place > place })
}

// Push puts w in its place, behind those of the same one.
func (q *Queue[T]) Push(w *Waiter[T]) {
	i := q.find(w.Place)
	for i < len(q.chunks) && i+1 < len(q.chunks) && q.chunks[i+1].list[0].Place <= w.Place {
		i++
	}
	switch {
	case i < len(q.chunks):
	case i > 0 && len(q.chunks[i-1].list) < full:
		i--
	default:
		q.chunks = append(q.chunks, &chunk[T]{until: forever, expire: forever})
	}
	c := q.chunks[i]
	if len(c.list) == full && i == len(q.chunks)-1 && c.last() <= w.Place { // as most do
		c = &chunk[T]{until: forever, expire: forever}
		q.chunks = append(q.chunks, c)
	}
	if len(c.list) == full {
		half := &chunk[T]{list: append(make([]*Waiter[T], 0, full), c.list[full/2:]...)}
		clear(c.list[full/2:])
		c.list = c.list[:full/2]
		c.count()
		half.count()
		for _, w := range half.list {
			w.chunk = half
		}
		q.chunks = slices.Insert(q.chunks, i+1, half)
		if half.list[0].Place <= w.Place {
			c = half
		}
	}
	c.list = slices.Insert(c.list, c.after(w.Place), w)
	w.chunk = c
	c.sum.add(&w.Weight)
	c.bound(w)
	q.n++
	q.sum.add(&w.Weight)
	if w.Until != forever {
		q.timed++
	}
	if w.Expire && (q.expire == 0 || w.Until < q.expire) {
		q.expire = w.Until
	}
}

// bound takes in when a new one gives up.
func (c *chunk[T]) bound(w *Waiter[T]) {
	c.until = min(c.until, w.Until)
	if w.Expire {
		c.expire = min(c.expire, w.Until)
	}
}

// count adds up a chunk anew.
func (c *chunk[T]) count() {
	c.sum, c.until, c.expire = Weight{}, forever, forever
	for _, w := range c.list {
		c.sum.add(&w.Weight)
		c.bound(w)
	}
}

// Remove takes w out and reports whether it was in.
func (q *Queue[T]) Remove(w *Waiter[T]) bool {
	c := w.chunk
	if c == nil {
		return false
	}
	i := q.find(w.Place)
	for q.chunks[i] != c {
		i++ // several have the same place
	}
	k := sort.Search(len(c.list), func(i int) bool { return c.list[i].Place >= w.Place })
	for c.list[k] != w {
		k++
	}
	if k == 0 { // as most do
		c.list[0] = nil
		c.list = c.list[1:]
	} else {
		c.list = slices.Delete(c.list, k, k+1)
	}
	w.chunk = nil
	c.sum.sub(&w.Weight)
	q.n--
	q.sum.sub(&w.Weight)
	if w.Until != forever {
		q.timed--
	}
	if len(c.list) == 0 {
		if i == 0 {
			q.chunks[0] = nil
			q.chunks = q.chunks[1:]
		} else {
			q.chunks = slices.Delete(q.chunks, i, i+1)
		}
	}
	if q.n == 0 {
		q.chunks, q.expire = nil, 0
	}
	return true
}

// Ahead returns how many go before one at the given place, and what they wait
// for.
func (q *Queue[T]) Ahead(place uint64) (n int, sum Weight) {
	i := q.find(place)
	if i == len(q.chunks) {
		return q.n, q.sum
	}
	if i < len(q.chunks)/2 {
		for _, c := range q.chunks[:i] {
			n += len(c.list)
			sum.add64(&c.sum)
		}
	} else {
		n, sum = q.n, q.sum
		for _, c := range q.chunks[i:] {
			n -= len(c.list)
			sum.sub64(&c.sum)
		}
	}
	for ; i < len(q.chunks); i++ {
		c := q.chunks[i]
		k := c.after(place)
		for _, w := range c.list[:k] {
			n++
			sum.add(&w.Weight)
		}
		if k < len(c.list) {
			break
		}
	}
	return n, sum
}

// add64 and sub64 add and take sums, which no number is too heavy for.
func (w *Weight) add64(d *Weight) {
	for i := range w {
		w[i] += d[i]
	}
}

func (w *Weight) sub64(d *Weight) {
	for i := range w {
		w[i] -= d[i]
	}
}

// All calls f with the waiters in order until it returns false. f must not change
// the queue.
func (q *Queue[T]) All(f func(*Waiter[T]) bool) {
	for _, c := range q.chunks {
		for _, w := range c.list {
			if !f(w) {
				return
			}
		}
	}
}

// Reweigh gives every waiter the weight that f returns.
func (q *Queue[T]) Reweigh(f func(*Waiter[T]) Weight) {
	q.sum = Weight{}
	for _, c := range q.chunks {
		for _, w := range c.list {
			w.Weight = f(w)
		}
		c.count()
		q.sum.add64(&c.sum)
	}
}
