package zoo

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// ratio is a fraction with a whole numerator and denominator.
type ratio struct{ over, under int64 }

// allowed says by definition whether a counter accepts a request, given when all
// that it has counted came.
func allowed(s Server, now time.Duration, came []time.Duration) bool {
	since := func(from, to time.Duration) (n int64) { // [from, to)
		for _, at := range came {
			if from <= at && at < to {
				n++
			}
		}
		return n
	}
	bucket := func(capacity int64) bool {
		level, last := ratio{capacity * int64(s.Per), int64(s.Per)}, time.Duration(0)
		fill := func(at time.Duration) {
			level.over = min(capacity*level.under, level.over+int64(at-last)*s.N)
			last = at
		}
		for _, at := range came {
			fill(at)
			level.over -= level.under
		}
		fill(now)
		return level.over >= level.under
	}
	began := now - (now-s.Phase+s.Per)%s.Per
	switch s.Counts {
	case Fixed:
		return since(began, now+1) < s.N
	case Sliding:
		return since(now-s.Per+1, now+1) < s.N
	case Bucket:
		return bucket(s.N)
	case QuarterBucket:
		return bucket(max(1, s.N/4))
	case LeakyBucket:
		return bucket(1)
	case Counter:
		weight := int64(began + s.Per - now) // of Per
		return since(began-s.Per, began)*weight+(since(began, now+1)+1)*int64(s.Per) <= s.N*int64(s.Per)
	}
	panic(s.Counts)
}

// Every counter accepts what its definition does, and says to the nanosecond
// when the next one fits.
func TestCounters(t *testing.T) {
	for _, counts := range []Counting{Fixed, Sliding, Bucket, QuarterBucket, LeakyBucket, Counter} {
		t.Run(string(counts), func(t *testing.T) {
			for seed := range uint64(40) {
				r := rand.New(rand.NewPCG(2, seed))
				s := Server{Counts: counts, N: 2 + r.Int64N(9), Per: time.Second + time.Duration(r.Int64N(1000)), CountRefused: seed%2 == 0}
				s.Phase = time.Duration(r.Int64N(int64(s.Per)))
				c := counterOf(s)
				var came []time.Duration
				now := time.Duration(r.Int64N(int64(s.Per)))
				refused := 0
				for range 80 {
					ready := c.ready(now)
					ok := ready <= now
					if ok != allowed(s, now, came) {
						t.Fatalf("%d/%v at %v: accepted %v; by definition it is not so; counted %v", s.N, s.Per, now, ok, came)
					}
					if ok || s.CountRefused {
						c.count(now)
						came = append(came, now)
						ready = c.ready(now)
					}
					if ready > now && (allowed(s, ready-1, came) || !allowed(s, ready, came)) {
						t.Fatalf("%d/%v at %v: says that one fits at %v; by definition it is another time; counted %v", s.N, s.Per, now, ready, came)
					}
					if !ok {
						refused++
					}
					now += time.Duration(r.ExpFloat64() * float64(s.Per) / float64(s.N) * 0.9)
					if r.IntN(8) == 0 {
						now = max(now, ready)
					}
				}
				if refused == 0 {
					t.Errorf("%d/%v: nothing was refused", s.N, s.Per)
				}
			}
		})
	}
}

func TestIdeal(t *testing.T) {
	const m = time.Minute
	for _, test := range []struct {
		counts  Counting
		n       int64
		wanted  int
		started time.Duration
		want    time.Duration
	}{
		{Fixed, 10, 10, 0, 0},
		{Fixed, 10, 11, 50 * time.Second, m}, // this server would accept it earlier, others would not
		{Sliding, 10, 31, 0, 3 * m},
		{Bucket, 10, 31, 0, 3 * m},
		{QuarterBucket, 12, 12, 0, 45 * time.Second}, // 3, and then one every 5 s
		{LeakyBucket, 12, 13, 0, m},
		{LeakyBucket, 12, 24, 0, 115 * time.Second},
		{Counter, 10, 10, 0, 0},
		{Counter, 10, 20, 0, 2 * m},                               // all of the first window, then one every 6 s, the last at its end
		{Counter, 10, 20, 30 * time.Second, 1*m + 30*time.Second}, // the same from second 30 on
	} {
		s := Server{Counts: test.counts, N: test.n, Per: m, Requests: test.wanted, Start: test.started}
		if got := s.Ideal(); got != test.want {
			t.Errorf("%s %d/%v, %d from %v on: ideal %v, want %v", test.counts, test.n, m, test.wanted, test.started, got, test.want)
		}
	}
}

func TestAttainable(t *testing.T) {
	for _, test := range []struct {
		s    Server
		want time.Duration
	}{
		// No refusal: that is the ideal.
		{Server{Counts: Sliding, N: 10, Told: Truth, Shut: time.Minute}, 2 * time.Minute},
		// Ten at once get one through; then one every 6 s.
		{Server{Counts: LeakyBucket, N: 10, Told: Truth}, 174 * time.Second},
		// The same after a minute.
		{Server{Counts: LeakyBucket, N: 10, Told: Truth, Shut: time.Minute}, 228 * time.Second},
		// Thirty at once put the bucket 29 tokens into debt, less the one it had.
		{Server{Counts: LeakyBucket, N: 10, Told: Nothing, CountRefused: true}, (29 + 29) * 6 * time.Second},
		// A counter takes ten, then nine a minute as those of the minute before
		// fade: the 29th at 3:00, the next when 9 of before weigh 8.
		{Server{Counts: Counter, N: 10, Told: Truth}, 3*time.Minute + 6666666667},
	} {
		test.s.Per, test.s.Requests = time.Minute, 30
		if got := test.s.Attainable(); got != test.want {
			t.Errorf("%v: attainable %v, want %v", test.s, got, test.want)
		}
	}
}

// Servers stand everywhere on every axis, and each is made by its seed alone.
func TestNew(t *testing.T) {
	const n = 2000
	seen := make(map[string]map[string]int)
	requests, twice := 0, 0
	for _, name := range Names(n/2, 11, 12) {
		s := New(name)
		if s != New(name) {
			twice++
		}
		requests += s.Requests
		for _, axis := range Axes {
			if seen[axis] == nil {
				seen[axis] = make(map[string]int)
			}
			seen[axis][s.Axis(axis)]++
		}
		if s.N < 2 || s.N > 300 || s.Per < time.Second || s.Per > time.Minute || s.Phase < 0 || s.Phase >= s.Per {
			t.Errorf("%v: out of bounds", s)
		}
		if at := s.Wanted(); len(at) != s.Requests || at[0] != 0 || !slices.IsSorted(at) {
			t.Errorf("%v: wanted at %v", s, at)
		}
	}
	if twice > 0 {
		t.Errorf("%d servers are others the second time", twice)
	}
	t.Logf("%.0f requests a server; %v", float64(requests)/n, seen)
	for axis, places := range map[string]int{"counts": 6, "refused": 2, "shut": 3, "hint": 9, "told": 4, "load": 3, "distance": 3, "think": 2, "per": 8, "n": 3} {
		if len(seen[axis]) != places {
			t.Errorf("%s: %d places, want %d", axis, len(seen[axis]), places)
		}
		for place, got := range seen[axis] {
			if got < n/20 {
				t.Errorf("%s, %s: %d servers of %d", axis, place, got, n)
			}
		}
	}
}
