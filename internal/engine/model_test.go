package engine

import (
	"fmt"
	"slices"
	"time"

	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/queue"
	"example.com/tollgate/internal/refill"
)

// A model is an engine that is slow and obviously right. It keeps every request
// for ever and adds up from scratch what each has taken, whenever it is asked. It
// foresees when requests go as long as none is refused.
//
// Where the engine may choose, the model has two answers. The strict one is the
// earliest that is safe: the engine must not let a request go before. The lax one
// is the latest that is allowed: by then the request must have gone.
type model struct {
	limits  []*modelLimit
	clock   modelClock
	costs   estimate.Estimator
	now     time.Duration
	queue   []*ticket     // who waits, in order
	gone    []*ticket     // who was let go, in order
	last    time.Duration // when tokens were last spent
	lastDay time.Duration // the end of the last day in which some were
	vague   bool          // the engine has had to make up for something: it may be later than the lax answer
	blind   bool          // requests are refused: only the order is foreseen
	classes *modelClasses // nil: requests have no classes
}

// A ticket is what the model knows of one request.
type ticket struct {
	*Request
	came      time.Duration
	until     time.Duration // when it is turned away, refill.Never: never
	cost      refill.Cost   // when it was let go
	let       time.Duration
	written   time.Duration // when it was written; none: it is being prepared
	spent     time.Duration // when its tokens were; none: they are on their way
	late      time.Duration // the same, as the engine may have it
	closed    bool
	left      bool          // the queue
	overslept time.Duration // the longest sleep while it waited
	asleep    time.Duration // how long the machine slept since they were spent
	failed    bool          // it never reached the server
	heard     bool          // it was answered
	settled   bool
	actual    refill.Cost
	corrected time.Duration    // when that was known
	days      []time.Duration  // by limit, the end of the server's day in which it was spent
	back      []bool           // by limit, its tokens were seen to be back
	arrival   [2]time.Duration // the server counts it between these
	shadow    queue.Waiter[*ticket]
}

const none time.Duration = -1

// A modelLimit is one limit as the model has it.
type modelLimit struct {
	refill.Limit
	i          int
	per, grain time.Duration
	refunded   bool // Steady gave tokens back: how many is only known roughly
}

func newModel(local time.Duration, list []refill.Limit) *model {
	m := &model{clock: modelClock{lo: local, hi: local, local: local}}
	for i, l := range list {
		x := &modelLimit{Limit: l, i: i, per: l.Per + time.Duration(float64(l.Per)/2000)}
		if l.N > 1024 && l.Rule != refill.Steady {
			x.grain = x.per/1024 + 1
		}
		m.limits = append(m.limits, x)
	}
	return m
}

// at lets time pass.
func (m *model) at(now, wall time.Duration) {
	if jump := m.clock.wall(now, wall); jump > 0 {
		for _, t := range m.queue {
			t.overslept = max(t.overslept, jump)
		}
		for _, t := range m.gone {
			if t.spent != none {
				t.asleep += jump
			}
		}
	}
	m.land(now)
	m.see()
}

// see notes whose tokens are back: they stay so, even if the clock is in doubt later.
func (m *model) see() {
	for _, t := range m.gone {
		for _, l := range m.limits {
			t.back[l.i] = t.back[l.i] || m.returns(l, t, true, false) <= m.now
		}
	}
}

// land has those arrive who were written a second ago.
func (m *model) land(now time.Duration) {
	m.now = now
	due := slices.Clone(m.gone)
	slices.SortStableFunc(due, func(a, b *ticket) int { return int(a.written - b.written) })
	for _, t := range due {
		if t.spent == none && !t.failed && t.written != none && t.written+refill.Flight <= now {
			m.spend(t, t.written+refill.Flight)
		}
	}
}

func (m *model) spend(t *ticket, at time.Duration) {
	m.vague = m.vague || at < m.last
	m.last = max(m.last, at)
	t.spent, t.late = at, m.last
	for _, l := range m.limits {
		t.days[l.i] = m.clock.dayEnd(at)
		m.lastDay = max(m.lastDay, t.days[l.i])
	}
}

// draws returns how many tokens of a limit a request takes that costs c.
func (l *modelLimit) draws(c refill.Cost) int64 { return min(c[l.Unit], max(l.N, 1)) }

// charged returns how many tokens of a limit a request is charged by now.
func (l *modelLimit) charged(t *ticket) int64 {
	taken := l.draws(t.cost)
	if n := t.actual[l.Unit]; t.settled && n >= 0 && l.Per > 0 {
		hour := l.N // what comes back in one; a day's limit owes no more than a day
		if l.Per < time.Hour {
			hour = int64(float64(l.N) * (float64(time.Hour) / float64(l.Per)))
		}
		return min(n, taken+hour)
	}
	return taken
}

// returns says when the tokens of a request are back: refill.Never, as long as
// that is not known. ahead has it reckon with those on their way.
func (m *model) returns(l *modelLimit, t *ticket, strict, ahead bool) time.Duration {
	at, end := t.spent, t.days[l.i]
	if !strict && at != none {
		at = t.late
	}
	if ahead && at == none && t.written != none {
		at = t.written + refill.Flight
		end = max(m.clock.dayEnd(at), m.lastDay) // the engine does not foresee that days part
	}
	switch {
	case t.failed || l.Per == 0 && t.closed || strict && t.back[l.i]:
		return 0
	case l.Per == 0 || at == none:
		return refill.Never
	}
	if l.Per >= time.Hour {
		at -= t.asleep
	}
	return m.backAt(l, at, end, strict)
}

func (m *model) backAt(l *modelLimit, at, end time.Duration, strict bool) time.Duration {
	if l.Rule == refill.Calendar && l.Per == refill.Day {
		lo, _ := m.clock.bounds(m.now)
		return end - lo
	}
	back := at + l.per
	if !strict {
		back += l.grain
	}
	if l.Rule == refill.Calendar && m.clock.known {
		lo, hi := m.clock.bounds(m.now)
		next := at + hi
		if !strict {
			next += l.grain
		}
		next += l.Per - next%l.Per
		back = min(back, next-lo)
	}
	return back
}

// room reports whether a limit has room for n tokens at the given time.
func (m *model) room(l *modelLimit, at time.Duration, n int64, strict, ahead bool) bool {
	if l.Rule == refill.Steady && l.Per > 0 {
		return m.steady(l, n, strict, ahead) <= at
	}
	free := l.N
	for _, t := range m.gone {
		if m.returns(l, t, strict, ahead) > at {
			free -= l.charged(t)
		}
	}
	return n <= free
}

// steady returns when a bucket that fills continuously has n tokens.
func (m *model) steady(l *modelLimit, n int64, strict, ahead bool) time.Duration {
	x := l.Limit
	x.Per = l.per
	gap, burst := x.Gap(), x.Capacity()
	var sent, reached []entry
	held := int64(0)
	for _, t := range m.gone {
		k := l.draws(t.cost)
		if !t.failed || !strict {
			sent = append(sent, entry{t.let, k})
		}
		at := t.spent
		if !strict && at != none {
			at = t.late
		}
		if ahead && at == none && t.written != none {
			at = t.written + refill.Flight
		}
		if t.failed {
			continue
		}
		if at == none {
			held += k
			continue
		}
		if strict {
			reached = append(reached, entry{at, l.charged(t)})
			continue
		}
		reached = append(reached, entry{at, k})
		if more := l.charged(t) - k; more > 0 {
			sent = append(sent, entry{t.corrected, more})
			reached = append(reached, entry{t.corrected, more})
		}
	}
	at := full(sent, gap) - time.Duration(burst-min(n, burst))*gap
	if l.refunded && strict {
		return 0
	}
	if held+n > l.N {
		return refill.Never
	}
	return max(at, full(reached, gap)-time.Duration(l.N-held-n)*gap)
}

type entry struct {
	at time.Duration
	n  int64
}

// full returns when a bucket is full that tokens were taken from.
func full(list []entry, gap time.Duration) (f time.Duration) {
	slices.SortStableFunc(list, func(a, b entry) int { return int(a.at - b.at) })
	for _, e := range list {
		f = max(f, e.at) + time.Duration(e.n)*gap
	}
	return f
}

// fits reports whether all limits have room for a request at the given time.
func (m *model) fits(t *ticket, at time.Duration, strict, ahead bool) bool {
	c := m.costs.Cost(t.Draw)
	for _, l := range m.limits {
		if n := l.draws(c); n > 0 && !m.room(l, at, n, strict, ahead) {
			return false
		}
	}
	return true
}

// when returns when a request goes at the latest if it is the next one;
// refill.Never: that depends on what is not reported yet.
func (m *model) when(t *ticket) time.Duration {
	times := []time.Duration{m.now}
	c := m.costs.Cost(t.Draw)
	for _, l := range m.limits {
		if l.Rule == refill.Steady && l.Per > 0 {
			times = append(times, m.steady(l, l.draws(c), false, true))
		}
		for _, x := range m.gone {
			times = append(times, m.returns(l, x, false, true))
		}
	}
	slices.Sort(times)
	for _, at := range times {
		if at >= m.now && at < refill.Never && m.fits(t, at, false, true) {
			return at
		}
	}
	return refill.Never
}

// turn estimates in how long a request goes if all those ahead go first and
// nothing unforeseen happens, and which limits take longer than none.
func (m *model) turn(t *ticket, strict bool) (in time.Duration, daily bool) {
	for _, l := range m.limits {
		n := l.asked(m, t)
		for _, x := range m.ahead(t) {
			n += l.asked(m, x)
		}
		if n == 0 {
			continue
		}
		at := m.nth(l, n, strict) - m.now
		in = max(in, at)
		daily = daily || l.Per >= refill.Day && at > 0
	}
	return in, daily
}

// asked returns what a request in the queue counts for: nothing takes more than
// the smallest limit of its kind.
func (l *modelLimit) asked(m *model, t *ticket) int64 {
	n := t.Draw.Cost[l.Unit]
	for _, x := range m.limits {
		if x.Unit == l.Unit && (x.Per >= refill.Day) == (l.Per >= refill.Day) {
			n = min(n, max(x.N, 1))
		}
	}
	return n
}

// nth returns when the last of n more tokens is taken, if each is taken as soon
// as it is back.
func (m *model) nth(l *modelLimit, n int64, strict bool) time.Duration {
	switch {
	case l.Per == 0:
		return m.now
	case l.Rule == refill.Steady:
		x := l.Limit
		x.Per = l.per
		var sent []entry
		for _, t := range m.gone {
			sent = append(sent, entry{t.let, l.draws(t.cost)})
		}
		return max(m.now, max(full(sent, x.Gap()), m.now)+time.Duration(n-x.Capacity())*x.Gap())
	}
	if round := (n - 1) / l.N; round > 0 { // not before the last one of the round before
		last := m.nth(l, n-round*l.N, strict) + time.Duration(round)*l.span()
		return max(last, m.nth(l, l.N, strict))
	}
	free := l.N
	var list []entry
	for _, t := range m.gone {
		at := m.returns(l, t, strict, false)
		if at == refill.Never {
			free -= l.charged(t)
		} else if at > m.now {
			list = append(list, entry{at, l.charged(t)})
			free -= l.charged(t)
		}
	}
	at := m.now
	if n -= free; n > 0 {
		at = m.backAt(l, m.now+refill.Flight, m.clock.dayEnd(m.now), strict)
		slices.SortStableFunc(list, func(a, b entry) int { return int(a.at - b.at) })
		for _, e := range list {
			if n -= e.n; n <= 0 {
				at = e.at
				break
			}
		}
	}
	return at
}

// span is how long it takes until all tokens are back once more.
func (l *modelLimit) span() time.Duration {
	if l.Rule == refill.Calendar && l.Per == refill.Day {
		return l.Per
	}
	return l.per
}

// join puts a request into its place, behind those of the same one.
func (m *model) join(t *ticket) {
	i := 0
	for i < len(m.queue) && m.queue[i].Place <= t.Place {
		i++
	}
	m.queue = slices.Insert(m.queue, i, t)
	if m.classes != nil && t.queued != nil && t.waiter.Place > 0 && t.Rejection == nil {
		m.classes.join(t, m.now)
	}
}

// leave takes a request out of the queue.
func (m *model) leave(t *ticket) bool {
	i := slices.Index(m.queue, t)
	if i >= 0 {
		m.queue = slices.Delete(m.queue, i, i+1)
	}
	if m.classes != nil {
		m.classes.queue.Remove(&t.shadow)
	}
	return i >= 0
}

// goes lets the head of the queue go.
func (m *model) goes(t *ticket) error {
	switch {
	case m.classes == nil || !t.shadow.In(): // or it has not joined the queue
		if len(m.queue) == 0 || m.queue[0] != t || m.classes != nil && m.classes.queue.Classed() {
			return fmt.Errorf("place %d overtakes", t.Place)
		}
	case !slices.Contains(m.classes.nexts(m.now), t):
		return fmt.Errorf("place %d of %+v overtakes", t.Place, t.whom())
	}
	m.leave(t)
	if m.classes != nil {
		m.classes.queue.Served(&t.shadow, m.now)
	}
	t.cost, t.let, t.written, t.spent = m.costs.Cost(t.Draw), m.now, m.now, none
	t.days, t.back = make([]time.Duration, len(m.limits)), make([]bool, len(m.limits))
	t.arrival = [2]time.Duration{m.now, m.now + refill.Flight}
	m.gone = append(m.gone, t)
	return nil
}

// A modelClock is what the engine can know of the server's clock.
type modelClock struct {
	lo, hi, at, local time.Duration
	woken             time.Duration // when the machine last slept
	known             bool
	zone              time.Duration // how far local time is ahead where the server is
}

func (c *modelClock) bounds(now time.Duration) (lo, hi time.Duration) {
	if c.at == 0 {
		return c.lo, c.hi
	}
	d := time.Duration(float64(max(now-c.at, 0)) / 2000)
	return c.lo - d, c.hi + d
}

func (c *modelClock) observe(sent, received, date time.Duration) error {
	if sent <= c.woken {
		return nil
	}
	lo, hi := date-received, date+time.Second-sent
	if c.known {
		l, h := c.bounds(received)
		lo, hi = max(lo, l), min(hi, h)
	}
	c.known, c.lo, c.hi, c.at = true, lo, hi, received
	if lo > hi {
		return fmt.Errorf("the server's clock contradicts itself: %v > %v", lo, hi)
	}
	return nil
}

// wall takes in what the machine's clock shows, and returns how far it jumped.
func (c *modelClock) wall(now, wall time.Duration) time.Duration {
	jump := wall - now - c.local
	if jump > time.Second {
		c.woken = now
	}
	switch {
	case jump.Abs() <= time.Second:
		return 0
	case !c.known:
		c.lo, c.hi, c.at = wall-now, wall-now, 0
	case jump > 0:
		c.known = false
		c.lo, c.hi, c.at = c.lo+jump, c.hi+jump, 0
	}
	c.local = wall - now
	return jump
}

func (c *modelClock) dayEnd(at time.Duration) time.Duration {
	_, hi := c.bounds(at)
	local := at + hi + c.zone
	return local - local%refill.Day + refill.Day - c.zone
}

// full names the limits that have no room for a request.
func (m *model) full(t *ticket) (list []string) {
	c := m.costs.Cost(t.Draw)
	for _, l := range m.limits {
		if n := l.draws(c); n > 0 && !m.room(l, m.now, n, true, false) {
			for _, x := range m.gone {
				if at := m.returns(l, x, true, false); at > m.now {
					list = append(list, fmt.Sprintf("%+v: %d of place %d until %v", l.Limit, l.charged(x), x.Place, at-time.Hour))
				}
			}
		}
	}
	return list
}
