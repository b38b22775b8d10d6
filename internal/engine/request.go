package engine

import (
	"slices"
	"time"

	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/queue"
	"example.com/tollgate/internal/refill"
)

// A Request is one attempt at a request, on its way through the limits of its
// key. Whoever makes it sets the first group of fields, and then leaves it to the
// engine.
type Request struct {
	Place    uint64        // in the queue: the lower one goes first
	Draw     estimate.Draw // what it draws on the limits
	MaxWait  time.Duration // longest time in the queue; 0: any; negative: none at all
	Deadline time.Duration // when it is of no use any more; 0: never
	MaxQueue int           // longest queue of its tenant that it may join; 0: any
	Owner    any           // the engine does not look at it

	// Rejection says why the request was turned away; nil: it was not.
	Rejection *Rejection

	*queued  // nil: it has no class, and did not have to wait so far
	cost     refill.Cost
	let      time.Duration // when it was let go
	counted  time.Duration // the store's time at which it counts its tokens as spent
	gen      int64         // of the store's state in which it does; 0: in none
	renew    time.Duration // when the store has to hear that it is not on its way yet
	when     time.Duration // when it was written, and once it has arrived, when its tokens were spent
	drawn    []draw        // what it took of each limit there was when it was let go
	first    [1]draw       // the memory of that, where there is one limit
	stage    stage         // how far it has come
	slow     bool          // counts as in flight while the key opens slowly
	closed   bool          // no longer in flight at all
	slot     bool          // has tokens that come back when it is closed
	final    bool          // its cost is settled
	deemed   bool          // arrived, for all that is known: its flight was over
	denied   bool          // the response was a refusal
	deemedOK bool          // counted as accepted, since no refusal came in a flight
	stays    bool          // waits for a limit of a day too
	paid     bool          // has tokens that fall due soon
	upheld   bool          // is one of shared.unsent

	// Told says that Joined will be asked for, and Rule is the rule for limits that
	// the server states. Whoever makes the request sets them.
	Told bool
	Rule refill.Rule
	// Hopeless says that the request was refused and that trying again is of no
	// use for hours.
	Hopeless bool

	before, after *Request // among those on their way
}

// queued is what there is of a request in the queue.
type queued struct {
	waiter queue.Waiter[*Request]
	due    Reason // what its Until stands for
}

// Later returns a request that stands for r when that has ended: for what it turns
// out to have cost, or why it was refused, long afterwards.
func (r *Request) Later() *Request {
	return &Request{Place: r.Place, Draw: r.Draw, Rule: r.Rule, cost: r.cost, let: r.let, counted: r.counted, gen: r.gen, when: r.when, drawn: slices.Clone(r.drawn), stage: r.stage, closed: true}
}

// From says whom the request is from, before it comes; nil: anybody.
func (r *Request) From(c *queue.Class) {
	if c != nil || r.queued != nil {
		r.queue().Class = c
	}
}

// whom returns whom the request is from; nil: anybody.
func (r *Request) whom() *queue.Class {
	if r.queued == nil {
		return nil
	}
	return r.waiter.Class
}

// queue returns what the queue knows of the request.
func (r *Request) queue() *queue.Waiter[*Request] {
	if r.queued == nil {
		r.queued = new(queued)
	}
	return &r.waiter
}

// Going reports whether the request may be sent.
func (r *Request) Going() bool { return r.stage > waiting }

// Waiting reports whether the request is in the queue.
func (r *Request) Waiting() bool { return r.queued != nil && r.waiter.In() }

// Estimate returns what the request is estimated to draw on limits, once it was let
// go.
func (r *Request) Estimate() refill.Cost { return r.cost }

// HoldsSlot reports whether the request holds tokens that come back when its
// response's body is closed.
func (r *Request) HoldsSlot() bool { return r.slot }

// A draw is what a request took of a limit: that may be lower by now, or gone.
type draw struct {
	*limit
	n int64
}

// draws notes what the request takes of each limit.
func (r *Request) draws(ls *limits) {
	if r.drawn = r.first[:0]; len(ls.list)+len(ls.dormant) > len(r.first) {
		r.drawn = make([]draw, 0, len(ls.list)+len(ls.dormant))
	}
	for _, l := range ls.list {
		r.drawn = append(r.drawn, draw{l, l.draws(&r.cost)})
	}
	for _, l := range ls.dormant {
		r.drawn = append(r.drawn, draw{l, l.draws(&r.cost)})
	}
}

// took returns what the request took of a limit; ok is false if it was let go before
// there was that limit.
func (r *Request) took(l *limit) (n int64, ok bool) {
	for _, d := range r.drawn {
		if d.limit == l {
			return d.n, true
		}
	}
	return 0, false
}

type stage uint8

const (
	waiting stage = iota // or turned away
	held                 // let go, and not written yet
	onTheWay
	arrived // at the server: its tokens are spent
	over    // will never be: its tokens are back
)

// A Reason is why a request was turned away.
type Reason uint8

// The reasons.
const (
	PastDeadline Reason = iota
	PastMaxWait
	PastMaxQueue
	DailySpent
	TooLarge
	LongPause
	Unreachable // the store does not answer
	Moved       // it does not draw on this quota any more: see Requota
)

// A Rejection says why a request was turned away.
type Rejection struct {
	Limit  refill.Limit // the one that would have been waited for longest; zero if it was none
	Reason Reason
	After  time.Duration // in which a request of its size would have its turn; refill.Never: never, as far as is known
	Why    Why           // why the key is shut, if that is what would have been waited for
	Err    error         // the engine does not look at it
}

// rejection says why a request is turned away whose turn would be at the time given.
func rejection(e *Engine, r *Request, turn time.Duration, slowest refill.Limit) *Rejection {
	x := &Rejection{Limit: slowest, Reason: r.due, After: turn - e.t}
	switch {
	case turn == refill.Never:
		x.Reason, x.After = TooLarge, refill.Never
	case e.backoff.long > e.t:
		x.Reason = LongPause
	case slowest.Per >= refill.Day:
		x.Reason = DailySpent
	}
	return x
}

// flights are the requests that were written and not answered, in the order of
// that. After a flight they count as arrived.
type flights struct{ first, last *Request }

// link puts r among those on their way, as written at the given time.
func (f *flights) link(t time.Duration, r *Request) {
	r.stage, r.when = onTheWay, t
	after := f.last
	for after != nil && after.when > t {
		after = after.before
	}
	if r.before = after; after == nil {
		r.after, f.first = f.first, r
	} else {
		r.after, after.after = after.after, r
	}
	if r.after == nil {
		f.last = r
	} else {
		r.after.before = r
	}
}

// unlink takes r from those on their way.
func (f *flights) unlink(r *Request) {
	if r.stage != onTheWay {
		return
	}
	if r.before == nil {
		f.first = r.after
	} else {
		r.before.after = r.after
	}
	if r.after == nil {
		f.last = r.before
	} else {
		r.after.before = r.before
	}
	r.before, r.after, r.stage = nil, nil, held
}

// due returns when the first of them counts as arrived; refill.Never: there is none.
func (f *flights) due() time.Duration {
	if f.first == nil {
		return refill.Never
	}
	return f.first.when + refill.Flight
}
