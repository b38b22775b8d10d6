package tollgate

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A gate is a Limiter in memory.
type gate struct {
	key string

	mu    sync.Mutex
	line  line
	pools []pool
	clock *clock // of the server
	gauge gauge  // of what requests cost
	// What is spent of a day is written down there, if there is a file.
	ledger ledger
	late   bool // others have spent some: it may be too much for those in line
	// Those who do not wait for ever.
	hurried int           // how many they are
	soonest time.Duration // when the first may have waited for too long
	drained time.Duration // until when all was drained when they were last told
	daily   bool          // one of the limits is kept by days
	past    *past         // while no limit of requests is known; nil: one is
	coming  int64         // requests let through that are not at the server yet
	// Grants that were sent and not answered, in the order of their sending.
	// After a flight they count as arrived.
	first, last *grant
	pause       pause
	inFlight    int      // let through, and neither failed nor closed
	news        []Change // limits that are kept in another way, and nobody was told yet
	share       *share   // nil: the quota is nobody else's
}

// NewGate returns a Limiter in memory for the quota of one key. It panics if a
// limit is not valid.
func NewGate(key string, q Quota) Limiter { return newGate(key, q, nil) }

func newGate(key string, q Quota, s *share) *gate {
	g := &gate{key: key, clock: newClock(), soonest: never, share: s}
	for _, l := range q {
		if err := l.check(); err != nil {
			panic(err)
		}
		g.add(l)
	}
	if !slices.ContainsFunc(q, func(l Limit) bool { return l.Unit == Requests && l.Per > 0 }) {
		g.past = newPast()
	}
	g.line.tick = g.ring
	return g
}

func (g *gate) add(l Limit) {
	p := newPool(l, false, g.clock)
	p.divide(g.share.parts())
	p.excused = now() + l.Per // what was sent before may count
	g.pools = append(g.pools, p)
	g.daily = g.daily || l.Refill == Calendar && l.Per == day
}

func (g *gate) Acquire(ctx context.Context, a Ask) (Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := &grant{gate: g, asked: a.Cost, fixed: a.Fixed, refill: a.Refill, stays: a.MaxWait > 0, waiter: waiter{place: a.Place, until: never}}
	w.grant = w
	g.mu.Lock()
	if a.Zone != nil && g.clock.zone != a.Zone {
		g.clock.setZone(a.Zone)
	}
	if g.daily {
		g.clock.wall(now(), time.Now())
	}
	w.cost = g.gauge.correct(a.Cost, a.Fixed)
	t := g.now()
	if s := g.share; s != nil {
		s.greet(g, t, a.Store)
		if s.up() && a.MaxWait < 0 {
			a.MaxWait = s.Timeout // a moment
		}
		if s.away != nil && s.OnError == FailClosed {
			defer g.mu.Unlock()
			return nil, s.error(g)
		}
	}
	if !g.share.up() && (g.line.head == nil || a.Place < g.line.head.place) {
		at, taken := g.try(t, w)
		if at <= t {
			g.mu.Unlock()
			return w, nil
		}
		if taken && a.MaxWait < 0 {
			a.MaxWait = 0 // a moment
		}
	}
	ahead, estimate, err := g.join(ctx, t, w, a)
	g.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if a.Waiting != nil {
		a.Waiting(ahead, estimate)
	}
	select {
	case <-w.ready:
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		if t := g.now(); g.leave(w) {
			g.serve(t)
		} else if w.err == nil {
			g.fail(t, w, false) // let through in the same moment: pass it on
		}
		return nil, ctx.Err()
	}
	if w.err != nil {
		return nil, w.err
	}
	return w, nil
}

// join puts w into the line unless its turn would come too late.
func (g *gate) join(ctx context.Context, t time.Duration, w *grant, a Ask) (ahead int, estimate time.Duration, err error) {
	ahead, ask := g.line.before(w.place)
	ask.Add(w.cost)
	turn, limit := g.turn(t, ask)
	if a.MaxWait != 0 {
		w.until, w.due = after(t, max(a.MaxWait, 0)), PastMaxWait
	}
	if deadline, ok := ctx.Deadline(); ok {
		if until := after(t, time.Until(deadline)); until < w.until {
			w.until, w.due = until, PastDeadline
		}
	}
	e := &LimitError{Key: g.key, Limit: limit, RetryAfter: turn - t}
	switch {
	case turn == never:
		e.Reason, e.RetryAfter = TooLarge, never
	case limit.Per >= day && turn > t && (!w.stays || turn > w.until):
		e.Reason = DailySpent
	case turn > w.until || a.MaxWait < 0:
		e.Reason = w.due
	case a.MaxQueue > 0 && g.line.n >= a.MaxQueue:
		e.Reason = PastMaxQueue
	default:
		w.ready = make(chan struct{})
		g.line.insert(&w.waiter)
		if w.until != never {
			g.hurried++
		}
		if w.due == PastMaxWait {
			g.soonest = min(g.soonest, w.until)
		}
		g.serve(t)
		return ahead, turn - t, nil
	}
	return 0, 0, e
}

// now returns the time, having counted those as arrived that must have by then.
func (g *gate) now() time.Duration {
	t := now()
	for g.first != nil && g.first.sent+flight <= t {
		w := g.first
		g.arrive(w.sent+flight, w)
		w.deemed = !w.closed
	}
	g.judge(t)
	return t
}

// ready returns when a request of cost c may be let through, as far as that can
// be said: what comes before must be looked at again then.
func (g *gate) ready(t time.Duration, c cost) time.Duration {
	at := g.pauseEnd(t)
	if g.share.open() {
		return at
	}
	for i := range g.pools {
		if n := g.pools[i].share(c); n > 0 {
			at = max(at, g.pools[i].ready(t, n))
		}
	}
	if at == never && g.first != nil {
		return g.first.sent + flight
	}
	return at
}

// turn estimates when all of cost c, those ahead included, will have been let
// through, and which limit takes the longest.
func (g *gate) turn(t time.Duration, c cost) (time.Duration, Limit) {
	if g.share.up() {
		return g.share.turn(g, t, c)
	}
	var slowest Limit
	turn := max(t, g.pause.until)
	for i := range g.pools {
		p := &g.pools[i]
		if n := c[p.limit.Unit]; n > 0 {
			if p.limit.N == 0 {
				return never, p.limit
			}
			if at := p.turn(t, n); at > turn || slowest == (Limit{}) && at == turn {
				turn, slowest = at, p.limit
			}
		}
	}
	return turn, slowest
}

// serve lets those at the head of the line go whose turn it is.
func (g *gate) serve(t time.Duration) {
	if g.share.up() {
		g.share.serve(g, t)
		return
	}
	for g.line.head != nil {
		w := g.line.head.grant
		at, _ := g.try(t, w)
		if at <= t {
			g.leave(w)
			close(w.ready)
		}
		if g.late {
			g.late = false
			g.delayed(t)
		}
		if at <= t || !w.in {
			continue
		}
		if g.soonest <= t {
			g.overdue(t)
			continue
		}
		g.hold(t, w.cost)
		g.line.wake(t, min(at, g.soonest))
		return
	}
	g.hold(t, cost{})
	g.line.rest()
	g.pause.idle(t)
}

// ring runs when the timer of the line has fired.
func (g *gate) ring() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.line.rang()
	g.serve(g.now())
}

// reject turns w away: its turn, after ask has been let through, comes too late.
func (g *gate) reject(t time.Duration, w *grant, ask cost) {
	turn, limit := g.turn(t, ask)
	w.err = &LimitError{Key: g.key, Limit: limit, Reason: w.due, RetryAfter: turn - t}
	if limit.Per >= day {
		w.err.(*LimitError).Reason = DailySpent
	}
	g.leave(w)
	close(w.ready)
}

// leave takes w out of the line and reports whether it was in.
func (g *gate) leave(w *grant) bool {
	if !g.line.remove(&w.waiter) {
		return false
	}
	if w.until != never {
		g.hurried--
	}
	return true
}

// overdue turns away those who have waited for longer than MaxWait.
func (g *gate) overdue(t time.Duration) {
	g.soonest = never
	var ask cost
	for w := g.line.head; w != nil; {
		next := w.next
		ask.Add(w.cost)
		switch {
		case w.grant.due != PastMaxWait:
		case w.until > t:
			g.soonest = min(g.soonest, w.until)
		default:
			g.reject(t, w.grant, ask)
			ask.Sub(w.cost)
		}
		w = next
	}
}

// putOff turns away those in line whose turn will come too late by now. Of many
// refusals of one moment, each of which puts it off a little, it heeds few: to
// walk the line takes its time.
func (g *gate) putOff(t time.Duration) {
	until := g.pause.until
	for i := range g.pools {
		if p := &g.pools[i]; p.limit.Per < day {
			until = max(until, p.dry)
		}
	}
	if g.hurried > 0 && until-g.drained > (until-t)/64 {
		g.drained = until
		g.delayed(t)
	}
}

// delayed turns away those in line whose turn will come too late by now.
func (g *gate) delayed(t time.Duration) {
	var ahead cost
	for w := g.line.head; w != nil; {
		next, ask := w.next, ahead
		ask.Add(w.cost)
		turn, limit := g.turn(t, ask)
		if turn > w.until || limit.Per >= day && turn > t && !w.grant.stays {
			g.reject(t, w.grant, ask)
		} else {
			ahead = ask
		}
		w = next
	}
}

func (g *gate) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	t, wall := g.now(), time.Now()
	s := Status{Key: g.key, Waiting: g.line.n, InFlight: g.inFlight}
	if g.pause.until > t {
		s.PausedUntil = wall.Add(g.pause.until - t)
	}
	for i := range g.pools {
		p := &g.pools[i]
		l := LimitStatus{Limit: p.limit, Learned: p.learned}
		left, full, ok := g.share.left(t, i)
		if !ok {
			left, full = p.free(t), p.ready(t, p.limit.N)
		}
		if l.Left = left; full != never {
			l.Full = wall.Add(full - t)
		}
		s.Limits = append(s.Limits, l)
		if p.dry > t && p.dry-t > s.PausedUntil.Sub(wall) {
			s.PausedUntil = wall.Add(p.dry - t)
		}
	}
	return s
}
