package tollgate

import (
	"time"
	_ "time/tzdata" // days end at midnight somewhere, also where there is no database of zones
)

// A clock is what is known of the server's: bounds on how far it is ahead of
// now. A response whose Date is d, sent after s and received before r, says
// that it is ahead by d−r at least, and by less than d+1s−s, a Date being cut
// off to whole seconds.
type clock struct {
	known  bool          // a response has said so; else they are the local clock's
	lo, hi time.Duration // the server's time is between now+lo and now+hi
	at     time.Duration // when that was so; 0: always
	local  time.Duration // how far the local clock is ahead of now
	zone   *time.Location

	begin, end time.Duration // the last day asked for
}

func newClock() *clock {
	local := time.Duration(time.Now().UnixNano()) - now()
	return &clock{lo: local, hi: local, local: local, zone: time.UTC}
}

// observe takes in what a response says.
func (c *clock) observe(sent, received time.Duration, date time.Time) {
	server := time.Duration(date.UnixNano())
	lo, hi := server-received, server+time.Second-sent
	if c.known {
		was, is := c.bounds(received)
		lo, hi = max(lo, was), min(hi, is)
		if lo > hi { // the server's clock was set, or this is another one's
			lo, hi = server-received, server+time.Second-sent
		}
	}
	c.known, c.lo, c.hi, c.at = true, lo, hi, received
}

// bounds returns how far the server's clock may be ahead of now.
func (c *clock) bounds(now time.Duration) (lo, hi time.Duration) {
	if c.at == 0 {
		return c.lo, c.hi
	}
	d := time.Duration(float64(max(now-c.at, 0)) * drift)
	return c.lo - d, c.hi + d
}

// setZone says where days begin.
func (c *clock) setZone(zone *time.Location) { c.zone, c.begin, c.end = zone, 0, 0 }

// wall tells the local clock's time. If that has jumped, as after a suspend
// during which now stood still, what is known of the server's is worth nothing.
func (c *clock) wall(now time.Duration, wall time.Time) {
	local := time.Duration(wall.UnixNano()) - now
	if d := local - c.local; d > time.Second || d < -time.Second {
		*c = clock{lo: local, hi: local, local: local, zone: c.zone}
	}
}

// next returns when the span after that of a server's time begins: at the next
// multiple of per, or at midnight for a day.
func (c *clock) next(server, per time.Duration) time.Duration {
	if per != day {
		return server - server%per + per
	}
	if server < c.begin || server >= c.end {
		y, m, d := time.Unix(0, int64(server)).In(c.zone).Date()
		c.begin = time.Duration(time.Date(y, m, d, 0, 0, 0, 0, c.zone).UnixNano())
		c.end = time.Duration(time.Date(y, m, d+1, 0, 0, 0, 0, c.zone).UnixNano())
	}
	return c.end
}

// back returns when a token spent by the time given is back for certain: when a
// new span has begun, by every clock within the bounds.
func (c *clock) back(now, at, per time.Duration) time.Duration {
	lo, hi := c.bounds(now)
	return c.next(at+hi, per) - lo
}

// slack is how much later than a span a hint may end: it is made when the server
// refuses, and some are rounded up to seconds.
const slack = 1200 * time.Millisecond

// fits reports whether a hint that ends at the given time may mean the end of a
// span of the server's, one that has not ended yet.
func (c *clock) fits(now, until, per time.Duration) bool {
	lo, hi := c.bounds(now)
	return c.next(max(until-slack, now)+lo, per) <= until+hi
}
