package limiter

import (
	"context"
	"errors"
	"sync"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
)

// A Store keeps the tokens of one key where several processes take them, such as
// a database.
//
// A store has a clock of its own, and the only one that counts. It may forget
// everything, and must notice that: see package share.
type Store interface {
	// Exchange takes in what a process tells, and takes tokens for it. After an
	// error it is not known whether that has happened: the same batch is told
	// again. It returns when ctx is done at the latest.
	Exchange(ctx context.Context, b share.Batch) (share.Reply, error)
}

// Shared says how quotas are shared through a store. It is what goes into
// Transport.Limiter.
type Shared struct {
	Store     func(key string) Store // makes the store of a key
	OnError   share.OnError          // what is done while it does not answer
	Instances int                    // how many processes share the quota, for FallBack; 0: 1
	Timeout   time.Duration          // of each exchange; 0: 100 ms

	once  sync.Once
	turns chan struct{} // one for each exchange that is under way

	explained uint32 // how often it was to be said what Instances 0 means
}

const (
	exchangeTimeout = 100 * time.Millisecond
	// exchanges is how many may be under way at once, of all keys: a client's
	// connections are few, and to wait for one is not to wait for the store.
	exchanges = 16
)

func (s *Shared) timeout() time.Duration {
	if s.Timeout <= 0 {
		return exchangeTimeout
	}
	return s.Timeout
}

// turn waits until an exchange may begin.
func (s *Shared) turn() (done func()) {
	s.once.Do(func() { s.turns = make(chan struct{}, exchanges) })
	s.turns <- struct{}{}
	return func() { <-s.turns }
}

// exchange tells the store and asks it. Its time begins when it has its turn. One
// that was not answered in time is given more of it when it is repeated, while
// OnError says what is done: a store may be far away.
func (l *Limiter) exchange(b share.Batch) {
	done := l.shared.turn()
	now := l.lock()
	patience := engine.Patience(l.engine, now)
	l.unlock(now)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	began := Mono()
	reply, err := l.store.Exchange(ctx, b)
	cancel()
	done()
	if l.exchanged != nil {
		l.exchanged(Mono()-began, err)
	}
	now = l.lock()
	if err != nil {
		l.away = l.outage(err)
		l.engine.Unanswered(now)
	} else {
		if l.away != nil {
			l.away.End()
		}
		l.engine.Replied(now, reply)
	}
	if !l.engine.Away() {
		l.away = nil
	}
	why := l.away
	l.unlock(now)
	l.tellOf(why, err == nil, reply.Notice)
}

// outage returns the Outage that an exchange has failed with. A store that knows
// nothing of them has one for each key. The lock is held.
func (l *Limiter) outage(err error) *Outage {
	var o *Outage
	switch {
	case errors.As(err, &o):
		return o
	case l.away != nil:
		return l.away
	}
	o = l.shared.NewOutage("store of shared tokens", Trouble{})
	o.Settle(Trouble{What: "does not answer: " + err.Error(), Err: err})
	return o
}

// tellOf tells whoever wants to know it that the store does not answer, or that
// it does, and what it noticed.
func (l *Limiter) tellOf(why *Outage, answered bool, notice error) {
	switch {
	case l.tell == nil:
	case why != nil:
		l.outages.begin(why, l.tell)
	case answered:
		l.outages.end(l.tell)
		if notice != nil {
			l.tell(notice)
			l.tell(nil)
		}
	}
}

// told is called when it is time to tell the store something.
func (l *Limiter) told() {
	now := l.lock()
	l.tellAt = refill.Never
	l.engine.Tell(now)
	l.unlock(now)
}
