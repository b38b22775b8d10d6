package redislimit_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-redis/redis_rate/v10"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/redislimit"
	"example.com/tollgate/redislimit/internal/redistest"
)

// BenchmarkFree measures grants that nobody has to wait for, one caller alone and
// many at once, beside redis_rate's Allow on the same Redis.
func BenchmarkFree(b *testing.B) {
	c := redistest.Start(b).Client()
	b.Cleanup(func() { c.Close() })
	ctx := context.Background()
	rate := redis_rate.NewLimiter(c)
	many := redis_rate.Limit{Rate: 1e9, Burst: 1e9, Period: time.Minute}
	l := limiter.New("k", limiter.Options{
		Limits: []refill.Limit{{N: 1e9, Per: time.Minute}, {Unit: refill.Tokens, N: 1e12, Per: time.Minute}},
		Shared: redislimit.New(c, redislimit.Options{Timeout: time.Second}),
	})
	var place atomic.Uint64
	for _, callers := range []int{1, 64} {
		for _, test := range []struct {
			name string
			call func() error
		}{
			{"redis_rate", func() error {
				_, err := rate.Allow(ctx, "k", many)
				return err
			}},
			{"redislimit", func() error {
				g := &limiter.Request{Request: engine.Request{Place: place.Add(1), Draw: estimate.Draw{Cost: refill.Cost{1, 1000}}}}
				if err := l.Acquire(ctx, g); err != nil {
					return err
				}
				g.Sent()
				g.Answered(engine.Answer{})
				g.Closed()
				return nil
			}},
		} {
			b.Run(map[int]string{1: "one/", 64: "many/"}[callers]+test.name, func(b *testing.B) {
				var mu sync.Mutex
				var all []time.Duration
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				b.ResetTimer()
				for range callers {
					wg.Go(func() {
						var took []time.Duration
						for left.Add(-1) >= 0 {
							began := time.Now()
							if err := test.call(); err != nil {
								b.Error(err)
								return
							}
							took = append(took, time.Since(began))
						}
						mu.Lock()
						all = append(all, took...)
						mu.Unlock()
					})
				}
				wg.Wait()
				b.StopTimer()
				slices.Sort(all)
				b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "grants/s")
			})
		}
	}
}
