package engine

import (
	"time"

	"example.com/tollgate/internal/queue"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
)

// settled is for how long a store's word on a limit is not asked for again.
const settled = time.Second

// states is what the store has said of each limit.
type states []state

// A state is what the store said of a limit, and when.
type state struct {
	share.State
	at       time.Duration
	detailed bool // it says when what is gone is back, if that is not evenly
}

// when is when n tokens more could be taken, if others took none.
func (x *state) when(n int64) time.Duration {
	last := len(x.Back) - 1
	if last < 0 {
		need := n - min(x.Left, x.N)
		if need <= 0 {
			return x.at
		}
		back := max(x.N-x.Left, 1) // by Full
		at := refill.After(x.at, time.Duration(float64(x.Full)*float64(min(need, back))/float64(back)))
		if more := need - back; more > 0 {
			at = refill.After(at, time.Duration(min(float64(more)/float64(x.N)*float64(x.Per), float64(refill.Never/2))))
		}
		return at
	}
	rounds := (n - 1) / x.N
	at, need := x.at, n-rounds*x.N-(x.N-x.Back[last].N)
	if need > 0 {
		i := 0
		for i < last && x.Back[i].N < need {
			i++
		}
		at = refill.After(at, x.Back[i].In)
	}
	return refill.After(at, time.Duration(min(float64(rounds)*float64(x.Per), float64(refill.Never/2))))
}

// turn estimates when the last of what weighs w will have been let go, as far as
// the others leave room for it, and which limit takes the longest.
func (list states) turn(e *Engine, w *queue.Weight) (turn time.Duration, slowest *limit) {
	slots := false
	for i, l := range e.limits.list {
		n := e.limits.asked(l, w)
		if n == 0 || l.void {
			continue
		}
		if l.n() == 0 {
			return refill.Never, l
		}
		at := max(e.t, l.Dry())
		if i < len(list) && l.Limit().Per > 0 {
			at = max(at, list[i].when(n))
		}
		slots = slots || l.Limit().Per == 0
		if slowest == nil || at > turn {
			turn, slowest = at, l
		}
	}
	if turn < e.backoff.until {
		slowest = nil // it is the pause that takes the longest
	}
	if !slots { // how long a response takes nobody knows
		turn = max(turn, e.shared.next)
	}
	return max(turn, e.t, e.backoff.until), slowest
}

// fresh reports whether the store's word on all limits is new enough to turn
// someone away by it, who waits for ever or not.
func (list states) fresh(t time.Duration, timed bool) bool {
	return len(list) > 0 && (list[0].detailed || !timed) && t-list[0].at < settled
}

// left returns how many tokens of a limit there are, and when all are back; ok is
// false if the store has not said.
func (list states) left(t time.Duration, i int) (left int64, full time.Duration, ok bool) {
	if i >= len(list) {
		return 0, 0, false
	}
	x := list[i]
	left = x.Left
	if t >= x.at+x.Full {
		left = x.N
	}
	return left, max(t, x.at+x.Full), true
}
