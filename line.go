package tollgate

import (
	"time"

	"example.com/tollgate/provider"
)

// cost is what a request draws on the limits, by unit.
type cost = provider.Cost

// A line holds those who wait, first come, first served, and the one timer that
// wakes them. Its owner's lock guards it.
type line struct {
	head, tail *waiter
	n          int
	sum        cost // what all of them wait for

	tick  func() // runs when the timer fires
	timer *time.Timer
	at    time.Duration // when it will; 0: it is not set
}

// A waiter is one place in the line.
type waiter struct {
	prev, next *waiter
	in         bool
	place      uint64        // the lower one goes first
	until      time.Duration // when it gives up
	cost       cost
	ready      chan struct{} // closed when it may go, or was turned away
	grant      *grant        // whose place it is, at a gate
}

// insert puts w in its place. New ones belong at the end and those who come
// back at the front, so the way there is short from either side.
func (l *line) insert(w *waiter) {
	after := l.tail
	if l.head != nil && l.early(w.place) {
		after = nil
		for next := l.head; next != nil && next.place <= w.place; next = next.next {
			after = next
		}
	} else {
		for after != nil && after.place > w.place {
			after = after.prev
		}
	}
	w.prev = after
	if after == nil {
		w.next, l.head = l.head, w
	} else {
		w.next, after.next = after.next, w
	}
	if w.next == nil {
		l.tail = w
	} else {
		w.next.prev = w
	}
	w.in = true
	l.n++
	l.sum.Add(w.cost)
}

// before returns how many are in line before a place, and what they wait for.
func (l *line) before(place uint64) (n int, sum cost) {
	if l.head == nil || l.early(place) {
		for w := l.head; w != nil && w.place <= place; w = w.next {
			n++
			sum.Add(w.cost)
		}
		return n, sum
	}
	n, sum = l.n, l.sum
	for w := l.tail; w != nil && w.place > place; w = w.prev {
		n--
		sum.Sub(w.cost)
	}
	return n, sum
}

// early reports whether a place is in the first half of the line.
func (l *line) early(place uint64) bool {
	return place < l.head.place+(l.tail.place-l.head.place)/2
}

// remove takes w out of the line and reports whether it was in.
func (l *line) remove(w *waiter) bool {
	if !w.in {
		return false
	}
	if w.prev == nil {
		l.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.in = nil, nil, false
	l.n--
	l.sum.Sub(w.cost)
	return true
}

// wake sets the timer to the given time.
func (l *line) wake(now, at time.Duration) {
	if at == l.at {
		return
	}
	if at == never {
		l.rest()
		return
	}
	l.at = at
	if l.timer == nil {
		l.timer = time.AfterFunc(at-now, l.tick)
	} else {
		l.timer.Reset(at - now)
	}
}

// rest stops the timer: nothing that time alone brings is waited for.
func (l *line) rest() {
	if l.at != 0 {
		l.timer.Stop()
		l.at = 0
	}
}

// rang notes that the timer has fired.
func (l *line) rang() { l.at = 0 }
