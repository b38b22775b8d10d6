package tollgate

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// step is one thing that happens to a bucket, and what is left then.
type step struct {
	at   time.Duration
	do   func(p *pool, at time.Duration)
	want int64 // free afterwards
}

func take(n int64) func(*pool, time.Duration) {
	return func(p *pool, at time.Duration) { p.take(at, n) }
}

func spend(n int64) func(*pool, time.Duration) {
	return func(p *pool, at time.Duration) { p.spend(at, n) }
}

func put(n int64) func(*pool, time.Duration) {
	return func(p *pool, _ time.Duration) { p.put(n) }
}

func spendNow(n int64) func(*pool, time.Duration) {
	return func(p *pool, at time.Duration) { p.take(at, n); p.spend(at, n) }
}

func undo(at time.Duration, n int64) func(*pool, time.Duration) {
	return func(p *pool, now time.Duration) { p.settle(now, at, -n) }
}

func drain(until time.Duration, anew bool) func(*pool, time.Duration) {
	return func(p *pool, _ time.Duration) { p.drain(until, anew) }
}

func look(*pool, time.Duration) {}

const s = time.Second

func TestRules(t *testing.T) {
	tests := []struct {
		name  string
		limit Limit
		steps []step
	}{
		{"window: back a Per after it was spent", RPM(10), []step{
			{0, look, 10}, {0, spendNow(10), 0}, {60*s - 1, look, 0}, {60 * s, look, 10},
		}},
		{"window: counted from when it was spent, not taken", RPM(10), []step{
			{0, take(10), 0}, {2 * s, spend(4), 0}, {5 * s, spend(6), 0},
			{62*s - 1, look, 0}, {62 * s, look, 4}, {65*s - 1, look, 4}, {65 * s, look, 10},
		}},
		{"window: on its way for ever is never back", RPM(2), []step{{0, take(2), 0}, {time.Hour, look, 0}}},
		{"window: put back at once", RPM(10), []step{{0, take(3), 7}, {1 * s, put(3), 10}}},
		{"window: debt", RPM(10), []step{{0, spendNow(25), -15}, {60 * s, look, 10}}},
		{"window: unspent where it was spent", RPM(10), []step{
			{0, spendNow(4), 6}, {10 * s, spendNow(5), 1}, {20 * s, undo(0, 3), 4}, {60 * s, look, 5}, {70 * s, look, 10},
		}},
		{"window: unspent last first", RPM(10), []step{
			{0, spendNow(4), 6}, {10 * s, spendNow(5), 1}, {20 * s, undo(never, 6), 7}, {60 * s, look, 10},
		}},
		{"window: unspent when back already", RPM(10), []step{
			{0, spendNow(4), 6}, {30 * s, spendNow(5), 1}, {60 * s, undo(0, 4), 5},
		}},
		{"steady: refilled continuously", Limit{N: 10, Per: 10 * s, Refill: Steady}, []step{
			{0, spendNow(10), 0}, {1*s - 1, look, 0}, {1 * s, look, 1}, {5 * s, look, 5}, {time.Hour, look, 10},
		}},
		{"steady: burst bounds what is sent", Limit{N: 10, Per: 10 * s, Refill: Steady, Burst: 2}, []step{
			{0, look, 2}, {0, spendNow(2), 0}, {1 * s, look, 1}, {9 * s, look, 2},
		}},
		{"steady: what is on its way does not refill", Limit{N: 10, Per: 10 * s, Refill: Steady}, []step{
			{0, take(10), 0}, {3 * s, look, 0}, {3 * s, spend(10), 0}, {4 * s, look, 1},
		}},
		{"steady: burst 1 is not slowed by round trips", Limit{N: 10, Per: 10 * s, Refill: Steady, Burst: 1}, []step{
			{0, take(1), 0}, {1 * s, look, 1}, {1 * s, take(1), 0}, {2 * s, look, 1}, {2 * s, spend(2), 1},
		}},
		{"steady: put back", Limit{N: 10, Per: 10 * s, Refill: Steady}, []step{{0, take(4), 6}, {0, put(4), 10}}},
		{"steady: debt", Limit{N: 10, Per: 10 * s, Refill: Steady}, []step{{0, spendNow(15), -5}, {6 * s, look, 1}}},
		{"steady: unspent", Limit{N: 10, Per: 10 * s, Refill: Steady}, []step{{0, spendNow(8), 2}, {1 * s, undo(0, 5), 8}}},
		{"at once: back when put back", Concurrency(3), []step{
			{0, take(3), 0}, {0, spend(3), 0}, {time.Hour, look, 0}, {time.Hour, put(2), 2},
		}},
		{"nothing at all", RPM(0), []step{{0, look, 0}, {time.Hour, look, 0}}},
		{"drain: then a token at a time for one Per", RPM(6), []step{
			{0, drain(30*s, false), 0}, {30*s - 1, look, 0}, {30 * s, look, 1}, {30 * s, spendNow(1), 0},
			{40 * s, look, 1}, {60 * s, look, 3}, {90*s - 1, look, 5}, {90 * s, look, 6},
		}},
		{"drain: all at once when the server counts anew", RPM(6), []step{
			{0, drain(30*s, true), 0}, {30*s - 1, look, 0}, {30 * s, look, 6},
		}},
		{"drain: the later one wins", RPM(6), []step{
			{0, drain(30*s, false), 0}, {0, drain(20*s, false), 0}, {20 * s, look, 0}, {30 * s, look, 1},
		}},
		{"drain: what was spent is not back sooner", RPM(6), []step{
			{0, spendNow(6), 0}, {1 * s, drain(5*s, false), 0}, {40 * s, look, 0}, {60 * s, look, 6},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := newPool(test.limit, true, nil)
			for i, st := range test.steps {
				st.do(&p, st.at)
				if got := p.free(st.at); got != st.want {
					t.Errorf("step %d at %v: %d free, want %d", i, st.at, got, st.want)
				}
			}
		})
	}
}

// Whatever has happened, ready names the very moment at which tokens are free.
func TestReady(t *testing.T) {
	limits := []Limit{
		RPM(7), RPM(5000), {N: 7, Per: time.Minute, Refill: Steady}, {N: 40, Per: time.Minute, Refill: Steady, Burst: 3},
	}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		l := limits[seed%uint64(len(limits))]
		p := newPool(l, true, nil)
		t0, held := time.Duration(0), int64(0)
		for range 300 {
			n := 1 + r.Int64N(l.burst())
			switch r.IntN(8) {
			case 0:
				t0 += time.Duration(r.Int64N(int64(10 * time.Second)))
			case 1:
				p.drain(t0+time.Duration(r.Int64N(int64(10*time.Second))), r.IntN(2) == 0)
			case 2:
				p.spend(t0, held)
				held = 0
			case 3:
				p.put(held)
				held = 0
			default:
				at := p.ready(t0, n)
				if at == never {
					if held == 0 {
						t.Fatalf("seed %d: %d of %v never ready though none are on their way", seed, n, l)
					}
					continue
				}
				if at > t0 && p.free(at-1) >= n {
					t.Fatalf("seed %d: %d of %v were free before %v", seed, n, l, at)
				}
				if t0 = at; p.free(t0) < n {
					t.Fatalf("seed %d: %d of %v are not free at %v", seed, n, l, at)
				}
				p.take(t0, n)
				held += n
			}
		}
	}
}

// Never more than N in any span of Per, and no token kept back: what is spent
// as soon as it may be comes to N in every Per exactly.
func TestWindowBound(t *testing.T) {
	for _, n := range []int64{1, 2, 10, 1000, 4_000_000} {
		p := newPool(Limit{N: n, Per: time.Minute}, true, nil)
		r := rand.New(rand.NewPCG(uint64(n), 1))
		var spent []spent
		t0, total := time.Duration(0), int64(0)
		for range 5000 {
			k := 1 + r.Int64N(max(1, n/50))
			t0 = p.ready(t0, k)
			p.take(t0, k)
			t0 += time.Duration(r.Int64N(int64(20 * time.Millisecond)))
			p.spend(t0, k)
			spent = append(spent, struct {
				at time.Duration
				n  int64
			}{t0, k})
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
		if w := p.rule.(*window); len(w.spent) > 2*grains+2 || cap(w.spent) > 4*grains {
			t.Errorf("N %d: window keeps %d entries, room for %d", n, len(w.spent), cap(w.spent))
		}
		if ideal := time.Duration(float64(total)/float64(n)*60) * time.Second; n >= 1000 && t0 > ideal*102/100+time.Minute {
			t.Errorf("N %d: %d tokens took %v, want about %v", n, total, t0, ideal)
		}
	}
}

func TestBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBucket(RPM(3))
		start := time.Now()
		for i := range 3 {
			if !b.TryTake(1) {
				t.Fatalf("TryTake %d of 3 failed", i+1)
			}
		}
		if b.TryTake(1) || b.Level() != 0 {
			t.Error("a bucket of 3 gave 4")
		}
		if err := b.Take(t.Context(), 2); err != nil || time.Since(start) != time.Minute {
			t.Errorf("Take: %v after %v, want nil after 1m", err, time.Since(start))
		}
		b.Put(2)
		if got := b.Level(); got != 3 {
			t.Errorf("%d tokens after Put, want 3", got)
		}
		b.Put(10)
		if got := b.Level(); got != 3 {
			t.Errorf("%d tokens after too many were put back, want 3", got)
		}
		b.Drain(time.Now().Add(30 * time.Second))
		if b.TryTake(1) {
			t.Error("a token from a drained bucket")
		}
		time.Sleep(30 * time.Second)
		if !b.TryTake(1) || b.TryTake(1) {
			t.Error("want one token, and no more, right after a drain")
		}
		if !b.TryTake(0) || b.TryTake(-1) {
			t.Error("no tokens are always there, less than none never")
		}
	})
}

func TestBucketErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBucket(RPM(2))
		b.TryTake(2)
		start := time.Now()

		ctx, cancel := context.WithTimeout(t.Context(), 59*time.Second)
		defer cancel()
		err := b.Take(ctx, 1)
		var limit *LimitError
		if !errors.As(err, &limit) || limit.RetryAfter != time.Minute || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrLimited) {
			t.Errorf("past the deadline: %#v", err)
		}
		err = b.Take(t.Context(), 3)
		if !errors.As(err, &limit) || limit.Reason != TooLarge || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("larger than the bucket: %v", err)
		}
		if err := b.Take(t.Context(), -1); err == nil {
			t.Error("negative: no error")
		}
		if time.Since(start) != 0 {
			t.Error("rejections took time")
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := b.Take(ctx, 1); err != context.Canceled {
			t.Errorf("cancelled in line: %v", err)
		}
		if err := b.Take(ctx, 1); err != context.Canceled {
			t.Errorf("cancelled before: %v", err)
		}
	})
	for _, l := range []Limit{{N: -1}, {N: 1, Per: -1}, {N: 1, Burst: 2}, {N: 1, Refill: 99}} {
		func() {
			defer func() {
				if err, ok := recover().(error); !ok || !strings.HasPrefix(err.Error(), "tollgate: ") {
					t.Errorf("NewBucket(%+v): %v, want a panic that says what is wrong", l, err)
				}
			}()
			NewBucket(l)
		}()
	}
}

// Those who wait are served in the order in which they came, a large one is not
// overtaken, and who leaves lets the others move up.
func TestBucketOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBucket(Limit{N: 5, Per: 5 * time.Second, Refill: Steady})
		b.TryTake(5)
		start := time.Now()
		var mu sync.Mutex
		var order []int
		var at []time.Duration
		gone, cancel := context.WithCancel(t.Context())
		for i, n := range []int64{1, 5, 1, 1, 2} {
			ctx := t.Context()
			if i == 2 {
				ctx = gone
			}
			go func() {
				if err := b.Take(ctx, n); err == nil {
					mu.Lock()
					defer mu.Unlock()
					order = append(order, i)
					at = append(at, time.Since(start))
				}
			}()
			synctest.Wait()
		}
		time.Sleep(500 * time.Millisecond)
		cancel()
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if want := []int{0, 1, 3, 4}; !slices.Equal(order, want) {
			t.Errorf("served %v, want %v", order, want)
		}
		if want := []time.Duration{1 * s, 6 * s, 7 * s, 9 * s}; !slices.Equal(at, want) {
			t.Errorf("at %v, want %v", at, want)
		}
	})
}

// A thousand in line, half of whom leave at random: the rest move up, every
// token is used, and nothing stays behind.
func TestBucketLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails if a goroutine stays
		b := NewBucket(RPM(10))
		start := time.Now()
		var wg sync.WaitGroup
		var mu sync.Mutex
		served := 0
		for i := range 1000 {
			ctx, cancel := context.WithCancel(t.Context())
			if i%2 == 0 {
				time.AfterFunc(rand.N(time.Minute), cancel)
			}
			wg.Go(func() {
				defer cancel()
				if b.Take(ctx, 1) == nil {
					mu.Lock()
					served++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		// The ten of the first minute may be of either kind.
		if lost := time.Duration((served - 1) / 10); time.Since(start) != lost*time.Minute {
			t.Errorf("%d served in %v, want 10 a minute", served, time.Since(start))
		}
		if b.line.head != nil || b.line.tail != nil || b.line.n != 0 || b.line.sum != (cost{}) || b.line.at != 0 {
			t.Errorf("something stayed in the line: %+v", b.line)
		}
	})
}
