package tollgate

import "time"

// A rule says when spent tokens come back. It is pure arithmetic: the time is
// an argument, measured from epoch and never going back.
//
// A token leaves with take. It is then on its way, and stays so until spend
// says by when it reached the server at the latest, or put that it never will.
type rule interface {
	// free returns how many tokens could be taken now; less than 0 is a debt.
	free(now time.Duration) int64
	// ready returns when n tokens can be taken, if nobody takes any before:
	// never, as long as that depends on tokens on their way.
	ready(now time.Duration, n int64) time.Duration
	// turn estimates when the last of n further tokens will have been taken,
	// n of any size, if each is taken as soon as it is back.
	turn(now time.Duration, n int64) time.Duration
	// resize changes how many tokens there are, and with that the time in which
	// one comes back.
	resize(now time.Duration, l Limit)
	take(now time.Duration, n int64)
	spend(at time.Duration, n int64)
	put(n int64)
	// settle says that n more tokens were spent at the time given than was
	// said, or fewer if n is less than 0: of the last ones, if the time is never.
	settle(now, at time.Duration, n int64)
}

// A pool holds the tokens of one limit: its rule, and what a drain adds to it.
type pool struct {
	limit   Limit
	stated  int64 // its N as it was configured or stated: it may be less by now
	parts   int64 // of which the rule keeps one; 0: it keeps all
	learned bool  // nobody but the server has stated it
	rule    rule
	dry     time.Duration   // drained until then
	known   map[int64]int64 // of what is written down of it, by when that is back: what is counted here
	ramp    *steady         // after a drain: fills from empty for one Per; nil: everything was back at once

	// What refusals that nothing explains have shown.
	upset   time.Duration // when the last one came that was not the consequence of another
	excused time.Duration // until when there is an explanation
	calm    time.Duration // since when there has been none, or the limit grew
	slow    bool          // the ramp is slower: what keeps to its pace was refused as well
	even    bool          // the server counts sliding windows: it suffers no bursts
	trial   *trial        // nil: there is none
}

// newPool returns a full pool, whose Calendar is kept by c. Where exact is not
// set, the clocks of server and client may drift apart while a token comes back.
func newPool(l Limit, exact bool, c *clock) pool {
	p := pool{limit: l, stated: l.N, dry: -never, upset: -never, excused: -never}
	span := l.Per
	if !exact {
		l = l.stretched()
	}
	switch {
	case l.Per == 0:
		p.rule = &atOnce{n: l.N}
	case l.Refill == Steady:
		p.rule = newSteady(l)
	default:
		w := newWindow(l)
		if l.Refill == Calendar {
			w.clock, w.span = c, span
		}
		p.rule = w
	}
	return p
}

// divide has the rule keep one of so many parts of the limit.
func (p *pool) divide(parts int64) {
	if parts > 1 {
		p.parts = parts
		p.rule.resize(0, p.part().stretched())
	}
}

// part returns the limit as the rule keeps it.
func (p *pool) part() Limit {
	l := p.limit
	if p.parts > 1 && l.N > 0 {
		l.N, l.Burst = max(1, l.N/p.parts), (l.Burst+p.parts-1)/p.parts
	}
	return l
}

// share returns how many tokens of this pool a request of cost c takes: all of
// them at the most, since estimates err.
func (p *pool) share(c cost) int64 { return min(c[p.limit.Unit], max(p.limit.N, 1)) }

func (p *pool) free(now time.Duration) int64 {
	n := p.rule.free(now)
	if now < p.dry {
		return min(n, 0)
	}
	if p.ramp != nil {
		if now < p.dry+p.limit.Per {
			return min(n, p.ramp.free(now))
		}
		p.ramp = nil
	}
	return n
}

func (p *pool) ready(now time.Duration, n int64) time.Duration {
	if p.parts > 1 && p.limit.N > 0 {
		n = min(n, p.part().N)
	}
	at := max(p.rule.ready(now, n), p.dry)
	if p.ramp != nil {
		at = max(at, min(p.ramp.ready(now, n), p.dry+p.limit.Per))
	}
	return at
}

func (p *pool) turn(now time.Duration, n int64) time.Duration {
	at := max(p.rule.turn(max(now, p.dry), n), p.dry)
	if p.ramp != nil && now < p.dry+p.limit.Per {
		at = max(at, p.ramp.turn(now, n))
	}
	return at
}

func (p *pool) take(now time.Duration, n int64) {
	p.rule.take(now, n)
	if p.ramp != nil {
		p.ramp.take(now, n)
		p.ramp.spend(now, n)
	}
}

func (p *pool) spend(at time.Duration, n int64) { p.rule.spend(at, n) }

func (p *pool) put(n int64) {
	p.rule.put(n)
	if p.ramp != nil {
		p.ramp.settle(p.dry, never, -n)
	}
}

func (p *pool) settle(now, at time.Duration, n int64) {
	p.rule.settle(now, at, n)
	if p.ramp != nil && n < 0 {
		p.ramp.settle(p.dry, never, n)
	}
}

// drain empties the pool until the given time; of two drains the later wins.
// If that is when the server's own count starts anew, everything is back then,
// else one token at a time.
func (p *pool) drain(until time.Duration, anew bool) {
	if until <= p.dry {
		return
	}
	p.dry, p.ramp = until, nil
	if p.trial != nil && p.trial.let == 0 {
		p.begin(until)
	}
	if !anew && p.limit.N > 0 && p.limit.Per > 0 {
		l := p.limit
		l.N, l.Burst = p.pace(), 0
		p.ramp = newSteady(l)
		p.ramp.take(until, l.N-1)
		p.ramp.spend(until, l.N-1)
	}
}

// atOnce is the rule of a limit without a Per: a token is back when it is put
// back, wherever it has been.
type atOnce struct{ n, held int64 }

func (a *atOnce) resize(_ time.Duration, l Limit) { a.n = l.N }

func (a *atOnce) free(time.Duration) int64 { return a.n - a.held }

func (a *atOnce) ready(now time.Duration, n int64) time.Duration {
	if n > a.n-a.held {
		return never
	}
	return now
}

func (a *atOnce) turn(now time.Duration, _ int64) time.Duration { return now } // nobody knows how long a response takes
func (a *atOnce) take(_ time.Duration, n int64)                 { a.held += n }
func (a *atOnce) spend(time.Duration, int64)                    {}
func (a *atOnce) put(n int64)                                   { a.held = max(0, a.held-n) }
func (a *atOnce) settle(_, _ time.Duration, n int64)            { a.held = max(0, a.held+n) }
