package redislimit_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate/internal/conformance"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/redislimit"
	"example.com/tollgate/redislimit/internal/redistest"
)

// late is what a busy machine may add, not what Redis does.
const late = 2 * time.Second

func conform(t *testing.T, c redis.UniversalClient) {
	var keys atomic.Int64
	conformance.Run(t, late, func(t *testing.T, f func(*testing.T, func([]refill.Limit) *limiter.Limiter)) {
		t.Parallel()
		f(t, func(q []refill.Limit) *limiter.Limiter {
			shared := redislimit.New(c, redislimit.Options{Timeout: late, OnError: redislimit.FailClosed})
			return limiter.New(fmt.Sprintf("a {key} %d", keys.Add(1)), limiter.Options{Limits: q, Shared: shared})
		})
	})
}

func TestConformance(t *testing.T) {
	t.Run("Redis", func(t *testing.T) {
		c := redistest.Start(t).Client()
		t.Cleanup(func() { c.Close() })
		conform(t, c)
	})
	t.Run("Valkey", func(t *testing.T) {
		c := redistest.Valkey(t).Client()
		t.Cleanup(func() { c.Close() })
		conform(t, c)
	})
	t.Run("Cluster", func(t *testing.T) { conform(t, redistest.Cluster(t)) })
}
