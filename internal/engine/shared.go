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
	Timeout   time.Duration // of each exchange, or more: see Patience
}

const (
	retryStore = 500 * time.Millisecond // between attempts at a store that does not answer
	review     = 100 * time.Millisecond // between looks at a long queue
	gather     = 250 * time.Millisecond // that reports may wait for others
	maxAsks    = 256                    // that one exchange may take tokens for
	maxAhead   = time.Second            // that tokens may fall due after they were granted
	minAhead   = 5 * time.Millisecond
	// maxPatience is how long one that was not answered in time is waited for, when
	// it is repeated.
	maxPatience = 5 * time.Second
)

// A shared is what an engine that shares its quota knows of the store. The
// engine's own limits are this process's part, for when the store does not answer.
// A nil one is that of an engine that keeps its quota to itself.
type shared struct {
	Shared
	outbox outbox
	batch  share.Batch   // of the last exchange
	asked  []*Request    // in it
	recast bool          // other limits were configured since
	doubt  bool          // it was not answered, and may have been heeded
	busy   bool          // it is under way
	sent   time.Duration // since when
	gen    int64         // of the store's state; 0: it has never answered
	off    time.Duration // how far its clock is ahead of ours, at most
	rtt    time.Duration // of an exchange
	away   bool          // it does not answer
	fails  int           // exchanges in a row that were not answered
	again  time.Duration // when to try then
	vain   int           // exchanges in a row that asked and got nothing
	waits  bool          // the store knows that we wait
	rivals int           // others that wait
	next   time.Duration // before which the next in the queue need not ask
	at     time.Duration // when the next exchange is that nobody in the queue asks for; 0: there is none
	states states        // by limit
	ahead  []ahead       // tokens that fall due, in that order
	unsent []*Request    // let go and not on their way for long
	date   share.Report  // the last of the server's clock, by ours
	judged time.Duration // when it was last seen to who in the queue will come too late
	came   time.Duration // when the last request came
}

// An ahead is a request in the queue that has tokens from a time on.
type ahead struct {
	*Request
	at, counted time.Duration
	cost        refill.Cost
}

// up reports whether tokens are the store's to give.
func (s *shared) up() bool { return s != nil && !s.away }

// open reports whether no tokens are needed.
func (s *shared) open() bool { return s != nil && s.away && s.OnError == share.FailOpen }

// due sees to it that there is an exchange by the given time.
func (s *shared) due(at time.Duration) {
	if s.away {
		at = max(at, s.again)
	}
	if s.at == 0 || at < s.at {
		s.at = max(at, 1)
	}
}

// wakeAt returns when Tell is to be called.
func (s *shared) wakeAt() time.Duration {
	if s.busy || s.at == 0 {
		return refill.Never
	}
	return s.at
}

// patient returns how long the exchange that begins now is worth waiting for: a
// store that is known to be far away, or seems to be, is given more time.
func (s *shared) patient(t time.Duration) time.Duration {
	s.sent = t
	return max(s.Timeout, 2*s.rtt, min(s.Timeout<<min(s.fails, 8), maxPatience))
}

// moment is how long one waits who does not want to: until the store has answered,
// or it is clear that it does not.
func (s *shared) moment() time.Duration {
	d := max(s.Timeout, 2*s.rtt)
	return d + d/10
}

// tell begins an exchange that is due.
func (s *shared) tell(e *Engine) {
	if !s.busy && s.at > 0 && s.at <= e.t {
		s.exchange(e)
	}
}

// serve has the head of the queue ask, when that is worth it.
func (s *shared) serve(e *Engine) {
	e.expire()
	e.wake = s.wake(refill.Never)
	if x := e.queue.Expire(); x > 0 {
		e.wake = min(e.wake, x)
	}
	if s.busy {
		return
	}
	if s.unpaid(e, 1) == nil {
		if e.queue.Head() == nil {
			e.backoff.idle(e.t)
		}
		if s.waits { // others need not wait for us
			s.waits = false
			s.due(e.t)
		}
		return
	}
	at := max(e.backoff.ready(e.t), s.next)
	if at <= e.t {
		s.exchange(e)
		return
	}
	e.wake = min(e.wake, at)
}

// wake returns when to look at the queue again, that being at a given time at the
// latest.
func (s *shared) wake(at time.Duration) time.Duration {
	if s != nil && len(s.ahead) > 0 {
		at = min(at, s.ahead[0].at)
	}
	return at
}

// unpaid returns the first n in the queue that have no tokens yet.
func (s *shared) unpaid(e *Engine, n int) (list []*Request) {
	e.queue.All(func(w *queue.Waiter[*Request]) bool {
		if !w.Item.paid {
			list = append(list, w.Item)
		}
		return len(list) < n
	})
	return list
}

// release lets those go whose tokens fall due.
func (s *shared) release(e *Engine) {
	for s != nil && len(s.ahead) > 0 && s.ahead[0].at <= e.t {
		a := s.ahead[0]
		s.ahead = s.ahead[1:]
		s.grant(e, a)
	}
}

// grant lets a request go that has its tokens, or gives them back.
func (s *shared) grant(e *Engine, a ahead) {
	r := a.Request
	r.paid = false
	if !r.Waiting() || e.backoff.until > e.t || e.limits.dry(&a.cost) > e.t {
		for i, l := range e.limits.list {
			if n := l.draws(&a.cost); l.Limit().Per > 0 {
				s.outbox.move(l.Limit(), i, n, a.counted, 0)
			}
		}
		s.due(e.t)
		return
	}
	e.queue.Remove(&r.waiter)
	r.cost, r.counted, r.gen = a.cost, a.counted, s.gen
	e.admit(r)
	e.out.Go = append(e.out.Go, r)
	if s.stamp(e.t)-a.counted > -refill.Flight/2 { // it comes later than the store thinks
		s.spend(e, r, e.t+refill.Flight)
	}
}

// exchange begins one, unless there is one under way. One that was not answered is
// repeated.
func (s *shared) exchange(e *Engine) {
	if s.busy {
		return // its end sees to what is left
	}
	s.busy, s.sent, s.at = true, e.t, 0
	e.out.Exchange = true
	if s.doubt {
		return
	}
	s.uphold(e)
	s.recast = false
	b := share.Batch{Generation: s.gen, Seq: s.batch.Seq + 1, Midnights: e.limits.clock.Days(e.t)}
	b.Ahead = min(max(s.rtt+s.rtt/2, minAhead), maxAhead) // the next exchange may be late
	b.Detail = e.queue.Timed() > 0 || e.limits.daily()
	b.Reports = s.outbox.take(s.stamp(e.t), e.limits.list)
	for _, l := range e.limits.list {
		c := share.Claim{Limit: l.Limit(), Told: l.told, News: l.news, Set: l.set, Epoch: l.epoch, Holding: l.Held()}
		if c.N = l.claim(); c.Rule == refill.Auto {
			c.Rule = refill.Window
		}
		for _, a := range s.ahead {
			if c.Per == 0 {
				c.Holding += l.draws(&a.cost)
			}
		}
		b.Limits = append(b.Limits, c)
	}
	s.asked = s.asked[:0]
	if !s.away && e.backoff.ready(e.t) <= e.t && e.queue.Head() != nil {
		room := maxAsks
		if e.backoff.width > 0 {
			room = max(1, e.backoff.width-e.backoff.flying-len(s.ahead))
		}
		for _, r := range s.unpaid(e, room) {
			r.cost = e.limits.estimates.Cost(r.Draw)
			s.asked, b.Asks = append(s.asked, r), append(b.Asks, r.cost)
		}
	}
	s.batch = b
}

// replied takes in that the store has answered.
func (s *shared) replied(e *Engine, r share.Reply) {
	if !s.busy {
		return
	}
	s.busy, s.doubt, s.away, s.fails = false, false, false, 0
	took := e.t - s.sent
	s.rtt = max(took, s.rtt*7/8)
	if lo, hi := r.Now-e.t, r.Now-s.sent; s.gen == 0 || s.off > hi || s.off < lo {
		s.off = hi
	}
	if r.Lost || s.gen != r.Generation {
		s.gen = r.Generation
		s.remind(e)
	}
	asked := len(s.asked)
	if r.Lost {
		clear(s.asked)
		s.vain++
		s.next, s.waits = e.t+s.pause(), false
		return
	}
	s.heed(e, r)
	age := max(r.Now-r.Taken, 0)
	granted := min(max(r.Granted, 0), asked)
	for i, w := range s.asked[:granted] {
		a := ahead{Request: w, at: e.t, counted: r.Taken + refill.Flight, cost: s.batch.Asks[i]}
		if i < len(r.Due) {
			a.at, a.counted = e.t+max(r.Due[i]-age, 0), a.counted+r.Due[i]
		}
		switch {
		case age > 0 && age+took > refill.Flight/2 || w.paid:
			a.Request = &Request{} // it was granted too long ago: the tokens go back
			s.grant(e, a)
		case a.at <= e.t:
			s.grant(e, a)
		default:
			w.paid = w.Waiting()
			k, _ := slices.BinarySearchFunc(s.ahead, a.at, func(x ahead, at time.Duration) int {
				if x.at <= at {
					return -1
				}
				return 1
			})
			s.ahead = slices.Insert(s.ahead, k, a)
		}
	}
	clear(s.asked)
	s.next = e.t
	s.waits, s.rivals = granted < asked, r.Rivals
	if s.vain++; granted > 0 || asked == 0 {
		s.vain = 0
	}
	if s.waits {
		s.next = e.t + max(r.Wait-s.rtt, s.pause())
	}
	s.keep(e)
	// To look at a long queue takes its time.
	if s.waits && (e.queue.Timed() > 0 || e.limits.daily()) && (e.queue.Len() < 1000 || e.t > s.judged+review) {
		s.judged = e.t
		e.lateFrom = 0
		e.late(e.limits.daily())
	}
}

// pause is how long nobody asks again after having asked in vain several times,
// whatever the store says.
func (s *shared) pause() time.Duration {
	if s.vain < 2 {
		return 0
	}
	return time.Millisecond << min(s.vain-1, 6)
}

// leave does without the store until it answers.
func (s *shared) leave(e *Engine) {
	s.away, s.next, s.waits = true, 0, false
	if s.OnError == share.FailClosed {
		for w := e.queue.Head(); w != nil; w = e.queue.Head() {
			e.queue.Remove(w)
			e.unreachable(w.Item)
		}
	}
}

// lost takes in that the store has not answered. What it was told, and may have
// heeded, is told again, so that it is heeded once.
func (s *shared) lost(e *Engine) {
	if !s.busy {
		return
	}
	s.busy, s.doubt = false, true
	wait := retryStore
	if e.t > s.came+share.Lease && e.queue.Head() == nil && !e.limits.holds() { // it is not urgent
		wait <<= min(s.fails, 6)
	}
	s.fails++
	s.again, s.at = e.t+wait, 0
	if s.gen != 0 || e.t <= s.came+share.Lease || e.queue.Head() != nil {
		s.due(s.again)
	}
	if !s.away {
		s.leave(e)
	}
}

// greet notes that someone has come.
func (s *shared) greet(e *Engine) {
	s.came = e.t
	if s.away && !s.busy {
		s.again = min(s.again, e.t+retryStore)
		s.due(e.t)
	}
}

// heed takes in what the store knows of the limits.
func (s *shared) heed(e *Engine, r share.Reply) {
	for _, o := range r.Others {
		if l := o.Limit; l.Unit >= 0 && l.Unit < refill.Units && l.N >= 0 && l.Per >= 0 {
			e.limits.add(e.t, l).others = true
			e.changed(nil, Change{To: l})
		}
	}
	s.states = s.states[:0]
	known := r.Limits[:min(len(r.Limits), len(e.limits.list))]
	if s.recast {
		known = nil // they were asked about as they were configured before
	}
	for i, x := range known {
		l := e.limits.list[i]
		was := l.Limit()
		if x.Unit != was.Unit || x.Per != was.Per {
			break // those asked about were others
		}
		s.states = append(s.states, state{x, e.t, s.batch.Detail})
		if l.news && i < len(s.batch.Limits) && s.batch.Limits[i].News && s.batch.Limits[i].Told == l.told {
			l.news = false
		}
		if l.set = false; x.Epoch != l.epoch {
			l.epoch, l.adopted = x.Epoch, x.Most
		}
		switch {
		case l.news: // it is about to know better
		case x.N == share.None:
			l.void = true
		case x.N != was.N || min(x.Burst, x.N) != was.Burst || l.void:
			l.void = false
			l.stated = x.N
			l.Rebound(e.t, x.N, x.Burst)
			e.changed(nil, Change{was, l.Limit()})
		}
		if x.Most >= 0 && l.most > 0 {
			l.most = x.Most
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
