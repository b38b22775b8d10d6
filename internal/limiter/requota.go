package limiter

import (
	"sync"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/refill"
)

// A Quota is what is configured of a key.
type Quota struct {
	Version uint64 // of the quotas that it is of; later ones have higher ones
	Limits  []refill.Limit
	Named   bool // the key is configured by name
	Gone    bool // requests that come draw on others: it keeps its Limits for those in flight
	// Stays reports whether a request that waits still draws on this key's quota,
	// given its owner. It must not call the limiter. nil: all do.
	Stays func(owner any) bool
}

// Requota has the limiter keep another quota from now on, unless it keeps a later
// one. What was spent stays spent, and what the server has stated stays. Those who
// wait are judged again; with ErrStale those end that do not draw on it any more, and
// all if tokens count now that did not: nobody has estimated them.
func Requota(l *Limiter, q Quota) {
	now := l.lock()
	if l.forgotten || q.Version <= l.version.Load() {
		l.unlock(now)
		return
	}
	counted := l.tokens.Load()
	if q.Gone {
		q.Limits = engine.Configured(l.engine)
	}
	for _, x := range q.Limits {
		l.counts(x)
	}
	stays := func(r *engine.Request) bool { return q.Stays(r.Owner) }
	switch {
	case !counted && l.tokens.Load():
		stays = func(*engine.Request) bool { return false }
	case q.Stays == nil:
		stays = nil
	}
	l.version.Store(q.Version)
	l.named.Store(q.Named)
	engine.Requota(l.engine, now, q.Limits, stays)
	l.unlock(now)
}

// A convoy is requests that move from one queue to others. They go one after the
// other, so that they arrive in their order: each hands on to the next once it has
// arrived, or is of no more interest.
type convoy struct {
	mu   sync.Mutex
	list []*Request // those that wait for the ones before them
}

// A step is how far a request in a convoy has come.
type step uint8

const (
	behind step = iota // it waits for the ones before it
	moving
	left
)

// depart has the requests of a queue move on.
func depart(list []*Request) {
	c := &convoy{list: list}
	for _, r := range list {
		r.convoy, r.step = c, behind
	}
	c.handOn()
}

// handOn has the next one go.
func (c *convoy) handOn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.list) > 0 {
		r := c.list[0]
		c.list = c.list[1:]
		if r.step == behind {
			r.step = moving
			close(r.ready)
			return
		}
	}
}

// leave takes out one whose context is done.
func (c *convoy) leave(r *Request) {
	c.mu.Lock()
	was := r.step
	r.step = left
	c.mu.Unlock()
	if was == moving {
		c.handOn()
	}
}

// HandOn lets the next request go of those that move with this one, if any do.
func (r *Request) HandOn() {
	if r.Delay != nil && r.convoy != nil {
		c := r.convoy
		r.convoy = nil
		c.handOn()
	}
}
