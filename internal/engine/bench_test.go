package engine

import (
	"fmt"
	"testing"
	"time"

	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/refill"
)

// BenchmarkEngine has one request come, go and be answered, while so many others
// wait: it joins the queue, and the first one goes. With nobody waiting it goes at
// once.
func BenchmarkEngine(b *testing.B) {
	for _, n := range []int{0, 1, 100, 10_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			limits := []refill.Limit{
				{N: 1000, Per: time.Second, Rule: refill.Steady, Burst: 1},
				{Unit: refill.Tokens, N: 1 << 30, Per: time.Minute},
			}
			now := time.Hour
			at := func() Now { return Now{now, 1_750_000_000*time.Second + now} }
			e := New(at(), Config{Limits: limits, Seed: 1})
			requests := make([]Request, n+2)
			place := uint64(0)
			arrive := func() {
				r := &requests[place%uint64(len(requests))]
				place++
				*r = Request{Place: place, Draw: estimate.Draw{Cost: refill.Cost{1, 100, 0}}}
				e.Arrive(at(), r)
			}
			finish := func(r *Request) {
				e.Sent(at(), now, r)
				e.Answered(at(), r, Answer{})
				e.Closed(at(), r)
			}
			arrive() // takes the token there is
			first := &requests[0]
			e.Decide()
			finish(first)
			for range n {
				arrive()
				e.Decide()
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				now += 1001 * time.Microsecond
				r := &requests[place%uint64(len(requests))]
				arrive()
				d := e.Decide()
				if n > 0 {
					if len(d.Go) != 1 {
						b.Fatalf("%d go, want one", len(d.Go))
					}
					r = d.Go[0]
				}
				finish(r)
				e.Decide()
			}
		})
	}
}
