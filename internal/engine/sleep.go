package engine

import (
	"time"

	"example.com/tollgate/internal/queue"
	"example.com/tollgate/internal/refill"
)

// overslept takes in that the machine slept for so long: what was spent is longer ago,
// and who would have been turned away meanwhile is turned away now. (The monotonic
// clock, which everything goes by, stood still.)
func overslept(e *Engine, slept time.Duration) {
	for _, l := range e.limits.list {
		l.Shift(slept)
	}
	for _, l := range e.limits.dormant {
		l.Shift(slept)
	}
	var late []*Request
	if e.queue.Timed() > 0 {
		e.queue.All(func(w *queue.Waiter[*Request]) bool {
			if w.Until < refill.Never && w.Until-slept <= e.t {
				late = append(late, w.Item)
			}
			return true
		})
	}
	for _, r := range late {
		e.queue.Remove(&r.waiter)
		turn, slowest := e.turn(&r.waiter.Weight)
		e.reject(r, &Rejection{Limit: slowest, Reason: r.due, After: turn - e.t})
	}
}
