package quotatest

import (
	"fmt"
	"math"
	"math/bits"
	"sync"
	"time"
)

// A Limit is how much of something a model gives in a span of time. The first
// call to a model with an N below 0 or without a Per panics.
type Limit struct {
	Unit  Unit          // what it counts
	N     int64         // how much; 0: nothing is let through
	Per   time.Duration // in how long; more than 0
	Count Counting      // how it counts

	// Phase puts off the windows of Fixed and Counter: one begins at every
	// multiple of Per since the Unix epoch, by the server's clock, plus Phase. For
	// Fixed a window of 24 hours is a day instead, which begins at midnight in
	// Los Angeles, plus Phase, and on two days of the year is an hour longer or
	// shorter.
	Phase time.Duration
}

// span returns the word for the limit's Per, "" if there is none.
func (l Limit) span() string {
	switch l.Per {
	case time.Second:
		return "second"
	case time.Minute:
		return "minute"
	case time.Hour:
		return "hour"
	case day:
		return "day"
	}
	return ""
}

// A Unit is what a Limit counts.
type Unit int

// The units.
const (
	Requests     Unit = iota // calls
	Tokens                   // of the prompts; a prompt of more than N is never let through
	OutputTokens             // of the answers, which are known beforehand
)

// A Counting is the way in which a Limit counts.
type Counting int

// The ways of counting.
const (
	Fixed   Counting = iota // at most N in every window, as the Gemini API counts
	Sliding                 // at most N in the last Per; what is exactly Per old no longer counts
	Bucket                  // a token bucket of capacity N, full at first, refilled by N a Per, continuously

	// Counter is the sliding-window counter of HAProxy and Cloudflare: what was
	// drawn in the current window, and of what was drawn in the one before the
	// part that it shares with the last Per, come to at most N. It takes the one
	// before for evenly drawn on, and so refuses some who keep to N in every Per.
	Counter
)

// RPM is n requests a minute of the server's clock, from second 0 to second 0.
func RPM(n int64) Limit { return Limit{Unit: Requests, N: n, Per: time.Minute} }

// TPM is n tokens a minute of the server's clock, from second 0 to second 0.
func TPM(n int64) Limit { return Limit{Unit: Tokens, N: n, Per: time.Minute} }

// RPD is n requests a day, from midnight to midnight in Los Angeles.
func RPD(n int64) Limit { return Limit{Unit: Requests, N: n, Per: day} }

const day = 24 * time.Hour

// A cost is what a call draws on limits, by their Unit.
type cost [3]int64

// A quota is the limits of one model. Times are those since the Unix epoch.
type quota []counted

type counted struct {
	Limit
	counter
}

// A counter counts for one limit.
type counter interface {
	// wait returns how long it is until n more fit, 0 if they do now. If they
	// never will, it is how long others may have to wait.
	wait(now time.Duration, n int64) time.Duration

	// draw counts n more, whether they fit or not.
	draw(now time.Duration, n int64)

	// spent returns how much counts now, in whole ones, and how long it is
	// until nothing does if nothing more is drawn.
	spent(now time.Duration) (used int64, clear time.Duration)
}

// An excess is a limit in the way of a call.
type excess struct {
	Limit
	used, requested int64
	wait            time.Duration // until the call fits, if it ever does
}

func newQuota(limits []Limit) quota {
	q := make(quota, len(limits))
	for i, l := range limits {
		q[i] = counted{l, newCounter(l)}
	}
	return q
}

func newCounter(l Limit) counter {
	if l.N < 0 || l.Per <= 0 {
		panic(fmt.Sprintf("quotatest: limit of %d in %v", l.N, l.Per))
	}
	switch l.Count {
	case Sliding:
		return &sliding{n: l.N, per: l.Per}
	case Bucket:
		return &bucket{n: uint64(l.N), per: uint64(l.Per)}
	case Counter:
		return &weighted{n: l.N, per: l.Per, phase: l.Phase, end: math.MinInt64}
	}
	return &fixed{n: l.N, per: l.Per, phase: l.Phase, end: math.MinInt64}
}

// take draws a call on every limit. If it does not fit it draws on none, unless
// regardless, and returns the limits in its way.
func (q quota) take(now time.Duration, c cost, regardless bool) (over []excess) {
	fits := make([]bool, len(q))
	for i, l := range q {
		n := l.of(c)
		if fits[i] = l.wait(now, n) == 0; !fits[i] {
			used, _ := l.spent(now)
			over = append(over, excess{Limit: l.Limit, used: used, requested: n})
		}
	}
	if over == nil || regardless {
		for _, l := range q {
			l.draw(now, l.of(c))
		}
	}
	k, others := 0, time.Duration(0) // what it drew itself may be in its way
	for i, l := range q {
		if wait := l.wait(now, l.of(c)); fits[i] {
			others = max(others, wait)
		} else {
			over[k].wait = wait
			k++
		}
	}
	for k := range over {
		over[k].wait = max(over[k].wait, others)
	}
	return over
}

// of returns what a call draws on the limit.
func (l Limit) of(c cost) int64 {
	if l.N == 0 {
		return max(c[l.Unit], 1) // even nothing is too much
	}
	return c[l.Unit]
}

// A level is what is left of a limit, and when all of it is back.
type level struct {
	Limit
	left int64
	full time.Duration
}

// level returns that of the first limit of a unit, if there is any.
func (q quota) level(u Unit, now time.Time) (level, bool) {
	for _, l := range q {
		if l.Unit == u {
			used, full := l.spent(time.Duration(now.UnixNano()))
			return level{l.Limit, max(l.N-used, 0), full}, true
		}
	}
	return level{}, false
}

// fixed counts what was drawn in the current window.
type fixed struct {
	n          int64
	per, phase time.Duration
	used       int64
	end        time.Duration // of the window
}

func (f *fixed) roll(now time.Duration) {
	if now < f.end {
		return
	}
	f.used = 0
	if f.per == day {
		f.end = midnight(now-f.phase) + f.phase
	} else {
		f.end = next(now, f.per, f.phase)
	}
}

func (f *fixed) wait(now time.Duration, n int64) time.Duration {
	f.roll(now)
	if n <= f.n-f.used {
		return 0
	}
	return f.end - now
}

func (f *fixed) draw(now time.Duration, n int64) {
	f.roll(now)
	f.used += n
}

func (f *fixed) spent(now time.Duration) (used int64, clear time.Duration) {
	if f.roll(now); f.used > 0 {
		clear = f.end - now
	}
	return f.used, clear
}

// next returns the first multiple of per, plus phase, that is after now.
func next(now, per, phase time.Duration) time.Duration {
	since := (now - phase) % per
	if since < 0 {
		since += per
	}
	return now - since + per
}

// midnight returns the first midnight after now where the API's days begin.
func midnight(now time.Duration) time.Duration {
	y, m, d := time.Unix(0, int64(now)).In(pacific()).Date()
	return time.Duration(time.Date(y, m, d+1, 0, 0, 0, 0, pacific()).UnixNano())
}

var pacific = sync.OnceValue(func() *time.Location {
	if loc, err := time.LoadLocation("America/Los_Angeles"); err == nil {
		return loc
	}
	return time.FixedZone("PST", -8*60*60) // no zone data: no summer time
})

// sliding remembers what was drawn in the last per.
type sliding struct {
	n    int64
	per  time.Duration
	used int64   // sum of log
	log  []drawn // oldest first
}

type drawn struct {
	at time.Duration
	n  int64
}

func (s *sliding) forget(now time.Duration) {
	for len(s.log) > 0 && s.log[0].at+s.per <= now {
		s.used -= s.log[0].n
		s.log = s.log[1:]
	}
}

func (s *sliding) wait(now time.Duration, n int64) time.Duration {
	s.forget(now)
	if n > s.n {
		return s.per
	}
	missing := s.used + n - s.n
	if missing <= 0 {
		return 0
	}
	for i := 0; ; i++ { // missing <= used: the log has as many
		if missing -= s.log[i].n; missing <= 0 {
			return s.log[i].at + s.per - now
		}
	}
}

func (s *sliding) draw(now time.Duration, n int64) {
	s.forget(now)
	s.used += n
	s.log = append(s.log, drawn{now, n})
}

func (s *sliding) spent(now time.Duration) (used int64, clear time.Duration) {
	if s.forget(now); s.used > 0 {
		clear = s.log[len(s.log)-1].at + s.per - now
	}
	return s.used, clear
}

// bucket is a token bucket. It reckons in whole tokens and whole parts of a
// token, of which a token has per and n come back every nanosecond: so that it
// is exact whatever n and per are.
type bucket struct {
	n, per uint64
	used   uint64        // tokens gone, the one that is coming back included
	part   uint64        // how much of that one is back; less than per
	at     time.Duration // when that was
}

func (b *bucket) refill(now time.Duration) {
	if b.used > 0 && now > b.at {
		hi, lo := bits.Mul64(uint64(now-b.at), b.n)
		lo, carry := bits.Add64(lo, b.part, 0)
		hi += carry
		back := uint64(math.MaxUint64)
		if hi < b.per {
			back, b.part = bits.Div64(hi, lo, b.per)
		}
		if b.used -= min(back, b.used); b.used == 0 {
			b.part = 0 // full
		}
	}
	b.at = now
}

func (b *bucket) wait(now time.Duration, n int64) time.Duration {
	b.refill(now)
	if uint64(n) > b.n {
		return time.Duration(b.per)
	}
	if b.used+uint64(n) <= b.n {
		return 0
	}
	return b.back(b.used + uint64(n) - b.n)
}

// back returns how long it is until so many more are back.
func (b *bucket) back(missing uint64) time.Duration {
	hi, lo := bits.Mul64(missing, b.per)
	lo, borrow := bits.Sub64(lo, b.part, 0)
	lo, carry := bits.Add64(lo, b.n-1, 0) // round up
	hi += carry - borrow
	if hi >= b.n {
		return math.MaxInt64
	}
	ns, _ := bits.Div64(hi, lo, b.n)
	return time.Duration(min(ns, math.MaxInt64))
}

func (b *bucket) draw(now time.Duration, n int64) {
	b.refill(now)
	b.used += uint64(n)
}

func (b *bucket) spent(now time.Duration) (used int64, clear time.Duration) {
	if b.refill(now); b.used > 0 {
		clear = b.back(b.used)
	}
	return int64(min(b.used, math.MaxInt64)), clear
}
