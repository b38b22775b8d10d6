package refill

import (
	"testing"
	"time"
	_ "time/tzdata"
)

const epochDay = 20_000 * Day // some midnight UTC

// dated is a Date so long after epochDay.
func dated(d time.Duration) time.Duration { return (epochDay + d).Truncate(time.Second) }

func TestClockBounds(t *testing.T) {
	const ms = time.Millisecond
	type seen struct{ sent, received, server time.Duration }
	first := seen{1 * s, 1*s + 100*ms, 5 * s}
	set := func(at time.Duration) seen { return seen{at, at + 100*ms, at + 18*s} }
	far := func(at time.Duration) seen { return seen{at, at + 100*ms, at + 500*s} }
	ours := func(at time.Duration) seen { return seen{at, at + 100*ms, at + 4*s} }
	tests := []struct {
		name   string
		seen   []seen
		lo, hi time.Duration // of the server's clock, minus epochDay
	}{
		{"one response", []seen{first}, 3*s + 900*ms, 5 * s},
		{"two that narrow it down", []seen{first, {1*s + 500*ms, 1*s + 600*ms, 6 * s}}, 4*s + 400*ms, 5 * s},
		{"a slow one says little", []seen{first, {1 * s, 61 * s, 64 * s}}, 3*s + 900*ms - 30*ms, 5*s + 30*ms},
		{"an odd one is not believed", []seen{first, set(2 * s)}, 3*s + 900*ms, 5 * s},
		{"nor two", []seen{first, set(2 * s), set(3 * s)}, 3*s + 900*ms, 5 * s},
		{"a clock that was set", []seen{first, set(2 * s), set(3 * s), set(4 * s)}, 17*s + 900*ms, 19 * s},
		{"three that agree on less", []seen{first, set(2 * s), set(3*s - 500*ms), set(4 * s)}, 17*s + 900*ms, 18*s + 500*ms},
		{"three that do not agree", []seen{first, set(2 * s), far(3 * s), set(4 * s)}, 3*s + 900*ms, 5 * s},
		{"not in a row", []seen{first, set(2 * s), set(3 * s), ours(4 * s), set(5 * s), set(6 * s)}, 3*s + 900*ms, 5 * s},
		{"in a row after others", []seen{first, set(2 * s), far(3 * s), far(4 * s), far(5 * s)}, 499*s + 900*ms, 501 * s},
		{"one behind a name that is off now and then", []seen{first, set(2 * s), ours(3 * s), set(4 * s), ours(5 * s), set(6 * s)}, 3*s + 900*ms, 5 * s},
	}
	for _, test := range tests {
		c := NewClock(0)
		var now time.Duration
		for _, o := range test.seen {
			c.Observe(o.sent, o.received, dated(o.server))
			now = o.received
		}
		if !c.Known {
			t.Errorf("%s: the clock is not known", test.name)
		}
		lo, hi := c.bounds(now)
		// It drifts by half a millisecond a second meanwhile.
		if lo, hi := lo-epochDay, hi-epochDay; (lo-test.lo).Abs() > 3*ms || (hi-test.hi).Abs() > 3*ms {
			t.Errorf("%s: %v to %v, want %v to %v", test.name, lo, hi, test.lo, test.hi)
		}
		if l, h := c.bounds(now + 1000*s); l-lo != -s/2 || h-hi != s/2 {
			t.Errorf("%s: 1000 s later by %v and %v wider, want half a second", test.name, lo-l, h-hi)
		}
	}
}

// A jump of the machine's clock forward is a sleep: the server's has gone on as
// well, and is no longer known for certain. A jump back says nothing of it.
func TestClockWall(t *testing.T) {
	known := func() *Clock {
		c := NewClock(epochDay)
		c.Observe(0, s/10, dated(90*s))
		return c
	}
	tests := []struct {
		name         string
		now, wall    time.Duration // wall after epochDay
		jump, lo, hi time.Duration // lo and hi after epochDay
		known        bool
	}{
		{"none", 10 * s, 10 * s, 0, 90*s - s/10, 91 * s, true},
		{"a second is none", 10 * s, 11 * s, 0, 90*s - s/10, 91 * s, true},
		{"forward", 20 * s, 8 * time.Hour, 8*time.Hour - 20*s, 8*time.Hour + 70*s - s/10, 8*time.Hour + 71*s, false},
		{"back", 20 * s, -8 * time.Hour, -8*time.Hour - 20*s, 90*s - s/10, 91 * s, true},
	}
	for _, test := range tests {
		c := known()
		if jump := c.Wall(test.now, dated(test.wall)); jump != test.jump || c.Known != test.known {
			t.Errorf("%s: jump of %v, known %v, want %v, %v", test.name, jump, c.Known, test.jump, test.known)
		}
		if jump := c.Wall(test.now, dated(test.wall)); jump != 0 {
			t.Errorf("%s: told twice of a jump of %v", test.name, jump)
		}
		lo, hi := c.bounds(test.now)
		if lo, hi := lo-epochDay, hi-epochDay; (lo-test.lo).Abs() > 11*time.Millisecond || (hi-test.hi).Abs() > 11*time.Millisecond {
			t.Errorf("%s: %v to %v, want %v to %v", test.name, lo, hi, test.lo, test.hi)
		}
		if c.Observe(test.now+1, test.now+s/10, dated(test.now+1000*time.Hour)); !test.known {
			if lo, _ := c.bounds(test.now + s/10); !c.Known || lo < epochDay+999*time.Hour {
				t.Errorf("%s: the first response afterwards is not believed", test.name)
			}
		}
	}
	c := NewClock(0)
	c.Wall(20*s, dated(8*time.Hour))
	if lo, hi := c.bounds(20 * s); lo != hi || lo != epochDay+8*time.Hour-20*s {
		t.Errorf("bounds %v to %v of a server that has said nothing, want the machine's", lo-epochDay, hi-epochDay)
	}
	c.Wall(20*s, dated(7*time.Hour))
	if lo, hi := c.bounds(20 * s); lo != hi || lo != epochDay+7*time.Hour-20*s {
		t.Errorf("bounds %v to %v after a jump back, want the machine's", lo-epochDay, hi-epochDay)
	}
}

func TestClockNext(t *testing.T) {
	la, err := time.LoadLocation("America/Los_Angeles")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		at   string
		per  time.Duration
		zone *time.Location
		want time.Duration
	}{
		{"2025-06-01T10:00:00Z", time.Minute, la, time.Minute},
		{"2025-06-01T10:00:59.9Z", time.Minute, la, s / 10},
		{"2025-06-01T10:20:00Z", time.Hour, la, 40 * time.Minute},
		{"2025-06-01T10:00:00Z", Day, time.UTC, 14 * time.Hour},
		{"2025-06-01T10:00:00Z", Day, la, 21 * time.Hour}, // 07:00 UTC in summer
		{"2025-12-01T10:00:00Z", Day, la, 22 * time.Hour}, // 08:00 UTC in winter
		{"2025-03-09T08:00:00Z", Day, la, 23 * time.Hour}, // the day summer time begins
		{"2025-11-02T07:00:00Z", Day, la, 25 * time.Hour}, // and the one it ends
		{"2025-11-03T07:59:59.5Z", Day, la, s / 2},        // the last moment of a day
		{"2025-11-03T08:00:00Z", Day, la, 24 * time.Hour}, // the first of the next
		{"2025-11-03T07:59:59.99Z", Day, la, s / 100},     // and back again
	}
	c := NewClock(0)
	for _, test := range tests {
		at, err := time.Parse(time.RFC3339Nano, test.at)
		if err != nil {
			t.Fatal(err)
		}
		c.Zone(test.zone)
		server := time.Duration(at.UnixNano())
		if got := c.next(server, test.per) - server; got != test.want {
			t.Errorf("%s, %v in %v: next in %v, want %v", test.at, test.per, test.zone, got, test.want)
		}
	}
}

// A server that says when its day ends is believed over the zone that it is known
// for, from then on where that is the time of a zone.
func TestDayEnds(t *testing.T) {
	const now = 3 * time.Hour // since 1970, midnight UTC
	pst := time.FixedZone("PST", -8*3600)
	for _, test := range []struct {
		name      string
		at        time.Duration
		today     time.Duration // when its days end then
		afterThat time.Duration
	}{
		{"as it is known", 8 * time.Hour, 8 * time.Hour, 32 * time.Hour},
		{"as it is known, and a little later", 8*time.Hour + time.Minute, 8 * time.Hour, 32 * time.Hour},
		{"in UTC", 24 * time.Hour, 24 * time.Hour, 48 * time.Hour},
		{"in UTC, and a little earlier", 24*time.Hour - time.Minute, 24 * time.Hour, 48 * time.Hour},
		{"in India", 18*time.Hour + 30*time.Minute, 18*time.Hour + 30*time.Minute, 42*time.Hour + 30*time.Minute},
		{"east of the date line", 11 * time.Hour, 11 * time.Hour, 35 * time.Hour},
		{"at a time of no zone", 20*time.Hour + 7*time.Minute, 8 * time.Hour, 32 * time.Hour},
	} {
		c := NewClock(0)
		c.Zone(pst)
		c.DayEnds(now, test.at)
		c.Zone(pst) // as each request says again
		if got := c.DayOver(now); got != test.today {
			t.Errorf("%s: the day is over at %v, want %v", test.name, got, test.today)
		}
		if got := c.DayOver(test.today); got != test.afterThat {
			t.Errorf("%s: the next day is over at %v, want %v", test.name, got, test.afterThat)
		}
	}
}

// What was spent of a day is back when that ends, as the server has said.
func TestEndDay(t *testing.T) {
	c := NewClock(0)
	c.Zone(time.FixedZone("PST", -8*3600))
	for _, until := range []time.Duration{5 * time.Hour, 20*time.Hour + 7*time.Minute, 24 * time.Hour} {
		b := NewBucket(Limit{N: 10, Per: Day, Rule: Calendar}, true, c)
		b.Take(0, 10)
		b.Spend(time.Hour, 10)
		b.EndDay(3*time.Hour, until)
		if got := b.Free(until - 1); got > 0 {
			t.Errorf("until %v: %d are there before", until, got)
		}
		if got := b.Free(until); got != 10 {
			t.Errorf("until %v: %d are back, want 10", until, got)
		}
	}
}
