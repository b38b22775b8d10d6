package engine

import (
	"time"

	"example.com/tollgate/internal/refill"
)

// A trial looks at what a limit is really worth, once the server has refused a
// request that there should have been room for: how many it accepts in a Per in
// which there was always one more waiting.
//
// There are none of limits of tokens, where estimates may be what is wrong, nor
// of those of a day.
type trial struct {
	from, until time.Duration // from the drain's end on
	let         int64         // requests let go since
	refused     int64         // of those
}

// surprise takes in a refusal of n tokens let go at the given time, before the
// limit is drained on account of it. explained says that something else was
// found to be the reason, and it may be that of more for a Per.
func (l *limit) surprise(t, let time.Duration, n int64, explained bool) {
	if let <= l.upset {
		return // it belongs to an earlier one
	}
	l.calm = t
	paced := l.Paced(let)
	if l.trial != nil && let >= l.trial.from {
		l.trial.refused += n
		switch {
		case paced && !l.slow: // once more, at a slower pace
		case l.trial.let > l.trial.refused:
			return
		}
		l.trial = nil
	}
	l.upset, l.slow = t, paced
	if explained {
		l.excused = refill.After(t, l.Limit().Per)
	}
	if l.trial == nil && t >= l.excused {
		l.trial = &trial{}
		l.begin(max(t, l.Dry()))
	}
}

// begin puts off the trial to the given time.
func (l *limit) begin(from time.Duration) {
	l.trial.from, l.trial.until = from, refill.After(from, l.Limit().Per)
}

// drain empties the limit until the given time. Tokens that come back one at a
// time do so at its pace, or at a tenth less if some were refused even so: because
// they came closer together than they were sent, or because the server counts
// those that it refuses.
func (l *limit) drain(until time.Duration, anew bool) {
	if until <= l.Dry() {
		return
	}
	l.Drain(until, anew, l.pace())
	if l.trial != nil && l.trial.let == 0 {
		l.begin(until)
	}
}

func (l *limit) pace() int64 {
	if l.slow {
		return max(1, l.n()-max(1, l.n()/10))
	}
	return l.n()
}

// counts notes that n tokens of a request let go at the given time were taken,
// or put back if n is negative.
func (l *limit) counts(let time.Duration, n int64) {
	if l.trial != nil && let >= l.trial.from {
		l.trial.let += n
	}
}

// judge ends the trial, or lets the limit grow back, when it is time.
func (l *limit) judge(t time.Duration) {
	switch {
	case l.trial != nil && t >= l.trial.until:
		l.verdict(t)
	case l.trial == nil && l.n() < l.ceiling() && t >= refill.After(l.calm, l.Limit().Per):
		l.grow(t)
	}
}

// grow lets the limit grow back by a twentieth for each Per without refusals.
func (l *limit) grow(t time.Duration) {
	steps := int64((t - l.calm) / l.Limit().Per)
	l.calm += time.Duration(steps) * l.Limit().Per
	by, most := max(1, l.stated/20), l.ceiling()
	if n := most - l.n(); steps <= (n-1)/by {
		most = l.n() + steps*by
	}
	l.Resize(t, most)
}

// verdict says what the trial has shown. If as many were accepted as there are,
// or as were sent, what the server objects to is how they were spread: it is a
// counter of sliding windows, such as HAProxy's and Cloudflare's, which takes the
// last window for evenly drawn on. Else that many are all there is, because
// others draw on it too or because it is less than was thought.
func (l *limit) verdict(t time.Duration) {
	tr := *l.trial
	accepted, all := tr.let-tr.refused, l.n()
	if l.slow || tr.refused == 0 {
		all = l.pace() - max(1, l.n()/20) // timers are late
	}
	l.trial, l.calm = nil, t
	switch rule := l.Limit().Rule; {
	case accepted < all:
		if tr.refused > 0 {
			l.Resize(t, max(1, accepted))
		}
	case (rule == refill.Window || rule == refill.Auto) && l.n() == l.stated:
		l.even = true
		x := l.Limit()
		x.N, x.Rule, x.Burst = l.ceiling(), refill.Steady, 1
		l.Change(t, x)
	}
}

// debt is the most that a response may add to what a request has taken: what comes
// back within an hour. No response slows a key down for longer, whatever it states.
func (l *limit) debt() int64 {
	x := l.Limit()
	if l.daily() || x.Per <= 0 {
		return x.N
	}
	return int64(min(float64(x.N)*max(1, float64(maxHint)/float64(x.Per)), float64(refill.Never/2)))
}

// ceiling is the most that the limit grows back to.
func (l *limit) ceiling() int64 {
	if l.even {
		return max(1, l.stated-1)
	}
	return l.stated
}

// hold ends the trials of limits that are not what the head of the queue waits
// for, whose cost is c; nil: nobody waits. How many would be accepted is not to
// be seen then.
func hold(ls *limits, t time.Duration, c *refill.Cost) {
	var short bool // of another limit
	for _, l := range ls.list {
		if l.trial == nil && c != nil && !short {
			n := l.draws(c)
			short = n > 0 && l.Ready(t, n) > t
		}
	}
	for _, l := range ls.list {
		if l.trial != nil && t >= l.trial.from && (c == nil || short && l.Ready(t, l.draws(c)) <= t) {
			l.trial = nil
		}
	}
}
