package quotatest

import (
	"math"
	"math/bits"
	"time"
)

// weighted counts in fixed windows, of which it remembers two.
type weighted struct {
	n          int64
	per, phase time.Duration
	last, used int64         // in the last window and in this one
	end        time.Duration // of this one
}

func (w *weighted) roll(now time.Duration) {
	if now < w.end {
		return
	}
	if w.last = w.used; now >= w.end+w.per {
		w.last = 0
	}
	w.used, w.end = 0, next(now, w.per, w.phase)
}

func (w *weighted) wait(now time.Duration, n int64) time.Duration {
	w.roll(now)
	if n > w.n {
		return w.per
	}
	last, used, end := w.last, w.used, w.end
	if n > w.n-used { // not in this window
		last, used, end = used, 0, end+w.per
	}
	if last == 0 {
		return 0
	}
	// What is left of the last window may weigh so much: last·(end−t)/per ≤ room.
	room := uint64(w.n - used - n)
	return max(end-fraction(room, uint64(w.per), uint64(last))-now, 0)
}

func (w *weighted) draw(now time.Duration, n int64) {
	w.roll(now)
	w.used += n
}

func (w *weighted) spent(now time.Duration) (used int64, clear time.Duration) {
	w.roll(now)
	hi, lo := bits.Mul64(uint64(w.last), uint64(w.end-now))
	old, rest := bits.Div64(hi, lo, uint64(w.per)) // end−now ≤ per
	if rest > 0 {
		old++
	}
	switch {
	case w.used > 0:
		clear = w.end + w.per - now
	case w.last > 0:
		clear = w.end - now
	}
	return w.used + int64(old), clear
}

// fraction returns a·b/c, rounded down, of which it takes b to be a time.
func fraction(a, b, c uint64) time.Duration {
	hi, lo := bits.Mul64(a, b)
	if hi >= c {
		return math.MaxInt64
	}
	q, _ := bits.Div64(hi, lo, c)
	return time.Duration(min(q, math.MaxInt64))
}
