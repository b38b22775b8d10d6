package bench

import (
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/ratelimiter"

	"example.com/tollgate"
)

// quota is one of requests that is never used up.
var quota = tollgate.Quota{tollgate.RPM(plenty)}

// limited returns a Transport over base with a quota for every key.
func limited(base http.RoundTripper, q tollgate.Quota) *tollgate.Transport {
	return &tollgate.Transport{Base: base, Quotas: tollgate.Quotas{"*": q}}
}

// failsafe returns failsafehttp with a rate limiter that always has a permit.
func failsafe(base http.RoundTripper) http.RoundTripper {
	return failsafehttp.NewRoundTripper(base, ratelimiter.NewBursty[*http.Response](plenty, 1000*time.Second))
}

// overheads are the cases of the overhead table, with the most that ours may
// add as a ratio of what theirs adds, and the most allocations; 0: no bound.
var overheads = []struct {
	name   string
	api    *exchange
	quota  tollgate.Quota
	retry  bool // Retry over Transport
	ratio  float64
	allocs int
}{
	{name: "unknown host", api: unknown, quota: quota, ratio: 1, allocs: 10},
	{name: "Gemini", api: gemini, quota: quota, ratio: 1, allocs: 10},
	{name: "OpenAI", api: openAI, quota: quota, ratio: 1.3},
	{name: "Gemini, RPM TPM RPD", api: gemini, quota: tollgate.Quota{tollgate.RPM(plenty), tollgate.TPM(plenty), tollgate.RPD(plenty)}},
	{name: "unknown host, Retry", api: unknown, quota: quota, retry: true},
}

// BenchmarkOverhead measures what a Transport with a free token adds to the bare
// RoundTripper, beside what failsafehttp with a rate limiter adds. The three
// take turns of so many calls that each turn has collections of garbage in it,
// which are part of what an allocation costs.
func BenchmarkOverhead(b *testing.B) {
	t := &table{}
	t.add("added to a call", "ns, ours", "failsafehttp", "ratio", "at most", "allocs, ours", "failsafehttp", "at most")
	for _, c := range overheads {
		b.Run(c.name, func(b *testing.B) {
			const n = 4000
			var rt http.RoundTripper = limited(c.api, c.quota)
			if c.retry {
				rt = &tollgate.Retry{Base: rt}
			}
			fs := []func(n int){c.api.send(b.Context(), c.api), c.api.send(b.Context(), rt), c.api.send(b.Context(), failsafe(c.api))}
			took := byTurns(b, func() { fs[0](n) }, func() { fs[1](n) }, func() { fs[2](n) })
			ours, theirs := less(took[1], took[0]), less(took[2], took[0])
			report(b, "ns", median(ours)/n, median(theirs)/n)
			b.ReportMetric(ratio(ours, theirs), "ratio")
			var allocs [3]float64
			for i, f := range fs {
				allocs[i] = testing.AllocsPerRun(100, func() { f(1) })
			}
			b.ReportMetric(allocs[1]-allocs[0], "allocs-ours")
			b.ReportMetric(allocs[2]-allocs[0], "allocs-theirs")
			t.add(c.name, median(ours)/n, median(theirs)/n, ratio(ours, theirs), bound(c.ratio), int(allocs[1]-allocs[0]), int(allocs[2]-allocs[0]), bound(c.allocs))
		})
	}
	t.print()
}

// TestTransportAllocs holds the allocations that a Transport adds to a call.
func TestTransportAllocs(t *testing.T) {
	for _, c := range overheads {
		if c.allocs == 0 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			allocs := func(rt http.RoundTripper) float64 {
				one := c.api.send(t.Context(), rt)
				return testing.AllocsPerRun(1000, func() { one(1) })
			}
			if n := allocs(limited(c.api, c.quota)) - allocs(c.api); int(n) > c.allocs {
				t.Errorf("%v allocations, want at most %v", n, c.allocs)
			}
		})
	}
}

// BenchmarkThroughput has so many goroutines make calls with one key, as fast as
// they can, through a Transport and through failsafehttp by turns.
func BenchmarkThroughput(b *testing.B) {
	const calls = 1 << 14 // a round, by all goroutines together
	t := &table{}
	t.add("goroutines", "calls/s, ours", "failsafehttp", "ratio", "at least")
	for _, goroutines := range []int{1, 8, 64, 512} {
		b.Run(strconv.Itoa(goroutines), func(b *testing.B) {
			together := func(rt http.RoundTripper) func() {
				send := unknown.send(b.Context(), rt)
				return func() {
					var wg sync.WaitGroup
					for range goroutines {
						wg.Go(func() { send(calls / goroutines) })
					}
					wg.Wait()
				}
			}
			took := byTurns(b, together(limited(unknown, quota)), together(failsafe(unknown)))
			us, them := calls/median(took[0])*1e9, calls/median(took[1])*1e9
			report(b, "calls/s", us, them)
			b.ReportMetric(ratio(took[1], took[0]), "ratio")
			t.add(goroutines, us, them, ratio(took[1], took[0]), 1.0)
		})
	}
	t.print()
}
