package redislimit

import (
	"context"
	"testing"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/provider"
	"example.com/tollgate/redislimit/internal/redistest"
)

func TestSmoke(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	defer c.Close()
	st := newStore(c, "tollgate:", "k")
	now := int64(1_000_000_000_000_000)
	st.now = func() int64 { return now }
	limits := []tollgate.Limit{{N: 10, Per: time.Minute, Refill: tollgate.Window}, {Unit: tollgate.Tokens, N: 1000, Per: time.Minute, Refill: tollgate.Steady}}
	for range 6 {
		r, err := st.Exchange(context.Background(), tollgate.Batch{Limits: limits, Asks: []provider.Cost{{1, 10}, {1, 20}, {1, 30}}})
		t.Logf("%+v %v", r, err)
		now += 100000
	}
}
