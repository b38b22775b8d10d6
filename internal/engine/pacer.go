package engine

import (
	"math"
	"time"
)

// A pacer spaces requests evenly once refusals have shown that no limit that is
// known explains them: it learns from what is accepted between refusals how far
// apart requests have to be, and then probes for less, the more carefully the
// more often that has failed.
type pacer struct {
	gap      time.Duration // between requests; 0: they are not spaced
	next     time.Duration // when the next one may go
	bad      time.Duration // a gap that was refused; 0: none was
	changed  time.Duration // when gap did
	since    time.Duration // the last refusal of its own
	hold     time.Duration // from then until the next one that was accepted went: what a refusal costs
	accepted int           // requests accepted since
	streak   int           // requests accepted since gap changed
	refusals int           // of their own, that were not forgotten
}

const (
	// worth is how much longer than a refusal costs requests have to be accepted
	// before another is risked.
	worth  = 8
	minGap = time.Millisecond
	maxGap = 5 * time.Minute
)

// on reports whether requests are spaced.
func (p *pacer) on() bool { return p.gap > 0 }

// admit notes that a request goes.
func (p *pacer) admit(t time.Duration) {
	if p.on() {
		p.next = max(p.next, t-p.gap/8) + p.gap
	}
}

// put notes that a request that went was never sent.
func (p *pacer) put() {
	if p.on() {
		p.next -= p.gap
	}
}

// unexpected reports whether a refusal at a key whose limit is known to be n says
// something of how far apart requests have to be: some were accepted since the last
// one, and fewer than a limit that is merely used up would have allowed.
func (p *pacer) unexpected(t time.Duration, n int64) bool {
	if few := p.accepted > 0 && int64(p.accepted) < max(n*3/4, 2); few {
		return true
	} else if p.accepted > 0 {
		p.refusals = 0
	}
	p.since, p.accepted = t, 0
	return false
}

// refused takes in a refusal of its own. most is the smallest gap that is worth
// trying: that of the limit, if one is known. patience is how many refusals it
// takes for requests to be spaced. Where nothing was accepted since the last one it
// says little of how far apart they have to be, unless the server had said when to
// try again: see backoff.persist.
func (p *pacer) refused(t, most time.Duration, patience int, hinted bool) {
	if p.accepted == 0 && p.refusals > 0 && (p.on() || !hinted) {
		p.gap = min(p.gap+p.gap/2, maxGap)
		p.since, p.changed, p.streak = t, t, 0
		return
	}
	p.refusals++
	measured := time.Duration(0)
	if p.refusals > 1 {
		measured = (t - p.since) / time.Duration(max(p.accepted, 1))
	}
	switch {
	case p.refusals < patience:
	case !p.on():
		p.gap = max(measured+measured/10, most, minGap)
		if most > 0 {
			p.gap, p.bad = min(p.gap, 2*most), most
		}
	default:
		p.bad = p.gap
		p.gap = min(max(p.gap+p.gap/4, measured+measured/20), 2*p.gap)
	}
	p.gap = min(p.gap, maxGap)
	p.since, p.changed, p.accepted, p.streak = t, t, 0, 0
}

// accept takes in that a request was accepted that was let go at the given time.
func (p *pacer) accept(t, let, most time.Duration) {
	if let <= p.since {
		return
	}
	if p.accepted++; p.accepted == 1 {
		p.hold = let - p.since
	}
	if !p.on() || let <= p.changed {
		return
	}
	p.streak++
	least := max(most, minGap)
	switch {
	case p.gap <= least:
		return
	case p.bad == 0:
		p.set(t, max(least, p.gap*6/10))
	case p.gap > p.bad+p.bad/20:
		p.set(t, max(least, p.gap-(p.gap-p.bad)*3/10))
	case float64(p.streak) >= 16*math.Pow(1.3, float64(min(p.refusals, 12))) && time.Duration(p.streak)*p.gap >= worth*p.hold:
		p.bad = p.bad * 95 / 100
		p.set(t, max(least, p.gap*95/100))
	}
}

func (p *pacer) set(t, gap time.Duration) {
	p.next -= p.gap - gap
	p.gap, p.changed, p.streak = gap, t, 0
}
