package quotatest

import (
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
	_ "time/tzdata" // for the days of Los Angeles, wherever the tests run
)

// at returns a time as the counters take it.
func at(t *testing.T, s string) time.Duration {
	t.Helper()
	u, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.UnixNano())
}

func TestTake(t *testing.T) {
	const s = time.Second
	type step struct {
		at     time.Duration // since a full minute, 10 hours before midnight in Los Angeles
		tokens int64
		wait   time.Duration // 0: accepted
		over   []int         // which limits
	}
	tests := []struct {
		name       string
		limits     []Limit
		regardless bool
		steps      []step
	}{
		{"no limit", nil, false, []step{{0, 1 << 40, 0, nil}}},
		{"fixed", []Limit{RPM(2)}, false, []step{
			{59 * s, 0, 0, nil},
			{59 * s, 0, 0, nil},
			{60*s - 1, 0, 1, []int{0}},
			{60 * s, 0, 0, nil},
			{61 * s, 0, 0, nil},
			{62100 * time.Millisecond, 0, 57900 * time.Millisecond, []int{0}},
			{600 * s, 0, 0, nil},
		}},
		{"fixed, phase", []Limit{{N: 1, Per: 10 * s, Phase: 3 * s}}, false, []step{
			{0, 0, 0, nil},
			{1 * s, 0, 2 * s, []int{0}},
			{3 * s, 0, 0, nil},
			{12 * s, 0, 1 * s, []int{0}},
			{13 * s, 0, 0, nil},
		}},
		{"fixed, large and negative phases", []Limit{
			{N: 1, Per: 10 * s, Phase: 93 * s},
			{N: 1, Per: 10 * s, Phase: -7 * s},
		}, false, []step{
			{1 * s, 0, 0, nil},
			{2 * s, 0, 1 * s, []int{0, 1}},
			{3 * s, 0, 0, nil},
		}},
		{"sliding", []Limit{{N: 2, Per: 10 * s, Count: Sliding}}, false, []step{
			{0, 0, 0, nil},
			{4 * s, 0, 0, nil},
			{5 * s, 0, 5 * s, []int{0}},
			{10*s - 1, 0, 1, []int{0}},
			{10 * s, 0, 0, nil},
			{10 * s, 0, 4 * s, []int{0}},
			{14 * s, 0, 0, nil},
		}},
		{"sliding tokens", []Limit{{Unit: Tokens, N: 100, Per: 10 * s, Count: Sliding}}, false, []step{
			{0, 30, 0, nil},
			{1 * s, 30, 0, nil},
			{2 * s, 40, 0, nil},
			{3 * s, 0, 0, nil},
			{3 * s, 30, 7 * s, []int{0}},
			{3 * s, 31, 8 * s, []int{0}},
			{3 * s, 61, 9 * s, []int{0}},
			{11 * s, 60, 0, nil},
		}},
		{"bucket", []Limit{{N: 2, Per: 10 * s, Count: Bucket}}, false, []step{
			{0, 0, 0, nil},
			{0, 0, 0, nil},
			{0, 0, 5 * s, []int{0}},
			{5*s - 1, 0, 1, []int{0}},
			{5 * s, 0, 0, nil},
			{14 * s, 0, 0, nil},
			{15 * s, 0, 0, nil},
			{15 * s, 0, 5 * s, []int{0}},
			{100 * s, 0, 0, nil},
			{100 * s, 0, 0, nil},
			{100 * s, 0, 5 * s, []int{0}},
		}},
		{"bucket, a token in ⅓ ns", []Limit{{N: 3, Per: 1, Count: Bucket}}, false, []step{
			{0, 0, 0, nil},
			{0, 0, 0, nil},
			{0, 0, 0, nil},
			{0, 0, 1, []int{0}},
			{1, 0, 0, nil},
		}},
		{"counter", []Limit{{N: 10, Per: 10 * s, Count: Counter}}, false, append(slices.Repeat([]step{{9 * s, 0, 0, nil}}, 10), []step{
			{9 * s, 0, 2 * s, []int{0}},  // the window's 10 weigh 9 at 11 s
			{10 * s, 0, 1 * s, []int{0}}, // where a fixed window had all, and a sliding one none until 19 s
			{11*s - 1, 0, 1, []int{0}},
			{11 * s, 0, 0, nil},
			{11 * s, 0, 1 * s, []int{0}}, // 1 + 9 + 1
			{12 * s, 0, 0, nil},
			{15 * s, 0, 0, nil}, // 2 + 5 + 1
			{15 * s, 0, 0, nil},
			{15 * s, 0, 0, nil},
			{15 * s, 0, 1 * s, []int{0}}, // 5 + 5 + 1
			{20 * s, 0, 0, nil},          // 0 + 5 + 1
			{40 * s, 0, 0, nil},          // two windows on
		}...)},
		{"counter, phase, tokens", []Limit{{Unit: Tokens, N: 100, Per: 10 * s, Count: Counter, Phase: 3 * s}}, false, []step{
			{0, 60, 0, nil},
			{2 * s, 41, time.Second + 10*s*1/60 + 1, []int{0}}, // until 59 are left of the 60, rounded up
			{3 * s, 40, 0, nil},
			{8 * s, 31, 166666667, []int{0}}, // 40 + 30 + 31
			{8 * s, 30, 0, nil},
			{8 * s, 101, 10 * s, []int{0}},
			{13 * s, 100, 10 * s, []int{0}},
		}},
		{"refused ones count: counter", []Limit{{N: 2, Per: 10 * s, Count: Counter}}, true, []step{
			{0, 0, 0, nil},
			{0, 0, 0, nil},
			{5 * s, 0, 5*s + 6666666667, []int{0}}, // 3, which weigh 1 at 16.67 s
			{15 * s, 0, 5 * s, []int{0}},           // 1 + 1.5, and then 1 weighs 1 at 20 s
			{20 * s, 0, 0, nil},
		}},
		{"all or none", []Limit{RPM(3), {Unit: Tokens, N: 100, Per: time.Minute, Count: Sliding}}, false, []step{
			{30 * s, 90, 0, nil},
			{31 * s, 20, 59 * s, []int{1}}, // draws no request
			{32 * s, 5, 0, nil},
			{33 * s, 5, 0, nil},
			{34 * s, 1, 56 * s, []int{0, 1}},
			{35 * s, 0, 25 * s, []int{0}},
			{60 * s, 1, 30 * s, []int{1}},
			{90 * s, 90, 0, nil},
		}},
		{"more than the limit", []Limit{TPM(100)}, false, []step{
			{15 * s, 101, 45 * s, []int{0}},
			{60 * s, 101, 60 * s, []int{0}},
			{60 * s, 100, 0, nil},
		}},
		{"more than the limit, sliding", []Limit{{Unit: Tokens, N: 100, Per: 10 * s, Count: Sliding}}, false, []step{
			{0, 101, 10 * s, []int{0}},
			{0, math.MaxInt64, 10 * s, []int{0}},
		}},
		{"more than the limit, bucket", []Limit{{Unit: Tokens, N: 100, Per: 10 * s, Count: Bucket}}, false, []step{
			{0, 101, 10 * s, []int{0}},
			{0, math.MaxInt64, 10 * s, []int{0}},
		}},
		{"limits of 0", []Limit{
			RPM(0), TPM(0),
			{N: 0, Per: s, Count: Sliding}, {N: 0, Per: s, Count: Bucket},
		}, false, []step{
			{21 * s, 0, 39 * s, []int{0, 1, 2, 3}},
		}},
		{"day", []Limit{RPM(1), RPD(2)}, false, []step{
			{0, 0, 0, nil},
			{90 * s, 0, 0, nil},
			{100 * s, 0, 10*time.Hour - 100*s, []int{0, 1}},
			{170 * s, 0, 10*time.Hour - 170*s, []int{1}},
			{10*time.Hour - 1, 0, 1, []int{1}},
			{10 * time.Hour, 0, 0, nil},
		}},
		{"refused ones count: fixed", []Limit{RPM(1)}, true, []step{
			{0, 0, 0, nil},
			{1 * s, 0, 59 * s, []int{0}},
			{60 * s, 0, 0, nil},
		}},
		{"refused ones count: sliding", []Limit{{N: 1, Per: 10 * s, Count: Sliding}}, true, []step{
			{0, 0, 0, nil},
			{9 * s, 0, 10 * s, []int{0}},
			{18 * s, 0, 10 * s, []int{0}},
			{28 * s, 0, 0, nil},
		}},
		{"refused ones count: bucket", []Limit{{N: 1, Per: 10 * s, Count: Bucket}}, true, []step{
			{0, 0, 0, nil},
			{9 * s, 0, 11 * s, []int{0}},
			{20 * s, 0, 0, nil},
		}},
		{"refused ones count on every limit", []Limit{RPM(1), {Unit: Tokens, N: 100, Per: 200 * s, Count: Sliding}}, true, []step{
			{0, 50, 0, nil},
			{10 * s, 50, 190 * s, []int{0}}, // for the tokens it drew itself
			{60 * s, 1, 140 * s, []int{1}},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := at(t, "2026-08-18T21:00:00Z")
			q := newQuota(tt.limits)
			for i, st := range tt.steps {
				var over, want []Limit
				var wait time.Duration
				for _, e := range q.take(start+st.at, cost{Requests: 1, Tokens: st.tokens}, tt.regardless) {
					over, wait = append(over, e.Limit), max(wait, e.wait)
				}
				for _, j := range st.over {
					want = append(want, tt.limits[j])
				}
				if wait != st.wait || !reflect.DeepEqual(over, want) {
					t.Errorf("step %d, at %v: refused for %v by %v, want %v by %v", i, st.at, wait, over, st.wait, want)
				}
			}
		})
	}
}

func TestDays(t *testing.T) {
	tests := []struct {
		name, now, want string
		phase           time.Duration
	}{
		{"winter", "2026-01-15T12:00:00Z", "2026-01-16T08:00:00Z", 0},
		{"summer", "2026-07-15T12:00:00Z", "2026-07-16T07:00:00Z", 0},
		{"at midnight", "2026-07-15T07:00:00Z", "2026-07-16T07:00:00Z", 0},
		{"before midnight", "2026-07-15T06:59:59.999999999Z", "2026-07-15T07:00:00Z", 0},
		{"the day of 23 hours", "2026-03-08T08:00:00Z", "2026-03-09T07:00:00Z", 0},
		{"the day of 25 hours", "2026-11-01T07:00:00Z", "2026-11-02T08:00:00Z", 0},
		{"end of the year", "2026-12-31T12:00:00Z", "2027-01-01T08:00:00Z", 0},
		{"phase", "2026-01-15T09:00:00Z", "2026-01-15T10:00:00Z", 2 * time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := RPD(1)
			l.Phase = tt.phase
			c := newCounter(l)
			now, want := at(t, tt.now), at(t, tt.want)
			c.draw(now, 1)
			if got := now + c.wait(now, 1); got != want {
				t.Errorf("a day ends at %v, want %v", time.Unix(0, int64(got)).UTC(), tt.want)
			}
			if c.wait(want, 1) != 0 {
				t.Error("refused on the next day")
			}
		})
	}
}

// TestAgainstDefinition has the counters decide on random arrivals and compares
// with what the documentation says, reckoned from all that was accepted before.
func TestAgainstDefinition(t *testing.T) {
	definitions := map[Counting]func(l Limit, past []drawn, now time.Duration, n int64) bool{
		Fixed: func(l Limit, past []drawn, now time.Duration, n int64) bool {
			window := func(at time.Duration) int64 { return int64(math.Floor(float64(at-l.Phase) / float64(l.Per))) }
			for _, p := range past {
				if window(p.at) == window(now) {
					n += p.n
				}
			}
			return n <= l.N
		},
		Sliding: func(l Limit, past []drawn, now time.Duration, n int64) bool {
			for _, p := range past {
				if p.at > now-l.Per {
					n += p.n
				}
			}
			return n <= l.N
		},
		Counter: func(l Limit, past []drawn, now time.Duration, n int64) bool {
			since := ((now-l.Phase)%l.Per + l.Per) % l.Per
			sum := int64(0) // in parts of which one has Per
			for _, p := range past {
				switch begin := now - since; {
				case p.at >= begin:
					sum += p.n * int64(l.Per)
				case p.at >= begin-l.Per:
					sum += p.n * int64(l.Per-since)
				}
			}
			return sum+n*int64(l.Per) <= l.N*int64(l.Per)
		},
		Bucket: func(l Limit, past []drawn, now time.Duration, n int64) bool {
			full := big.NewRat(l.N, 1)
			level, last := new(big.Rat).Set(full), time.Duration(0)
			for _, p := range append(past[:len(past):len(past)], drawn{now, n}) {
				level.Add(level, big.NewRat(int64(p.at-last)*l.N, int64(l.Per)))
				if level.Cmp(full) > 0 {
					level.Set(full)
				}
				level.Sub(level, big.NewRat(p.n, 1))
				last = p.at
			}
			return level.Sign() >= 0
		},
	}
	for count, fits := range definitions {
		for seed := range uint64(25) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			l := Limit{
				Unit:  Tokens,
				N:     1 + rnd.Int64N(20),
				Per:   time.Duration(1 + rnd.Int64N(1000)),
				Count: count,
				Phase: time.Duration(rnd.Int64N(2000) - 1000),
			}
			c := newCounter(l)
			var past []drawn
			accepted, refused := 0, 0
			for now := time.Duration(0); accepted+refused < 100; now += time.Duration(rnd.Int64N(1 + 2*int64(l.Per)/l.N)) {
				n := rnd.Int64N(min(l.N, 3) + 1)
				wait := c.wait(now, n)
				if got, want := wait == 0, fits(l, past, now, n); got != want {
					t.Fatalf("%+v at %d, after %v: accepts %d: %v, want %v", l, now, past, n, got, want)
				}
				if wait == 0 {
					accepted++
					c.draw(now, n)
					past = append(past, drawn{now, n})
					continue
				}
				refused++
				if fits(l, past, now+wait-1, n) || !fits(l, past, now+wait, n) {
					t.Fatalf("%+v at %d, after %v: a wait of %d for %d is not exact", l, now, past, wait, n)
				}
			}
			if accepted < 5 || refused < 5 {
				t.Errorf("%+v: accepted %d, refused %d", l, accepted, refused)
			}
		}
	}
}

// TestBucketDoesNotDrift takes every token in the moment it is back, for long:
// the k-th must be back after k·per/n, rounded up.
func TestBucketDoesNotDrift(t *testing.T) {
	for _, l := range []Limit{
		{N: 7, Per: time.Minute},
		{N: 60, Per: time.Minute},
		{N: 999_983, Per: time.Minute},
		{N: 999_999_999_989, Per: day + 1}, // their product takes more than 64 bits
	} {
		b := &bucket{n: uint64(l.N), per: uint64(l.Per)}
		b.draw(0, l.N)
		now := time.Duration(0)
		for k := int64(1); k <= 50_000; k++ {
			now += b.wait(now, 1)
			if want := time.Duration((k*int64(l.Per) + l.N - 1) / l.N); now != want {
				t.Fatalf("%d in %v: token %d is back after %d ns, want %d", l.N, l.Per, k, now, want)
			}
			b.draw(now, 1)
		}
	}
}

func TestBucketInDebt(t *testing.T) {
	b := newCounter(Limit{Unit: Tokens, N: 1, Per: day, Count: Bucket})
	b.draw(0, math.MaxInt64)
	if got := b.wait(0, 1); got != math.MaxInt64 {
		t.Errorf("wait for %v", got)
	}
	full := newCounter(Limit{Unit: Tokens, N: math.MaxInt64, Per: 1, Count: Bucket})
	full.draw(0, math.MaxInt64)
	if got := full.wait(math.MaxInt64, math.MaxInt64); got != 0 {
		t.Errorf("after all time, wait for %v", got)
	}
}

func TestConstructors(t *testing.T) {
	for _, tt := range []struct{ got, want Limit }{
		{RPM(3), Limit{N: 3, Per: time.Minute}},
		{TPM(4), Limit{Unit: Tokens, N: 4, Per: time.Minute}},
		{RPD(5), Limit{N: 5, Per: 24 * time.Hour}},
	} {
		if tt.got != tt.want {
			t.Errorf("got %+v, want %+v", tt.got, tt.want)
		}
	}
	for _, l := range []Limit{{N: 1}, {N: 1, Per: -1}, {N: -1, Per: 1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v is taken for a limit", l)
				}
			}()
			newCounter(l)
		}()
	}
}
