package tollgate

import (
	"fmt"
	"time"
)

// A ledger is the part of a state file that belongs to a gate.
type ledger struct {
	file *stateFile
	name string // of the host and the key
}

// busy is how long to wait for another process to write the file.
const busy = 2 * time.Millisecond

// try lets w go if it may, and returns when that is to be tried again: at the
// time given, if it did. taken says that it is but the file that is not free.
func (g *gate) try(t time.Duration, w *grant) (at time.Duration, taken bool) {
	at = g.ready(t, w.cost)
	if at > t || !g.booked(w) {
		if at <= t {
			g.admit(t, w)
		}
		return at, false
	}
	wall := time.Now()
	ok := g.ledger.file.with(wall, func() {
		for i := range g.pools {
			g.merge(t, wall, &g.pools[i])
		}
		if at = g.ready(t, w.cost); at > t {
			return
		}
		g.admit(t, w)
		for i := range g.pools[:w.pools] {
			if p := &g.pools[i]; p.limit.Per >= day {
				g.book(t, wall, p, p.share(w.cost))
			}
		}
	})
	if !ok {
		return t + busy, true
	}
	return at, false
}

// booked reports whether what a request draws on has to be written down.
func (g *gate) booked(w *grant) bool {
	if g.ledger.file == nil {
		return false
	}
	for i := range g.pools {
		if p := &g.pools[i]; p.limit.Per >= day && p.share(w.cost) > 0 {
			return true
		}
	}
	return false
}

// merge counts what others have spent of the limit as spent.
func (g *gate) merge(t time.Duration, wall time.Time, p *pool) {
	if p.limit.Per < day {
		return
	}
	today := g.back(t, wall, p)
	for back, n := range g.ledger.file.spent[g.id(p)] {
		more, at := n-p.known[back], t
		if p.limit.Refill != Calendar {
			at = min(t, t+time.Unix(back, 0).Add(-p.limit.Per).Sub(wall))
		} else if back < today {
			continue
		}
		if more > 0 {
			p.take(at, more)
			p.spend(at, more)
			p.know(back, more)
			g.late = true
		}
	}
}

// book notes n more tokens of the limit as spent at the time given, fewer if
// that is negative.
func (g *gate) book(at time.Duration, wall time.Time, p *pool, n int64) {
	back := g.back(at, wall, p)
	g.ledger.file.add(g.id(p), back, n)
	p.know(back, n)
}

// back returns under which time what is spent at the given one is written down:
// the end of the server's day, or a Per after the end of the hour.
func (g *gate) back(at time.Duration, wall time.Time, p *pool) int64 {
	if p.limit.Refill == Calendar {
		_, hi := g.clock.bounds(at)
		return int64(g.clock.next(at+hi, day) / time.Second)
	}
	return wall.Truncate(time.Hour).Add(time.Hour + p.limit.Per).Unix()
}

// rebook corrects what was written down for w.
func (g *gate) rebook(t time.Duration, w *grant, p *pool, n int64) {
	if g.ledger.file == nil || p.limit.Per < day || n == 0 {
		return
	}
	wall := time.Now().Add(w.let - t)
	g.ledger.file.with(wall, func() { g.book(w.let, wall, p, n) })
}

// exhaust writes down that nothing is left of a limit's day.
func (g *gate) exhaust(t time.Duration, p *pool) {
	if g.ledger.file == nil {
		return
	}
	wall := time.Now()
	g.ledger.file.with(wall, func() {
		if n := p.limit.N - g.ledger.file.spent[g.id(p)][g.back(t, wall, p)]; n > 0 {
			g.book(t, wall, p, n)
		}
	})
}

func (g *gate) id(p *pool) string {
	return fmt.Sprintf("%s %s per %v", g.ledger.name, p.limit.Unit, p.limit.Per)
}

// know notes that n more tokens of what is written down are counted.
func (p *pool) know(back, n int64) {
	if p.known == nil {
		p.known = make(map[int64]int64)
	}
	for k := range p.known {
		if k < back-2*int64(p.limit.Per/time.Second) {
			delete(p.known, k)
		}
	}
	p.known[back] += n
}
