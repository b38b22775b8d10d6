package limiter

import (
	"context"
	"fmt"
	"sync/atomic"
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
	// again.
	Exchange(ctx context.Context, b share.Batch) (share.Reply, error)
}

// Shared says how quotas are shared through a store. It is what goes into
// Transport.Limiter.
type Shared struct {
	Store     func(key string) Store // makes the store of a key
	OnError   share.OnError          // what is done while it does not answer
	Instances int                    // how many processes share the quota, for FallBack; 0: 1
	Timeout   time.Duration          // after which an exchange counts as not answered for now; 0: 100 ms

	heard atomic.Int64 // when it last answered anybody, by the monotonic clock
}

const (
	exchangeTimeout = 100 * time.Millisecond
	// callTime is how long an answer is waited for, at least: meanwhile OnError
	// says what is done.
	callTime = time.Second
	// calls is how many exchanges of a key may be under way, those included that
	// are not waited for any more.
	calls = 2
)

func (s *Shared) timeout() time.Duration {
	if s.Timeout <= 0 {
		return exchangeTimeout
	}
	return s.Timeout
}

// exchange tells the store and asks it. It returns when the store has answered, or
// when that has taken too long, whatever the store does then: a client of a
// database may go on for longer than its context, and ends by itself.
func (l *Limiter) exchange(b share.Batch) {
	limit := max(callTime, 4*l.out)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	type answer struct {
		reply share.Reply
		err   error
	}
	var a answer
	select {
	case l.calls <- struct{}{}:
		ch := make(chan answer, 1)
		go func() {
			defer func() { <-l.calls }()
			reply, err := l.store.Exchange(ctx, b)
			ch <- answer{reply, err}
		}()
		select {
		case a = <-ch:
		case <-ctx.Done():
			a.err = fmt.Errorf("no answer in %v: %w", limit, ctx.Err())
		}
	case <-ctx.Done():
		a.err = fmt.Errorf("no answer to the last %d calls: %w", calls, ctx.Err())
	}
	now := l.lock()
	if a.err != nil {
		l.engine.Unanswered(now)
	} else {
		l.shared.heard.Store(int64(now.Mono))
		l.engine.Replied(now, a.reply)
	}
	l.turned(now, a.err)
}

// told is called when it is time to tell the store something, or to do without it.
func (l *Limiter) told() {
	now := l.lock()
	l.tellAt = refill.Never
	l.engine.Heard(time.Duration(l.shared.heard.Load()))
	l.engine.Tell(now)
	l.turned(now, fmt.Errorf("no answer in %v", l.out))
}

// turned ends an event after which the store may be away for the reason given, or
// be back, and tells who wants to know.
func (l *Limiter) turned(now engine.Now, why error) {
	was, away := l.away != nil, l.engine.Away()
	switch {
	case !away:
		l.away = nil
	case why != nil && l.away == nil:
		l.away = why
	}
	why = l.away
	l.unlock(now)
	if l.tell != nil && away != was {
		l.tell(why)
	}
}
