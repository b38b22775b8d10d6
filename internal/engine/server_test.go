package engine

import (
	"math/rand/v2"
	"slices"
	"time"

	"example.com/tollgate/internal/refill"
)

// content sees that no server would have refused anything, whatever it counts by.
func (w *world) content() {
	for _, l := range w.m.limits {
		if l.Per > 0 && (w.exact || l.Unit == refill.Requests) {
			for try := range uint64(4) {
				w.contents(l, rand.New(rand.NewPCG(try, uint64(l.N))), try)
			}
		}
	}
}

// contents sees that servers of each kind would have accepted all. Each request
// arrives at some time between those that are possible.
func (w *world) contents(l *modelLimit, r *rand.Rand, try uint64) {
	var list []entry
	for _, t := range w.m.gone {
		if t.failed {
			continue
		}
		first, last := t.arrival[0], max(t.arrival[0], t.arrival[1])
		at := first + time.Duration(r.Int64N(int64(last-first)+1))
		switch {
		case try == 1 && r.IntN(2) == 0, try == 2:
			at = first
		case try == 1:
			at = last
		}
		if n := l.draws(t.cost); n > 0 {
			list = append(list, entry{w.server(at), n})
		}
	}
	slices.SortStableFunc(list, func(a, b entry) int { return int(a.at - b.at) })
	span := func(a time.Duration) time.Duration { return a / l.Per }
	if l.Per == refill.Day {
		span = func(a time.Duration) time.Duration { return (a + w.m.clock.zone) / l.Per }
	}
	switch l.Rule {
	case refill.Calendar:
		w.windows(l, list, "calendar", span)
	case refill.Steady:
		w.bucket(l, list)
	default:
		for range 3 {
			phase := time.Duration(r.Int64N(int64(l.Per)))
			w.windows(l, list, "fixed windows", func(a time.Duration) time.Duration { return (a + phase) / l.Per })
		}
		w.sliding(l, list)
		w.bucket(l, list)
	}
}

// windows counts by fixed windows.
func (w *world) windows(l *modelLimit, list []entry, kind string, window func(time.Duration) time.Duration) {
	used := map[time.Duration]int64{}
	for _, e := range list {
		k := window(e.at)
		if used[k] += e.n; used[k] > l.N {
			w.fail("a server of %s would have refused one of %+v at %v", kind, l.Limit, e.at-w.server(time.Hour))
		}
	}
}

// sliding counts what has come in the last Per.
func (w *world) sliding(l *modelLimit, list []entry) {
	for i, e := range list {
		sum := int64(0)
		for _, x := range list[:i+1] {
			if x.at > e.at-l.Per {
				sum += x.n
			}
		}
		if sum > l.N {
			w.fail("a server of a sliding window would have refused one of %+v at %v", l.Limit, e.at-w.server(time.Hour))
		}
	}
}

// bucket counts by a token bucket. A nanosecond's worth of tokens is not missed.
func (w *world) bucket(l *modelLimit, list []entry) {
	level, last := float64(l.N), time.Duration(0)
	for _, e := range list {
		level = min(float64(l.N), level+float64(e.at-last)*float64(l.N)/float64(l.Per))
		last = e.at
		if level -= float64(e.n); level < -1e-6*float64(l.N) {
			w.fail("a server of a token bucket would have refused one of %+v at %v", l.Limit, e.at-w.server(time.Hour))
		}
	}
}
