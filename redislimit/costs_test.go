package redislimit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
	"example.com/tollgate/redislimit/internal/redistest"
)

// However many processes wait, a grant takes at most two exchanges, those included
// that tell what has become of it; nothing of the quota is lost, and each process
// gets its part.
func TestExchanges(t *testing.T) {
	client := redistest.Start(t).Client()
	t.Cleanup(func() { client.Close() })
	const span = 30 * time.Second
	for name, q := range map[string]struct {
		limits []refill.Limit
		ideal  int // that may go in span
	}{
		"600 a minute":        {[]refill.Limit{{N: 600, Per: time.Minute, Rule: refill.Window}}, 600},
		"30 a second, evenly": {[]refill.Limit{{N: 30, Per: time.Second, Rule: refill.Steady, Burst: 1}}, 900},
		"16 at once":          {[]refill.Limit{{N: 16}}, 16 * 600},
		"requests and tokens": {[]refill.Limit{{N: 100, Per: 5 * time.Second, Rule: refill.Window}, {Unit: refill.Tokens, N: 1000, Per: 5 * time.Second, Rule: refill.Window}}, 600},
	} {
		for _, n := range []int{1, 8, 64} {
			t.Run(fmt.Sprintf("%s, %d processes", name, n), func(t *testing.T) {
				w := &world{Rand: rand.New(rand.NewPCG(1, uint64(n))), t: t, seed: 1, client: client, limits: q.limits, on: share.FailClosed, held: make(map[time.Duration]int), answer: 50 * time.Millisecond}
				for range n {
					w.join()
				}
				had := make([]int, n)
				for w.now < span {
					for i, p := range w.peers {
						for len(p.flying) < 20 {
							had[i]++
							p.arrive(refill.Cost{1, 5, 0})
						}
					}
					w.until(func() bool { return false }, w.now+time.Millisecond)
				}
				w.check()
				least, most := 1<<30, 0
				for i, p := range w.peers {
					had[i] -= len(p.flying)
					least, most = min(least, had[i]), max(most, had[i])
				}
				each := float64(w.traded) / float64(w.sent)
				t.Logf("%.2f exchanges a grant, %.0f%% of what is possible, %d to %d each", each, 100*float64(w.sent)/float64(q.ideal), least, most)
				if w.traded > 2*w.sent+2*n { // two for each that comes
					t.Errorf("%d exchanges for %d grants, want 2 each at most, and 2 for each process", w.traded, w.sent)
				}
				if w.sent < q.ideal*9/10 {
					t.Errorf("%d sent, want %d", w.sent, q.ideal)
				}
				client.FlushAll(context.Background())
			})
		}
	}
}
