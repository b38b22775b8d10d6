package tollgate

import (
	"math/rand/v2"
	"net/http"
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
	flying int           // how many are
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
func (p *pause) admit() bool {
	if p.width == 0 {
		return false
	}
	p.flying++
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

func (w *grant) Refused(status int, r provider.Refusal) {
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.now()
	if r.Wait <= 0 {
		r.Hinted = false
	}
	r.Wait = min(r.Wait, maxHint)
	switch {
	case r.Never || r.Daily():
		return
	case status != http.StatusTooManyRequests:
		if !r.Hinted {
			return // that request alone backs off
		}
		g.pause.until = max(g.pause.until, t+r.Wait)
	case r.Hinted && len(g.pools) > 0:
		g.drain(t+r.Wait, r.Limits)
	default:
		g.pause.shut(t, w.let, r)
	}
	g.delayed(t)
	g.serve(t)
}

// drain empties the pools that a refusal names, or all but those of a day.
func (g *gate) drain(until time.Duration, named []provider.Violation) {
	found := false
	for i := range g.pools {
		if p := &g.pools[i]; p.named(named) {
			p.drain(until, false)
			found = true
		}
	}
	if !found {
		for i := range g.pools {
			if p := &g.pools[i]; p.limit.Per < day {
				p.drain(until, false)
			}
		}
	}
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
