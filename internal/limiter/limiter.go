// Package limiter is the shell around package engine: the mutex that guards a
// key's engine, the timer that wakes it, and the channel that each waiter waits
// on. All that is concurrent in the way of a request stands here.
package limiter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"example.com/tollgate/internal/dayfile"
	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/refill"
)

// epoch is what points in time are measured from, by the monotonic clock. It is
// the Unix epoch, as far as the clock was right when the program began.
var epoch = time.Now().Add(-time.Duration(time.Now().UnixNano()))

// Now returns the current time as an engine has it.
func Now() engine.Now {
	n := time.Now()
	return engine.Now{Mono: n.Sub(epoch), Wall: time.Duration(n.UnixNano())}
}

// Mono returns the time by the monotonic clock alone, which takes half as long.
func Mono() time.Duration { return time.Since(epoch) }

// A Limiter lets the requests of one key go as its limits allow.
type Limiter struct {
	key   string
	store Store         // nil: the quota is nobody else's
	file  *dayfile.File // where limits of a day are written down; nil: nowhere
	name  string        // under which
	owner any           // whatever has made it

	shared    *Shared                             // nil: the quota is nobody else's
	tell      func(error)                         // called when the store no longer answers, and with nil when it does again; nil: not
	outages   *Outages                            // that tell was called for
	exchanged func(took time.Duration, err error) // called after each exchange; nil: nothing

	named   atomic.Bool             // it stays when it is idle
	version atomic.Uint64           // of the quotas that it keeps to
	tokens  atomic.Bool             // it has limits of tokens
	waiting atomic.Int64            // how many wait
	paused  atomic.Bool             // there is something in pauses
	reports atomic.Pointer[Request] // what was reported without the lock, and not taken in yet

	mu        sync.Mutex
	engine    *engine.Engine
	timer     *time.Timer
	at        time.Duration // when it fires; refill.Never: it does not
	teller    *time.Timer   // of what is to be told the store
	tellAt    time.Duration
	news      []engine.Change // that nobody was told of yet
	pauses    []engine.Pause  // likewise
	away      *Outage         // the store does not answer; nil: it does
	forgotten bool
	looked    time.Duration // when the machine's clock was last looked at
	ahead     time.Duration // how far it was ahead of ours

	onTimer, onTeller func()
}

// ErrForgotten is the error of a limiter that is no longer in use: its registry
// has another one.
var ErrForgotten = errors.New("tollgate: limiter forgotten")

// ErrStale is the error of a request that belongs to other quotas than the limiter
// keeps by now: it has to find its limiter anew.
var ErrStale = errors.New("tollgate: other quotas")

// ErrRejected is the error of a request that was turned away: its Rejection says
// why.
var ErrRejected = errors.New("tollgate: rejected")

// counts notes that there is such a limit.
func (l *Limiter) counts(x refill.Limit) {
	if x.Unit != refill.Requests {
		l.tokens.Store(true)
	}
}

// Key returns the key that the limits are of.
func (l *Limiter) Key() string { return l.key }

// Owner returns what Options say it is.
func (l *Limiter) Owner() any { return l.owner }

// Version returns that of the quotas that it keeps to.
func (l *Limiter) Version() uint64 { return l.version.Load() }

// CountsTokens reports whether requests draw on limits of tokens.
func (l *Limiter) CountsTokens() bool { return l.tokens.Load() }

// Estimate returns what a request would be charged now.
func (l *Limiter) Estimate(d estimate.Draw) refill.Cost {
	now := l.lock()
	defer l.unlock(now)
	return l.engine.Estimate(d)
}

// lock begins an event: it takes in what was reported without the lock.
func (l *Limiter) lock() engine.Now {
	l.mu.Lock()
	now := l.now()
	for r := l.reports.Swap(nil); r != nil; {
		next := r.next
		r.next = nil
		r.listed.Store(false)
		switch at := r.sent.Swap(0); {
		case at > 0:
			l.engine.Sent(now, time.Duration(at), &r.Request)
		case at == unsent:
			l.engine.Unsent(now, &r.Request)
		}
		if r.closed.Load() {
			l.engine.Closed(now, &r.Request)
		}
		r = next
	}
	return now
}

// now returns the time. The machine's clock is looked at once in a while: to read
// both clocks takes twice as long.
func (l *Limiter) now() engine.Now {
	t := Mono()
	if t-l.looked >= look || t < l.looked {
		n := Now()
		l.looked, l.ahead = n.Mono, n.Wall-n.Mono
		return n
	}
	return engine.Now{Mono: t, Wall: t + l.ahead}
}

// look is how long the machine's clock is taken to go on as the monotonic one does.
const look = 100 * time.Millisecond

// report lists r for the next event, or makes it one if somebody waits.
func (l *Limiter) report(r *Request) {
	if r.listed.CompareAndSwap(false, true) {
		for {
			r.next = l.reports.Load()
			if l.reports.CompareAndSwap(r.next, r) {
				break
			}
		}
	}
	if l.waiting.Load() > 0 {
		l.unlock(l.lock())
	}
}

// unlock ends an event: it does what the engine has decided.
func (l *Limiter) unlock(now engine.Now) {
	l.act(now)
	l.mu.Unlock()
}

func (l *Limiter) act(now engine.Now) {
	for {
		d := l.engine.Decide()
		l.apply(&d)
		switch {
		case d.Sync:
			l.sync(now)
			continue
		case len(d.Book) > 0:
			l.file.With(time.Unix(0, int64(now.Wall)), func(e *dayfile.Entries) { l.book(e, d.Book) })
		}
		l.wake(now, d.WakeAt, &l.at, &l.timer, l.onTimer)
		l.wake(now, d.TellAt, &l.tellAt, &l.teller, l.onTeller)
		return
	}
}

// apply does what is to be done whatever else is.
func (l *Limiter) apply(d *engine.Decisions) {
	var moved []*Request
	for _, list := range [2][]*engine.Request{d.Go, d.Reject} {
		for _, x := range list {
			r := x.Owner.(waiter).Ticket()
			if x.Rejection != nil && x.Rejection.Reason == engine.Moved {
				moved = append(moved, r)
				l.waiting.Add(-1)
				continue
			}
			if x.Rejection != nil && x.Rejection.Reason == engine.Unreachable {
				x.Rejection.Err = fmt.Errorf("tollgate: %s: its quota is out of reach: %w", Quote(l.key), l.away)
			}
			if r.Delay != nil && r.ready != nil {
				close(r.ready)
				l.waiting.Add(-1)
			}
		}
	}
	if len(moved) > 0 {
		depart(moved)
	}
	if len(d.Changes) > 0 {
		l.news = append(l.news, d.Changes...)
	}
	if len(d.Pauses) > 0 {
		l.pauses = append(l.pauses, d.Pauses...)
		l.pauses = l.pauses[max(0, len(l.pauses)-maxPauses):]
		l.paused.Store(true)
	}
	if d.Exchange {
		go l.exchange(l.engine.Exchange())
	}
}

// maxPauses is how many pauses are kept until somebody can be told of them.
const maxPauses = 16

// wake sets a timer to the given time.
func (l *Limiter) wake(now engine.Now, at time.Duration, set *time.Duration, timer **time.Timer, f func()) {
	switch {
	case at == *set:
		return
	case at == refill.Never:
		(*timer).Stop()
	case *timer == nil:
		*timer = time.AfterFunc(at-now.Mono, f)
	default:
		(*timer).Reset(at - now.Mono)
	}
	*set = at
}

func (l *Limiter) ring() {
	now := l.lock()
	l.at = refill.Never
	l.engine.Tick(now)
	l.unlock(now)
}

// sync has the engine go on with the journal at hand.
func (l *Limiter) sync(now engine.Now) {
	ok := l.file.With(time.Unix(0, int64(now.Wall)), func(e *dayfile.Entries) {
		l.engine.Synced(now, func(unit int, per time.Duration, f func(back, n int64)) {
			e.Each(l.entry(unit, per), f)
		})
		d := l.engine.Decide()
		l.apply(&d)
		l.book(e, d.Book)
	})
	if !ok {
		l.engine.Busy(now, now.Mono+dayfile.Busy)
		return
	}
	l.engine.Tick(now)
}

func (l *Limiter) book(e *dayfile.Entries, list []engine.Booking) {
	for _, b := range list {
		e.Add(l.entry(b.Unit, b.Per), b.Back, b.N)
	}
}

var units = [refill.Units]string{"requests", "tokens", "output tokens"}

// entry is the name of a limit in the journal.
func (l *Limiter) entry(unit int, per time.Duration) string {
	return fmt.Sprintf("%s %s per %v", l.name, units[unit], per)
}

// Acquire waits until a request may be sent. Its error is the context's,
// undisguised, ErrRejected, ErrForgotten, or that of a store that does not answer.
func (l *Limiter) Acquire(ctx context.Context, r *Request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.come(l)
	if r.Owner == nil {
		r.Owner = r
	}
	now := l.lock()
	switch {
	case l.forgotten:
		l.mu.Unlock()
		return ErrForgotten
	case l.version.Load() != r.Version:
		l.mu.Unlock()
		return ErrStale
	}
	if deadline, ok := ctx.Deadline(); ok {
		r.Deadline = refill.After(now.Mono, time.Until(deadline))
	}
	l.engine.Zone(r.Zone)
	r.Told = r.Waiting != nil
	l.engine.Arrive(now, &r.Request)
	l.act(now)
	r.HandOn()
	if !r.Request.Waiting() {
		l.mu.Unlock()
		return r.outcome()
	}
	r.delay()
	l.waiting.Add(1)
	ahead, estimate := l.engine.Joined()
	if r.Waiting != nil {
		r.Queue.Waiting, r.Queue.Next = engine.Outlook(l.engine)
		if _, full := engine.Slots(l.engine, now, &r.Request); full {
			estimate = refill.Never // who holds a slot does not say for how long
		}
	}
	l.mu.Unlock()
	if r.Waiting != nil {
		l.join(r, ahead, estimate)
	}
	defer func() { r.Waited = Mono() - now.Mono }()
	select {
	case <-r.ready:
		return r.outcome()
	case <-ctx.Done():
		l.abandon(r)
		return ctx.Err()
	}
}

// join calls the function that is for one who has to wait. If that panics, the
// request leaves the queue.
func (l *Limiter) join(r *Request, ahead int, estimate time.Duration) {
	done := false
	defer func() {
		if !done {
			l.abandon(r)
		}
	}()
	r.Waiting(ahead, estimate)
	done = true
}

// abandon takes a request whose context is done out of the queue.
func (l *Limiter) abandon(r *Request) {
	now := l.lock()
	if x, full := engine.Slots(l.engine, now, &r.Request); full {
		r.Slots = &x
	}
	switch {
	case l.engine.Leave(now, &r.Request):
		l.waiting.Add(-1)
	case r.Going(): // let go in the same moment
		l.engine.Failed(now, &r.Request, false)
	}
	if c := r.convoy; c != nil { // or moved on
		r.convoy = nil
		c.leave(r)
	}
	l.unlock(now)
}

// lockWith begins the event that r is closed.
func (l *Limiter) lockWith(r *Request) engine.Now {
	now := l.lock()
	l.engine.Closed(now, &r.Request)
	return now
}

// learned ends an event and returns what is news.
func (l *Limiter) learned(now engine.Now) []engine.Change {
	l.act(now)
	news := l.news
	l.news = nil
	for _, c := range news {
		l.counts(c.To)
	}
	l.mu.Unlock()
	return news
}

// Status returns a snapshot, and the time that it is of.
func (l *Limiter) Status() (engine.Status, engine.Now) {
	now := l.lock()
	s := engine.Snapshot(l.engine, now)
	l.unlock(now)
	return s, now
}

// forget has the limiter take no more requests if nothing would be lost by that,
// and reports what it has learned, whether that is so, and whether it will be.
func (l *Limiter) forget() (m *engine.Memory, gone, soon bool) {
	if l.named.Load() || l.file != nil || l.store != nil {
		return nil, false, false
	}
	now := l.lock()
	defer l.unlock(now)
	at := l.engine.Idle(now)
	if l.forgotten = at <= now.Mono; !l.forgotten {
		return nil, false, at != refill.Never
	}
	return engine.Remember(l.engine), true, false
}
