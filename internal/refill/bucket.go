package refill

import "time"

// Flight is the longest that a request is taken to be on its way: from then on
// the server has counted it, answered or not.
const Flight = time.Second

// rule is how the tokens of one limit come back.
//
// A token leaves with take. It is then on its way, and stays so until spend
// says by when it reached the server at the latest, or put that it never will.
type rule interface {
	free(now time.Duration) int64
	ready(now time.Duration, n int64) time.Duration
	turn(now time.Duration, n int64) time.Duration
	full(now time.Duration) time.Duration
	resize(now time.Duration, l Limit)
	take(now time.Duration, n int64)
	spend(at time.Duration, n int64)
	put(n int64)
	settle(now, at time.Duration, n int64)
	shift(by time.Duration)
}

// A Bucket holds the tokens of one limit: what its rule says, and what a drain
// adds to that. It is not safe for concurrent use.
type Bucket struct {
	limit Limit
	parts int64 // of which the rule keeps one; 0: it keeps all
	exact bool  // the clock that returns tokens is the one that they were spent by
	clock *Clock
	rule  rule
	dry   time.Duration // drained until then
	ramp  *steady       // after a drain: fills from empty for one Per; nil: everything was back at once
}

// NewBucket returns a full bucket. Where exact is not set, the clocks of server
// and client may drift apart while a token comes back.
func NewBucket(l Limit, exact bool, c *Clock) *Bucket {
	b := &Bucket{limit: l, exact: exact, clock: c, dry: -Never}
	b.rule = b.newRule()
	return b
}

func (b *Bucket) newRule() rule {
	l, span := b.part(), min(b.limit.Per, longest)
	switch {
	case l.Per == 0:
		return &slots{n: l.N}
	case l.Rule == Steady:
		return newSteady(l)
	case l.Rule == Calendar && span == Day:
		return &days{n: l.N, clock: b.clock}
	}
	w := newWindow(l)
	if l.Rule == Calendar {
		w.clock, w.span = b.clock, span
	}
	return w
}

// Limit returns the limit that the bucket keeps.
func (b *Bucket) Limit() Limit { return b.limit }

// Divide has the bucket hold one of so many parts of the limit.
func (b *Bucket) Divide(now time.Duration, parts int64) {
	if parts > 1 {
		b.parts = parts
		b.rule.resize(now, b.part())
	}
}

// part returns the limit as the rule keeps it.
func (b *Bucket) part() Limit {
	l := b.limit
	if b.parts > 1 && l.N > 0 {
		l.N, l.Burst = max(1, l.N/b.parts), (l.Burst+b.parts-1)/b.parts
	}
	if b.exact {
		l.Per = min(l.Per, longest)
		return l
	}
	return l.Stretched()
}

// Share returns how many tokens a request takes that draws n: all of them at the
// most, since estimates err.
func (b *Bucket) Share(n int64) int64 { return min(n, max(b.limit.N, 1)) }

// Free returns how many tokens could be taken now; less than 0 is a debt.
func (b *Bucket) Free(now time.Duration) int64 {
	n := b.rule.free(now)
	if now < b.dry {
		return min(n, 0)
	}
	if b.ramp != nil {
		if now < b.rampEnd() {
			return min(n, b.ramp.free(now))
		}
		b.ramp = nil
	}
	return n
}

// Level returns how many tokens there are by the rule alone, whatever a drain
// says.
func (b *Bucket) Level(now time.Duration) int64 { return b.rule.free(now) }

// Ready returns when n tokens can be taken, if nobody takes any before: Never,
// as long as that depends on tokens on their way.
func (b *Bucket) Ready(now time.Duration, n int64) time.Duration {
	if b.parts > 1 && b.limit.N > 0 {
		n = min(n, b.part().N)
	}
	at := max(b.rule.ready(now, n), b.dry)
	if b.ramp != nil {
		at = max(at, min(b.ramp.ready(now, n), b.rampEnd()))
	}
	return at
}

// Turn estimates when the last of n further tokens will have been taken, n of
// any size, if each is taken as soon as it is back.
func (b *Bucket) Turn(now time.Duration, n int64) time.Duration {
	at := max(b.rule.turn(max(now, b.dry), n), b.dry)
	if b.ramp != nil && now < b.rampEnd() {
		at = max(at, b.ramp.turn(now, n))
	}
	return at
}

// Full returns when all tokens are back, if none is taken: Never, as long as
// that depends on tokens on their way.
func (b *Bucket) Full(now time.Duration) time.Duration {
	at := max(b.rule.full(now), b.dry)
	if b.ramp != nil {
		at = max(at, min(b.ramp.full(now), b.rampEnd()))
	}
	return at
}

func (b *Bucket) rampEnd() time.Duration { return soon(b.dry, min(b.limit.Per, longest)) }

// Take takes n tokens, whether they are there or not. They are on their way.
func (b *Bucket) Take(now time.Duration, n int64) {
	b.rule.take(now, n)
	if b.ramp != nil {
		b.ramp.take(now, n)
		b.ramp.spend(now, n)
	}
}

// Spend says that n tokens have reached the server by the given time.
func (b *Bucket) Spend(at time.Duration, n int64) { b.rule.spend(at, n) }

// Put says that n tokens will never reach the server: they are back.
func (b *Bucket) Put(n int64) {
	b.rule.put(n)
	if b.ramp != nil {
		b.ramp.settle(b.dry, Never, -n)
	}
}

// Settle says that n more tokens were spent at the time given than was said, or
// fewer if n is less than 0: of the last ones, if the time is Never.
func (b *Bucket) Settle(now, at time.Duration, n int64) {
	b.rule.settle(now, at, n)
	if b.ramp != nil && n < 0 {
		b.ramp.settle(b.dry, Never, n)
	}
}

// Uncount says that n tokens spent at the time given are not counted by the server.
// Unlike Settle, it does not change how they come back after a drain.
func (b *Bucket) Uncount(now, at time.Duration, n int64) { b.rule.settle(now, at, -n) }

// Elsewhere says that n more tokens were spent than we know of, and when.
func (b *Bucket) Elsewhere(now, at time.Duration, n int64) {
	if w, ok := b.rule.(*window); ok {
		w.insert(now, at, n)
		return
	}
	b.rule.take(at, n)
	b.rule.spend(at, n)
}

// Inherit counts n tokens as spent at the time given, by a limit that was kept by
// another rule: they did not have to keep to the burst of this one.
func (b *Bucket) Inherit(now, at time.Duration, n int64) {
	if s, ok := b.rule.(*steady); ok {
		s.sent = max(s.sent, soon(at, s.span(min(n, s.burst))))
		s.reached = soon(max(s.reached, at), s.span(n))
		return
	}
	b.Elsewhere(now, at, n)
}

// Lower says that no more than left tokens are there, and that all are back in
// full from now, or that this is not known if full is negative.
func (b *Bucket) Lower(now time.Duration, left int64, full time.Duration) {
	more := b.rule.free(now) - left
	if w, ok := b.rule.(*window); ok && full >= 0 && full < w.per {
		w.insert(now, now+full-w.per, more)
		return
	}
	b.rule.take(now, more)
	b.rule.spend(now, more)
}

// Resize changes how many tokens there are, and with that the time in which one
// comes back. What was spent stays spent.
func (b *Bucket) Resize(now time.Duration, n int64) {
	b.limit.N = n
	b.limit.Burst = min(b.limit.Burst, n)
	b.rule.resize(now, b.part())
	if b.ramp != nil {
		b.ramp.resize(now, b.part())
	}
}

// Rebound changes how many tokens there are and how many may be sent back to back.
func (b *Bucket) Rebound(now time.Duration, n, burst int64) {
	b.limit.Burst = burst
	b.Resize(now, n)
}

// Change has the bucket keep another limit of the same unit, full but for the
// tokens on their way.
func (b *Bucket) Change(now time.Duration, l Limit) {
	held := b.held()
	b.limit, b.ramp = l, nil
	b.rule = b.newRule()
	if held > 0 {
		b.rule.take(now, held)
	}
}

func (b *Bucket) held() int64 {
	switch r := b.rule.(type) {
	case *window:
		return r.held
	case *steady:
		return r.held
	case *days:
		return r.held
	case *slots:
		return r.held
	}
	return 0
}

// Drain empties the bucket until the given time, which a later Drain can only
// put off. If that is when the server's own count starts anew, everything is
// back then; else tokens come back one at a time, pace of them in a Per, for one
// Per: those who waited do not all charge at once.
func (b *Bucket) Drain(until time.Duration, anew bool, pace int64) {
	if until <= b.dry {
		return
	}
	b.dry, b.ramp = until, nil
	if !anew && b.limit.N > 0 && b.limit.Per > 0 {
		l := Limit{N: max(1, pace), Per: min(b.limit.Per, longest), Rule: Steady}
		b.ramp = newSteady(l)
		b.ramp.take(until, l.N-1)
		b.ramp.spend(until, l.N-1)
	}
}

// EndDay has all of a day's limit back at the given time, as the server has said, and
// drains it until then.
func (b *Bucket) EndDay(now, until time.Duration) {
	b.clock.DayEnds(now, until)
	if d, ok := b.rule.(*days); ok {
		lo, _ := b.clock.bounds(now)
		d.over(until + lo)
	}
	b.dry, b.ramp = until, nil
}

// Even ends the time in which tokens come back one at a time.
func (b *Bucket) Even() { b.ramp = nil }

// Dry returns until when the bucket is drained: a time in the past, if it is not.
func (b *Bucket) Dry() time.Duration { return b.dry }

// Paced reports whether tokens come back one at a time at the given time, as
// they do for one Per after a drain.
func (b *Bucket) Paced(at time.Duration) bool {
	return b.ramp != nil && at >= b.dry && at < b.rampEnd()
}

// Calendar returns the clock that the tokens come back by, if the bucket has one
// and could do without: a day needs it.
func (b *Bucket) Calendar() *Clock {
	if w, ok := b.rule.(*window); ok {
		return w.clock
	}
	return nil
}

// LeaveCalendar has the tokens come back by Window from now on.
func (b *Bucket) LeaveCalendar() {
	if w, ok := b.rule.(*window); ok {
		b.limit.Rule, w.clock = Window, nil
	}
}

// Shift has all that was spent be so much longer ago: the machine was asleep.
func (b *Bucket) Shift(by time.Duration) { b.rule.shift(by) }

// Flying is how many tokens are on their way.
func (b *Bucket) Flying() int64 { return b.held() }

// Held is how many tokens of a limit without a Per are taken.
func (b *Bucket) Held() int64 {
	if s, ok := b.rule.(*slots); ok {
		return s.held
	}
	return 0
}

// Spent calls f with what was spent and is not back: how many, and when.
func (b *Bucket) Spent(now time.Duration, f func(at time.Duration, n int64)) {
	switch r := b.rule.(type) {
	case *window:
		r.expire(now)
		for _, s := range r.spent[r.first:] {
			f(s.at, s.n)
		}
	case *days:
		r.expire(now)
		if n := r.live(); n > 0 {
			f(now, n)
		}
	case *steady:
		if n := r.n - r.level(now, r.reached, r.n); n > 0 {
			f(now, n)
		}
	}
}

// slots is the rule of a limit without a Per: a token is back when it is put
// back, wherever it has been.
type slots struct{ n, held int64 }

func (s *slots) resize(_ time.Duration, l Limit) { s.n = l.N }

func (s *slots) free(time.Duration) int64 { return s.n - s.held }

func (s *slots) ready(now time.Duration, n int64) time.Duration {
	if n > s.n-s.held {
		return Never
	}
	return now
}

// turn does not know how long a response takes.
func (s *slots) turn(now time.Duration, _ int64) time.Duration { return now }

func (s *slots) full(now time.Duration) time.Duration {
	if s.held > 0 {
		return Never
	}
	return now
}

func (s *slots) take(_ time.Duration, n int64)      { s.held += n }
func (s *slots) spend(time.Duration, int64)         {}
func (s *slots) put(n int64)                        { s.held = max(0, s.held-n) }
func (s *slots) settle(_, _ time.Duration, n int64) { s.held = max(0, s.held+n) }
func (s *slots) shift(time.Duration)                {}
