package tollgate

import (
	"context"
	"errors"
	"sync"
	"time"

	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/queue"
	"example.com/tollgate/internal/refill"
)

// A Bucket is a token bucket: it holds N tokens, callers take them, and spent
// ones come back by the Refill rule of its Limit. Auto is Window, and Calendar
// goes by the local clock, with days from midnight to midnight UTC.
//
// Most callers want a [Transport], which takes tokens on behalf of HTTP
// requests and knows when they were spent at the server. A Bucket counts a
// token as spent when it is taken.
//
// A Bucket is safe for simultaneous use by multiple goroutines and serves them
// first come, first served. Use [NewBucket] to create one.
type Bucket struct {
	mu     sync.Mutex
	bucket *refill.Bucket
	queue  queue.Queue[*taker]
	place  uint64 // the last one in the queue that was given away
	timer  *time.Timer
	at     time.Duration // when it fires; refill.Never: it does not
}

// A taker waits in the queue of a bucket for n tokens.
type taker struct {
	queue.Waiter[*taker]
	n     int64
	ready chan struct{} // closed when they are taken
}

// NewBucket returns a full bucket. It panics if the limit is not valid.
func NewBucket(l Limit) *Bucket {
	if err := l.check(); err != nil {
		panic(err)
	}
	now := limiter.Now()
	c := refill.NewClock(now.Wall - now.Mono)
	c.Known = true
	return &Bucket{bucket: refill.NewBucket(l.kept(), true, c), at: refill.Never}
}

// TryTake takes n tokens and reports whether it could: whether they were there
// and nobody was waiting for them. It never waits.
func (b *Bucket) TryTake(n int64) bool {
	t := limiter.Mono()
	b.mu.Lock()
	ok := n >= 0 && b.queue.Len() == 0 && b.bucket.Free(t) >= n
	if ok && n > 0 {
		b.bucket.Take(t, n)
		b.bucket.Spend(t, n)
	}
	b.mu.Unlock()
	return ok
}

// Take takes n tokens, waiting for them in the queue if need be.
//
// It returns the context's error if that is done first. If the turn would come
// only after the context's deadline, or n is larger than the bucket, it returns
// a [*LimitError] at once.
func (b *Bucket) Take(ctx context.Context, n int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.TryTake(n) {
		return nil
	}
	return b.wait(ctx, n)
}

// wait is the slow path of Take, apart so that the fast one needs little stack.
func (b *Bucket) wait(ctx context.Context, n int64) error {
	w, err := b.join(ctx, n)
	if w == nil {
		return err
	}
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		return b.leave(ctx, w)
	}
}

// join puts one who takes n tokens into the queue; nil: it has either taken them
// at once, or the error says why it never could.
func (b *Bucket) join(ctx context.Context, n int64) (*taker, error) {
	if n < 0 {
		return nil, errors.New("tollgate: negative number of tokens")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := limiter.Mono()
	limit := b.bucket.Limit()
	if n > limit.Most() {
		return nil, &LimitError{Limit: limitOf(limit), Reason: TooLarge, RetryAfter: refill.Never}
	}
	if deadline, ok := ctx.Deadline(); ok {
		sum := b.queue.Sum()
		turn := b.bucket.Turn(t, refill.Sum(sum[0], n))
		if turn-t > time.Until(deadline) {
			return nil, &LimitError{Limit: limitOf(limit), Reason: PastDeadline, RetryAfter: turn - t}
		}
	}
	b.place++
	w := &taker{n: n, ready: make(chan struct{})}
	w.Waiter = queue.Waiter[*taker]{Item: w, Place: b.place, Until: refill.Never, Weight: queue.Weight{n}}
	b.queue.Push(&w.Waiter)
	b.serve(t)
	return w, nil
}

// leave takes one whose context is done out of the queue.
func (b *Bucket) leave(ctx context.Context, w *taker) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := limiter.Mono()
	if !b.queue.Remove(&w.Waiter) { // served in the same moment: pass it on
		b.bucket.Settle(t, refill.Never, -w.n)
	}
	b.serve(t)
	return ctx.Err()
}

// Put gives n tokens back, those taken last first; more than were taken change
// nothing. A bucket with a Per of 0 gets its tokens back in this way alone.
func (b *Bucket) Put(n int64) {
	if n <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := limiter.Mono()
	b.bucket.Settle(t, refill.Never, -n)
	b.serve(t)
}

// Drain empties the bucket until the given time, which a later Drain can only
// put off. From then on tokens come back one at a time, Per/N apart, for one
// Per: those who waited do not all charge at once.
func (b *Bucket) Drain(until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := limiter.Mono()
	b.bucket.Drain(refill.After(t, time.Until(until)), false, b.bucket.Limit().N)
	b.serve(t)
}

// Level returns how many tokens could be taken now.
func (b *Bucket) Level() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bucket.Free(limiter.Mono())
}

// serve lets those at the head of the queue go for whom there are tokens.
func (b *Bucket) serve(t time.Duration) {
	at := refill.Never
	for w := b.queue.Head(); w != nil; w = b.queue.Head() {
		n := w.Item.n
		if at = b.bucket.Ready(t, n); at > t {
			break
		}
		at = refill.Never
		b.bucket.Take(t, n)
		b.bucket.Spend(t, n)
		b.queue.Remove(w)
		close(w.Item.ready)
	}
	switch {
	case at == b.at:
		return
	case at == refill.Never:
		b.timer.Stop()
	case b.timer == nil:
		b.timer = time.AfterFunc(at-t, b.ring)
	default:
		b.timer.Reset(at - t)
	}
	b.at = at
}

// ring is called when the timer has fired.
func (b *Bucket) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = refill.Never
	b.serve(limiter.Mono())
}
