package limiter

import (
	"context"
	"time"

	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
)

// A Store keeps the tokens of one key where several processes take them, such as
// a database.
//
// A store has a clock of its own, and the only one that counts: what it is told
// was so long ago, and what it tells is so far ahead.
type Store interface {
	// Exchange takes in what a process tells, and takes tokens for it. After an
	// error it is not known whether that has happened.
	Exchange(ctx context.Context, b share.Batch) (share.Reply, error)
}

// Shared says how quotas are shared through a store. It is what goes into
// Transport.Limiter.
type Shared struct {
	Store     func(key string) Store // makes the store of a key
	OnError   share.OnError          // what is done while it does not answer
	Instances int                    // how many processes share the quota, for FallBack; 0: 1
	Timeout   time.Duration          // of each exchange; 0: 100 ms
}

const exchangeTimeout = 100 * time.Millisecond

func (s *Shared) timeout() time.Duration {
	if s.Timeout <= 0 {
		return exchangeTimeout
	}
	return s.Timeout
}

// exchange tells the store and asks it.
func (l *Limiter) exchange(b share.Batch) {
	ctx, cancel := context.WithTimeout(context.Background(), l.out)
	reply, err := l.store.Exchange(ctx, b)
	cancel()
	now := l.lock()
	was := l.away
	if l.away = err; err != nil {
		l.engine.Unanswered(now)
	} else {
		l.engine.Replied(now, reply)
	}
	away := l.engine.Away()
	if !away {
		l.away = nil
	}
	why := l.away
	l.unlock(now)
	if l.tell != nil && away != (was != nil) {
		l.tell(why)
	}
}

// told is called when it is time to tell the store something.
func (l *Limiter) told() {
	now := l.lock()
	l.tellAt = refill.Never
	l.engine.Tell(now)
	l.unlock(now)
}
