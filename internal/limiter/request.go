package limiter

import (
	"sync/atomic"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/refill"
)

// A Request is one attempt at a request, on its way through a limiter.
type Request struct {
	engine.Request
	Limiter *Limiter
	Version uint64                                  // of the quotas by which it was found to draw on the Limiter
	Zone    *time.Location                          // where the API's days begin; nil: not known
	Waiting func(ahead int, estimate time.Duration) // called if it has to wait; nil: not

	// Waited is how long it has waited, once it does not any more.
	Waited time.Duration

	*Delay // nil: it did not have to wait

	next   *Request     // in Limiter.reports
	sent   atomic.Int64 // when it was written; unsent: not yet; 0: nothing was reported
	listed atomic.Bool
	closed atomic.Bool
}

// A Delay is what there is of a request that has to wait.
type Delay struct {
	Queue Queue // that it has joined, when Waiting is called

	// Slots is the limit of requests at once that kept it waiting until its context
	// was done; nil: none did.
	Slots *refill.Limit

	ready  chan struct{} // closed when it may go, or was turned away; nil: it does not wait any more
	convoy *convoy       // which it moves in to another limiter; nil: it does not
	step   step          // in that
}

const unsent = -1

// A Queue is what there is to be seen of a queue.
type Queue struct {
	Waiting int           // how many
	Next    time.Duration // in how long the first of them goes; refill.Never: that cannot be said
}

// A waiter is what the engine knows as the owner of a request: that itself, or what
// it is embedded in.
type waiter interface{ Ticket() *Request }

// Ticket returns the request, also of what it is embedded in.
func (r *Request) Ticket() *Request { return r }

// come has the request begin at a limiter.
func (r *Request) come(l *Limiter) {
	r.Limiter, r.Rejection, r.Waited = l, nil, 0
	if r.Delay != nil {
		r.ready = nil
	}
}

// delay has it wait.
func (r *Request) delay() {
	if r.Delay == nil {
		r.Delay = new(Delay)
	}
	r.ready = make(chan struct{})
}

// outcome says what has become of a request that does not wait any more.
func (r *Request) outcome() error {
	switch {
	case r.Rejection != nil && r.Rejection.Reason == engine.Moved:
		return ErrStale
	case r.Rejection != nil && r.Rejection.Err != nil:
		return r.Rejection.Err
	case r.Rejection != nil:
		return ErrRejected
	}
	return nil
}

// Sent says that the request was written now. Like Unsent and Closed, it may be
// called at any time and more than once.
func (r *Request) Sent() {
	r.sent.Store(int64(Mono()))
	r.Limiter.report(r)
}

// Unsent takes that back: the request is still being prepared.
func (r *Request) Unsent() {
	r.sent.Store(unsent)
	r.Limiter.report(r)
	if l := r.Limiter; l.store != nil { // which has to know before it counts the request as arrived
		l.unlock(l.lock())
	}
}

// Answered says that the response's headers are here, and what they say. It
// returns the limits that are kept in another way from now on.
func (r *Request) Answered(a engine.Answer) []engine.Change {
	l := r.Limiter
	now := l.lock()
	l.engine.Answered(now, &r.Request, a)
	return l.learned(now)
}

// Refused says why the server has refused the request. It returns the limits that
// are kept in another way from now on, and how many requests of the key were
// accepted so far; spent is set if another request has used up its tries, and none
// was accepted since.
func (r *Request) Refused(f engine.Refusal) (changes []engine.Change, accepted uint64, spent bool) {
	l := r.Limiter
	now := l.lock()
	l.engine.Refused(now, &r.Request, f)
	accepted, spent = l.engine.Progress()
	return l.learned(now), accepted, spent
}

// A Pause is a time in which nothing is sent, since the server has said so.
type Pause struct {
	Until time.Time // zero: it is over
	Why   engine.Why
}

// Pauses returns the pauses of the request's key that nobody was told of yet.
func (r *Request) Pauses() (list []Pause) {
	l := r.Limiter
	if l == nil || !l.paused.Load() {
		return nil
	}
	now := l.lock()
	for _, p := range l.pauses {
		x := Pause{Why: p.Why}
		if p.Until > 0 {
			x.Until = At(now, p.Until)
		}
		list = append(list, x)
	}
	l.pauses = nil
	l.paused.Store(false)
	l.unlock(now)
	return list
}

// At returns a time of an engine by the machine's clock.
func At(now engine.Now, t time.Duration) time.Time {
	return time.Unix(0, int64(now.Wall)).Add(t - now.Mono).UTC()
}

// GaveUp says that the request has used up its tries.
func (r *Request) GaveUp() {
	now := r.Limiter.lock()
	r.Limiter.engine.GaveUp()
	r.Limiter.unlock(now)
}

// Settle says what the request has cost; negative: not known.
func (r *Request) Settle(c refill.Cost) {
	now := r.Limiter.lock()
	r.Limiter.engine.Settled(now, &r.Request, c)
	r.Limiter.unlock(now)
}

// Later returns a request that stands for r when that has ended: for Settle and
// Refused.
func (r *Request) Later() *Request {
	now := r.Limiter.lock()
	later := &Request{Request: *r.Request.Later(), Limiter: r.Limiter}
	r.Limiter.unlock(now)
	later.Owner = later
	return later
}

// Failed says that there will be no response, and whether the request may have
// reached the server.
func (r *Request) Failed(reached bool) {
	now := r.Limiter.lock()
	r.Limiter.engine.Failed(now, &r.Request, reached)
	r.Limiter.unlock(now)
}

// Closed says that the response's body is closed.
func (r *Request) Closed() {
	r.closed.Store(true)
	if r.HoldsSlot() {
		r.Limiter.unlock(r.Limiter.lockWith(r))
		return
	}
	r.Limiter.report(r)
}
