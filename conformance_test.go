package tollgate_test

import (
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/internal/conformance"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, 5*time.Millisecond, func(t *testing.T, f func(*testing.T, func(tollgate.Quota) tollgate.Limiter)) {
		synctest.Test(t, func(t *testing.T) {
			f(t, func(q tollgate.Quota) tollgate.Limiter { return tollgate.NewGate("k", q) })
		})
	})
}
