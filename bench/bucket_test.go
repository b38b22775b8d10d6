package bench

import (
	"testing"
	"time"

	"golang.org/x/time/rate"

	"example.com/tollgate"
)

// plenty is more tokens than a benchmark can take.
const plenty = 1 << 40

var rules = []tollgate.Refill{tollgate.Window, tollgate.Steady}

func bucket(n int64, r tollgate.Refill) *tollgate.Bucket {
	return tollgate.NewBucket(tollgate.Limit{N: n, Per: 1e6 * time.Second, Refill: r})
}

// TryTake beside the Allow of golang.org/x/time/rate.
func BenchmarkTryTake(b *testing.B) {
	for _, r := range rules {
		for name, n := range map[string]int64{"free": plenty, "denied": 1} {
			b.Run(name+"/"+r.String(), func(b *testing.B) {
				ours, theirs := bucket(n, r), rate.NewLimiter(rate.Limit(n)/1e6, int(n))
				versus(b, func(n int) {
					for range n {
						ours.TryTake(1)
					}
				}, func(n int) {
					for range n {
						theirs.Allow()
					}
				})
			})
		}
	}
}

// Take with a free token beside the Wait of golang.org/x/time/rate.
func BenchmarkTake(b *testing.B) {
	for _, r := range rules {
		b.Run(r.String(), func(b *testing.B) {
			ours, theirs := bucket(plenty, r), rate.NewLimiter(plenty/1e6, plenty)
			versus(b, func(n int) {
				for range n {
					_ = ours.Take(b.Context(), 1)
				}
			}, func(n int) {
				for range n {
					_ = theirs.Wait(b.Context())
				}
			})
		})
	}
}
