package tollgate

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"
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
	mu   sync.Mutex
	pool pool
	line line
}

// NewBucket returns a full bucket. It panics if the limit is not valid.
func NewBucket(l Limit) *Bucket {
	if err := l.check(); err != nil {
		panic(err)
	}
	c := newClock()
	c.known = true
	b := &Bucket{pool: newPool(l, true, c)}
	b.line.tick = b.tick
	return b
}

// TryTake takes n tokens and reports whether it could: whether they were there
// and nobody was waiting for them. It never waits.
func (b *Bucket) TryTake(n int64) bool {
	t := now()
	b.mu.Lock()
	ok := n >= 0 && b.line.head == nil && b.pool.free(t) >= n
	if ok && n > 0 {
		b.pool.take(t, n)
		b.pool.spend(t, n)
	}
	b.mu.Unlock()
	return ok
}

// Take takes n tokens, waiting for them in line if need be.
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

// join puts a waiter for n tokens into the line; without one, it has either
// taken them at once or returns why it never could.
func (b *Bucket) join(ctx context.Context, n int64) (*waiter, error) {
	if n < 0 {
		return nil, errors.New("tollgate: negative number of tokens")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := now()
	if n > b.pool.limit.most() {
		return nil, &LimitError{Limit: b.pool.limit, Reason: TooLarge, RetryAfter: never}
	}
	if deadline, ok := ctx.Deadline(); ok {
		turn := b.pool.turn(t, b.line.sum[Requests]+n)
		if turn-t > time.Until(deadline) {
			return nil, &LimitError{Limit: b.pool.limit, Reason: PastDeadline, RetryAfter: turn - t}
		}
	}
	w := &waiter{cost: cost{Requests: n}, ready: make(chan struct{})}
	b.line.insert(w)
	b.serve(t)
	return w, nil
}

// leave takes a waiter whose context is done out of the line.
func (b *Bucket) leave(ctx context.Context, w *waiter) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.line.remove(w) { // served in the same moment: pass it on
		b.pool.settle(now(), never, -w.cost[Requests])
	}
	b.serve(now())
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
	t := now()
	b.pool.settle(t, never, -n)
	b.serve(t)
}

// Drain empties the bucket until the given time, which a later Drain can only
// put off. From then on tokens come back one at a time, Per/N apart, for one
// Per: those who waited do not all charge at once.
func (b *Bucket) Drain(until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := now()
	b.pool.drain(after(t, time.Until(until)), false)
	b.serve(t)
}

// Level returns how many tokens could be taken now.
func (b *Bucket) Level() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pool.free(now())
}

// serve lets those at the head of the line go for whom there are tokens.
func (b *Bucket) serve(t time.Duration) {
	for w := b.line.head; w != nil; w = b.line.head {
		n := w.cost[Requests]
		if at := b.pool.ready(t, n); at > t {
			b.line.wake(t, at)
			return
		}
		b.pool.take(t, n)
		b.pool.spend(t, n)
		b.line.remove(w)
		close(w.ready)
	}
	b.line.rest()
}

// tick runs when the timer of the line has fired.
func (b *Bucket) tick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.line.rang()
	b.serve(now())
}

// epoch is what points in time are measured from, by the monotonic clock: a
// time.Duration since then takes a third of a time.Time's room and half its
// price. It is the Unix epoch, as far as the clock was right at the start.
var epoch = time.Now().Add(-time.Duration(time.Now().UnixNano()))

// never is a point in time that does not come.
const never = time.Duration(math.MaxInt64)

// now returns the current time as it is reckoned inside the package.
func now() time.Duration { return time.Since(epoch) }
