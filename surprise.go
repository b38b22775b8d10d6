package tollgate

import "time"

// A trial looks at what a limit is really worth, once the server has refused a
// request that there should have been room for: how many it accepts in a Per in
// which there was always one more waiting.
//
// There are none of limits of tokens, where estimates may be what is wrong, nor
// of those of a day.
type trial struct {
	from, until time.Duration // from the drain's end on
	let         int64         // requests let through since
	refused     int64         // of those
}

// surprise takes in a refusal of a request let through at the given time, before
// the pool is drained on account of it. explained says that something else was
// found to be the reason, and it may be that of more for a Per.
func (p *pool) surprise(t, let time.Duration, n int64, explained bool) {
	if let <= p.upset {
		return // it belongs to an earlier one
	}
	p.calm = t
	paced := p.paced(let)
	if p.trial != nil && let >= p.trial.from {
		p.trial.refused += n
		switch {
		case paced && !p.slow: // once more, at a slower pace
		case p.trial.let > p.trial.refused:
			return
		}
		p.trial = nil
	}
	p.upset, p.slow = t, paced
	if explained {
		p.excused = t + p.limit.Per
	}
	if p.trial == nil && t >= p.excused {
		p.trial = &trial{}
		p.begin(max(t, p.dry))
	}
}

// begin puts off the trial to the given time.
func (p *pool) begin(from time.Duration) {
	p.trial.from, p.trial.until = from, from+p.limit.Per
}

// paced reports whether tokens came back one at a time at the given time.
func (p *pool) paced(at time.Duration) bool {
	return p.ramp != nil && at >= p.dry && at < p.dry+p.limit.Per
}

// pace is how many tokens a Per come back one at a time after a drain. If some
// were refused even so, because they came closer together than they were sent,
// or because the server counts those that it refuses, it is a tenth less.
func (p *pool) pace() int64 {
	if p.slow {
		return max(1, p.limit.N-max(1, p.limit.N/10))
	}
	return p.limit.N
}

// counts notes that n tokens of a request let through at the given time were
// taken, or put back if n is negative.
func (p *pool) counts(let time.Duration, n int64) {
	if p.trial != nil && let >= p.trial.from {
		p.trial.let += n
	}
}

// judge ends trials and lets limits grow back.
func (g *gate) judge(t time.Duration) {
	for i := range g.pools {
		p := &g.pools[i]
		from := p.limit
		switch {
		case p.trial != nil && t >= p.trial.until:
			p.verdict(t)
		case p.trial == nil && p.limit.N < p.ceiling() && t >= p.calm+p.limit.Per:
			p.grow(t)
		}
		if p.limit != from {
			g.news = append(g.news, Change{from, p.limit})
		}
	}
}

// grow lets the limit grow back by a twentieth for each Per without refusals.
func (p *pool) grow(t time.Duration) {
	steps := int64((t - p.calm) / p.limit.Per)
	p.calm += time.Duration(steps) * p.limit.Per
	by, most := max(1, p.stated/20), p.ceiling()
	if n := most - p.limit.N; steps <= (n-1)/by {
		most = p.limit.N + steps*by
	}
	p.resize(t, most)
}

// tell returns all the limits that are kept in another way than was told.
func (g *gate) tell(learned []Change) []Change {
	if g.news != nil {
		learned, g.news = append(g.news, learned...), nil
	}
	return learned
}

// verdict says what the trial has shown. If as many were accepted as there are,
// or as were sent, what the server objects to is how they were spread: it is a
// counter of sliding windows, such as HAProxy's and Cloudflare's, which takes the
// last window for evenly drawn on. Else that many are all there is, because
// others draw on it too or because it is less than was thought.
func (p *pool) verdict(t time.Duration) {
	tr := *p.trial
	accepted, all := tr.let-tr.refused, p.limit.N
	if p.slow || tr.refused == 0 {
		all = p.pace() - max(1, p.limit.N/20) // timers are late
	}
	p.trial, p.calm = nil, t
	switch w, ok := p.rule.(*window); {
	case accepted < all:
		if tr.refused > 0 {
			p.resize(t, max(1, accepted))
		}
	case ok && p.limit.Refill != Calendar && p.limit.N == p.stated:
		p.even, p.ramp = true, nil
		p.limit.N, p.limit.Refill, p.limit.Burst = p.ceiling(), Steady, 1
		p.rule = newSteady(p.limit.stretched())
		p.rule.take(t, w.held)
	}
}

// hold ends the trials of limits that are not what the head of the line waits
// for: how many would be accepted is not to be seen.
func (g *gate) hold(t time.Duration, c cost) {
	var short bool // of another limit
	for i := range g.pools {
		if p := &g.pools[i]; p.trial == nil {
			n := p.share(c)
			short = short || n > 0 && p.ready(t, n) > t
		}
	}
	for i := range g.pools {
		p := &g.pools[i]
		if p.trial != nil && t >= p.trial.from && (g.line.head == nil || short && p.ready(t, p.share(c)) <= t) {
			p.trial = nil
		}
	}
}

// ceiling is the most that the limit grows back to.
func (p *pool) ceiling() int64 {
	if p.even {
		return max(1, p.stated-1)
	}
	return p.stated
}
