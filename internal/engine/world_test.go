package engine

import (
	"fmt"
	"slices"
	"time"

	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/refill"
)

// A world is an engine at work: clients that send what it lets go, a server far
// away, and the model beside it. What happens is read from a string of bytes, so
// that a fuzzer can write it. The first thing that is wrong ends it.
type world struct {
	in   source
	log  []string
	e    *Engine
	m    *model
	name string

	mono, asleep, set time.Duration // our clock, how long the machine slept, how far its clock was set
	epoch, ahead      time.Duration // the wall clock at 0, how far the server's is ahead of that
	drift             float64       // of the server's clock
	sleeps            [][2]time.Duration
	leveled           int  // there are levels, in worlds with classes: 1, else 0
	exact             bool // every request costs what was estimated
	corrected         bool // a request has cost something else than it took
	hours, days       bool // there are limits of hours, of a day

	wake    time.Duration
	ticks   int           // at this very time
	seen    time.Duration // when the last event was
	places  uint64
	tickets []*ticket     // all of them
	busy    []*ticket     // let go, and not over
	old     []uint64      // places of requests that are over
	shut    time.Duration // nobody goes before
	bare    time.Duration // when the last refusal came that shut the key
	kind    bool          // the server refuses no more
}

// A wrong is a promise that was broken.
type wrong struct{ error }

func (w *world) fail(format string, args ...any) {
	panic(wrong{fmt.Errorf(format, args...)})
}

// A source is bytes that are used up; then they are 0.
type source struct{ data []byte }

func (s *source) next(n int) int {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return int(b) % n
}

func pick[T any](s *source, list ...T) T { return list[s.next(len(list))] }

// play runs a world until its bytes are used up, and then until all is over.
func play(data []byte) (w *world, err error) {
	w = &world{in: source{data}, mono: time.Hour, wake: refill.Never, shut: -1, bare: -1}
	defer func() {
		if x := recover(); x != nil {
			broken, ok := x.(wrong)
			if !ok {
				panic(x)
			}
			err = broken
		}
	}()
	w.begin()
	for n := 0; len(w.in.data) > 0 && n < 300; n++ {
		w.step()
	}
	w.finish()
	return w, nil
}

// begin sets up limits and clocks.
func (w *world) begin() {
	s := &w.in
	kind := s.next(8)
	classed := kind < 5 && s.next(3) == 1
	var list []refill.Limit
	for range 1 + s.next(3) {
		l := refill.Limit{
			Unit: pick(s, refill.Requests, refill.Tokens),
			Per:  pick(s, 10*time.Second, time.Minute, time.Second, time.Hour, refill.Day, 0),
			Rule: pick(s, refill.Window, refill.Calendar, refill.Steady, refill.Auto),
		}
		if classed {
			l.Unit = append(list, l)[0].Unit // one is the scarcest
		}
		if l.N = pick[int64](s, 2, 1, 3, 5, 10); l.Unit == refill.Tokens {
			l.N = pick[int64](s, 100, 1500, 20, 60)
		}
		switch {
		case l.Per == 0:
			l.Rule = refill.Auto
		case l.Rule == refill.Steady:
			l.Burst = pick(s, 0, 1, 2, l.N)
			l.Burst = min(l.Burst, l.N)
		}
		w.hours, w.days = w.hours || l.Per >= time.Hour, w.days || l.Per == refill.Day
		list = append(list, l)
	}
	w.epoch = 1_750_000_000*time.Second + pick(s, 0, 20*time.Second, 7*time.Hour)
	if !w.days { // its clock is ours until it has said otherwise
		w.ahead = pick(s, 0, 300*time.Millisecond, -41*time.Second, time.Hour)
		w.drift = pick(s, 0, 1.0/2500, -1.0/2500)
	}
	w.exact = s.next(2) == 0
	w.e = New(w.now(), Config{Limits: list, Seed: uint64(kind)})
	w.m = newModel(w.now().Wall-w.mono, list)
	w.m.blind = kind >= 5
	if classed {
		w.leveled = s.next(2)
		w.m.classes = &modelClasses{levels: make(map[int]bool)}
		w.m.classes.priced(list[0].Unit)
	}
	zone := pick(s, 0, -8)
	w.e.Zone(time.FixedZone("there", zone*3600))
	w.m.clock.zone = time.Duration(zone) * time.Hour
	w.note("limits %v, drift %v, ahead %v, refuses %v", list, w.drift, w.ahead, w.m.blind)
}

func (w *world) note(format string, args ...any) {
	w.name = fmt.Sprintf(format, args...)
	w.log = append(w.log, fmt.Sprintf("%12v  %s", w.mono-time.Hour, w.name))
}

func (w *world) now() Now {
	return Now{w.mono, w.epoch + w.mono + w.asleep + w.set}
}

// server returns what the server's clock shows at one of our times.
func (w *world) server(mono time.Duration) time.Duration {
	at := mono
	for _, s := range w.sleeps {
		if s[0] < mono {
			at += s[1]
		}
	}
	return w.epoch + w.ahead + at + time.Duration(float64(at-time.Hour)*w.drift)
}

// event has something happen at the current time.
func (w *world) event(came *ticket, f func(Now)) {
	w.m.at(w.mono, w.now().Wall)
	f(w.now())
	w.m.see()
	w.seen = w.mono
	w.follow(came, w.e.Decide())
	w.consistent()
}

// pass lets time pass, with a Tick whenever the engine wants one.
func (w *world) pass(d time.Duration) {
	for end := refill.After(w.mono, d); ; {
		if w.wake > end {
			w.mono, w.ticks = end, 0
			return
		}
		w.tick()
	}
}

func (w *world) tick() {
	if w.wake > w.mono {
		w.mono, w.ticks = w.wake, 0
	}
	if w.ticks++; w.ticks > 3 {
		w.fail("Tick at %v brings nothing", w.mono)
	}
	w.note("tick")
	w.event(nil, w.e.Tick)
}

// step has one thing happen.
func (w *world) step() {
	s := &w.in
	w.m.land(w.mono)
	switch s.next(20) {
	case 0, 1, 2, 3, 4:
		w.arrive()
	case 5, 6:
		w.pass(pick(s, time.Millisecond, 40*time.Millisecond, 300*time.Millisecond, time.Second, 2500*time.Millisecond, 7*time.Second))
	case 7:
		w.pass(pick(s, 20*time.Second, 61*time.Second, 10*time.Minute, time.Hour, 7*time.Hour, 25*time.Hour))
	case 8, 9:
		if w.wake < refill.Never {
			w.tick()
		}
	case 10:
		w.written()
	case 11, 12, 13:
		w.answer()
	case 14:
		w.settle()
	case 15:
		w.unanswered()
	case 16, 17:
		w.close()
	case 18:
		w.abandon()
	case 19:
		w.jump()
	}
}

func (w *world) arrive() {
	s := &w.in
	w.places++
	r := &Request{Place: w.places, Rule: refill.Window}
	r.Draw = estimate.Draw{Fixed: w.exact || w.m.classes != nil || s.next(2) == 0}
	r.Told = w.m.classes == nil || s.next(2) == 0
	r.Draw.Cost = refill.Cost{1, pick[int64](s, 10, 0, 1, 50, 400, 2000), 0}
	if w.m.blind { // a limit that is drained concerns everyone
		r.Draw.Cost[refill.Tokens] = max(r.Draw.Cost[refill.Tokens], 1)
	}
	switch s.next(8) {
	case 0:
		r.MaxWait = pick(s, -1, 5*time.Second, time.Minute, 100*time.Hour)
	case 1:
		r.Deadline = w.mono + pick(s, 3*time.Second, time.Minute, time.Hour)
	case 2:
		r.MaxQueue = pick(s, 1, 3)
	case 3, 4:
		if len(w.old) > 0 { // a retry
			i := s.next(len(w.old))
			r.Place = w.old[i]
			w.old = slices.Delete(w.old, i, i+1)
		}
	}
	w.class(r)
	t := &ticket{Request: r, came: w.mono, until: refill.Never}
	r.Owner = t
	if r.MaxWait != 0 {
		t.until = refill.After(w.mono, max(r.MaxWait, 0))
	}
	if r.Deadline > 0 {
		t.until = min(t.until, r.Deadline)
	}
	w.tickets = append(w.tickets, t)
	w.note("place %d of %+v arrives, cost %v fixed %v, waits %v until %v, at most %d", r.Place, r.whom(), r.Draw.Cost, r.Draw.Fixed, r.MaxWait, t.until-time.Hour, r.MaxQueue)
	w.event(t, func(now Now) { w.e.Arrive(now, r) })
}

// one returns one of those in flight that fit; nil: there is none.
func (w *world) one(fit func(*ticket) bool) *ticket {
	var list []*ticket
	for _, t := range w.busy {
		if fit(t) {
			list = append(list, t)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[w.in.next(len(list))]
}

// written has the base say how far a request is on its way.
func (w *world) written() {
	t := w.one(func(t *ticket) bool { return !t.heard })
	if t == nil {
		return
	}
	ours := t.spent == none && t.written != none
	if w.in.next(2) == 0 && (ours || t.failed || t.closed) {
		w.note("place %d is being prepared", t.Place)
		if !t.closed {
			t.written, t.arrival = none, [2]time.Duration{w.mono, refill.Never}
		}
		w.event(nil, func(now Now) { w.e.Unsent(now, t.Request) })
		return
	}
	// That may be told late, but before anything else is decided.
	at := max(t.let, w.seen, w.mono-pick(&w.in, 0, 0, 200*time.Millisecond, 3*time.Second))
	if t.written == none {
		at = max(at, t.arrival[0])
	} else if at > t.written+refill.Flight && !t.closed {
		return
	}
	w.note("place %d was written at %v", t.Place, at-time.Hour)
	if !t.failed && (!t.closed || t.spent == none) {
		if t.spent != none { // it counts as arrived, but has not
			w.m.vague = true
			w.refund()
		}
		t.written, t.spent, t.arrival = at, none, [2]time.Duration{at, at + refill.Flight}
	}
	w.event(nil, func(now Now) { w.e.Sent(now, at, t.Request) })
}

func (w *world) answer() {
	t := w.one(func(t *ticket) bool { return !t.heard && !t.closed })
	if t == nil {
		return
	}
	t.heard = true
	t.arrival[1] = min(t.arrival[1], w.mono)
	var a Answer
	if w.in.next(4) > 0 {
		at := w.mono // when the response was made
		if w.drift == 0 {
			at -= (at - t.arrival[0]) * time.Duration(w.in.next(5)) / 4
		}
		a.Date = w.server(at)
		a.Date -= a.Date % time.Second
	}
	a.Refused = w.m.blind && !w.kind && w.in.next(2) == 0
	w.note("place %d is answered, date %v", t.Place, a.Date)
	w.event(nil, func(now Now) {
		if a.Date > 0 {
			if err := w.m.clock.observe(t.let, w.mono, a.Date); err != nil {
				w.fail("%v", err)
			}
		}
		if t.spent == none {
			w.m.spend(t, w.mono)
		}
		if w.m.blind && !w.kind {
			a.Levels = w.levels()
		}
		w.e.Answered(now, t.Request, a)
	})
	if a.Refused {
		w.refuse(t)
	}
}

// settle says what a request has cost, which counts once.
func (w *world) settle() {
	t := w.one(func(t *ticket) bool { return t.heard })
	if t == nil {
		return
	}
	c := t.Draw.Cost
	if !w.exact {
		c[refill.Tokens] = pick(&w.in, c[refill.Tokens]/2, 0, c[refill.Tokens]*2, -1)
	}
	w.note("place %d has cost %v", t.Place, c)
	w.event(nil, func(now Now) {
		if !t.settled {
			w.correct(t, c)
		}
		w.e.Settled(now, t.Request, c)
	})
}

// correct has the model know what a request has cost.
func (w *world) correct(t *ticket, c refill.Cost) {
	for _, l := range w.m.limits {
		if n := c[l.Unit]; n >= 0 && n < l.draws(t.cost) {
			l.refunded = true
		}
		w.corrected = w.corrected || c[l.Unit] != l.draws(t.cost)
	}
	t.settled, t.actual, t.corrected = true, c, w.mono
	w.m.costs.Learn(t.Draw, c)
}

// unanswered ends a request without a response.
func (w *world) unanswered() {
	t := w.one(func(t *ticket) bool { return !t.heard && !t.closed })
	if t == nil {
		return
	}
	reached := w.in.next(2) == 0
	w.note("place %d fails, reached %v", t.Place, reached)
	t.closed = true
	switch {
	case t.spent != none:
	case !reached:
		t.failed, t.arrival[0] = true, none
		w.refund()
	case t.written == none:
		t.written, t.arrival = w.mono, [2]time.Duration{w.mono, w.mono + refill.Flight}
	}
	w.event(nil, func(now Now) { w.e.Failed(now, t.Request, reached) })
	w.old = append(w.old, t.Place)
}

// refund says that tokens are back which may have come back anyway.
func (w *world) refund() {
	for _, l := range w.m.limits {
		l.refunded = true
	}
}

func (w *world) close() {
	t := w.one(func(t *ticket) bool { return t.heard })
	if t == nil {
		return
	}
	w.note("place %d is closed", t.Place)
	again := t.closed
	t.closed = true
	w.event(nil, func(now Now) { w.e.Closed(now, t.Request) })
	if again || w.in.next(2) == 0 {
		w.busy = slices.Delete(w.busy, slices.Index(w.busy, t), slices.Index(w.busy, t)+1)
		w.old = append(w.old, t.Place)
	}
}

// abandon has the context of one that waits end.
func (w *world) abandon() {
	var list []*ticket
	for _, t := range w.tickets {
		if t.Waiting() {
			list = append(list, t)
		}
	}
	if len(list) > 0 {
		t := list[w.in.next(len(list))]
		w.note("place %d leaves", t.Place)
		w.event(nil, func(now Now) {
			t.left = w.m.leave(t)
			if !w.e.Leave(now, t.Request) {
				w.fail("place %d was not in the queue", t.Place)
			}
		})
	}
}

// jump has the machine sleep, or somebody set its clock.
func (w *world) jump() {
	if d := pick(&w.in, -2*time.Hour, 25*time.Second, -5*time.Second, 3*time.Hour); w.in.next(2) == 0 {
		d = d.Abs()
		w.note("the machine sleeps for %v", d)
		w.sleeps = append(w.sleeps, [2]time.Duration{w.mono, d})
		w.asleep += d
		w.mono++ // what happens now happens after it
	} else if !w.days && (d < 0 || !w.hours) {
		w.note("the clock is set by %v", d)
		w.set += d
	}
	w.m.vague = w.m.vague || w.hours
	w.event(nil, w.e.Tick)
}
