package tollgate

import (
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"example.com/tollgate/provider"
)

// A pause is what a gate knows of refusals that no limit explains. It stays
// shut for as long as the server said, or for a second that doubles each time;
// then it opens slowly, one in flight, two, four, until all who waited are
// through.
type pause struct {
	until  time.Duration // shut until then
	since  time.Duration // when it was shut: later refusals of earlier requests are the same one
	length time.Duration // of the last pause without a hint; 0: the last request was accepted
	width  int           // how many may be in flight; 0: any number
	flying int           // how many are, each for a flight at most
	last   time.Duration // when the last of them was let through
}

const (
	minPause = time.Second
	maxPause = time.Minute
	// maxHint is the longest wait that a server is believed for a limit of
	// less than a day.
	maxHint = time.Hour
	day     = 24 * time.Hour
)

// open reports whether one more may be in flight.
func (p *pause) open() bool { return p.width == 0 || p.flying < p.width }

// admit counts one in flight, if it has to be counted.
func (p *pause) admit(t time.Duration) bool {
	if p.width == 0 {
		return false
	}
	p.flying++
	p.last = t
	return true
}

func (p *pause) land() { p.flying-- }

// idle ends the slow start when nobody is left waiting.
func (p *pause) idle(t time.Duration) {
	if p.flying == 0 && t >= p.until {
		p.width = 0
	}
}

// shut begins a pause, or prolongs the one that the refusal belongs to.
func (p *pause) shut(t, let time.Duration, r provider.Refusal) {
	again := let <= p.since
	if !again {
		p.since = t
	}
	switch {
	case r.Hinted:
		p.until = max(p.until, t+r.Wait)
	case !again:
		p.length = min(max(2*p.length, minPause), maxPause)
		p.until = max(p.until, t+p.length+rand.N(p.length/4))
	}
	p.width = 1
}

// accepted notes that a request let through at the given time was not refused.
func (p *pause) accepted(let time.Duration) {
	if let <= p.since {
		return
	}
	p.length = 0
	if p.width > 0 {
		p.width++
	}
}

func (w *grant) Refused(status int, r provider.Refusal) (learned []Change) {
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.now()
	if r.Wait <= 0 {
		r.Hinted = false
	}
	if r.Never {
		return nil
	}
	if r.Daily() {
		learned = g.tell(g.drainDay(t, r))
		g.delayed(t)
		g.serve(t)
		return learned
	}
	r.Wait = min(r.Wait, maxHint)
	switch {
	case status != http.StatusTooManyRequests:
		if !r.Hinted {
			return nil // that request alone backs off
		}
		g.pause.until = max(g.pause.until, t+r.Wait)
		g.share.report(g, t, Report{Event: Pause, Ago: t, For: r.Wait}, true)
	default:
		for _, v := range r.Limits {
			if c, ok := g.learn(t, v.Unit, v.N, v.Per, w.refill); ok {
				learned = append(learned, c)
			}
		}
		held := false
		if r.Hinted {
			var left []Change
			left, held = g.drain(t, t+r.Wait, w, r.Limits, learned != nil)
			learned = append(learned, left...)
		}
		if !held {
			g.pause.shut(t, w.let, r)
			g.share.report(g, t, Report{Event: Pause, Ago: t, For: g.pause.until - t}, true)
			if i := g.only(); i >= 0 {
				g.empty(t, g.pause.until, w, i, false, learned != nil)
			}
		}
	}
	g.putOff(t)
	g.serve(t)
	return g.tell(learned)
}

// drain empties the pools that the refusal of w names, or all but those of a
// day, and reports whether that holds up a request like it.
// explained says that they were other limits than was thought.
func (g *gate) drain(t, until time.Duration, w *grant, named []provider.Violation, explained bool) (learned []Change, held bool) {
	found := slices.ContainsFunc(g.pools, func(p pool) bool { return p.named(named) })
	for i := range g.pools {
		p := &g.pools[i]
		if found && !p.named(named) || !found && p.limit.Per >= day {
			continue
		}
		anew := false
		if c := p.calendar(); c != nil && c.known {
			if anew = c.fits(t, until, p.limit.Per); !anew {
				learned = append(learned, p.leaveCalendar())
			}
		}
		g.empty(t, until, w, i, anew, explained || learned != nil)
		held = held || p.share(w.cost) > 0
	}
	return learned, held
}

// empty drains a pool on account of the refusal of w. If its tokens come back
// one at a time, what w took of it is no longer counted: the server has said
// when there is room again.
func (g *gate) empty(t, until time.Duration, w *grant, i int, anew, explained bool) {
	p := &g.pools[i]
	if p.limit.Unit == Requests && w.denied && i < w.pools {
		n := p.share(w.cost)
		if g.share == nil { // of others' requests nothing is known
			p.surprise(t, w.let, n, explained)
		}
		if c, ok := p.rule.(*window); ok && !anew && w.state == arrived {
			c.settle(t, w.spent, -n)
			g.share.report(g, t, Report{Event: Settled, Limit: i, N: -n, Ago: w.spent}, true)
		}
	}
	p.drain(until, anew)
	g.share.report(g, t, Report{Event: Drain, Limit: i, Ago: t, For: until - t, Anew: anew}, true)
}

// only returns which pool a refusal must be about that names none: -1 if that
// cannot be told.
func (g *gate) only() int {
	found := -1
	for i := range g.pools {
		if p := &g.pools[i]; p.limit.Per > 0 && p.limit.Per < day {
			if found >= 0 || p.limit.Unit != Requests {
				return -1
			}
			found = i
		}
	}
	return found
}

// drainDay empties the pools of a day that a refusal names: until the day ends,
// or for as long as it says where days have no end. A limit that nobody knew of
// is kept from now on.
func (g *gate) drainDay(t time.Duration, r provider.Refusal) (learned []Change) {
	for _, v := range r.Limits {
		if v.Per < day {
			continue
		}
		i := slices.IndexFunc(g.pools, func(p pool) bool { return p.limit.Per >= day && p.limit.Unit == v.Unit })
		if i < 0 {
			l := Limit{Unit: v.Unit, N: v.N, Per: day, Refill: Calendar}
			if l.N <= 0 {
				l.N = math.MaxInt32 // it does not say
			}
			i = len(g.pools)
			g.add(l)
			learned = append(learned, Change{To: l})
		}
		if p := &g.pools[i]; p.limit.Refill == Calendar || !r.Hinted {
			p.drain(g.clock.back(t, t, day), true)
			g.exhaust(t, p)
		} else {
			p.drain(t+min(r.Wait, day), false)
		}
		p := &g.pools[i]
		g.share.report(g, t, Report{Event: Drain, Limit: i, Ago: t, For: p.dry - t, Anew: p.ramp == nil}, true)
	}
	return learned
}

// calendar returns the clock that the pool's tokens come back by, if it has one
// and they need not.
func (p *pool) calendar() *clock {
	if w, ok := p.rule.(*window); ok && p.limit.Per < day {
		return w.clock
	}
	return nil
}

// leaveCalendar has the tokens come back by Window for good.
func (p *pool) leaveCalendar() Change {
	from := p.limit
	p.limit.Refill = Window
	p.rule.(*window).clock = nil
	return Change{from, p.limit}
}

// named reports whether the limit is among those named.
func (p *pool) named(list []provider.Violation) bool {
	for _, v := range list {
		if v.Unit == p.limit.Unit && p.limit.Per > 0 && (v.Per >= day) == (p.limit.Per >= day) {
			return true
		}
	}
	return false
}
