package tollgate

import (
	"slices"
	"time"
)

// news is what the store said of a limit, and when.
type news struct {
	LimitNews
	at time.Duration
}

// heed takes in what the store knows of the limits.
func (s *share) heed(g *gate, t time.Duration, r Reply) {
	for _, l := range r.Others {
		if l.check() == nil {
			g.add(l)
			g.pools[len(g.pools)-1].learned = true
			g.news = append(g.news, Change{To: l})
		}
	}
	s.news = s.news[:0]
	for i, l := range r.Limits[:min(len(r.Limits), len(g.pools))] {
		s.news = append(s.news, news{l, t})
		p := &g.pools[i]
		is := p.limit
		is.N, is.Burst = l.N, l.Burst
		told := !slices.ContainsFunc(s.reports, func(r Report) bool { return r.Event == Limited && r.Limit == i })
		if told && is != p.limit && is.check() == nil {
			g.news = append(g.news, Change{p.limit, is})
			p.stated = l.N
			p.limit.Burst = l.Burst
			p.resize(t, l.N)
		}
		p.dry = max(p.dry, t+l.Dry)
	}
	if r.Pause > 0 {
		g.pause.until = max(g.pause.until, t+r.Pause)
	}
}

// turn estimates when all of cost c will have been let through, as far as the
// others leave room for it.
func (s *share) turn(g *gate, t time.Duration, c cost) (time.Duration, Limit) {
	var slowest Limit
	turn := max(t, g.pause.until, s.next)
	for i := range g.pools {
		p := &g.pools[i]
		n := c[p.limit.Unit]
		if n == 0 {
			continue
		}
		if p.limit.N == 0 {
			return never, p.limit
		}
		at := p.dry
		if i < len(s.news) && p.limit.Per > 0 {
			x := s.news[i]
			at = max(at, x.at+x.Dry)
			if need := n - min(x.Left, x.N); need > 0 {
				back := max(x.N-x.Left, 1) // by Full
				at = max(at, after(x.at, time.Duration(float64(x.Full)*float64(min(need, back))/float64(back))))
				if more := need - back; more > 0 {
					at = after(at, time.Duration(min(float64(more)/float64(x.N)*float64(x.Per), float64(never/2))))
				}
			}
		}
		if at > turn || slowest == (Limit{}) {
			turn, slowest = max(at, turn), p.limit
		}
	}
	return turn, slowest
}

// left returns how many tokens of a pool there are, and when all are back.
func (s *share) left(t time.Duration, i int) (int64, time.Duration, bool) {
	if !s.up() || i >= len(s.news) {
		return 0, 0, false
	}
	x := s.news[i]
	left := x.Left
	if t >= x.at+x.Full {
		left = x.N
	}
	return left, max(t, x.at+x.Full), true
}
