package redislimit_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/redislimit"
	"example.com/tollgate/redislimit/internal/redistest"
)

// BenchmarkShare measures what a grant costs Redis, and how much of a quota is used,
// by processes that wait all the time.
func BenchmarkShare(b *testing.B) {
	for _, kind := range []struct {
		name   string
		limits []refill.Limit
		rate   float64 // that is possible, a second
	}{
		{"window", []refill.Limit{{N: 600, Per: 3 * time.Second, Rule: refill.Window}}, 200},
		{"steady", []refill.Limit{{N: 30, Per: time.Second, Rule: refill.Steady, Burst: 1}}, 30},
		{"slots", []refill.Limit{{N: 16}}, 320},
		{"tokens", []refill.Limit{{N: 600, Per: 3 * time.Second, Rule: refill.Window}, {Unit: refill.Tokens, N: 30_000, Per: 3 * time.Second, Rule: refill.Window}}, 20},
	} {
		for _, n := range []int{1, 8, 32, 64} {
			b.Run(fmt.Sprintf("%s/%d", kind.name, n), func(b *testing.B) {
				for b.Loop() {
					measure(b, kind.limits, n, kind.rate)
				}
			})
		}
	}
}

func measure(b *testing.B, limits []refill.Limit, processes int, rate float64) {
	s := redistest.Start(b)
	defer s.Kill()
	ctx, cancel := context.WithCancel(context.Background())
	var went, place atomic.Uint64
	var wg sync.WaitGroup
	for range processes {
		c := redis.NewClient(&redis.Options{Addr: s.Addr()})
		defer c.Close()
		l := limiter.New("k", limiter.Options{Limits: limits, Shared: redislimit.New(c, redislimit.Options{Timeout: time.Second})})
		for range 20 {
			wg.Go(func() {
				for {
					r := &limiter.Request{Request: engine.Request{Place: place.Add(1), Draw: estimate.Draw{Cost: refill.Cost{1, 500}}}}
					if l.Acquire(ctx, r) != nil {
						return
					}
					r.Sent()
					went.Add(1)
					time.Sleep(50 * time.Millisecond)
					r.Answered(engine.Answer{})
					r.Settle(refill.Cost{1, 500, 0})
					r.Closed()
				}
			})
		}
	}
	const settle, span = 3 * time.Second, 6 * time.Second
	time.Sleep(settle) // a window is spent
	c := s.Client()
	defer c.Close()
	before := went.Load()
	calls, usec := evals(c)
	began := time.Now()
	time.Sleep(span)
	took := time.Since(began)
	used, spent := evals(c)
	grants := float64(went.Load() - before)
	cancel()
	wg.Wait()
	b.ReportMetric(float64(used-calls)/grants, "exchanges/grant")
	b.ReportMetric(float64(spent-usec)/grants, "µs-redis/grant")
	b.ReportMetric(100*grants/took.Seconds()/rate, "%ideal")
	b.ReportMetric(0, "ns/op")
}

// evals returns how many scripts Redis has run, and for how many microseconds.
func evals(c redis.UniversalClient) (calls, usec int) {
	for _, line := range strings.Split(c.Info(context.Background(), "commandstats").Val(), "\n") {
		if stats, ok := strings.CutPrefix(line, "cmdstat_eval"); ok {
			get := func(name string) int {
				_, v, _ := strings.Cut(stats, name+"=")
				v, _, _ = strings.Cut(v, ",")
				n, _ := strconv.Atoi(v)
				return n
			}
			calls, usec = calls+get("calls"), usec+get("usec")
		}
	}
	return calls, usec
}
