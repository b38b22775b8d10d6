package limiter

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/refill"
)

// BenchmarkAcquire has requests acquire tokens that there are, and report what has
// become of them.
func BenchmarkAcquire(b *testing.B) {
	l := newLimiter(refill.Limit{N: 1 << 40, Per: time.Minute, Rule: refill.Steady}, perUnit(refill.Tokens, 1<<50))
	var places atomic.Uint64
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			r := &Request{Request: engine.Request{Place: places.Add(1), Draw: estimate.Draw{Cost: refill.Cost{1, 100, 0}}}}
			if err := l.Acquire(context.Background(), r); err != nil {
				b.Error(err)
				return
			}
			r.Sent()
			r.Answered(engine.Answer{})
			r.Closed()
		}
	})
}

// BenchmarkHandOver has one slot handed from one goroutine to the next of so many
// that wait for it.
func BenchmarkHandOver(b *testing.B) {
	for _, n := range []int{2, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := newLimiter(atOnce(1))
			var places atomic.Uint64
			b.ReportAllocs()
			b.SetParallelism(n)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					r := ask(places.Add(1))
					if err := l.Acquire(context.Background(), r); err != nil {
						b.Error(err)
						return
					}
					r.Sent()
					r.Answered(engine.Answer{})
					r.Closed()
				}
			})
		})
	}
}
