package redislimit

import (
	"container/heap"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
	"example.com/tollgate/redislimit/internal/redistest"
)

var (
	simSteps = flag.Int("sim.steps", 60_000, "how many steps the simulation takes")
	simLog   = flag.Bool("sim.log", false, "all that happens is kept, and shown of a world that goes wrong")
	simSeed  = flag.Uint64("sim.seed", 1, "of its first world")
)

// A world is many engines that share a quota through the script, which runs in a real
// Redis at a time that the world says. Messages are lost, repeated, delayed and
// overtake each other; what else may happen is in its faults.
type world struct {
	*rand.Rand
	t       *testing.T
	seed    uint64
	client  *redis.Client
	limits  []refill.Limit
	on      share.OnError
	faults  faults
	now     time.Duration
	skew    time.Duration // of Redis's clock
	events  events
	order   uint64
	steps   int
	peers   []*simPeer
	place   uint64
	open    int // requests that have come to no end
	sent    int
	traded  int                                 // exchanges begun
	arrived [refill.Units][]arrival             // at the server
	held    map[time.Duration]int               // by when: how many more are in flight
	priced  []struct{ at, until time.Duration } // faults that have a price
	calm    bool                                // nothing more goes wrong
	answer  time.Duration                       // all are answered after so long; 0: at random
	log     []string
}

type faults struct{ lose, empty, kill, stop, step bool }

type arrival struct {
	at time.Duration
	n  int64
}

type event struct {
	at    time.Duration
	order uint64
	f     func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (w *world) after(d time.Duration, f func()) {
	w.order++
	heap.Push(&w.events, event{w.now + d, w.order, f})
}

func (w *world) span(most time.Duration) time.Duration {
	return time.Duration(w.Int64N(int64(most) + 1))
}

func (w *world) note(format string, args ...any) {
	if w.log = append(w.log, fmt.Sprintf("%12v  "+format, append([]any{w.now}, args...)...)); len(w.log) > 400 && !*simLog {
		w.log = w.log[200:]
	}
}

// price says that a fault has a price from now on: one quota more for as long as
// that is seen.
func (w *world) price(what string) {
	w.note("%s", what)
	most := time.Duration(0)
	for _, l := range w.limits {
		most = max(most, l.Per)
	}
	w.priced = append(w.priced, struct{ at, until time.Duration }{w.now, w.now + 2*most + 3*share.Lease})
}

// A simPeer is one process.
type simPeer struct {
	w       *world
	id      int
	store   *store
	e       *engine.Engine
	base    time.Duration // of its clock
	stopped time.Duration // until then it stands still
	dead    bool
	call    int // of its exchange
	wakes   int
	flying  map[*simRequest]bool
}

type simRequest struct {
	engine.Request
	cost refill.Cost
	slot bool
}

func (w *world) join() {
	p := &simPeer{w: w, id: len(w.peers), store: newStore(w.client, "sim:", fmt.Sprint(w.seed)), base: time.Hour + w.span(time.Hour), flying: make(map[*simRequest]bool)}
	p.store.id = fmt.Sprint("p", w.Uint32())
	p.store.now = func() int64 { return (1_700_000_000*time.Second + w.now + w.skew).Microseconds() }
	c := engine.Config{Limits: w.limits, Seed: w.Uint64(), Shared: &engine.Shared{OnError: w.on, Instances: 4, Timeout: 200 * time.Millisecond}}
	p.e = engine.New(p.time(), c)
	w.peers = append(w.peers, p)
}

func (p *simPeer) time() engine.Now {
	return engine.Now{Mono: p.base + p.w.now, Wall: 1_700_000_000*time.Second + p.w.now}
}

// do has something happen to a process, later if it stands still.
func (p *simPeer) do(f func(now engine.Now)) {
	switch {
	case p.dead:
	case p.stopped > p.w.now:
		p.w.after(p.stopped-p.w.now, func() { p.do(f) })
	default:
		p.w.steps++
		f(p.time())
		p.follow()
	}
}

func (p *simPeer) follow() {
	w := p.w
	d := p.e.Decide()
	for _, r := range d.Go {
		p.send(r.Owner.(*simRequest))
	}
	for _, r := range d.Reject {
		w.open--
		delete(p.flying, r.Owner.(*simRequest))
	}
	if d.Exchange {
		p.exchange(p.e.Exchange())
	}
	p.wakes++
	wakes := p.wakes
	for i, f := range []func(engine.Now){p.e.Tick, p.e.Tell} {
		if at := []time.Duration{d.WakeAt, d.TellAt}[i]; at != refill.Never {
			w.after(max(at-p.base-w.now, 0)+time.Microsecond, func() {
				if p.wakes == wakes {
					p.do(f)
				}
			})
		}
	}
}

// exchange carries a batch to Redis and the reply back, or loses either.
func (p *simPeer) exchange(b share.Batch) {
	w := p.w
	w.traded++
	p.call++
	call := p.call
	far := 2 * time.Millisecond
	if w.seed%3 == 0 {
		far = 60 * time.Millisecond
	} else if w.answer > 0 {
		far = 200 * time.Microsecond
	}
	end := func(f func(engine.Now)) {
		p.do(func(now engine.Now) {
			if p.call == call {
				p.call++
				f(now)
			}
		})
	}
	deliver := func(there, back time.Duration, lost bool) {
		w.after(there, func() {
			w.steps++
			r, err := p.store.Exchange(context.Background(), b)
			p.see("exchange %d: %+v: %+v", b.Seq, b, r)
			if err != nil {
				w.t.Fatalf("seed %d: %v", w.seed, err)
			}
			if !lost {
				w.after(back, func() { end(func(now engine.Now) { p.e.Replied(now, r) }) })
			}
		})
	}
	bad := w.faults.lose && !w.calm
	switch n := w.IntN(20); {
	case bad && n == 0: // it never comes
	case bad && n == 1:
		deliver(w.span(far), 0, true)
	case bad && n == 2: // twice
		deliver(w.span(far), w.span(far), false)
		deliver(w.span(3*time.Second), w.span(far), false)
	case bad && n == 3: // overtaken by the next ones
		deliver(w.span(4*time.Second), w.span(far), false)
	default:
		deliver(w.span(far), w.span(far), false)
	}
	w.after(time.Second, func() { end(p.e.Unanswered) })
}

// arrive has a request come to a process.
func (w *world) arrive() {
	p := w.peers[w.IntN(len(w.peers))]
	for p.dead || w.IntN(3) > 0 && p.id > 2 { // some have more to do than others
		p = w.peers[w.IntN(len(w.peers))]
	}
	p.arrive(refill.Cost{1, 1 + w.Int64N(40), 0})
}

func (p *simPeer) arrive(c refill.Cost) {
	p.w.place++
	r := &simRequest{cost: c}
	r.Place, r.Owner = p.w.place, r
	r.Draw = estimate.Draw{Cost: c, Fixed: true}
	p.w.open++
	p.flying[r] = true
	p.do(func(now engine.Now) {
		p.e.Arrive(now, &r.Request)
		if r.Going() { // at once, without a store
			p.send(r)
		}
	})
}

// send has a request go to the server, which counts it some time after it was
// written, and answers.
func (p *simPeer) send(r *simRequest) {
	w := p.w
	if r.slot {
		return
	}
	r.slot = true
	p.see("sends place %d", r.Place)
	w.held[w.now]++
	w.sent++
	late := time.Duration(0)
	if w.answer == 0 && w.IntN(10) == 0 { // it is being prepared for long
		late = w.span(6 * time.Second)
		if w.faults.lose && w.limits[0].Per == time.Second { // see "What is promised"
			late = w.span(600 * time.Millisecond)
		}
		w.after(0, func() { p.do(func(now engine.Now) { p.e.Unsent(now, &r.Request) }) })
	}
	w.after(late, func() {
		if p.dead {
			return
		}
		p.do(func(now engine.Now) {
			if late > 0 {
				p.e.Sent(now, now.Mono, &r.Request)
			}
			p.written(r)
		})
	})
}

func (p *simPeer) written(r *simRequest) {
	w := p.w
	if w.answer > 0 {
		w.after(w.answer, func() {
			w.held[w.now]--
			p.do(func(now engine.Now) { p.e.Answered(now, &r.Request, engine.Answer{}) })
			p.do(func(now engine.Now) { p.e.Closed(now, &r.Request); p.over(r) })
		})
		return
	}
	if w.IntN(20) == 0 { // it was given up before
		w.held[w.now]--
		w.after(0, func() { p.do(func(now engine.Now) { p.e.Failed(now, &r.Request, false); p.over(r) }) })
		return
	}
	there := w.span(900 * time.Millisecond)
	w.after(there, func() {
		for u := range w.arrived {
			w.arrived[u] = append(w.arrived[u], arrival{w.now, r.cost[u]})
		}
	})
	answer := there + w.span(300*time.Millisecond)
	if w.IntN(10) == 0 {
		answer += w.span(15 * time.Second)
	}
	w.after(answer, func() {
		p.do(func(now engine.Now) { p.e.Answered(now, &r.Request, engine.Answer{}) })
		w.after(w.span(time.Second), func() {
			if !p.dead {
				p.see("closes place %d", r.Place)
				w.held[w.now]--
			}
			p.do(func(now engine.Now) { p.e.Closed(now, &r.Request); p.over(r) })
		})
	})
}

// see notes something where all is kept.
func (p *simPeer) see(format string, args ...any) {
	if *simLog {
		p.w.note("%d: "+format, append([]any{p.id}, args...)...)
	}
}

func (p *simPeer) over(r *simRequest) {
	p.w.open--
	delete(p.flying, r)
}

// fault has something go wrong.
func (w *world) fault() {
	p := w.peers[w.IntN(len(w.peers))]
	switch n := w.IntN(8); {
	case n == 0 && w.faults.empty:
		w.price("the store is emptied")
		w.client.Del(context.Background(), w.client.Keys(context.Background(), "sim:{"+fmt.Sprint(w.seed)+"}*").Val()...)
	case n == 1 && w.faults.kill && !p.dead:
		w.note("process %d dies", p.id)
		p.dead = true
		w.open -= len(p.flying)
		for r := range p.flying {
			if r.slot {
				w.held[w.now]-- // the server notices
			}
		}
		w.join()
	case n == 2 && w.faults.stop && !p.dead:
		p.stopped = w.now + w.span(20*time.Second)
		w.price(fmt.Sprintf("process %d stands still until %v", p.id, p.stopped))
	case n == 3 && w.faults.step:
		w.skew += []time.Duration{15 * time.Second, -5 * time.Minute, -time.Second, time.Second}[w.IntN(4)]
		w.price(fmt.Sprintf("Redis's clock is off by %v", w.skew))
	}
}

// run plays a world until it has taken enough steps, and then until all requests
// have come to an end.
func (w *world) run(steps int) {
	for range 4 + w.IntN(8) {
		w.join()
	}
	every := w.limits[0].Per / time.Duration(w.limits[0].N) // a request that the quota allows
	if every == 0 {
		every = time.Second / time.Duration(w.limits[0].N)
	}
	every = every * time.Duration(5+w.IntN(10)) / 10
	for w.steps < steps {
		if w.open < 50 {
			w.arrive()
		}
		if w.IntN(200) == 0 {
			w.fault()
		}
		w.until(func() bool { return false }, w.now+w.span(2*every))
	}
	w.calm = true
	began, traded := w.now, w.traded
	w.until(func() bool { return w.open == 0 }, w.now+3*time.Hour)
	if w.open > 0 {
		w.fail("%d requests wait for ever", w.open)
	}
	if n := w.traded - traded; n > 2000+int(400*(w.now-began).Seconds()) {
		w.fail("%d exchanges in %v", n, w.now-began)
	}
	w.check()
}

func (w *world) until(done func() bool, end time.Duration) {
	for len(w.events) > 0 && w.events[0].at <= end && !done() {
		e := heap.Pop(&w.events).(event)
		w.now = max(w.now, e.at)
		e.f()
	}
	if !done() {
		w.now = max(w.now, end)
	}
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	if !*simLog {
		w.log = w.log[max(0, len(w.log)-60):]
	}
	for _, line := range w.log {
		w.t.Log(line)
	}
	w.t.Errorf("seed %d, %v, faults %+v, on error %v: %s", w.seed, w.limits, w.faults, w.on, fmt.Sprintf(format, args...))
}

// allowed returns how many quotas may be used in a span, by the price of faults.
func (w *world) allowed(from, to time.Duration) (n int64) {
	n = 1
	for _, p := range w.priced {
		if p.at <= to && p.until >= from {
			n++
		}
	}
	return n
}

// check sees that the server would have refused nothing but for what faults cost.
func (w *world) check() {
	for _, l := range w.limits {
		if l.Per == 0 {
			w.checkSlots(l)
			continue
		}
		list := w.arrived[l.Unit]
		slices.SortStableFunc(list, func(a, b arrival) int { return int(a.at - b.at) })
		if l.Rule == refill.Steady {
			w.checkBucket(l, list)
			continue
		}
		first, sum := 0, int64(0)
		for _, a := range list {
			sum += min(a.n, l.N)
			for list[first].at <= a.at-l.Per {
				sum -= min(list[first].n, l.N)
				first++
			}
			if most := l.N * w.allowed(list[first].at, a.at); sum > most {
				w.fail("%d of %+v in %v at %v, want %d at most", sum, l, l.Per, a.at, most)
				return
			}
		}
	}
}

// checkBucket plays a server that has a token bucket.
func (w *world) checkBucket(l refill.Limit, list []arrival) {
	level, last := float64(l.N), time.Duration(0)
	for _, a := range list {
		level = min(float64(l.N), level+float64(a.at-last)*float64(l.N)/float64(l.Per)) - float64(min(a.n, l.N))
		last = a.at
		if least := -float64(l.N * (w.allowed(a.at-l.Per, a.at) - 1)); level < least-0.01 {
			w.fail("%.2f of %+v left at %v, want %.0f at least", level, l, a.at, least)
			return
		}
	}
}

func (w *world) checkSlots(l refill.Limit) {
	var times []time.Duration
	for at := range w.held {
		times = append(times, at)
	}
	slices.Sort(times)
	n := int64(0)
	for _, at := range times {
		n += int64(w.held[at])
		if most := l.N * w.allowed(at, at); n > most {
			w.fail("%d at once of %+v at %v, want %d at most", n, l, at, most)
			return
		}
	}
}

// Whatever happens to messages, processes and Redis, no more is used of a quota
// than there is, but for the price that the package's documentation names, nobody
// waits for ever, and nobody asks without end.
func TestSimulation(t *testing.T) {
	client := redistest.Start(t).Client()
	t.Cleanup(func() { client.Close() })
	quotas := [][]refill.Limit{
		{{N: 20, Per: 10 * time.Second, Rule: refill.Window}},
		{{N: 5, Per: time.Second, Rule: refill.Window}, {N: 100, Per: time.Minute, Rule: refill.Window}},
		{{N: 30, Per: 5 * time.Second, Rule: refill.Steady, Burst: 1}},
		{{N: 40, Per: 10 * time.Second, Rule: refill.Steady}, {Unit: refill.Tokens, N: 500, Per: 10 * time.Second, Rule: refill.Steady, Burst: 20}},
		{{N: 6}},
		{{N: 8}, {N: 60, Per: 10 * time.Second, Rule: refill.Window}, {Unit: refill.Tokens, N: 1000, Per: 10 * time.Second, Rule: refill.Window}},
	}
	steps, sent, traded, seed := 0, 0, 0, *simSeed
	for ; steps < *simSteps; seed++ {
		w := &world{Rand: rand.New(rand.NewPCG(seed, 2)), t: t, seed: seed, client: client, held: make(map[time.Duration]int)}
		w.limits = quotas[w.IntN(len(quotas))]
		w.on = share.FailClosed // nothing goes that the store has not granted
		w.faults = faults{lose: w.IntN(4) > 0, empty: w.IntN(3) == 0, kill: w.IntN(3) == 0, stop: w.IntN(3) == 0, step: w.IntN(3) == 0}
		w.run(10_000)
		steps, sent, traded = steps+w.steps, sent+w.sent, traded+w.traded
		if t.Failed() {
			return
		}
		client.FlushAll(context.Background())
	}
	t.Logf("%d worlds, %d steps, %d requests sent, %d exchanges", seed-*simSeed, steps, sent, traded)
}
