package tollgate

import (
	"math"
	"slices"
	"time"

	"example.com/tollgate/provider"
)

// past is what was sent in the last minute to a key that has no limit of
// requests a minute: it counts towards one that the server states later.
type past struct{ window }

func newPast() *past {
	l := Limit{N: math.MaxInt64, Per: time.Minute}
	p := &past{*newWindow(l)}
	p.grain = l.Per / grains
	return p
}

func (p *past) add(at time.Duration, n int64) {
	p.expire(at)
	p.take(at, n)
	p.spend(at, n)
}

// learn takes in a limit that the server states. One that was configured is
// lowered to it, never raised; one that nobody knew of is kept from now on.
func (g *gate) learn(t time.Duration, u Unit, n int64, per time.Duration, refill Refill) (Change, bool) {
	if n <= 0 || per <= 0 || int(u) >= len(cost{}) {
		return Change{}, false
	}
	for i := range g.pools {
		p := &g.pools[i]
		if p.limit.Unit != u || p.limit.Per <= 0 || (p.limit.Per < day) != (per < day) {
			continue
		}
		if p.limit.Per != per {
			if p.stated == n && !p.learned {
				return Change{}, false // the same one, and whoever configured it knows in how long
			}
			continue
		}
		if n == p.stated || n > p.stated && !p.learned {
			return Change{}, false
		}
		from, whole := p.limit, p.limit.N == p.ceiling()
		p.stated = n
		if most := p.ceiling(); whole || most < p.limit.N {
			p.trial = nil
			p.resize(t, most)
			g.share.report(g, t, Report{Event: Limited, Limit: i, Ago: t}, true)
		}
		return Change{from, p.limit}, p.limit != from
	}
	l := Limit{Unit: u, N: n, Per: per, Refill: auto(refill, per)}
	g.add(l)
	p := &g.pools[len(g.pools)-1]
	p.learned = true
	g.share.report(g, t, Report{Event: Limited, Limit: len(g.pools) - 1, Ago: t}, true)
	if u == Requests && per < day {
		if g.past != nil {
			g.past.expire(t)
			for _, s := range g.past.spent[g.past.first:] {
				p.take(t, s.n)
				p.spend(s.at, s.n)
				g.share.report(g, t, Report{Event: Settled, Limit: len(g.pools) - 1, N: s.n, Ago: s.at}, true)
			}
		}
		p.take(t, g.coming)
		p.spend(t, g.coming) // those on their way know nothing of it
	}
	return Change{To: l}, true
}

// auto is the rule by which a limit of the given Per is kept, if refill is what
// the API is known for.
func auto(refill Refill, per time.Duration) Refill {
	if refill == Calendar && per < minSpan {
		return Window
	}
	return refill
}

func (p *pool) resize(now time.Duration, n int64) {
	p.limit.N = n
	p.limit.Burst = min(p.limit.Burst, n)
	l := p.part().stretched()
	p.rule.resize(now, l)
	if p.ramp != nil {
		p.ramp.resize(now, l)
	}
}

// heed takes in what the headers of the response to w say of limits.
func (g *gate) heed(t time.Duration, w *grant, levels []provider.Level) (learned []Change) {
	for _, l := range levels {
		if c, ok := g.learn(t, l.Unit, l.N, l.Per, w.refill); ok {
			learned = append(learned, c)
		}
		if l.Left < 0 {
			continue
		}
		i := slices.IndexFunc(g.pools, func(p pool) bool {
			return p.limit.Unit == l.Unit && p.limit.Per > 0 && (l.Per == p.limit.Per || l.Per == 0 && l.N == p.stated)
		})
		if i >= 0 {
			g.pools[i].lower(t, w.spent, l.Left, l.Full)
			g.share.report(g, t, Report{Event: Level, Limit: i, N: l.Left, Ago: w.spent}, false)
		}
	}
	return learned
}

// lower corrects the level to what the server said it was at the given time: it
// cannot be more. All are back when the server said, if it did. What was sent since is off ours already. (To take that off
// theirs as well would be right only for what has not overtaken the request: of
// those sent together with it, it would be counted twice.)
func (p *pool) lower(t, at time.Duration, left int64, full time.Duration) {
	if p.limit.Refill == Steady {
		left += int64(max(t-at, 0) / p.limit.gap())
	}
	// Some servers round what is left, and nothing is gained by a token or two.
	if more := p.rule.free(t) - left; more > p.limit.N/100 {
		p.take(t, more)
		if w, ok := p.rule.(*window); ok && full >= 0 && full < w.per {
			w.put(more)
			w.insert(t+full-w.per, more)
			return
		}
		p.spend(t, more)
	}
}
