package engine

import (
	"time"

	"example.com/tollgate/internal/queue"
	"example.com/tollgate/internal/refill"
)

// ranks are what tenants share, and when those who wait are judged again because others
// go before them. They are of no use while nobody has a class.
type ranks struct {
	unit   int   // what is shared: that which the scarcest limit counts
	n      int64 // the N of that limit; 0: no limit was scarce yet
	judged time.Duration
	judge  time.Duration // when those are to be turned away who will come too late by now; 0: nobody will
}

// judging is how long it is, for each one who waits, until all are judged again: to go
// through them takes its time.
const judging = 10 * time.Microsecond

// rank says what each request is charged, and which level goes next.
func (k *ranks) rank(e *Engine) {
	if k.judge > 0 && e.t >= k.judge {
		k.judge, k.judged = 0, e.t
		e.lateFrom = 0
		e.late(false)
		if !e.queue.Classed() {
			return
		}
	}
	k.price(e)
	ready := func(w *queue.Waiter[*Request]) bool {
		w.Item.cost = e.limits.estimates.Cost(w.Item.Draw)
		return e.ready(w.Item) <= e.t
	}
	e.queue.Rise(e.t, ready, func(sum queue.Weight) time.Duration {
		at, slowest := e.turn(&sum)
		if slowest.Per >= refill.Day { // nobody goes early for the last token of a day
			return e.t
		}
		return at
	})
}

// foresee returns how many go before a request that comes now, and estimates when its
// turn comes and which limit takes the longest until then. To find its place takes its
// time: if it is early enough as the last one of all, that does not matter.
func (k *ranks) foresee(e *Engine, r *Request) (n int, turn time.Duration, slowest refill.Limit) {
	w := &r.waiter
	sum := e.queue.Sum().Plus(w.Weight)
	if turn, slowest = e.turn(&sum); !r.Told && turn <= w.Until && turn < refill.Never && e.backoff.long <= e.t && (slowest.Per < refill.Day || turn <= e.t) {
		return e.queue.Len(), turn, slowest
	}
	k.price(e)
	n, turn = e.queue.Ahead(w, e.t, func(sum queue.Weight) (at time.Duration) {
		at, slowest = e.turn(&sum)
		return at
	})
	return n, turn, slowest
}

// joined notes that one has joined the queue: others may have to wait for longer.
func (k *ranks) joined(e *Engine) {
	if e.queue.Classed() && e.queue.Timed() > 0 && k.judge == 0 {
		k.judge = e.t
		if n := e.queue.Len(); n >= 1000 {
			k.judge = max(e.t, k.judged+time.Duration(n)*judging)
		}
	}
}

// wake returns when to look at the queue again on account of who goes before whom.
func (k *ranks) wake(e *Engine) time.Duration {
	if k.judge > 0 && e.queue.Classed() {
		return min(max(k.judge, e.t), e.queue.Rises(e.t))
	}
	return e.queue.Rises(e.t)
}

// price has tenants share what the limit counts that those who wait will wait for
// longest. It remains the one until another is clearly scarcer: or who goes first would
// depend on how the two change places.
func (k *ranks) price(e *Engine) {
	sum := e.queue.Sum()
	var l *limit
	var longest, before time.Duration
	for _, x := range e.limits.list {
		n := e.limits.asked(x, &sum)
		if n <= 0 || x.n() == 0 {
			continue
		}
		in := x.Turn(e.t, n) - e.t
		if l == nil || in > longest {
			l, longest = x, in
		}
		if x.Limit().Unit == k.unit && in >= before {
			before = in
			if k.n > 0 {
				k.n = x.n()
			}
		}
	}
	times := 1.0
	if l != nil && (k.n == 0 || l.Limit().Unit != k.unit && longest > before+before/8) {
		if k.n > 0 {
			times = float64(l.n()) / float64(k.n)
		}
		k.unit, k.n = l.Limit().Unit, l.n()
	}
	var p queue.Prices
	switch k.unit {
	case refill.Tokens:
		p[wTokens], p[wEstimated] = 1, e.limits.estimates.Factor()
	case refill.OutputTokens:
		p[wOutput], p[wAnswers] = 1, float64(e.limits.estimates.Output())
	default:
		p[wRequests] = 1
	}
	e.queue.Price(p, times)
}

// push puts a request into the queue.
func push(e *Engine, r *Request) {
	if n := r.Draw.Cost[refill.Tokens]; e.queue.Len() == 0 || n > e.heaviest {
		e.heaviest, e.capped = n, e.caps(n)
	}
	e.queue.Push(&r.waiter, e.t)
	e.ranks.joined(e)
	e.serve()
}
