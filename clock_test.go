package tollgate

import (
	"testing"
	"time"
)

const epochDay = 20_000 * day // some midnight UTC

// dated is a Date so long after epochDay.
func dated(d time.Duration) time.Time { return time.Unix(0, int64(epochDay+d)).Truncate(time.Second) }

func TestClockBounds(t *testing.T) {
	ms := time.Millisecond
	type seen struct{ sent, received, server time.Duration }
	tests := []struct {
		name   string
		seen   []seen
		lo, hi time.Duration // of the server's clock, minus epochDay
	}{
		{"one response", []seen{{1 * s, 1*s + 100*ms, 5 * s}}, 3*s + 900*ms, 5 * s},
		{"two that narrow it down", []seen{{1 * s, 1*s + 100*ms, 5 * s}, {1*s + 500*ms, 1*s + 600*ms, 6 * s}}, 4*s + 400*ms, 5 * s},
		{"a slow one says little", []seen{{1 * s, 1*s + 100*ms, 5 * s}, {1 * s, 61 * s, 64 * s}}, 3*s + 900*ms - 30*ms, 5*s + 30*ms},
		{"a clock that was set", []seen{{1 * s, 1*s + 100*ms, 5 * s}, {2 * s, 2*s + 100*ms, 20 * s}}, 17*s + 900*ms, 19 * s},
	}
	for _, test := range tests {
		c := &clock{zone: time.UTC}
		var now time.Duration
		for _, o := range test.seen {
			c.observe(o.sent, o.received, dated(o.server))
			now = o.received
		}
		lo, hi := c.bounds(now)
		if lo, hi := lo-epochDay, hi-epochDay; (lo-test.lo).Abs() > ms || (hi-test.hi).Abs() > ms {
			t.Errorf("%s: %v to %v, want %v to %v", test.name, lo, hi, test.lo, test.hi)
		}
		if l, h := c.bounds(now + 1000*s); l-lo != -s/2 || h-hi != s/2 {
			t.Errorf("%s: 1000 s later by %v and %v wider, want half a second", test.name, lo-l, h-hi)
		}
	}
}

// A jump of the local clock takes away what was known.
func TestClockWall(t *testing.T) {
	c := &clock{zone: time.UTC}
	c.wall(0, dated(0))
	c.observe(0, s/10, dated(90*s))
	if c.wall(10*s, dated(10*s)); !c.known {
		t.Error("nothing has jumped")
	}
	if c.wall(20*s, dated(8*time.Hour)); c.known {
		t.Error("the clock has jumped")
	}
	if lo, hi := c.bounds(20 * s); lo != hi || lo != epochDay+8*time.Hour-20*s {
		t.Errorf("bounds %v to %v, want the local clock's", lo-epochDay, hi-epochDay)
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
		{"2025-06-01T10:00:00Z", day, time.UTC, 14 * time.Hour},
		{"2025-06-01T10:00:00Z", day, la, 21 * time.Hour}, // 07:00 UTC in summer
		{"2025-12-01T10:00:00Z", day, la, 22 * time.Hour}, // 08:00 UTC in winter
		{"2025-03-09T08:00:00Z", day, la, 23 * time.Hour}, // the day summer time begins
		{"2025-11-02T07:00:00Z", day, la, 25 * time.Hour}, // and the one it ends
		{"2025-11-03T07:59:59.5Z", day, la, s / 2},        // the last moment of a day
		{"2025-11-03T08:00:00Z", day, la, 24 * time.Hour}, // the first of the next
		{"2025-11-03T07:59:59.99Z", day, la, s / 100},     // and back again
	}
	c := &clock{}
	for _, test := range tests {
		at, err := time.Parse(time.RFC3339Nano, test.at)
		if err != nil {
			t.Fatal(err)
		}
		if c.zone != test.zone {
			c.setZone(test.zone)
		}
		server := time.Duration(at.UnixNano())
		if got := c.next(server, test.per) - server; got != test.want {
			t.Errorf("%s, %v in %v: next in %v, want %v", test.at, test.per, test.zone, got, test.want)
		}
	}
}
