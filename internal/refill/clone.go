package refill

import (
	"slices"
	"time"
)

// Clone returns a bucket that goes on from here by itself, by the clock given.
func (b *Bucket) Clone(c *Clock) *Bucket {
	d := *b
	d.clock = c
	switch r := b.rule.(type) {
	case *window:
		w := *r
		w.spent, w.first = slices.Clone(r.spent[r.first:]), 0
		if r.clock != nil {
			w.clock = c
		}
		d.rule = &w
	case *steady:
		s := *r
		d.rule = &s
	case *days:
		x := *r
		x.spent, x.clock = slices.Clone(r.spent), c
		d.rule = &x
	case *slots:
		s := *r
		d.rule = &s
	}
	if b.ramp != nil {
		s := *b.ramp
		d.ramp = &s
	}
	return &d
}

// Clone returns a clock that shows the same.
func (c *Clock) Clone() *Clock {
	d := *c
	return &d
}

// Confirm has the clock be known at the given time as well as it was at the last
// response: another one has come that says the same.
func (c *Clock) Confirm(now time.Duration) {
	if c.at > 0 {
		c.at = max(c.at, now)
	}
}
