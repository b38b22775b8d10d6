// Package refill holds the rules by which spent tokens come back, and what is
// known of the server's clock. It is arithmetic: time is an argument, given as
// the time since one epoch, and never goes back. It knows nothing of requests,
// queues or what a server says.
package refill

import (
	"math"
	"time"
)

// The units that limits count. They are those of package provider, by number.
const (
	Requests = iota
	Tokens
	OutputTokens

	Units
)

// A Cost is what a request draws on limits, by unit.
type Cost [Units]int64

// A Rule is a rule by which spent tokens come back. They are those of package
// provider, by number.
type Rule uint8

// The rules.
const (
	Auto     Rule = iota // as Window
	Window               // each token comes back Per after it was spent
	Steady               // tokens come back one at a time, Per/N apart
	Calendar             // tokens come back when the server's clock passes a multiple of Per
)

// A Limit allows N units in every Per.
type Limit struct {
	Unit  int
	N     int64
	Per   time.Duration // 0: a token comes back when it is put back
	Rule  Rule
	Burst int64 // Steady: the capacity of what is sent; 0: N
}

// Never is a point in time that does not come.
const Never = time.Duration(math.MaxInt64)

// Day is the Per of limits that Calendar returns at midnight.
const Day = 24 * time.Hour

// drift is how far two clocks may run apart: as much as NTP slews.
const drift = 1.0 / 2000

// longest is the Per that a longer one counts as: sums of it and any time do
// not overflow.
const longest = 100 * 365 * Day

// Stretched returns the limit with a Per that has passed by any clock.
func (l Limit) Stretched() Limit {
	l.Per = min(l.Per, longest)
	l.Per += time.Duration(float64(l.Per) * drift)
	return l
}

// Capacity is how many tokens a Steady bucket of what is sent holds.
func (l Limit) Capacity() int64 {
	if l.Burst > 0 {
		return l.Burst
	}
	return l.N
}

// Most is the largest number of tokens that can be taken at once.
func (l Limit) Most() int64 {
	if l.Rule == Steady {
		return l.Capacity()
	}
	return l.N
}

// Gap is the time in which one token comes back, rounded up to whole
// nanoseconds: the error is on the safe side.
func (l Limit) Gap() time.Duration {
	if l.N <= 0 {
		return Never
	}
	return time.Duration(math.Ceil(float64(min(l.Per, longest)) / float64(l.N)))
}

// After returns the time d after t, at most Never.
func After(t, d time.Duration) time.Duration {
	if d > 0 && t > Never-d {
		return Never
	}
	return t + d
}

// soon returns the time d after t, at most half of Never: any span may still be
// taken from it or added to it.
func soon(t, d time.Duration) time.Duration {
	if t > Never/2-d {
		return Never / 2
	}
	return t + d
}

// Sum returns a + b, at most the largest number.
func Sum(a, b int64) int64 {
	if b > 0 && a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
