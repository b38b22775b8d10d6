package engine

import (
	"slices"
	"time"

	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/queue"
	"example.com/tollgate/internal/refill"
)

// A Forecast reckons when requests would be let go, from what was known of a key at
// one time. It takes each to reach the server in the time that they take on
// average, and none to be refused, and all who wait to go before those asked for,
// but for those of a lower level. How long responses take is not known: limits of
// requests at once hold up nobody.
type Forecast struct {
	began, t  time.Duration
	limits    []*refill.Bucket
	clock     *refill.Clock // of the server, if responses show it
	none      []int         // units of which nothing is allowed
	estimates estimate.Estimator
	waiting   []estimate.Draw // in their order
	from      uint64          // the place of the first one not taken in yet
	last      uint64          // that of the last one at that time
	behind    bool            // there are some
	classed   bool            // some have priorities
	backoff   backoff
	pacer     pacer
	ramp      ramp
	trip      time.Duration
	landings  []landing // in order, from first on
	first     int
	steps     int
}

// A landing is when the tokens of requests reach the server.
type landing struct {
	at    time.Duration
	drawn []int64 // of each limit, by one of them
	n     int64   // how many they are
	slow  bool    // see backoff
}

// part is how many of those who wait are taken in at a time.
const part = 2048

// maxSteps is how many requests, or as many as go at once, are gone through one by one.
const maxSteps = 1 << 18

// Foresee returns what can be reckoned from what is known now. Where a store has the
// tokens that is little: f is nil then, and the last of n requests would be let go
// in the time returned.
func Foresee(e *Engine, now Now, n int64, d estimate.Draw) (f *Forecast, after time.Duration) {
	e.at(now)
	if e.shared.up() {
		sum, w := e.queue.Sum(), e.limits.weigh(d)
		for i := range sum {
			sum[i] += int64(min(float64(w[i])*float64(n), 1<<60))
		}
		at, _ := e.turn(&sum)
		if at == refill.Never {
			return nil, at
		}
		return nil, at - e.t
	}
	f = &Forecast{began: e.t, t: e.t, estimates: e.limits.estimates, backoff: e.backoff, pacer: e.pacer, ramp: e.ramp, trip: e.trip}
	f.clock = e.limits.clock.Clone()
	var kept []*limit
	for _, l := range e.limits.list {
		switch {
		case e.shared.open():
		case l.n() == 0:
			f.none = append(f.none, l.Limit().Unit)
		case l.Limit().Per > 0:
			kept = append(kept, l)
			f.limits = append(f.limits, l.Clone(f.clock))
		}
	}
	f.fly(e, kept)
	if last := e.queue.Last(); last != nil {
		f.last = last.Place
	}
	f.behind, f.classed = e.queue.Len() > 0, e.queue.Classed()
	f.Reserve()
	f.Next(e)
	return f, 0
}

// Reserve makes room for what Next takes in, which need not keep others waiting.
func (f *Forecast) Reserve() { f.waiting = slices.Grow(f.waiting, part+1) }

// Next takes in some more of those who wait, and reports whether there may be others:
// to go through a long queue takes its time, in which nobody goes. What happens
// between two calls does not matter: it is at its head, which was taken in first, or
// at its end, which is not asked for.
func (f *Forecast) Next(e *Engine) (more bool) {
	if !f.behind || f.classed != e.queue.Classed() { // it is in another order by now
		return false
	}
	n, place := 0, f.from
	f.behind = false
	e.queue.From(f.from, func(w *queue.Waiter[*Request]) bool {
		switch {
		case f.classed:
			if w.Class == nil || w.Class.Level >= 0 { // others go behind those asked for
				f.waiting = append(f.waiting, w.Item.Draw)
			}
			return true
		case w.Place > f.last:
			return false
		case n >= part && w.Place != place:
			f.from, f.behind = w.Place, true
			return false
		}
		n, place = n+1, w.Place
		f.waiting = append(f.waiting, w.Item.Draw)
		return true
	})
	return f.behind
}

// fly takes in what is on its way.
func (f *Forecast) fly(e *Engine, kept []*limit) {
	left := make([]int64, len(kept)) // of those that nobody knows when they were written
	for i, l := range kept {
		left[i] = l.Flying()
	}
	for r := e.flights.first; r != nil; r = r.after {
		x := landing{at: r.when + refill.Flight, drawn: make([]int64, len(kept)), n: 1, slow: r.slow}
		for i, l := range kept {
			x.drawn[i], _ = r.took(l)
			left[i] -= x.drawn[i]
		}
		if e.trip > 0 {
			x.at = max(e.t, min(x.at, r.let+e.trip))
		}
		f.land(x)
	}
	if slices.Max(append(left, 0)) > 0 {
		f.land(landing{at: e.t + refill.Flight, drawn: left, n: 1})
	}
}

// land notes a landing that is to come, in its order.
func (f *Forecast) land(x landing) {
	i := len(f.landings)
	f.landings = append(f.landings, x)
	for ; i > f.first && f.landings[i-1].at > x.at; i-- {
		f.landings[i] = f.landings[i-1]
	}
	f.landings[i] = x
}

// landed has those reach the server that come first.
func (f *Forecast) landed() {
	x := f.landings[f.first]
	if f.first++; f.first == len(f.landings) {
		f.landings, f.first = f.landings[:0], 0
	}
	f.t = max(f.t, x.at)
	f.clock.Confirm(f.t)
	for i, l := range f.limits {
		if n := x.drawn[i] * x.n; n > 0 {
			l.Spend(x.at, n)
		}
	}
	if x.slow {
		f.backoff.flying--
	}
	if f.backoff.width > 0 {
		f.backoff.width++
	}
	if f.pacer.on() {
		f.backoff.width = 0
	}
}

// Last returns in how long the last would be let go of those that wait and of n more
// that draw d each; refill.Never: it would not be.
//
// It goes through the first 262,144 steps one by one, which takes some 100 ns each
// for each limit; requests of d that go at once are one step. Beyond that it
// estimates, as if each limit was alone.
func (f *Forecast) Last(n int64, d estimate.Draw) time.Duration {
	for _, w := range f.waiting {
		if cost := f.estimates.Cost(w); f.never(&cost) {
			continue // it does not hold up those behind it for ever: it is turned away
		} else if f.steps < maxSteps {
			f.send(f.draws(&cost), 1)
		} else {
			f.skip(f.draws(&cost), 1)
		}
	}
	cost := f.estimates.Cost(d)
	if n > 0 && f.never(&cost) {
		return refill.Never
	}
	drawn := f.draws(&cost)
	for n > 0 {
		if f.steps == maxSteps {
			f.skip(drawn, n)
			break
		}
		n -= f.send(drawn, n)
	}
	if f.t >= refill.Never/2 {
		return refill.Never
	}
	return f.t - f.began
}

// never reports whether a request draws on what nothing is allowed of.
func (f *Forecast) never(c *refill.Cost) bool {
	for _, unit := range f.none {
		if c[unit] > 0 {
			return true
		}
	}
	return false
}

func (f *Forecast) draws(c *refill.Cost) []int64 {
	list := make([]int64, len(f.limits))
	for i, l := range f.limits {
		list[i] = l.Share(c[l.Limit().Unit])
	}
	return list
}

// ready returns when a request may go: see Engine.ready.
func (f *Forecast) ready(drawn []int64) time.Duration {
	at := max(f.backoff.ready(f.t), f.ramp.ready())
	if f.backoff.width != 1 || f.pacer.accepted > 0 {
		at = max(at, f.pacer.next)
	}
	for i, l := range f.limits {
		if n := drawn[i]; n > 0 {
			at = max(at, l.Ready(f.t, n))
		}
	}
	return at
}

// send has as many requests go as can at once, at the time of the first one and up to
// most, and returns how many those are.
func (f *Forecast) send(drawn []int64, most int64) (n int64) {
	f.steps++
	for {
		at := f.ready(drawn)
		if f.first < len(f.landings) && f.landings[f.first].at <= at {
			f.landed()
			continue
		}
		if at >= refill.Never/2 {
			f.t = refill.Never / 2
			return most
		}
		if at <= f.t {
			break
		}
		f.t = at
	}
	n = most
	if f.pacer.on() || f.ramp.gap > 0 || f.backoff.width > 0 {
		n = 1
	}
	for i, l := range f.limits {
		if drawn[i] > 0 && n > 1 {
			n = min(n, max(1, l.Free(f.t)/drawn[i]))
		}
	}
	slow := f.backoff.admit(f.t)
	f.pacer.admit(f.t)
	f.ramp.admit(f.t)
	for i, l := range f.limits {
		if drawn[i] > 0 {
			l.Take(f.t, n*drawn[i])
		}
	}
	f.land(landing{f.t + f.trip, drawn, n, slow})
	return n
}

// skip estimates when n requests will have gone.
func (f *Forecast) skip(drawn []int64, n int64) {
	for f.first < len(f.landings) {
		f.landed()
	}
	at := f.t
	for i, l := range f.limits {
		if drawn[i] > 0 {
			all := int64(min(float64(n)*float64(drawn[i]), 1<<62))
			at = max(at, l.Turn(f.t, all))
			l.Take(f.t, all)
			l.Spend(f.t, all)
		}
	}
	f.t = at
}
