package refill

import "time"

// A Clock is what is known of the server's: bounds on how far it is ahead of
// ours. A response whose Date is d, sent after s and received before r, says
// that it is ahead by d−r at least, and by less than d+1s−s, a Date being cut
// off to whole seconds.
type Clock struct {
	// Known is set once a response has told the server's time. Until then the
	// bounds are those of the machine's own clock.
	Known bool

	lo, hi time.Duration // the server's time is between now+lo and now+hi
	at     time.Duration // when that was so; 0: always
	local  time.Duration // how far the machine's clock is ahead of now
	woken  time.Duration // when it last jumped ahead
	zone   *time.Location
	told   bool // the server has said when its days end, in another zone than it is known for

	odd          int           // responses in a row that contradict the bounds
	oddLo, oddHi time.Duration // the bounds that those agree on
	begin, end   time.Duration // the last day asked for
}

// odds is how many responses in a row have to contradict what is known before
// they are believed: behind one name there may be a machine whose clock is off.
const odds = 3

// NewClock returns a clock that is the machine's own, which is so far ahead of
// the times it will be asked about.
func NewClock(local time.Duration) *Clock {
	return &Clock{lo: local, hi: local, local: local, woken: -Never, zone: time.UTC}
}

// Observe takes in what a response says: when its request was sent and it was
// received, and its Date as the time since 1970. If the machine slept in between,
// the Date may be from before that, and says nothing.
func (c *Clock) Observe(sent, received, date time.Duration) {
	if sent <= c.woken {
		return
	}
	lo, hi := date-received, date+time.Second-sent
	if !c.Known {
		c.Known, c.lo, c.hi, c.at = true, lo, hi, received
		return
	}
	was, is := c.bounds(received)
	if both, most := max(lo, was), min(hi, is); both <= most {
		c.lo, c.hi, c.at, c.odd = both, most, received, 0
		return
	}
	if c.odd > 0 && max(lo, c.oddLo) <= min(hi, c.oddHi) {
		c.oddLo, c.oddHi = max(lo, c.oddLo), min(hi, c.oddHi)
		c.odd++
	} else {
		c.odd, c.oddLo, c.oddHi = 1, lo, hi
	}
	if c.odd == odds {
		c.lo, c.hi, c.at, c.odd = c.oddLo, c.oddHi, received, 0
	}
}

// bounds returns how far the server's clock may be ahead of now.
func (c *Clock) bounds(now time.Duration) (lo, hi time.Duration) {
	if c.at == 0 {
		return c.lo, c.hi
	}
	d := time.Duration(float64(max(now-c.at, 0)) * drift)
	return c.lo - d, c.hi + d
}

// Zone says where the server's days begin, unless the server has said so itself. nil:
// where it was said before.
func (c *Clock) Zone(zone *time.Location) {
	if zone != nil && zone != c.zone && !c.told {
		c.zone, c.begin, c.end = zone, 0, 0
	}
}

// DayEnds takes in that the server has said that its day ends at the given time. If
// that is another time of day than it is known for, and a quarter of an hour by the
// clock, all its days end then from now on: zones differ by quarters. Another time is
// that of this day alone.
func (c *Clock) DayEnds(now, at time.Duration) {
	lo, hi := c.bounds(now)
	end := at + (lo+hi)/2
	const quarter = 15 * time.Minute
	whole := end.Round(quarter)
	if off := (end - whole).Abs(); off > near || (c.next(now+(lo+hi)/2, Day)-end).Abs() <= near {
		return
	}
	east := -(whole % Day)
	if east <= -Day/2 {
		east += Day
	}
	c.zone, c.told, c.begin, c.end = time.FixedZone("", int(east/time.Second)), true, 0, 0
}

// near is how far from a boundary a hint of hours may end: it takes a while to come.
const near = 90 * time.Second

// Wall tells what the machine's clock shows, as the time since 1970, and returns
// how far it has jumped since it was last told, if by more than a second.
//
// A jump forward is taken for the end of a sleep, in which our time stood still
// and the server's did not. A jump back is somebody setting the clock, which
// says nothing of the server's if that is known.
func (c *Clock) Wall(now, wall time.Duration) (jump time.Duration) {
	local := wall - now
	jump = local - c.local
	if jump.Abs() <= time.Second {
		return 0
	}
	c.local = local
	if jump > 0 {
		c.woken = now
	}
	switch {
	case !c.Known:
		c.lo, c.hi, c.at = local, local, 0
	case jump > 0:
		c.Known, c.odd = false, 0
		c.lo, c.hi, c.at = c.lo+jump, c.hi+jump, 0
	}
	return jump
}

// next returns when the span after that of a server's time begins: at the next
// multiple of per, or at midnight for a day.
func (c *Clock) next(server, per time.Duration) time.Duration {
	if per != Day {
		return server - server%per + per
	}
	if server < c.begin || server >= c.end {
		y, m, d := time.Unix(0, int64(server)).In(c.zone).Date()
		c.begin = time.Duration(time.Date(y, m, d, 0, 0, 0, 0, c.zone).UnixNano())
		c.end = time.Duration(time.Date(y, m, d+1, 0, 0, 0, 0, c.zone).UnixNano())
	}
	return c.end
}

// Day returns when the server's day ends in which something happens at the given
// time at the latest, by the server's clock.
func (c *Clock) Day(at time.Duration) time.Duration {
	_, hi := c.bounds(at)
	return c.next(at+hi, Day)
}

// DayOver returns when the day of now is over by every clock within the bounds.
func (c *Clock) DayOver(now time.Duration) time.Duration { return c.back(now, now, Day) }

// Days returns the beginnings of four of the server's days, as times since 1970:
// of yesterday, today and the two days after.
func (c *Clock) Days(now time.Duration) (list [4]time.Duration) {
	y, m, d := time.Unix(0, int64(now+c.local)).In(c.zone).Date()
	for i := range list {
		list[i] = time.Duration(time.Date(y, m, d-1+i, 0, 0, 0, 0, c.zone).UnixNano())
	}
	return list
}

// back returns when a token spent by the time given is back for certain: when a
// new span has begun, by every clock within the bounds.
func (c *Clock) back(now, at, per time.Duration) time.Duration {
	lo, hi := c.bounds(now)
	return c.next(at+hi, per) - lo
}

// slack is how much later than a span a hint may end: it is made when the server
// refuses, and some are rounded up to seconds.
const slack = 1200 * time.Millisecond

// Fits reports whether a hint that ends at the given time may mean the end of a
// span of the server's, one that has not ended yet.
func (c *Clock) Fits(now, until, per time.Duration) bool {
	lo, hi := c.bounds(now)
	return c.next(max(until-slack, now)+lo, per) <= until+hi
}
