package tollgate

import (
	"context"
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
	Refill   Refill                                  // the rule for limits that the server states
	Cost     provider.Cost                           // what it draws on the limits, as estimated
	Fixed    bool                                    // that is no estimate
	MaxWait  time.Duration                           // longest time in line; 0: any; negative: none at all
	MaxQueue int                                     // longest line that it may join; 0: any
	Waiting  func(ahead int, estimate time.Duration) // called if it has to wait; nil: not
	Store    func(error)                             // called when a store of shared tokens does not answer, once, and with nil when it does again
}

// A Grant is leave to send one request. Its holder reports what becomes of it;
// each report may come at any time and more than once.
type Grant interface {
	// Sent says that the request was written, and starts the second in which
	// it is taken to have reached the server.
	Sent()
	// Unsent takes that back: the request is still being prepared.
	Unsent()
	// Answered says that the response's headers are here, what the server's
	// clock stood at (zero: it does not say), and what they say of limits.
	// Every attempt is charged, refused ones too. It returns the limits that
	// are kept in another way from now on.
	Answered(status int, date time.Time, levels []provider.Level) []Change
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
	Learned bool      // the server has stated it, nobody else
	Left    int64     // tokens that could be taken now; less than 0 is a debt
	Full    time.Time // when all of them are back if none is taken; zero: not known yet
}
