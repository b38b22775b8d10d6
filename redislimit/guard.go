package redislimit

import (
	"context"
	"fmt"
	"sync"
	"time"

	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/share"
)

const (
	// forgets is for how long Redis keeps the state of a key that nobody uses,
	// at least.
	forgets = time.Minute
	// tellLost is the shortest time between two notices that state was lost.
	tellLost = time.Minute
)

// A guard is the store of a key that finds out what is wrong when Redis does not
// answer, and leaves it alone until it does. Its errors are Outages.
type guard struct {
	*health
	store *store

	mu       sync.Mutex
	outage   *limiter.Outage // that the last exchange failed with; nil: it did not fail
	answered time.Time       // when an exchange was answered the last time; zero: never
}

// key is the key of Redis that errors name.
func (g *guard) key() string { return g.store.name() }

// Exchange implements limiter.Store.
func (g *guard) Exchange(ctx context.Context, b share.Batch) (share.Reply, error) {
	where := ""
	if g.down.Load() > 0 {
		where = g.where(g.key())
	}
	p, try := g.enter(where)
	if p != nil && (!try || !g.clear(ctx, where, p)) {
		return share.Reply{}, g.suffers(g.current(p))
	}
	r := g.ask(ctx, b, p != nil)
	if r.err != nil {
		if p == nil {
			where = g.where(g.key())
		}
		return share.Reply{}, g.suffers(g.explain(ctx, r, where, p != nil))
	}
	r.reply.Notice = g.well(where, p, r.reply.Lost)
	return r.reply, nil
}

// A result is what came of an exchange.
type result struct {
	reply share.Reply
	err   error
	began time.Time
	found *glance // a look since then; nil: there was none
}

// suffers notes what an exchange has failed with.
func (g *guard) suffers(o *limiter.Outage) *limiter.Outage {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.outage = o
	return o
}

// well notes that an exchange was answered, in which a part was tried or, nil, was
// not. It returns what is to be told if Redis knew nothing of a key that it should
// have known; after an Outage that was told.
func (g *guard) well(where string, tried *part, lost bool) error {
	now := time.Now()
	g.mu.Lock()
	had, last := g.outage, g.answered
	g.outage, g.answered = nil, now
	g.mu.Unlock()
	if had != nil || tried != nil {
		g.restored(where, tried, had)
	}
	if had == nil && lost && now.Sub(last) < forgets {
		return g.forgot(g.key(), last, now)
	}
	return nil
}

// look looks at the part that has the key, unless that is being done, or was done
// since the time given.
func (g *guard) look(where string, since time.Time) *glance {
	g.health.mu.Lock()
	defer g.health.mu.Unlock()
	if l := g.looks[where]; l != nil && !l.began.Before(since) {
		return l
	}
	if g.looks == nil {
		g.looks = make(map[string]*glance)
	}
	l := &glance{began: time.Now(), done: make(chan struct{})}
	g.looks[where] = l
	go func() {
		defer close(l.done)
		ctx, cancel := context.WithTimeout(context.Background(), min(max(lookTime, 5*g.shared.Timeout), 10*lookTime))
		defer cancel()
		l.err = look(ctx, g.client, g.store)
	}()
	return l
}

// clear looks at a part that does not answer, and reports whether there is nothing
// wrong with it and time for an exchange left.
func (g *guard) clear(ctx context.Context, where string, p *part) bool {
	g.health.mu.Lock()
	looked := p.looked
	p.looked = false
	g.health.mu.Unlock()
	if looked {
		return true
	}
	var half <-chan time.Time
	if end, ok := ctx.Deadline(); ok {
		t := time.NewTimer(time.Until(end) / 2)
		defer t.Stop()
		half = t.C
	}
	found := g.look(where, time.Now())
	heed := func() bool {
		if found.err == nil {
			g.looked(where)
			return true
		}
		t, k := trouble(found.err, g.key(), g.failsOver())
		if o, fresh := g.fall(where, t, k&^unclear, true); fresh {
			o.Settle(t)
		}
		return false
	}
	select {
	case <-found.done:
		return heed()
	case <-half:
	case <-ctx.Done():
	}
	go func() {
		if <-found.done; heed() {
			g.postpone(p) // the next one has all the time that there is
		}
	}()
	return false
}

// ask makes the exchange. A part that is being tried was looked at already.
func (g *guard) ask(ctx context.Context, b share.Batch, trying bool) (r result) {
	r.began = time.Now()
	done := make(chan result, 1)
	go func() {
		reply, err := g.store.Exchange(ctx, b)
		done <- result{reply: reply, err: err}
	}()
	// Before it is given up, it is known what is wrong, if anything is.
	in := g.shared.Timeout * 3 / 4
	if end, ok := ctx.Deadline(); ok {
		in = min(in, time.Until(end)*3/4)
	}
	slow := time.NewTimer(in)
	defer slow.Stop()
	var found <-chan struct{}
	for {
		select {
		case x := <-done:
			r.reply, r.err = x.reply, x.err
			return r
		case <-slow.C:
			if where := g.where(g.key()); !trying && !g.seemsFine(where) {
				r.found = g.look(where, r.began)
				found = r.found.done
			}
		case <-found:
			if found = nil; noWay(r.found.err) {
				r.err = r.found.err // go-redis would find that out in its own time
				return r
			}
		case <-ctx.Done():
			r.err = ctx.Err()
			return r
		}
	}
}

// explain returns the Outage of an exchange that has failed, of a part that was being
// tried or not. While a look is under way its trouble is not settled.
func (g *guard) explain(ctx context.Context, r result, where string, tried bool) *limiter.Outage {
	t, k := trouble(r.err, g.key(), g.failsOver())
	if k&unclear != 0 && timeout(r.err) {
		t.What = fmt.Sprintf("unreachable: no answer within %v", g.shared.Timeout)
	}
	found := r.found
	switch {
	case k&unclear == 0:
		found = nil
	case tried: // and the look before it has found nothing wrong
		k |= single
	default:
		if found == nil {
			found = g.look(where, r.began)
		}
		select {
		case <-found.done:
			t, k = g.behind(where, found.err, t)
			found = nil
		case <-ctx.Done():
		}
	}
	o, fresh := g.fall(where, t, k, tried)
	switch {
	case !fresh:
	case found == nil:
		o.Settle(t)
	default:
		go func() {
			<-found.done
			t, k := g.behind(where, found.err, t)
			if k&single != 0 {
				g.narrow(where, o, t.What)
			}
			o.Settle(t)
		}()
	}
	return o
}

// behind returns the trouble that a look has found behind another one. If it has
// found none, the key has that trouble alone.
func (g *guard) behind(where string, found error, t limiter.Trouble) (limiter.Trouble, kind) {
	if found == nil {
		g.looked(where)
		return t, passing | single
	}
	t, k := trouble(found, g.key(), g.failsOver())
	return t, k &^ unclear
}
