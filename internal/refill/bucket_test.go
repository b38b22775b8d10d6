package refill

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

const s = time.Second

// rpm is a limit of n requests a minute.
func rpm(n int64) Limit { return Limit{N: n, Per: time.Minute} }

// step is one thing that happens to a bucket, and what is left then.
type step struct {
	at   time.Duration
	do   func(b *Bucket, at time.Duration)
	want int64 // free afterwards
}

func take(n int64) func(*Bucket, time.Duration) {
	return func(b *Bucket, at time.Duration) { b.Take(at, n) }
}

func spend(n int64) func(*Bucket, time.Duration) {
	return func(b *Bucket, at time.Duration) { b.Spend(at, n) }
}

func put(n int64) func(*Bucket, time.Duration) {
	return func(b *Bucket, _ time.Duration) { b.Put(n) }
}

func spendNow(n int64) func(*Bucket, time.Duration) {
	return func(b *Bucket, at time.Duration) { b.Take(at, n); b.Spend(at, n) }
}

func undo(at time.Duration, n int64) func(*Bucket, time.Duration) {
	return func(b *Bucket, now time.Duration) { b.Settle(now, at, -n) }
}

func drain(until time.Duration, anew bool) func(*Bucket, time.Duration) {
	return func(b *Bucket, _ time.Duration) { b.Drain(until, anew, b.Limit().N) }
}

func look(*Bucket, time.Duration) {}

func TestRules(t *testing.T) {
	tests := []struct {
		name  string
		limit Limit
		steps []step
	}{
		{"window: back a Per after it was spent", rpm(10), []step{
			{0, look, 10}, {0, spendNow(10), 0}, {60*s - 1, look, 0}, {60 * s, look, 10},
		}},
		{"window: counted from when it was spent, not taken", rpm(10), []step{
			{0, take(10), 0}, {2 * s, spend(4), 0}, {5 * s, spend(6), 0},
			{62*s - 1, look, 0}, {62 * s, look, 4}, {65*s - 1, look, 4}, {65 * s, look, 10},
		}},
		{"window: on its way for ever is never back", rpm(2), []step{{0, take(2), 0}, {time.Hour, look, 0}}},
		{"window: put back at once", rpm(10), []step{{0, take(3), 7}, {1 * s, put(3), 10}}},
		{"window: debt", rpm(10), []step{{0, spendNow(25), -15}, {60 * s, look, 10}}},
		{"window: unspent where it was spent", rpm(10), []step{
			{0, spendNow(4), 6}, {10 * s, spendNow(5), 1}, {20 * s, undo(0, 3), 4}, {60 * s, look, 5}, {70 * s, look, 10},
		}},
		{"window: unspent last first", rpm(10), []step{
			{0, spendNow(4), 6}, {10 * s, spendNow(5), 1}, {20 * s, undo(Never, 6), 7}, {60 * s, look, 10},
		}},
		{"window: unspent when back already", rpm(10), []step{
			{0, spendNow(4), 6}, {30 * s, spendNow(5), 1}, {60 * s, undo(0, 4), 5},
		}},
		{"steady: refilled continuously", Limit{N: 10, Per: 10 * s, Rule: Steady}, []step{
			{0, spendNow(10), 0}, {1*s - 1, look, 0}, {1 * s, look, 1}, {5 * s, look, 5}, {time.Hour, look, 10},
		}},
		{"steady: burst bounds what is sent", Limit{N: 10, Per: 10 * s, Rule: Steady, Burst: 2}, []step{
			{0, look, 2}, {0, spendNow(2), 0}, {1 * s, look, 1}, {9 * s, look, 2},
		}},
		{"steady: what is on its way does not refill", Limit{N: 10, Per: 10 * s, Rule: Steady}, []step{
			{0, take(10), 0}, {3 * s, look, 0}, {3 * s, spend(10), 0}, {4 * s, look, 1},
		}},
		{"steady: burst 1 is not slowed by round trips", Limit{N: 10, Per: 10 * s, Rule: Steady, Burst: 1}, []step{
			{0, take(1), 0}, {1 * s, look, 1}, {1 * s, take(1), 0}, {2 * s, look, 1}, {2 * s, spend(2), 1},
		}},
		{"steady: put back", Limit{N: 10, Per: 10 * s, Rule: Steady}, []step{{0, take(4), 6}, {0, put(4), 10}}},
		{"steady: debt", Limit{N: 10, Per: 10 * s, Rule: Steady}, []step{{0, spendNow(15), -5}, {6 * s, look, 1}}},
		{"steady: unspent", Limit{N: 10, Per: 10 * s, Rule: Steady}, []step{{0, spendNow(8), 2}, {1 * s, undo(0, 5), 8}}},
		{"at once: back when put back", Limit{N: 3}, []step{
			{0, take(3), 0}, {0, spend(3), 0}, {time.Hour, look, 0}, {time.Hour, put(2), 2},
		}},
		{"nothing at all", rpm(0), []step{{0, look, 0}, {time.Hour, look, 0}}},
		{"drain: then a token at a time for one Per", rpm(6), []step{
			{0, drain(30*s, false), 0}, {30*s - 1, look, 0}, {30 * s, look, 1}, {30 * s, spendNow(1), 0},
			{40 * s, look, 1}, {60 * s, look, 3}, {90*s - 1, look, 5}, {90 * s, look, 6},
		}},
		{"drain: all at once when the server counts anew", rpm(6), []step{
			{0, drain(30*s, true), 0}, {30*s - 1, look, 0}, {30 * s, look, 6},
		}},
		{"drain: the later one wins", rpm(6), []step{
			{0, drain(30*s, false), 0}, {0, drain(20*s, false), 0}, {20 * s, look, 0}, {30 * s, look, 1},
		}},
		{"drain: what was spent is not back sooner", rpm(6), []step{
			{0, spendNow(6), 0}, {1 * s, drain(5*s, false), 0}, {40 * s, look, 0}, {60 * s, look, 6},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := NewBucket(test.limit, true, nil)
			for i, st := range test.steps {
				st.do(b, st.at)
				if got := b.Free(st.at); got != st.want {
					t.Errorf("step %d at %v: %d free, want %d", i, st.at, got, st.want)
				}
			}
		})
	}
}

// Whatever has happened, Ready names the very moment at which tokens are free.
func TestReady(t *testing.T) {
	limits := []Limit{
		rpm(7), rpm(5000), {N: 7, Per: time.Minute, Rule: Steady}, {N: 40, Per: time.Minute, Rule: Steady, Burst: 3},
	}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		l := limits[seed%uint64(len(limits))]
		b := NewBucket(l, true, nil)
		t0, held := time.Duration(0), int64(0)
		for range 300 {
			n := 1 + r.Int64N(l.Capacity())
			switch r.IntN(8) {
			case 0:
				t0 += time.Duration(r.Int64N(int64(10 * time.Second)))
			case 1:
				b.Drain(t0+time.Duration(r.Int64N(int64(10*time.Second))), r.IntN(2) == 0, l.N)
			case 2:
				b.Spend(t0, held)
				held = 0
			case 3:
				b.Put(held)
				held = 0
			default:
				at := b.Ready(t0, n)
				if at == Never {
					if held == 0 {
						t.Fatalf("seed %d: %d of %v never ready though none are on their way", seed, n, l)
					}
					continue
				}
				if at > t0 && b.Free(at-1) >= n {
					t.Fatalf("seed %d: %d of %v were free before %v", seed, n, l, at)
				}
				if t0 = at; b.Free(t0) < n {
					t.Fatalf("seed %d: %d of %v are not free at %v", seed, n, l, at)
				}
				b.Take(t0, n)
				held += n
			}
		}
	}
}

// Never more than N in any span of Per, and no token kept back: what is spent
// as soon as it may be comes to N in every Per exactly.
func TestWindowBound(t *testing.T) {
	for _, n := range []int64{1, 2, 10, 1000, 4_000_000} {
		b := NewBucket(rpm(n), true, nil)
		r := rand.New(rand.NewPCG(uint64(n), 1))
		var spent []entry
		t0, total := time.Duration(0), int64(0)
		for range 5000 {
			k := 1 + r.Int64N(max(1, n/50))
			t0 = b.Ready(t0, k)
			b.Take(t0, k)
			t0 += time.Duration(r.Int64N(int64(20 * time.Millisecond)))
			b.Spend(t0, k)
			spent = append(spent, entry{t0, k})
			total += k
		}
		for i, sum, first := 0, int64(0), 0; i < len(spent); i++ {
			sum += spent[i].n
			for spent[first].at <= spent[i].at-time.Minute {
				sum -= spent[first].n
				first++
			}
			if sum > n {
				t.Fatalf("N %d: %d in the minute before %v", n, sum, spent[i].at)
			}
		}
		if w := b.rule.(*window); len(w.spent) > 2*grains+2 || cap(w.spent) > 4*grains {
			t.Errorf("N %d: window keeps %d entries, room for %d", n, len(w.spent), cap(w.spent))
		}
		if ideal := time.Duration(float64(total)/float64(n)*60) * time.Second; n >= 1000 && t0 > ideal*102/100+time.Minute {
			t.Errorf("N %d: %d tokens took %v, want about %v", n, total, t0, ideal)
		}
	}
}

// What is taken and given back leaves nothing behind.
func TestWindowForgets(t *testing.T) {
	b := NewBucket(Limit{N: 10, Per: time.Hour}, true, nil)
	for i := range time.Duration(10_000) {
		if b.Free(i) < 2 {
			t.Fatal("no token")
		}
		b.Take(i, 2)
		b.Spend(i, 2)
		b.Settle(i, Never, -2)
	}
	if n := len(b.rule.(*window).spent); n > 1 {
		t.Errorf("%d entries of nothing", n)
	}
}

// Numbers at their ends do not overflow: a Per of 292 years and more tokens than
// can be counted are for ever, not for less than no time.
func TestEnds(t *testing.T) {
	const now = 50 * 365 * Day // since the epoch, more or less
	for _, rule := range []Rule{Auto, Window, Steady, Calendar} {
		for _, n := range []int64{1, 7, math.MaxInt64} {
			for _, per := range []time.Duration{time.Nanosecond, Day, math.MaxInt64} {
				for _, exact := range []bool{false, true} {
					l := Limit{N: n, Per: per, Rule: rule}
					c := NewClock(0)
					b := NewBucket(l, exact, c)
					if got := b.Free(now); got != n {
						t.Errorf("%+v: %d free, want all", l, got)
					}
					b.Take(now, n)
					if got := b.Free(now); got != 0 {
						t.Errorf("%+v: %d free of none", l, got)
					}
					b.Spend(now+s, n)
					at := b.Ready(now+s, 1)
					if at < now+s {
						t.Errorf("%+v: ready at %v, before now", l, at)
					}
					if full := b.Full(now + s); full < at {
						t.Errorf("%+v: full at %v, before one is there at %v", l, full, at)
					}
					if per == math.MaxInt64 && n < math.MaxInt64 && at < now+Day {
						t.Errorf("%+v: one is back at %v", l, at-now)
					}
					last := at - Flight // Steady leaves out what has arrived later than it was sent
					for _, k := range []int64{1, 8, math.MaxInt32, math.MaxInt64} {
						turn := b.Turn(now+s, k)
						if turn < last {
							t.Errorf("%+v: the turn of %d comes at %v, before %v", l, k, turn, last)
						}
						last = turn
					}
					for _, until := range []time.Duration{now + 2*s, Never - 1, Never} {
						for _, anew := range []bool{false, true} {
							d := NewBucket(l, exact, c)
							d.Drain(until, anew, n)
							if got := d.Ready(now, 1); got < until {
								t.Errorf("%+v: drained until %v, ready at %v", l, until, got)
							}
							if got := d.Free(now); got != 0 {
								t.Errorf("%+v: %d free of a drained one", l, got)
							}
						}
					}
				}
			}
		}
	}
}

// Another N changes what is left, and not what was spent.
func TestResizeKeepsSpent(t *testing.T) {
	for _, rule := range []Rule{Window, Steady, Calendar} {
		b := NewBucket(Limit{N: 10, Per: Day, Rule: rule}, true, NewClock(0))
		b.Take(0, 6)
		b.Spend(0, 6)
		b.Resize(0, 8)
		if got := b.Free(0); got != 2 {
			t.Errorf("rule %d: %d free of 8 after 6 of 10, want 2", rule, got)
		}
		b.Resize(0, 4)
		if got := b.Free(0); got != -2 {
			t.Errorf("rule %d: %d free of 4 after 6, want -2", rule, got)
		}
	}
}
