package engine

import (
	"math"
	"time"

	"example.com/tollgate/internal/refill"
)

// A Refusal is what the server said when it refused a request.
type Refusal struct {
	Wait     time.Duration // until it is worth trying again; 0: it does not say
	Never    bool          // no waiting helps
	Overload bool          // the server is busy: the quota is not what is short
	Slower   bool          // it asks for a slower ramp
	Limits   []Named       // which limits were exceeded; none: it does not say
}

// A Named is a limit that a refusal names. Zero fields are unknown.
type Named struct {
	Unit int
	N    int64
	Per  time.Duration
}

// daily reports whether a limit of a day or longer is named.
func (f *Refusal) daily() bool {
	for _, v := range f.Limits {
		if v.Per >= refill.Day {
			return true
		}
	}
	return false
}

// knownPatience is how many refusals of a key whose limit is known it takes for
// its requests to be spaced.
const knownPatience = 3

// refuse does what a refusal means. This is the one place that says so:
//
//	no waiting helps          nothing: it is that request's matter
//	names a limit of a day    that is drained until the day ends, or for as long as it says where days have no end
//	                          or where it says hours
//	a hint of hours           that is a quota of its own: the key is shut until then, and nobody waits for it
//	                          whose MaxWait does not cover it; the same where a limit of hours is named
//	overload, with a hint     the key is shut until then
//	overload, without         nothing: that request alone backs off
//	429 that states limits    those are learned, or lowered to
//	429 with a hint           the limits that it names, or all of less than a day, are drained until then;
//	                          if none of those is in the way of such a request, the key is shut until then
//	429 without               the key is shut for a second, which doubles up to a minute, and then opens slowly;
//	                          if it has but one limit, and that is of requests, that is drained as well
//	asks for a slower ramp    half the rate, growing back within a quarter of an hour
//	429 after 429             with nothing accepted in between: the key is shut for longer each time (see backoff)
//
// A limit of requests that is drained although it should have had room is put
// on trial (see trial).
func refuse(e *Engine, r *Request, f Refusal) {
	t, ls := e.t, &e.limits
	switch {
	case f.Never:
		r.Hopeless = true
		return
	case f.daily():
		r.Hopeless = true
		drainDay(e, f)
		e.late(true)
		e.serve()
		return
	case len(f.Limits) == 0 && f.Wait > e.limits.longest() && f.Wait <= longHint:
		e.backoff.long = max(e.backoff.long, t+f.Wait)
		e.backoff.shut(t+f.Wait, LongWait)
		e.shared.paused(e, e.backoff.until)
		r.Hopeless = true
		e.late(true)
		e.serve()
		return
	case f.Overload:
		if f.Slower {
			e.ramp.halve(t, ls.rate(t))
		}
		if f.Wait <= 0 {
			return
		}
		e.backoff.shut(t+min(f.Wait, maxHint), Overloaded)
		e.shared.paused(e, e.backoff.until)
		e.putOff()
		e.serve()
		return
	}
	f.Wait = min(f.Wait, maxHint)
	fresh := e.backoff.refused(t, r.let)
	if f.Slower && fresh {
		e.ramp.halve(t, ls.rate(t))
	}
	explained := e.pacer.on()
	paced := false // at the pace of a limit that is as it was stated
	for _, l := range ls.list {
		paced = paced || l.Limit().Unit == refill.Requests && l.Paced(r.let) && l.n() >= l.ceiling()
	}
	if r.deemedOK {
		e.pacer.accepted--
	}
	for _, v := range f.Limits {
		if l, c := ls.learn(t, v.Unit, v.N, v.Per, r.Rule); l != nil {
			explained = true
			e.changed(l, c)
		}
	}
	switch {
	case f.Wait > 0 && drain(e, r, f, explained):
	case f.Wait > 0:
		e.backoff.pause(t, f.Wait)
		e.shared.paused(e, e.backoff.until)
	default:
		e.backoff.bare(t, !fresh)
		e.shared.paused(e, e.backoff.until)
		if l := ls.only(); l != nil {
			empty(e, r, l, e.backoff.until, false, explained)
		}
	}
	for _, v := range f.Limits {
		r.Hopeless = r.Hopeless || v.Per > maxHint
	}
	gap, per := ls.scale()
	if fresh && len(f.Limits) == 0 {
		space(e, paced, f.Wait > 0, f.Wait > 2*per)
	}
	if _, n := ls.gap(); (f.Wait > 0 || n > 0) && e.backoff.persist(t, gap, per) {
		for _, l := range ls.list { // what comes back in the meantime does not add up
			if x := l.Limit(); x.Unit == refill.Requests && x.Per > 0 && !l.daily() && l.Dry() > t {
				l.drain(e.backoff.until, false)
			}
		}
	}
	e.putOff()
	e.serve()
}

// space has requests spaced, or further apart, on account of a refusal. paced says
// that they were at the pace of a limit that is as it was stated, hinted that the
// server said when to try again, and costly that it stays shut for longer than its
// limit explains.
func space(e *Engine, paced, hinted, costly bool) {
	p := &e.pacer
	was := p.on()
	switch gap, n := e.limits.gap(); {
	case n == 0:
		p.refused(e.t, 0, 2, hinted)
	case costly:
		p.refused(e.t, gap+gap/4, 1, hinted)
	case paced && int64(p.accepted) >= n/2:
		p.refused(e.t, gap, 2, hinted) // the rate is right, and they came too close together
	case was || p.unexpected(e.t, n):
		p.refused(e.t, gap, knownPatience, hinted)
	}
	if p.on() && !was && costly {
		e.limits.restate(e.t)
	}
}

// drain empties the limits that a refusal names, or all but those of a day, and
// reports whether that holds up a request like the one refused. explained says
// that they were other limits than was thought.
func drain(e *Engine, r *Request, f Refusal, explained bool) (holds bool) {
	t, until := e.t, e.t+f.Wait
	found := e.limits.anyNamed(f.Limits)
	for _, l := range e.limits.list {
		if found && !named(l, f.Limits) || !found && l.daily() {
			continue
		}
		anew := false
		if c := l.Calendar(); c != nil && c.Known {
			if anew = c.Fits(t, until, l.Limit().Per); !anew {
				from := l.Limit()
				l.LeaveCalendar()
				e.changed(nil, Change{from, l.Limit()})
				explained = true
			}
		}
		empty(e, r, l, until, anew, explained)
		holds = holds || l.draws(&r.cost) > 0
	}
	return holds
}

// empty drains a limit on account of the refusal of r. If its tokens come back one
// at a time, what r took of it is no longer counted: the server has said when
// there is room again.
func empty(e *Engine, r *Request, l *limit, until time.Duration, anew, explained bool) {
	if n, ok := r.took(l); l.Limit().Unit == refill.Requests && r.denied && ok {
		if e.shared == nil { // of others' requests nothing is known
			l.surprise(e.t, r.let, n, explained)
		}
		if rule := l.Limit().Rule; rule != refill.Steady && l.Limit().Per > 0 && !anew && r.stage == arrived {
			l.Uncount(e.t, r.when, n)
			e.shared.settle(e, l, r, -n)
		}
	}
	l.drain(until, anew)
	e.shared.drained(e, l, anew)
}

// hours is how long a hint has to be to be about the day: the hints of most are about
// the minute, whatever the limit.
const hours = time.Hour

// drainDay empties the limits of a day that a refusal names. A limit that nobody
// knew of is kept from now on.
func drainDay(e *Engine, f Refusal) {
	t := e.t
	for _, v := range f.Limits {
		if v.Per < refill.Day {
			continue
		}
		var l *limit
		for _, x := range e.limits.list {
			if x.daily() && x.Limit().Unit == v.Unit {
				l = x
				break
			}
		}
		if l == nil {
			n := v.N
			if n <= 0 {
				n = math.MaxInt32 // it does not say
			}
			l = e.limits.add(t, refill.Limit{Unit: v.Unit, N: n, Per: refill.Day, Rule: refill.Calendar})
			e.changed(l, Change{To: l.Limit()})
		}
		anew := l.Limit().Rule == refill.Calendar || f.Wait <= 0
		switch {
		case anew && f.Wait >= hours && f.Wait <= refill.Day && l.Limit().Per == refill.Day: // its day is another one
			l.EndDay(t, t+f.Wait)
			e.journal.exhaust(e, l)
		case anew:
			l.drain(e.limits.clock.DayOver(t), true)
			e.journal.exhaust(e, l)
		default:
			l.drain(t+min(f.Wait, refill.Day), false)
		}
		e.shared.drained(e, l, anew)
	}
}
