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

// Exchange implements limiter.Store.
func (g *guard) Exchange(ctx context.Context, b share.Batch) (share.Reply, error) {
	where := ""
	if g.down.Load() > 0 {
		where = g.where(ctx, g.store.keys[0])
	}
	p, try := g.enter(where)
	if p != nil && (!try || !g.clear(ctx, where, p)) {
		return share.Reply{}, g.suffers(g.current(p))
	}
	r, err, found := g.ask(ctx, b, where, p != nil)
	if err != nil {
		return share.Reply{}, g.suffers(g.explain(ctx, err, found))
	}
	r.Notice = g.well(where, r.Lost)
	return r, nil
}

// suffers notes what an exchange has failed with.
func (g *guard) suffers(o *limiter.Outage) *limiter.Outage {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.outage = o
	return o
}

// well notes that an exchange was answered. It returns what is to be told if Redis
// knew nothing of a key that it should have known; after an Outage that was told.
func (g *guard) well(where string, lost bool) error {
	now := time.Now()
	g.mu.Lock()
	had, last := g.outage, g.answered
	g.outage, g.answered = nil, now
	g.mu.Unlock()
	if had != nil || g.down.Load() > 0 {
		g.restored(where, had)
	}
	if had == nil && lost && now.Sub(last) < forgets {
		return g.forgot(g.store.keys[0], now)
	}
	return nil
}

// look looks at the server that has the key.
func (g *guard) look() <-chan error {
	found := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), min(max(lookTime, 5*g.shared.Timeout), 10*lookTime))
		defer cancel()
		found <- look(ctx, g.client, g.store)
	}()
	return found
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
	found := g.look()
	heed := func(err error) bool {
		if err == nil {
			return true
		}
		t, k := trouble(err, g.store.keys[0], g.failsOver())
		if o, fresh := g.fall(where, t, k&^unclear); fresh {
			o.Settle(t)
		}
		return false
	}
	select {
	case err := <-found:
		return heed(err)
	case <-half:
	case <-ctx.Done():
	}
	go func() {
		if heed(<-found) {
			g.looked(where, p) // the next one has all the time that there is
		}
	}()
	return false
}

// ask makes the exchange. found has what a look says that was begun since the
// exchange took long, or its error leaves open what is wrong; nil: there was none.
// A part that is being tried was looked at already.
func (g *guard) ask(ctx context.Context, b share.Batch, where string, trying bool) (r share.Reply, err error, found <-chan error) {
	type result struct {
		reply share.Reply
		err   error
	}
	done := make(chan result, 1)
	go func() {
		r, err := g.store.Exchange(ctx, b)
		done <- result{r, err}
	}()
	var slow <-chan time.Time
	if end, ok := ctx.Deadline(); ok && !trying {
		t := time.NewTimer(time.Until(end) * 3 / 4)
		defer t.Stop()
		slow = t.C
	}
	for {
		select {
		case x := <-done:
			if x.err != nil && !trying && found == nil {
				if _, k := trouble(x.err, "", false); k&unclear != 0 {
					found = g.look()
				}
			}
			return x.reply, x.err, found
		case <-slow:
			if !g.seemsFine(where) {
				found = g.look()
			}
		case <-ctx.Done():
			return share.Reply{}, ctx.Err(), found
		}
	}
}

// explain returns the Outage of an exchange that has failed. While a look is under
// way its trouble is not settled.
func (g *guard) explain(ctx context.Context, err error, found <-chan error) *limiter.Outage {
	where := g.where(ctx, g.store.keys[0])
	t, k := trouble(err, g.store.keys[0], g.failsOver())
	if k&unclear != 0 && timeout(err) {
		t.What = fmt.Sprintf("unreachable: no answer within %v", g.shared.Timeout)
	}
	switch {
	case k&unclear == 0:
		found = nil
	case found == nil && g.seemsFine(where):
		k |= single
	case found != nil:
		select {
		case err := <-found:
			t, k = g.behind(where, err, t)
			found = nil
		case <-ctx.Done():
		}
	}
	o, fresh := g.fall(where, t, k)
	switch {
	case !fresh:
	case found == nil:
		o.Settle(t)
	default:
		go func() {
			t, k := g.behind(where, <-found, t)
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
		g.looked(where, nil)
		return t, passing | single
	}
	t, k := trouble(found, g.store.keys[0], g.failsOver())
	return t, k &^ unclear
}
