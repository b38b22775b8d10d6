package limiter_test

import (
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate/internal/conformance"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/refill"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, 5*time.Millisecond, func(t *testing.T, f func(*testing.T, func([]refill.Limit) *limiter.Limiter)) {
		synctest.Test(t, func(t *testing.T) {
			f(t, func(list []refill.Limit) *limiter.Limiter {
				return limiter.New("k", limiter.Options{Limits: list})
			})
		})
	})
}
