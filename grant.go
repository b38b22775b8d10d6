package tollgate

import (
	"time"

	"example.com/tollgate/provider"
)

const (
	// flight is the longest that a request is taken to be on its way: from
	// then on it has been counted by the server, answered or not.
	flight = time.Second
	// drift is how far two clocks may run apart: as much as NTP slews.
	drift = 1.0 / 2000
)

// A grant is its place in line as well, so that a request is one allocation.
type grant struct {
	waiter
	gate   *gate
	asked  cost          // before it was corrected
	fixed  bool          // needs no correction
	err    error         // why it was turned away
	due    Reason        // what the time at which it gives up stands for
	state  state         // how far it has come
	let    time.Duration // when it was let through
	taken  time.Duration // when its tokens were taken, by the store's clock; 0: they are this process's
	sent   time.Duration // when it was written
	spent  time.Duration // when its tokens were
	pools  int           // how many there were when it was let through
	refill Refill        // the rule for limits that the server states
	slow   bool          // counts as in flight while the gate opens slowly
	closed bool          // no longer in flight at all
	final  bool          // its cost is settled
	deemed bool          // arrived, for all that is known: its flight was over
	denied bool          // the response was a refusal
	stays  bool          // waits for a limit of a day too

	before, after *grant // among those on their way
}

type state uint8

const (
	held     state = iota // let through
	onTheWay              // written
	arrived               // at the server: its tokens are spent
	over                  // will never be: its tokens are back
)

// admit takes the tokens of w.
func (g *gate) admit(t time.Duration, w *grant) {
	w.let, w.pools = t, len(g.pools)
	g.inFlight++
	for i := range g.pools {
		p := &g.pools[i]
		if n := p.share(w.cost); n > 0 {
			p.take(t, n)
			p.counts(t, n)
		}
	}
	w.slow = g.pause.admit(t)
	g.coming += w.cost[Requests]
}

// arrive counts the tokens of w as spent at the given time.
func (g *gate) arrive(at time.Duration, w *grant) {
	if w.state >= arrived {
		return
	}
	g.unlink(w)
	w.state, w.spent = arrived, at
	g.coming -= w.cost[Requests]
	if g.past != nil {
		g.past.add(at, w.cost[Requests])
	}
	for i := range g.pools[:w.pools] {
		if n := g.pools[i].share(w.cost); n > 0 {
			g.pools[i].spend(at, n)
		}
	}
	g.share.each(g, now(), w, Spent, at)
	g.land(w)
}

// land ends the part of w in the slow start.
func (g *gate) land(w *grant) {
	if w.slow {
		w.slow = false
		g.pause.land()
	}
}

// unlink takes w from those on their way.
func (g *gate) unlink(w *grant) {
	if w.state != onTheWay {
		return
	}
	if w.before == nil {
		g.first = w.after
	} else {
		w.before.after = w.after
	}
	if w.after == nil {
		g.last = w.before
	} else {
		w.after.before = w.before
	}
	w.before, w.after, w.state = nil, nil, held
}

// link puts w last among those on their way.
func (g *gate) link(t time.Duration, w *grant) {
	w.state, w.sent = onTheWay, t
	w.before, g.last = g.last, w
	if w.before == nil {
		g.first = w
	} else {
		w.before.after = w
	}
}

func (w *grant) Sent() {
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.now()
	g.recall(t, w)
	if w.state < arrived {
		g.link(t, w)
		g.serve(t)
	}
}

func (w *grant) Unsent() {
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.recall(g.now(), w)
}

// recall has w not on its way yet, whatever was thought. It may have been
// something else that was written, such as what fetches credentials.
func (g *gate) recall(t time.Duration, w *grant) {
	g.unlink(w)
	if !w.deemed {
		return
	}
	w.state, w.deemed = held, false
	g.coming += w.cost[Requests]
	for i := range g.pools[:w.pools] {
		if n := g.pools[i].share(w.cost); n > 0 {
			g.pools[i].settle(t, w.spent, -n)
			g.pools[i].take(t, n)
		}
	}
}

func (w *grant) Answered(status int, date time.Time, levels []provider.Level) (learned []Change) {
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.now()
	if !date.IsZero() {
		g.clock.observe(w.let, t, date)
		g.share.report(g, t, Report{Event: Clock, Taken: w.taken, Ago: t, Date: date}, false)
	}
	g.arrive(t, w)
	w.deemed = false
	if len(levels) > 0 {
		learned = g.heed(t, w, levels)
	}
	if w.denied = refusing(status); !w.denied {
		g.pause.accepted(w.let)
	}
	if learned = g.tell(learned); learned != nil {
		g.putOff(t)
	}
	g.serve(t)
	return learned
}

func (w *grant) Failed(reached bool) {
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fail(g.now(), w, reached)
}

// fail ends a grant that gets no response. If it was given up on its way, it may
// still arrive.
func (g *gate) fail(t time.Duration, w *grant, reached bool) {
	w.deemed = false
	if reached && w.state == held {
		g.link(t, w)
	} else if !reached && w.state < arrived {
		g.unlink(w)
		w.state = over
		g.coming -= w.cost[Requests]
		for i := range g.pools[:w.pools] {
			if n := g.pools[i].share(w.cost); n > 0 {
				g.pools[i].put(n)
				g.pools[i].counts(w.let, -n)
				g.rebook(t, w, &g.pools[i], -n)
			}
		}
		g.share.each(g, t, w, Unspent, t)
		g.land(w)
	}
	g.close(w)
	g.serve(t)
}

func (w *grant) Settle(c provider.Cost) {
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.now()
	if w.final || w.state != arrived {
		return
	}
	w.final = true
	for i := range g.pools[:w.pools] {
		p := &g.pools[i]
		if n := c[p.limit.Unit]; n >= 0 && p.limit.Per > 0 {
			if more := n - p.share(w.cost); more != 0 {
				p.settle(t, w.spent, more)
				g.share.report(g, t, Report{Event: Settled, Limit: i, N: more, Ago: w.spent}, more > p.limit.N/4)
				g.rebook(t, w, p, more)
			}
		}
	}
	if g.gauge.learn(w.asked, w.fixed, c) {
		g.correct()
	}
	g.serve(t)
}

// correct estimates the cost of all in line again.
func (g *gate) correct() {
	g.line.sum = cost{}
	for w := g.line.head; w != nil; w = w.next {
		w.cost = g.gauge.correct(w.grant.asked, w.grant.fixed)
		g.line.sum.Add(w.cost)
	}
}

func (w *grant) Done() {
	g := w.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.close(w)
	g.serve(g.now())
}

// close ends a request, and gives back the tokens that it held all the while.
func (g *gate) close(w *grant) {
	if w.closed {
		return
	}
	w.closed = true
	g.inFlight--
	if w.state == over {
		return
	}
	for i := range g.pools[:w.pools] {
		if p := &g.pools[i]; p.limit.Per == 0 {
			p.put(p.share(w.cost))
			g.share.freed(g)
		}
	}
}
