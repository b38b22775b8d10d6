package queue

import "time"

// A Fair is a queue of classes: who is of a higher level goes first, and tenants of
// one level share it in proportion to their weights. Within a tenant the order is
// that of places. Its zero value is empty.
//
// While nobody who waits has a class it is a Queue, and costs no more than one.
type Fair[T any] struct {
	plain   Queue[T]
	classes *classes[T] // nil: nobody has a class
	prices  Prices
}

// Classed reports whether somebody waits who has a class, or has waited since
// somebody last did not.
func (f *Fair[T]) Classed() bool { return f.classes != nil }

// Len is how many wait.
func (f *Fair[T]) Len() int {
	if c := f.classes; c != nil {
		return c.n
	}
	return f.plain.Len()
}

// Beside is how many wait who are of the same level and tenant.
func (f *Fair[T]) Beside(class *Class) int {
	if class == nil {
		class = &normal
	}
	c := f.classes
	if c == nil {
		if class.Level != normal.Level || class.Tenant != normal.Tenant {
			return 0
		}
		return f.plain.Len()
	}
	if i, found := c.find(class.Level); found {
		if t := c.levels[i].tenants[class.Tenant]; t != nil {
			return t.queue.Len()
		}
	}
	return 0
}

// Sum is what all of them wait for.
func (f *Fair[T]) Sum() Weight {
	if c := f.classes; c != nil {
		return c.sum
	}
	return f.plain.Sum()
}

// Timed is how many of them do not wait for ever.
func (f *Fair[T]) Timed() int {
	if c := f.classes; c != nil {
		return c.timed
	}
	return f.plain.Timed()
}

// Head returns who goes first; nil: nobody waits.
func (f *Fair[T]) Head() *Waiter[T] {
	if c := f.classes; c != nil {
		return c.head()
	}
	return f.plain.Head()
}

// Last returns who has the last place, while nobody has a class.
func (f *Fair[T]) Last() *Waiter[T] { return f.plain.Last() }

// Push puts w in its place, behind those of the same one.
func (f *Fair[T]) Push(w *Waiter[T], now time.Duration) {
	if f.classes == nil {
		if w.Class == nil {
			f.plain.Push(w)
			return
		}
		f.classes = &classes[T]{prices: f.prices}
		f.classes.adopt(&f.plain, now)
		f.plain = Queue[T]{}
	}
	f.classes.push(w, now)
}

// Remove takes w out and reports whether it was in.
func (f *Fair[T]) Remove(w *Waiter[T]) bool {
	c := f.classes
	if c == nil {
		return f.plain.Remove(w)
	}
	if !w.In() {
		return false
	}
	if c.remove(w); c.n == 0 {
		f.classes = nil
	}
	return true
}

// Served says that w, which was taken out, has gone, and has its tenant pay for it.
func (f *Fair[T]) Served(w *Waiter[T], now time.Duration) {
	if c := f.classes; c != nil {
		c.served(w, now)
	}
}

// Price says what tenants are charged from now on. What was charged so far is kept,
// and comes to so many times as much in the new units.
func (f *Fair[T]) Price(p Prices, times float64) {
	f.prices = p
	c := f.classes
	if c == nil {
		return
	}
	c.prices = p
	if times != 1 {
		c.owed *= times
		for _, l := range c.levels {
			l.scale(times)
		}
	}
}

// Rise decides whether one of a lower level goes next because it was kept back for
// so long. ready says whether one could go now, and turn when the turn of one comes that
// waits for so much, those ahead included.
func (f *Fair[T]) Rise(now time.Duration, ready func(*Waiter[T]) bool, turn func(Weight) time.Duration) {
	if c := f.classes; c != nil {
		c.rise(now, ready, turn)
	}
}

// Rises returns when to call Rise again at the latest.
func (f *Fair[T]) Rises(now time.Duration) time.Duration {
	if c := f.classes; c != nil {
		return c.rises(now)
	}
	return forever
}

// Before returns how many go before one without a class at the given place, and what
// they wait for, while nobody has a class.
func (f *Fair[T]) Before(place uint64) (n int, sum Weight) { return f.plain.Ahead(place) }

// Ahead returns how many of those who wait now go before w, which need not be in,
// and when its turn comes.
func (f *Fair[T]) Ahead(w *Waiter[T], now time.Duration, turn func(Weight) time.Duration) (n int, at time.Duration) {
	c := f.classes
	if c == nil { // w is the first who has a class
		c = &classes[T]{prices: f.prices}
		c.adopt(&f.plain, now)
	}
	n, before, own := c.ahead(w)
	return n, c.when(w, before, own, now, turn)
}

// All calls f with the waiters in the order in which they go, those that rise
// excepted, until it returns false. f must not change the queue.
func (f *Fair[T]) All(do func(*Waiter[T]) bool) {
	if c := f.classes; c != nil {
		c.all(do)
		return
	}
	f.plain.All(do)
}

// From calls f with the waiters at the given place and behind it, as All does. Where
// somebody has a class there are no such places: it calls f with all.
func (f *Fair[T]) From(place uint64, do func(*Waiter[T]) bool) {
	if f.classes != nil {
		f.All(do)
		return
	}
	f.plain.From(place, do)
}

// Reweigh gives every waiter the weight that f returns.
func (f *Fair[T]) Reweigh(weigh func(*Waiter[T]) Weight) {
	c := f.classes
	if c == nil {
		f.plain.Reweigh(weigh)
		return
	}
	c.sum = Weight{}
	for _, l := range c.levels {
		l.sum = Weight{}
		for _, t := range l.waiting {
			t.queue.Reweigh(weigh)
			l.sum.add64(&t.queue.sum)
		}
		c.sum.add64(&l.sum)
	}
}

// Expire returns when the first of those is to be told who have to be, or
// earlier; 0: there are none.
func (f *Fair[T]) Expire() time.Duration {
	if c := f.classes; c != nil {
		return c.expire
	}
	return f.plain.Expire()
}

// Expired returns up to most of those whose time to be told has come, with what
// each of them and those ahead wait for.
func (f *Fair[T]) Expired(now time.Duration, most int) (list []*Waiter[T], sums []Weight) {
	if c := f.classes; c != nil {
		return c.expired(now, most)
	}
	return f.plain.Expired(now, most)
}

// Late calls reject with those whose turn comes later than is worth waiting for: see
// Queue.Late. Of classes, it takes those out who are rejected, and returns 1 if it is
// to be gone on with.
func (f *Fair[T]) Late(from uint64, most int, strict bool, now time.Duration, turn func(Weight) time.Duration, late func(*Waiter[T], time.Duration) bool, reject func(*Waiter[T], Weight)) (next uint64) {
	c := f.classes
	if c == nil {
		return f.plain.Late(from, most, strict, turn, late, reject)
	}
	if from == 0 {
		c.from = cursor{}
	}
	gone, more := c.late(most, strict, now, turn, late, reject)
	for _, w := range gone {
		f.Remove(w)
	}
	if more {
		return 1
	}
	return 0
}
