// Package engine decides when the requests of one key may be sent: it is what is
// known of the key's limits, as a state machine. Events go in with the time at
// which they happen; decisions come out of Decide. It has no clock, lock,
// goroutine, timer or channel, and knows nothing of HTTP: package limiter is the
// shell around it that has.
//
// Where to look for what: engine.go has the events, serve.go who goes next and
// when, rank.go what tenants share, refusal.go what a refusal means, inforce.go what
// a limit is really worth, learn.go what the server states, requota.go what other
// limits change, backoff.go pauses and the slow start after them, pacer.go and
// ramp.go how far apart requests are sent, limit.go the sums over all limits,
// forecast.go what will come of it, shared.go a quota kept in a store and journal.go
// one kept in a file.
package engine

import (
	"time"

	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/queue"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
)

// A Now is a point in time: by the monotonic clock, since an epoch, and by the
// machine's clock, since 1970.
type Now struct{ Mono, Wall time.Duration }

// Decisions are what is to be done. Slices are valid until the next event.
type Decisions struct {
	Go       []*Request    // let these go
	Reject   []*Request    // turn these away: see Request.Rejection
	WakeAt   time.Duration // call Tick then; refill.Never: no need to
	Changes  []Change      // limits that are other ones now
	Pauses   []Pause       // that have begun, were put off or are over
	Sync     bool          // Synced is waited for
	Book     []Booking     // to be written down
	Exchange bool          // Exchange has a batch for the store
	TellAt   time.Duration // call Tell then; refill.Never: no need to
}

// An Engine is the limits of one key, who waits for them, and what is on its way.
type Engine struct {
	t, wall time.Duration // of the event
	queue   queue.Fair[*Request]
	ranks   ranks
	limits  limits
	backoff backoff
	pacer   pacer
	ramp    ramp
	flights flights
	journal journal
	shared  *shared // nil: the quota is nobody else's

	trip     time.Duration // from when requests are let go until they reach the server, on average; 0: not known, or none at all
	inFlight int           // let go, and neither failed nor closed
	accepted uint64        // requests that were not refused
	spent    bool          // a request has used all its tries, and none was accepted since
	drained  time.Duration // until when all was drained when those in the queue were last told
	lateFrom uint64        // a look at the queue is to be gone on with, from there
	strict   bool          // that look
	told     time.Duration // until when a pause was told of; 0: there is none
	heaviest int64         // the most tokens that one in the queue was estimated at
	capped   bool          // one in the queue weighs less than its estimate
	ahead    int           // how many went before the last one that joined the queue
	estimate time.Duration // in how long it would go
	out      Decisions
	wake     time.Duration // when to look at the queue again
}

// Config says what an Engine keeps.
type Config struct {
	Limits  []refill.Limit // valid ones
	Journal bool           // limits of a day are kept in a journal as well
	Shared  *Shared        // nil: the quota is nobody else's
	Memory  *Memory        // what was learned before; nil: nothing
	Seed    uint64         // of jitter
}

// New returns an engine for the limits of one key.
func New(now Now, c Config) *Engine {
	e := &Engine{t: now.Mono, wall: now.Wall, limits: newLimits(now.Wall-now.Mono, 1), wake: refill.Never}
	e.journal.on = c.Journal
	e.backoff.seed = c.Seed
	if c.Shared != nil {
		e.shared = &shared{Shared: *c.Shared}
		e.limits.parts = c.Shared.Instances
	}
	for _, l := range c.Limits {
		e.limits.add(e.t, l)
	}
	known := false
	for _, l := range c.Limits {
		known = known || l.Unit == refill.Requests && l.Per > 0
	}
	if !known {
		e.limits.remember()
	}
	e.backoff.since = -refill.Never
	if m := c.Memory; m != nil {
		recollect(e, m, c.Limits)
	}
	return e
}

// at begins an event: it takes in what the passing of time alone has brought.
func (e *Engine) at(now Now) {
	e.t, e.wall = max(e.t, now.Mono), now.Wall
	if jump := e.limits.clock.Wall(e.t, e.wall); jump > 0 {
		overslept(e, jump)
	}
	e.land()
	for _, l := range e.limits.list {
		from := l.Limit()
		if l.judge(e.t); l.Limit() != from {
			e.changed(nil, Change{from, l.Limit()})
		}
	}
}

// Decide returns what is to be done after an event.
func (e *Engine) Decide() Decisions {
	d := e.out
	d.WakeAt, d.TellAt = e.wake, refill.Never
	if e.lateFrom > 0 {
		d.WakeAt = e.t
	}
	if e.shared != nil {
		d.TellAt = e.shared.wakeAt()
	}
	d.Book = e.journal.book
	e.journal.book = e.journal.book[:0]
	e.out = Decisions{Go: d.Go[:0], Reject: d.Reject[:0]}
	return d
}

// Zone says where the server's days begin.
func (e *Engine) Zone(zone *time.Location) { e.limits.clock.Zone(zone) }

// Arrive is the event that a request comes: it goes, waits or is turned away.
func (e *Engine) Arrive(now Now, r *Request) {
	e.at(now)
	r.cost = e.limits.estimates.Cost(r.Draw)
	r.stays = r.MaxWait > 0
	if r.Deadline == 0 {
		r.Deadline = refill.Never
	}
	if s := e.shared; s != nil {
		s.greet(e)
		switch {
		case s.up() && r.MaxWait < 0:
			r.MaxWait = s.moment()
		case !s.up() && s.OnError == share.FailClosed:
			e.unreachable(r)
			return
		}
	}
	head := e.queue.Head()
	if !e.shared.up() && (head == nil || r.Place < head.Place && r.whom() == nil && !e.queue.Classed()) {
		switch at := e.ready(r); {
		case at > e.t:
		case !e.journal.needs(&e.limits, &r.cost) || e.journal.synced:
			e.admit(r)
			e.serve()
			return
		case r.MaxWait < 0:
			r.MaxWait = 0 // a moment, until the journal is at hand
		}
	}
	e.join(r)
}

// Estimate returns what a request would be charged now.
func (e *Engine) Estimate(d estimate.Draw) refill.Cost { return e.limits.estimates.Cost(d) }

// Joined returns how many go before the request that has just joined the queue, and
// in how long it will go, as far as can be said.
func (e *Engine) Joined() (ahead int, estimate time.Duration) { return e.ahead, e.estimate }

// Leave is the event that a request does not want to wait any more. It reports
// whether it was in the queue; if it was let go in the same moment, it must fail.
func (e *Engine) Leave(now Now, r *Request) bool {
	e.at(now)
	in := r.Waiting() && e.queue.Remove(&r.waiter)
	e.serve()
	return in
}

// Tick is the event that time has passed.
func (e *Engine) Tick(now Now) {
	e.at(now)
	if e.lateFrom > 0 {
		e.late(e.strict)
	}
	e.serve()
}

// Sent is the event that a request was written.
func (e *Engine) Sent(now Now, at time.Duration, r *Request) {
	e.at(now)
	e.recall(r)
	if r.stage == held {
		e.flights.link(min(at, e.t), r)
		e.land()
	}
	e.serve()
}

// Unsent takes that back: the request is still being prepared. Of one that has
// failed it says nothing: nobody would say when that is sent.
func (e *Engine) Unsent(now Now, r *Request) {
	e.at(now)
	if !r.closed {
		e.recall(r)
	}
	e.serve()
}

// An Answer is what the headers of a response say.
type Answer struct {
	Refused bool
	Invalid bool          // the server found the request invalid: it was not processed
	Date    time.Duration // what the server's clock stood at, since 1970; 0: it does not say
	Levels  []Level
}

// Answered is the event that a response's headers have come. Every attempt is
// charged, refused ones too.
func (e *Engine) Answered(now Now, r *Request, a Answer) {
	e.at(now)
	if a.Date > 0 {
		e.limits.clock.Observe(r.let, e.t, a.Date)
		e.shared.note(e, share.Report{Event: share.Clock, From: r.let, At: e.t, Date: a.Date}, gather)
	}
	e.arrive(e.t, r)
	r.deemed = false
	for i := range a.Levels {
		v := &a.Levels[i]
		if l, c := e.limits.learn(e.t, v.Unit, v.N, v.Per, r.Rule); l != nil {
			e.changed(l, c)
		}
		switch l := e.limits.at(v); {
		case v.Left < 0:
		case l == nil && v.Left == 0 && v.Full > 0 && v.Per == 0: // of whatever it is, nothing is left until then
			e.backoff.shut(e.t+min(v.Full, maxHint), NothingLeft)
		case l != nil:
			lower(l, e.t, r.when, v.Left, v.Full)
			e.shared.note(e, share.Report{Event: share.Level, Limit: e.limits.index(l), N: v.Left, At: r.when}, gather)
		}
	}
	if a.Invalid {
		e.pardon(r)
	}
	if r.denied = a.Refused; !r.denied {
		e.backoff.accepted(r.let)
		if !r.deemedOK {
			e.paceAccepted(r)
		}
		if e.pacer.on() {
			e.backoff.width = 0
		}
		e.accepted++
		e.spent = false
	}
	if len(e.out.Changes) > 0 {
		e.putOff()
	}
	if len(a.Levels) > 0 {
		tellPause(e)
	}
	if !a.Refused { // else it is about to turn out why
		e.serve()
	}
}

// Refused is the event that it has turned out why a request was refused.
func (e *Engine) Refused(now Now, r *Request, f Refusal) {
	e.at(now)
	r.denied = true
	refuse(e, r, f)
	tellPause(e)
}

// Settled is the event that it has turned out what a request has cost; negative:
// that is not known. Only the first time counts.
func (e *Engine) Settled(now Now, r *Request, c refill.Cost) {
	e.at(now)
	if r.final || r.stage != arrived {
		return
	}
	r.final = true
	for _, d := range r.drawn {
		l := d.limit
		if n := c[l.Limit().Unit]; n >= 0 && l.Limit().Per > 0 && !r.Draw.Nothing(l.Limit().Unit) {
			if more := min(n-d.n, l.debt()); more != 0 {
				l.Settle(e.t, r.when, more)
				e.shared.settle(e, l, r, more)
				e.journal.note(e, l, r.let, more)
			}
		}
	}
	e.limits.estimates.Learn(r.Draw, c)
	e.serve()
}

// Failed is the event that there will be no response. If the request may have
// reached the server it counts; else its tokens are back.
func (e *Engine) Failed(now Now, r *Request, reached bool) {
	e.at(now)
	e.fail(r, reached)
	e.serve()
}

// Closed is the event that the response's body is closed.
func (e *Engine) Closed(now Now, r *Request) {
	e.at(now)
	e.close(r)
	e.serve()
}

// Synced is the event that the journal is at hand, and stays so until the event
// is over: read says what is written there of a limit. Requests that draw on
// limits of a day go now or not at all.
func (e *Engine) Synced(now Now, read func(unit int, per time.Duration, f func(back, n int64))) {
	e.at(now)
	news := false
	for _, l := range e.limits.list {
		if l.daily() {
			read(l.Limit().Unit, l.Limit().Per, func(back, n int64) { news = e.journal.merge(e, l, back, n) || news })
		}
	}
	if news {
		e.lateFrom = 0
		e.late(true)
	}
	e.journal.synced, e.journal.busy = true, 0
	e.serve()
	e.journal.synced = false
}

// Busy is the event that another process has the journal, until the given time.
func (e *Engine) Busy(now Now, until time.Duration) {
	e.at(now)
	e.journal.busy = until
	e.serve()
}

// Tell is the event that the time has come to tell the store what there is to be
// told.
func (e *Engine) Tell(now Now) {
	e.at(now)
	e.shared.tell(e)
	e.serve()
}

// Exchange returns what is to be told the store now.
func (e *Engine) Exchange() share.Batch { return e.shared.batch }

// Replied is the event that the store has answered.
func (e *Engine) Replied(now Now, r share.Reply) {
	e.at(now)
	e.shared.replied(e, r)
	tellPause(e)
	e.serve()
}

// Unanswered is the event that the store has not answered.
func (e *Engine) Unanswered(now Now) {
	e.at(now)
	e.shared.lost(e)
	e.serve()
}

// Away reports whether the store does not answer.
func (e *Engine) Away() bool { return e.shared != nil && e.shared.away }

// GaveUp is the event that a request was refused at each of its tries, none of
// its key being accepted meanwhile.
func (e *Engine) GaveUp() { e.spent = true }

// Progress returns how many requests were not refused so far, and whether the
// last word is that a request has used all its tries.
func (e *Engine) Progress() (accepted uint64, spent bool) { return e.accepted, e.spent }

// Idle returns when nothing would be lost if the engine was forgotten: all tokens
// are back, and no pause is in force. It is refill.Never while somebody waits or is
// in flight.
func (e *Engine) Idle(now Now) time.Duration {
	e.at(now)
	if e.queue.Len() > 0 || e.inFlight > 0 || e.flights.first != nil {
		return refill.Never
	}
	return max(e.backoff.until, e.limits.full(e.t))
}
