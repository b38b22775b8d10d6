package engine

import (
	"slices"
	"time"

	"example.com/tollgate/internal/queue"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
)

// Shared says how a quota is shared through a store.
type Shared struct {
	OnError   share.OnError // what is done while the store does not answer
	Instances int64         // how many processes share the quota, for FallBack; at least 1
	Timeout   time.Duration // of each exchange
}

const (
	retryStore = 500 * time.Millisecond // between attempts at a store that does not answer
	review     = 100 * time.Millisecond // between looks at a long queue
	gather     = 250 * time.Millisecond // that reports may wait for others
	maxAsks    = 256                    // that one exchange may take tokens for
	maxReports = 2048                   // that are kept, and told at once
)

// A shared is what an engine that shares its quota knows of the store. The
// engine's own limits are this process's part, for when the store does not answer.
// A nil one is that of an engine that keeps its quota to itself.
type shared struct {
	Shared
	reports []share.Report // not told yet; Ago is when it was
	busy    bool           // an exchange is under way
	next    time.Duration  // before which the next in the queue need not ask
	states  []state        // by limit
	known   bool           // the store has answered before
	away    bool           // it does not answer
	again   time.Duration  // when to try then
	at      time.Duration  // when the next exchange is that nobody in the queue asks for; 0: there is none
	judged  time.Duration  // when it was last seen to who in the queue will come too late
	came    time.Duration  // when the last request came
	batch   share.Batch    // of the exchange that is under way
	asked   []*Request     // in it
}

// A state is what the store said of a limit, and when.
type state struct {
	share.State
	at time.Duration
}

// up reports whether tokens are the store's to give.
func (s *shared) up() bool { return s != nil && !s.away }

// open reports whether no tokens are needed.
func (s *shared) open() bool { return s != nil && s.away && s.OnError == share.FailOpen }

// report notes something for the next exchange.
func (s *shared) report(e *Engine, r share.Report, soon bool) {
	if s == nil || r.Limit < 0 { // of a limit that is gone
		return
	}
	in := gather
	if soon {
		in = 0
	}
	// What was taken together and arrives together is one.
	if r.Event == share.Spent {
		for i := len(s.reports) - 1; i >= max(0, len(s.reports)-8); i-- {
			if o := &s.reports[i]; o.Event == share.Spent && o.Limit == r.Limit && o.Taken == r.Taken && (o.Ago-r.Ago).Abs() < time.Millisecond {
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
	s.due(e, e.t+in)
}

// each reports the same of all the tokens that a request has taken.
func (s *shared) each(e *Engine, r *Request, event share.Event, at time.Duration) {
	if s == nil {
		return
	}
	for _, d := range r.drawn {
		if d.n > 0 && d.Limit().Per > 0 {
			s.report(e, share.Report{Event: event, Limit: e.limits.index(d.limit), N: d.n, Taken: r.taken, Ago: at}, event == share.Unspent)
		}
	}
}

// freed says that a token of a limit of requests at once is back.
func (s *shared) freed(e *Engine) {
	if s != nil {
		s.due(e, e.t)
	}
}

// due sees to it that there is an exchange by the given time.
func (s *shared) due(e *Engine, at time.Duration) {
	if s.away {
		if at = max(at, s.again); at > s.came+share.Lease && e.queue.Head() == nil {
			return // until someone comes, it does not matter
		}
	}
	if s.at == 0 || at < s.at {
		s.at = at
	}
}

func (s *shared) wakeAt() time.Duration {
	if s.at == 0 {
		return refill.Never
	}
	return s.at
}

// serve has the head of the queue ask, when that is worth it.
func (s *shared) serve(e *Engine) {
	e.expire()
	if e.queue.Head() == nil {
		e.wake = refill.Never
		e.backoff.idle(e.t)
		return
	}
	at := max(e.backoff.ready(e.t), s.next)
	if s.busy {
		at = refill.Never
	}
	if at <= e.t {
		s.exchange(e)
		at = refill.Never
	}
	e.wake = at
	if x := e.queue.Expire(); x > 0 {
		e.wake = min(at, x)
	}
}

// exchange begins one, unless there is one under way.
func (s *shared) exchange(e *Engine) {
	if s.busy {
		return // its end sees to what is left
	}
	s.busy = true
	b := share.Batch{Midnights: e.limits.clock.Days(e.t)}
	if !s.away { // what an exchange that fails tells is lost
		b.Reports, s.reports = s.reports, nil
	}
	for i := range b.Reports {
		b.Reports[i].Ago = max(e.t-b.Reports[i].Ago, 0)
	}
	for _, l := range e.limits.list {
		x := l.Limit()
		if x.Rule == refill.Auto {
			x.Rule = refill.Window
		}
		b.Limits, b.Holding = append(b.Limits, x), append(b.Holding, l.Held())
	}
	s.asked = s.asked[:0]
	if !s.away && e.backoff.ready(e.t) <= e.t {
		room := maxAsks
		if e.backoff.width > 0 {
			room = e.backoff.width - e.backoff.flying
		}
		e.queue.All(func(w *queue.Waiter[*Request]) bool {
			if len(s.asked) >= room {
				return false
			}
			r := w.Item
			r.cost = e.limits.estimates.Cost(r.Draw)
			s.asked, b.Asks = append(s.asked, r), append(b.Asks, r.cost)
			return true
		})
	}
	s.batch = b
	e.out.Exchange = true
}

// replied takes in that the store has answered.
func (s *shared) replied(e *Engine, r share.Reply) {
	s.busy = false
	s.away = false
	s.heed(e, r)
	granted := min(max(r.Granted, 0), len(s.asked))
	for i, w := range s.asked[:granted] {
		w.taken, w.cost = r.Taken, s.batch.Asks[i] // it may have been estimated again
		if e.queue.Remove(&w.waiter) {
			e.admit(w)
			e.out.Go = append(e.out.Go, w)
			continue
		}
		w.draws(&e.limits) // it has gone
		s.each(e, w, share.Unspent, e.t)
	}
	asked := len(s.asked)
	clear(s.asked)
	s.next = e.t + max(r.Wait, 0)
	if r.Lost && s.known {
		s.remind(e)
	}
	s.known = true
	for _, l := range e.limits.list {
		if l.Held() > 0 {
			s.due(e, e.t+share.Lease/3)
		}
	}
	if len(s.reports) > 0 {
		s.due(e, e.t+gather)
	}
	// To look at a long queue takes its time.
	if granted < asked && (e.queue.Timed() > 0 || s.daily(e)) && (e.queue.Len() < 1000 || e.t > s.judged+review) {
		s.judged = e.t
		e.lateFrom = 0
		e.late(s.daily(e))
	}
}

func (s *shared) daily(e *Engine) bool {
	return slices.ContainsFunc(e.limits.list, (*limit).daily)
}

// lost takes in that the store does not answer. If nobody asked for anything,
// that does not matter yet. What has become of tokens must not be told twice; all
// else is told again.
func (s *shared) lost(e *Engine) {
	s.busy = false
	for _, r := range s.batch.Reports {
		if r.Event > share.Level {
			r.Ago = e.t - r.Ago
			s.report(e, r, false)
		}
	}
	if !s.away && len(s.batch.Asks) == 0 {
		return
	}
	s.away, s.again, s.next = true, e.t+retryStore, 0
	s.due(e, s.again)
	if s.OnError == share.FailClosed {
		for w := e.queue.Head(); w != nil; w = e.queue.Head() {
			e.queue.Remove(w)
			e.unreachable(w.Item)
		}
	}
}

// greet notes that someone has come.
func (s *shared) greet(e *Engine) {
	s.came = e.t
	if s.away {
		s.due(e, e.t)
	}
}

// remind tells a store that has forgotten everything what this process has spent.
func (s *shared) remind(e *Engine) {
	s.reports = slices.DeleteFunc(s.reports, func(r share.Report) bool { return r.Event <= share.Settled })
	for i, l := range e.limits.list {
		l.Spent(e.t, func(at time.Duration, n int64) {
			s.report(e, share.Report{Event: share.Settled, Limit: i, N: n, Ago: at}, true)
		})
	}
}

// heed takes in what the store knows of the limits.
func (s *shared) heed(e *Engine, r share.Reply) {
	for _, l := range r.Others {
		if l.Unit >= 0 && l.Unit < refill.Units && l.N >= 0 && l.Per >= 0 {
			e.limits.add(e.t, l).learned = true
			e.changed(nil, Change{To: l})
		}
	}
	s.states = s.states[:0]
	for i, x := range r.Limits[:min(len(r.Limits), len(e.limits.list))] {
		l := e.limits.list[i]
		was := l.Limit()
		if x.Unit != was.Unit || x.Per != was.Per {
			break // those asked about were others
		}
		s.states = append(s.states, state{x, e.t})
		told := !slices.ContainsFunc(s.reports, func(r share.Report) bool { return r.Event == share.Limited && r.Limit == i })
		if told && x.N >= 0 && (x.N != was.N || x.Burst != was.Burst) {
			l.stated = x.N
			l.Rebound(e.t, x.N, x.Burst)
			e.changed(nil, Change{was, l.Limit()})
		}
		l.Drain(e.t+x.Dry, true, 0)
	}
	if r.Pause > 0 {
		if e.backoff.until <= e.t {
			e.backoff.why = Elsewhere
		}
		e.backoff.until = max(e.backoff.until, e.t+r.Pause)
	}
}

// turn estimates when the last of what weighs w will have been let go, as far as
// the others leave room for it.
func (s *shared) turn(e *Engine, w *queue.Weight) (turn time.Duration, slowest *limit) {
	turn = max(e.t, e.backoff.until, s.next)
	limited := e.t // by limits alone
	for i, l := range e.limits.list {
		n := e.limits.asked(l, w)
		if n == 0 {
			continue
		}
		if l.n() == 0 {
			return refill.Never, l
		}
		at := l.Dry()
		if i < len(s.states) && l.Limit().Per > 0 {
			x := s.states[i]
			at = max(at, x.at+x.Dry)
			if need := n - min(x.Left, x.N); need > 0 {
				back := max(x.N-x.Left, 1) // by Full
				at = max(at, refill.After(x.at, time.Duration(float64(x.Full)*float64(min(need, back))/float64(back))))
				if more := need - back; more > 0 {
					at = refill.After(at, time.Duration(min(float64(more)/float64(x.N)*float64(x.Per), float64(refill.Never/2))))
				}
			}
		}
		limited = max(limited, at)
		if at > turn || slowest == nil {
			turn, slowest = max(at, turn), l
		}
	}
	if limited < e.backoff.until && turn <= e.backoff.until {
		slowest = nil // it is the pause that takes the longest
	}
	return turn, slowest
}

// left returns how many tokens of a limit there are, and when all are back; ok is
// false if the store has not said.
func (s *shared) left(t time.Duration, i int) (left int64, full time.Duration, ok bool) {
	if !s.up() || i >= len(s.states) {
		return 0, 0, false
	}
	x := s.states[i]
	left = x.Left
	if t >= x.at+x.Full {
		left = x.N
	}
	return left, max(t, x.at+x.Full), true
}
