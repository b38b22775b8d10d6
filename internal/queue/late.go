package queue

import (
	"sort"
	"time"
)

// Expire returns when the first of those is to be told who have to be, or
// earlier; 0: there are none.
func (q *Queue[T]) Expire() time.Duration { return q.expire }

// Expired returns up to most of those whose time to be told has come, with what
// each of them and those ahead wait for.
func (q *Queue[T]) Expired(now time.Duration, most int) (list []*Waiter[T], sums []Weight) {
	if q.expire == 0 || q.expire > now {
		return nil, nil
	}
	var ahead Weight
	next := forever
	for _, c := range q.chunks {
		if c.expire > now {
			next = min(next, c.expire)
			ahead.add64(&c.sum)
			continue
		}
		c.count() // the bound may be that of one who has left
		sum := ahead
		for _, w := range c.list {
			sum.add(&w.Weight)
			if w.Expire && w.Until <= now && len(list) < most {
				list, sums = append(list, w), append(sums, sum)
			}
		}
		next = min(next, c.expire)
		ahead.add64(&c.sum)
	}
	if q.expire = next; next == forever {
		q.expire = 0
	}
	return list, sums
}

// Late calls reject with those whose turn comes later than is worth waiting for,
// from the head on, with what they and those ahead of them wait for, without those
// rejected before them. turn says when the turn of one comes, given the sum of
// what is waited for up to and including it; later for a larger sum.
//
// strict has every waiter looked at, whatever its Until. To look at one costs
// time: from the place given on, it looks at about as many as most says, and
// returns the place to go on from, which is 0 if that was all. reject removes
// nobody: Late does that.
func (q *Queue[T]) Late(from uint64, most int, strict bool, turn func(Weight) time.Duration, late func(*Waiter[T], time.Duration) bool, reject func(*Waiter[T], Weight)) (next uint64) {
	var ahead Weight
	looked, last := 0, uint64(0)
	for i := 0; i < len(q.chunks); {
		c := q.chunks[i]
		whole := ahead
		whole.add64(&c.sum)
		if c.last() < from || !strict && (c.until == forever || c.until >= turn(whole)) {
			ahead = whole
			i++
			continue
		}
		if looked >= most && c.list[0].Place > last {
			return c.list[0].Place // those of one place are looked at together
		}
		looked, last = looked+len(c.list), c.last()
		for _, w := range append([]*Waiter[T](nil), c.list...) {
			sum := ahead
			sum.add(&w.Weight)
			if late(w, turn(sum)) {
				reject(w, sum)
				q.Remove(w)
			} else {
				ahead = sum
			}
		}
		if i < len(q.chunks) && q.chunks[i] == c {
			c.count()
			i++
		}
	}
	return 0
}

// From calls f with those at the given place and behind it, in order, until it returns
// false. f must not change the queue.
func (q *Queue[T]) From(place uint64, f func(*Waiter[T]) bool) {
	for _, c := range q.chunks[q.find(place):] {
		k := sort.Search(len(c.list), func(i int) bool { return c.list[i].Place >= place })
		for _, w := range c.list[k:] {
			if !f(w) {
				return
			}
		}
	}
}
