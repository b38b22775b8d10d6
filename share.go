package tollgate

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// SharedOptions say how a Limiter of [NewShared] uses its store.
type SharedOptions struct {
	Store     Store
	OnError   OnError       // when the store does not answer
	Instances int           // how many processes share the quota, for FallBack; 0: 1
	Timeout   time.Duration // of each exchange; 0: 100 ms
}

// OnError is what is done with requests while a store does not answer.
type OnError uint8

// The ways.
const (
	FallBack   OnError = iota // each process keeps to its part of the quota
	FailOpen                  // they are sent without regard to the quota
	FailClosed                // they fail
)

const (
	exchangeTimeout = 100 * time.Millisecond
	retryStore      = 500 * time.Millisecond // between attempts at a store that does not answer
	review          = 100 * time.Millisecond // between looks at a long line
	gather          = 250 * time.Millisecond // that reports may wait for others
	maxAsks         = 256                    // that one exchange may take tokens for
	maxReports      = 2048                   // that are kept, and told at once
)

// NewShared returns a Limiter for the quota of one key that takes its tokens from
// a store, and so shares them with every process that has the same. The line is
// this process's own: only its head asks the store, for several who wait at once.
// It panics if a limit is not valid or there is no store.
func NewShared(key string, q Quota, o SharedOptions) Limiter {
	if o.Store == nil {
		panic("tollgate: NewShared without a Store")
	}
	if o.Timeout <= 0 {
		o.Timeout = exchangeTimeout
	}
	o.Instances = max(o.Instances, 1)
	return newGate(key, q, &share{SharedOptions: o})
}

// A share is what a gate that shares its quota knows of the store. The gate's own
// pools are this process's part, for when the store does not answer. A nil one is
// that of a gate that keeps its quota to itself.
type share struct {
	SharedOptions
	reports []Report      // not told yet; Ago is when it was
	busy    bool          // an exchange is under way
	next    time.Duration // before which the next in line need not ask
	news    []news        // by pool
	known   bool          // the store has answered before
	away    error         // why it does not answer; nil: it does
	again   time.Duration // when to try then
	timer   *time.Timer   // of the next exchange that nobody in line asks for
	at      time.Duration // when that fires; 0: it is not set
	judged  time.Duration // when it was last seen to who in line will come too late
	tell    func(error)   // of the last one who came
	came    time.Duration // when that was
}

// up reports whether tokens are the store's to give.
func (s *share) up() bool { return s != nil && s.away == nil }

// open reports whether no tokens are needed.
func (s *share) open() bool { return s != nil && s.away != nil && s.OnError == FailOpen }

// parts is how many processes a limit is divided among.
func (s *share) parts() int64 {
	if s == nil {
		return 1
	}
	return int64(s.Instances)
}

// report notes something for the next exchange.
func (s *share) report(g *gate, t time.Duration, r Report, soon bool) {
	if s == nil {
		return
	}
	// What was taken together and arrives together is one.
	if r.Event == Spent {
		for i := len(s.reports) - 1; i >= max(0, len(s.reports)-8); i-- {
			if o := &s.reports[i]; o.Event == Spent && o.Limit == r.Limit && o.Taken == r.Taken && (o.Ago-r.Ago).Abs() < time.Millisecond {
				o.N += r.N
				o.Ago = max(o.Ago, r.Ago)
				return
			}
		}
	}
	if len(s.reports) == maxReports {
		s.reports = s.reports[:copy(s.reports, s.reports[maxReports/4:])]
	}
	s.reports = append(s.reports, r)
	in := gather
	if soon {
		in = 0
	}
	s.wake(g, t, t+in)
}

// each reports the same of all the tokens that a grant has taken.
func (s *share) each(g *gate, t time.Duration, w *grant, e Event, at time.Duration) {
	if s == nil {
		return
	}
	for i := range g.pools[:w.pools] {
		p := &g.pools[i]
		if n := p.share(w.cost); n > 0 && p.limit.Per > 0 {
			s.report(g, t, Report{Event: e, Limit: i, N: n, Taken: w.taken, Ago: at}, e == Unspent)
		}
	}
}

// freed says that a token of a limit of requests at once is back.
func (s *share) freed(g *gate) {
	if s != nil {
		t := now()
		s.wake(g, t, t)
	}
}

// wake sees to it that there is an exchange by the given time.
func (s *share) wake(g *gate, t, at time.Duration) {
	if s.away != nil {
		if at = max(at, s.again); at > s.came+Lease && g.line.head == nil {
			return // until someone comes, it does not matter
		}
	}
	if s.at != 0 && s.at <= at {
		return
	}
	s.at = at
	if s.timer == nil {
		s.timer = time.AfterFunc(at-t, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			s.at = 0
			s.exchange(g, g.now())
		})
	} else {
		s.timer.Reset(at - t)
	}
}

// serve has the head of the line ask, when that is worth it.
func (s *share) serve(g *gate, t time.Duration) {
	if g.soonest <= t {
		g.overdue(t)
	}
	if g.line.head == nil {
		g.line.rest()
		g.pause.idle(t)
		return
	}
	at := max(g.pauseEnd(t), s.next)
	if s.busy {
		at = never
	}
	if at <= t {
		s.exchange(g, t)
		at = never
	}
	g.line.wake(t, min(at, g.soonest))
}

// exchange begins one, unless there is one under way.
func (s *share) exchange(g *gate, t time.Duration) {
	if s.busy {
		return // its end sees to what is left
	}
	s.busy = true
	b := Batch{Midnights: g.midnights()}
	if s.away == nil { // what an exchange that fails tells is lost
		b.Reports, s.reports = s.reports, nil
	}
	for i := range b.Reports {
		b.Reports[i].Ago = max(t-b.Reports[i].Ago, 0)
	}
	for i := range g.pools {
		p := &g.pools[i]
		l := p.limit
		if l.Refill == Auto {
			l.Refill = Window
		}
		held := int64(0)
		if a, ok := p.rule.(*atOnce); ok {
			held = a.held
		}
		b.Limits, b.Holding = append(b.Limits, l), append(b.Holding, held)
	}
	var asked []*grant
	if s.away == nil && g.pauseEnd(t) <= t {
		room := maxAsks
		if g.pause.width > 0 {
			room = g.pause.width - g.pause.flying
		}
		for w := g.line.head; w != nil && len(asked) < room; w = w.next {
			asked, b.Asks = append(asked, w.grant), append(b.Asks, w.cost)
		}
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.Timeout)
		r, err := s.Store.Exchange(ctx, b)
		cancel()
		g.mu.Lock()
		t := g.now()
		s.busy = false
		var tell func(error)
		if err != nil {
			tell = s.lose(g, t, err, b)
		} else {
			tell = s.take(g, t, asked, b.Asks, r)
		}
		why := s.away
		g.serve(t)
		g.mu.Unlock()
		if tell != nil {
			tell(why)
		}
	}()
}

// take heeds a reply to those who asked for costs.
func (s *share) take(g *gate, t time.Duration, asked []*grant, costs []cost, r Reply) (tell func(error)) {
	if s.away != nil {
		s.away, tell = nil, s.tell
	}
	s.heed(g, t, r)
	granted := min(max(r.Granted, 0), len(asked))
	for i, w := range asked[:granted] {
		waited := g.leave(w)
		w.taken, w.cost = r.Taken, costs[i] // it may have been estimated again
		if waited {
			g.admit(t, w)
			close(w.ready)
			continue
		}
		w.pools = len(g.pools) // it has gone
		s.each(g, t, w, Unspent, t)
	}
	s.next = t + max(r.Wait, 0)
	if r.Lost && s.known {
		s.remind(g, t)
	}
	s.known = true
	for i := range g.pools {
		if a, ok := g.pools[i].rule.(*atOnce); ok && a.held > 0 {
			s.wake(g, t, t+Lease/3)
		}
	}
	if len(s.reports) > 0 {
		s.wake(g, t, t+gather)
	}
	// To walk a long line takes its time.
	if granted < len(asked) && (g.hurried > 0 || g.daily) && (g.line.n < 1000 || t > s.judged+review) {
		s.judged = t
		g.delayed(t)
	}
	return tell
}

// lose heeds that the store does not answer. If nobody asked for anything, that
// does not matter yet. What has become of tokens must not be told twice; all else
// is told again.
func (s *share) lose(g *gate, t time.Duration, err error, b Batch) (tell func(error)) {
	for _, r := range b.Reports {
		if r.Event > Level {
			r.Ago = t - r.Ago
			s.report(g, t, r, false)
		}
	}
	if s.away == nil {
		if len(b.Asks) == 0 {
			return nil
		}
		tell = s.tell
	}
	s.away, s.again, s.next = err, t+retryStore, 0
	s.wake(g, t, s.again)
	if s.OnError == FailClosed {
		for g.line.head != nil {
			s.fail(g, g.line.head.grant)
		}
	}
	return tell
}

// greet notes that someone has come.
func (s *share) greet(g *gate, t time.Duration, tell func(error)) {
	s.tell, s.came = tell, t
	if s.away != nil {
		s.wake(g, t, t)
	}
}

// fail turns w away, since the store does not answer.
func (s *share) fail(g *gate, w *grant) {
	w.err = s.error(g)
	g.leave(w)
	close(w.ready)
}

func (s *share) error(g *gate) error {
	return fmt.Errorf("tollgate: %s: its quota is out of reach: %w", g.key, s.away)
}

// remind tells a store that has forgotten everything what this process has spent.
func (s *share) remind(g *gate, t time.Duration) {
	s.reports = slices.DeleteFunc(s.reports, func(r Report) bool { return r.Event <= Settled })
	for i := range g.pools {
		switch rule := g.pools[i].rule.(type) {
		case *window:
			rule.expire(t)
			for _, x := range rule.spent[rule.first:] {
				s.report(g, t, Report{Event: Settled, Limit: i, N: x.n, Ago: x.at}, true)
			}
		case *steady:
			if n := rule.n - rule.level(t, rule.reached, rule.n); n > 0 {
				s.report(g, t, Report{Event: Settled, Limit: i, N: n, Ago: t}, true)
			}
		}
	}
}

// midnights returns the beginnings of the days around now, where the API is.
func (g *gate) midnights() (list [4]time.Time) {
	y, m, d := time.Now().In(g.clock.zone).Date()
	for i := range list {
		list[i] = time.Date(y, m, d-1+i, 0, 0, 0, 0, g.clock.zone)
	}
	return list
}

// pauseEnd is when the next one may go, as far as pauses are concerned.
func (g *gate) pauseEnd(t time.Duration) time.Duration {
	at := max(t, g.pause.until)
	if !g.pause.open() {
		at = max(at, g.pause.last+flight)
	}
	return at
}
