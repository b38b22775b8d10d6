package tollgate

import (
	"context"
	"sync"
	"time"

	"example.com/tollgate/provider"
)

// A Limiter stands in front of the limits of one key and lets requests through
// as they allow, first come, first served. [NewGate] makes the usual one.
type Limiter interface {
	// Acquire waits until the request may be sent. Its error is the
	// context's, undisguised, or a *LimitError.
	Acquire(ctx context.Context, a Ask) (Grant, error)
	// Status returns a snapshot.
	Status() Status
}

// An Ask is a request that wants to be let through.
type Ask struct {
	Place    uint64                                  // in the line: the lower one goes first
	Zone     *time.Location                          // where the API's days begin; nil: UTC
	Cost     provider.Cost                           // what it draws on the limits, as estimated
	Fixed    bool                                    // that is no estimate
	MaxWait  time.Duration                           // longest time in line; 0: any; negative: none at all
	MaxQueue int                                     // longest line that it may join; 0: any
	Waiting  func(ahead int, estimate time.Duration) // called if it has to wait; nil: not
}

// A Grant is leave to send one request. Its holder reports what becomes of it;
// each report may come at any time and more than once.
type Grant interface {
	// Sent says that the request was written, and starts the second in which
	// it is taken to have reached the server.
	Sent()
	// Unsent takes that back: the request is still being prepared.
	Unsent()
	// Answered says that the response's headers are here, and what the server's
	// clock stood at; zero: it does not say. Every attempt is charged, refused
	// ones too.
	Answered(status int, date time.Time)
	// Refused says what the server said with a status of 429, 503 or 529, and
	// closes the limits that it named until it said. It returns the limits that
	// are kept in another way from now on.
	Refused(status int, r provider.Refusal) []Change
	// Settle says what the request has cost, where that differs from what was
	// asked for; negative: not known. Only the first time counts.
	Settle(c provider.Cost)
	// Failed says that there will be no response, and whether the request may
	// have reached the server; where it can't have, its tokens are back.
	Failed(reached bool)
	// Done says that the response's body is closed.
	Done()
}

// A Change is a limit that turned out to be another one. Where From is zero,
// nobody knew of it.
type Change struct{ From, To Limit }

const (
	// flight is the longest that a request is taken to be on its way: from
	// then on it has been counted by the server, answered or not.
	flight = time.Second
	// drift is how far two clocks may run apart: as much as NTP slews.
	drift = 1.0 / 2000
)

// A gate is a Limiter in memory.
type gate struct {
	key string

	mu    sync.Mutex
	line  line
	pools []pool
	clock *clock // of the server
	gauge gauge  // of what requests cost
	daily bool   // one of the limits is kept by days
	// Grants that were sent and not answered, in the order of their sending.
	// After a flight they count as arrived.
	first, last *grant
	pause       pause
	inFlight    int // let through, and neither failed nor closed
}

// Status is a snapshot of one key.
type Status struct {
	Key         string
	Limits      []LimitStatus
	Waiting     int       // requests in line
	InFlight    int       // requests sent whose response body is not closed yet
	PausedUntil time.Time // the server has asked for quiet until then; zero: it has not
}

// LimitStatus is a snapshot of one limit.
type LimitStatus struct {
	Limit
	Left int64     // tokens that could be taken now; less than 0 is a debt
	Full time.Time // when all of them are back if none is taken; zero: not known yet
}

// NewGate returns a Limiter in memory for the quota of one key. It panics if a
// limit is not valid.
func NewGate(key string, q Quota) Limiter {
	g := &gate{key: key, clock: newClock()}
	for _, l := range q {
		if err := l.check(); err != nil {
			panic(err)
		}
		g.add(l)
	}
	g.line.tick = g.ring
	return g
}

func (g *gate) add(l Limit) {
	g.pools = append(g.pools, newPool(l, drift, g.clock))
	g.daily = g.daily || l.Refill == Calendar && l.Per == day
}

// A grant is its place in line as well, so that a request is one allocation.
type grant struct {
	waiter
	gate   *gate
	asked  cost          // before it was corrected
	fixed  bool          // needs no correction
	err    error         // why it was turned away
	due    Reason        // what the time at which it gives up stands for
	state  state         // how far it has come
	let    time.Duration // when it was let through
	sent   time.Duration // when it was written
	spent  time.Duration // when its tokens were
	pools  int           // how many there were when it was let through
	slow   bool          // counts as in flight while the gate opens slowly
	closed bool          // no longer in flight at all
	final  bool          // its cost is settled
	stays  bool          // waits for a limit of a day too

	before, after *grant // among those on their way
}

type state uint8

const (
	held     state = iota // let through
	onTheWay              // written
	arrived               // at the server: its tokens are spent
	over                  // will never be: its tokens are back
)

func (g *gate) Acquire(ctx context.Context, a Ask) (Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := &grant{gate: g, asked: a.Cost, fixed: a.Fixed, stays: a.MaxWait > 0, waiter: waiter{place: a.Place, until: never}}
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
	if g.line.head == nil || a.Place < g.line.head.place {
		if g.ready(t, w.cost) <= t {
			g.admit(t, w)
			g.mu.Unlock()
			return w, nil
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
		if t := g.now(); g.line.remove(&w.waiter) {
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
	ask := g.line.sum
	if g.line.head != nil && w.place < g.line.head.place {
		ask = cost{}
	}
	ask.Add(w.cost)
	turn, limit := g.turn(t, ask)
	if a.MaxWait != 0 {
		w.until, w.due = t+max(a.MaxWait, 0), PastMaxWait
	}
	if deadline, ok := ctx.Deadline(); ok {
		if until := t + time.Until(deadline); until < w.until {
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
		ahead = g.line.n
		g.line.insert(&w.waiter)
		g.serve(t)
		return ahead, turn - t, nil
	}
	return 0, 0, e
}

// now returns the time, having counted those as arrived that must have by then.
func (g *gate) now() time.Duration {
	t := now()
	for g.first != nil && g.first.sent+flight <= t {
		g.arrive(g.first.sent+flight, g.first)
	}
	return t
}

// ready returns when a request of cost c may be let through, as far as that can
// be said: what comes before must be looked at again then.
func (g *gate) ready(t time.Duration, c cost) time.Duration {
	at := max(t, g.pause.until)
	if !g.pause.open() {
		at = never
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
	for g.line.head != nil {
		w := g.line.head.grant
		at := g.ready(t, w.cost)
		if at > t {
			if w.due == PastMaxWait {
				if w.until <= t {
					g.reject(t, w, w.cost)
					continue
				}
				at = min(at, w.until)
			}
			g.line.wake(t, at)
			return
		}
		g.line.remove(&w.waiter)
		g.admit(t, w)
		close(w.ready)
	}
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

// admit takes the tokens of w.
func (g *gate) admit(t time.Duration, w *grant) {
	w.let, w.pools = t, len(g.pools)
	g.inFlight++
	for i := range g.pools {
		p := &g.pools[i]
		if n := p.share(w.cost); n > 0 {
			p.take(t, n)
		}
	}
	w.slow = g.pause.admit()
}

// reject turns w away: its turn, after ask has been let through, comes too late.
func (g *gate) reject(t time.Duration, w *grant, ask cost) {
	turn, limit := g.turn(t, ask)
	w.err = &LimitError{Key: g.key, Limit: limit, Reason: w.due, RetryAfter: turn - t}
	if limit.Per >= day {
		w.err.(*LimitError).Reason = DailySpent
	}
	g.line.remove(&w.waiter)
	close(w.ready)
}

// delayed turns away those in line whose turn will now come too late.
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

// arrive counts the tokens of w as spent at the given time.
func (g *gate) arrive(at time.Duration, w *grant) {
	if w.state >= arrived {
		return
	}
	g.unlink(w)
	w.state, w.spent = arrived, at
	for i := range g.pools[:w.pools] {
		if n := g.pools[i].share(w.cost); n > 0 {
			g.pools[i].spend(at, n)
		}
	}
	g.land(w)
}

// land ends the part of w in the slow start.
func (g *gate) land(w *grant) {
	if w.slow {
		w.slow = false
		g.pause.land()
	}
}

// unlink takes w from those on their way.
func (g *gate) unlink(w *grant) {
	if w.state != onTheWay {
		return
	}
	if w.before == nil {
		g.first = w.after
	} else {
		w.before.after = w.after
	}
	if w.after == nil {
		g.last = w.before
	} else {
		w.after.before = w.before
	}
	w.before, w.after, w.state = nil, nil, held
}

func (w *grant) Sent() {
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.now()
	if w.state >= arrived {
		return
	}
	g.unlink(w)
	w.state, w.sent = onTheWay, t
	w.before, g.last = g.last, w
	if w.before == nil {
		g.first = w
	} else {
		w.before.after = w
	}
	g.serve(t)
}

func (w *grant) Unsent() {
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now()
	g.unlink(w)
}

func (w *grant) Answered(status int, date time.Time) {
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.now()
	if !date.IsZero() {
		g.clock.observe(w.let, t, date)
	}
	g.arrive(t, w)
	if !refusing(status) {
		g.pause.accepted(w.let)
	}
	g.serve(t)
}

func (w *grant) Failed(reached bool) {
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fail(g.now(), w, reached)
}

// fail ends a grant that gets no response.
func (g *gate) fail(t time.Duration, w *grant, reached bool) {
	if reached {
		g.arrive(t, w)
	} else if w.state < arrived {
		g.unlink(w)
		w.state = over
		for i := range g.pools[:w.pools] {
			if n := g.pools[i].share(w.cost); n > 0 {
				g.pools[i].put(n)
			}
		}
		g.land(w)
	}
	g.close(w)
	g.serve(t)
}

func (w *grant) Settle(c provider.Cost) {
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.now()
	if w.final || w.state != arrived {
		return
	}
	w.final = true
	for i := range g.pools[:w.pools] {
		p := &g.pools[i]
		if n := c[p.limit.Unit]; n >= 0 && p.limit.Per > 0 {
			if more := n - p.share(w.cost); more != 0 {
				p.settle(t, w.spent, more)
			}
		}
	}
	if g.gauge.learn(w.asked, w.fixed, c) {
		g.correct()
	}
	g.serve(t)
}

// correct estimates the cost of all in line again.
func (g *gate) correct() {
	g.line.sum = cost{}
	for w := g.line.head; w != nil; w = w.next {
		w.cost = g.gauge.correct(w.grant.asked, w.grant.fixed)
		g.line.sum.Add(w.cost)
	}
}

func (w *grant) Done() {
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.close(w)
	g.serve(g.now())
}

// close ends a request, and gives back the tokens that it held all the while.
func (g *gate) close(w *grant) {
	if w.closed {
		return
	}
	w.closed = true
	g.inFlight--
	if w.state == over {
		return
	}
	for i := range g.pools[:w.pools] {
		if p := &g.pools[i]; p.limit.Per == 0 {
			p.put(p.share(w.cost))
		}
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
		l := LimitStatus{Limit: p.limit, Left: p.free(t)}
		if at := p.ready(t, p.limit.N); at != never {
			l.Full = wall.Add(at - t)
		}
		s.Limits = append(s.Limits, l)
		if p.dry > t && p.dry-t > s.PausedUntil.Sub(wall) {
			s.PausedUntil = wall.Add(p.dry - t)
		}
	}
	return s
}
