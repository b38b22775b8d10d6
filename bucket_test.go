package tollgate_test

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

	"example.com/tollgate"
)

func TestBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := tollgate.NewBucket(tollgate.RPM(3))
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
		b := tollgate.NewBucket(tollgate.RPM(2))
		b.TryTake(2)
		start := time.Now()

		ctx, cancel := context.WithTimeout(t.Context(), 59*time.Second)
		defer cancel()
		err := b.Take(ctx, 1)
		var limit *tollgate.LimitError
		if !errors.As(err, &limit) || limit.RetryAfter != time.Minute || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, tollgate.ErrLimited) {
			t.Errorf("past the deadline: %#v", err)
		}
		err = b.Take(t.Context(), 3)
		if !errors.As(err, &limit) || limit.Reason != tollgate.TooLarge || errors.Is(err, context.DeadlineExceeded) {
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
			t.Errorf("cancelled in the queue: %v", err)
		}
		if err := b.Take(ctx, 1); err != context.Canceled {
			t.Errorf("cancelled before: %v", err)
		}
	})
	for _, l := range []tollgate.Limit{{N: -1}, {N: 1, Per: -1}, {N: 1, Burst: 2}, {N: 1, Refill: 99}} {
		func() {
			defer func() {
				if err, ok := recover().(error); !ok || !strings.HasPrefix(err.Error(), "tollgate: ") {
					t.Errorf("NewBucket(%+v): %v, want a panic that says what is wrong", l, err)
				}
			}()
			tollgate.NewBucket(l)
		}()
	}
}

// Those who wait are served in the order in which they came, a large one is not
// overtaken, and who leaves lets the others move up.
func TestBucketOrder(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		b := tollgate.NewBucket(tollgate.Limit{N: 5, Per: 5 * time.Second, Refill: tollgate.Steady})
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

// A thousand in the queue, half of whom leave at random: the rest move up, every
// token is used, and nothing stays behind.
func TestBucketLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails if a goroutine stays
		b := tollgate.NewBucket(tollgate.RPM(10))
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
		time.Sleep(time.Minute)
		if !b.TryTake(10) || b.TryTake(1) { // nobody is in the queue any more
			t.Errorf("something stayed in the queue: %d tokens", b.Level())
		}
	})
}

// More than a Steady bucket gives at once is too much, whichever way it is asked.
func TestBucketBurst(t *testing.T) {
	b := tollgate.NewBucket(tollgate.Limit{N: 10, Per: 10 * time.Second, Refill: tollgate.Steady, Burst: 3})
	if b.TryTake(4) {
		t.Error("took 4 with a burst of 3")
	}
	var limit *tollgate.LimitError
	if err := b.Take(t.Context(), 4); !errors.As(err, &limit) || limit.Reason != tollgate.TooLarge {
		t.Errorf("4 with a burst of 3: %v", err)
	}
	if !b.TryTake(3) {
		t.Error("3 with a burst of 3 are not there")
	}
}

// "For as long as you like" is not less than a minute.
func TestBucketForEver(t *testing.T) {
	b := tollgate.NewBucket(tollgate.RPM(10))
	b.Drain(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
	if n := b.Level(); n != 0 {
		t.Errorf("%d tokens before the year 9999, want none", n)
	}
	for _, refill := range []tollgate.Refill{tollgate.Auto, tollgate.Window, tollgate.Steady, tollgate.Calendar} {
		synctest.Test(t, func(t *testing.T) {
			b := tollgate.NewBucket(tollgate.Limit{N: 2, Per: 1<<63 - 1, Refill: refill}) // 292 years
			if !b.TryTake(2) || b.TryTake(1) || b.Level() != 0 {
				t.Errorf("%v: not two tokens in a bucket of two", refill)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 24*365*10*time.Hour)
			defer cancel()
			began := time.Now()
			var limit *tollgate.LimitError
			if err := b.Take(ctx, 1); !errors.As(err, &limit) || limit.Reason != tollgate.PastDeadline || limit.RetryAfter <= 0 || time.Since(began) != 0 {
				t.Errorf("%v: %v after %v, want it rejected at once, by many years", refill, err, time.Since(began))
			}
			b.Put(2)
			if !b.TryTake(2) {
				t.Errorf("%v: tokens that were put back are not there", refill)
			}
		})
	}
}
