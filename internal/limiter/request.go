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
	Cancel  <-chan struct{}                         // ends the wait when it is closed, as the context does; nil: not
	Zone    *time.Location                          // where the API's days begin; nil: not known
	Waiting func(ahead int, estimate time.Duration) // called if it has to wait; nil: not

	// Waited is how long it has waited, once it does not any more.
	Waited time.Duration

	ready chan struct{} // closed when it may go, or was turned away; nil: it does not wait

	next   *Request // in Limiter.reports
	listed atomic.Bool
	sent   atomic.Int64 // when it was written; unsent: not yet; 0: nothing was reported
	closed atomic.Bool
}

const unsent = -1

// outcome says what has become of a request that does not wait any more.
func (r *Request) outcome() error {
	switch {
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
