package bench

import (
	"net/http"
	"runtime"
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

// An overhead is a case of the overhead table.
type overhead struct {
	name   string
	api    *exchange
	quota  tollgate.Quota
	retry  bool // Retry over Transport
	ratio  float64
	allocs int
	bytes  int
}

// transport returns what the case measures.
func (o *overhead) transport() http.RoundTripper {
	t := limited(o.api, o.quota)
	if o.retry {
		return &tollgate.Retry{Base: t}
	}
	return t
}

// overheads are the cases of the overhead table, with the most that ours may
// add as a ratio of what theirs adds (0: no bound), and the most that it may
// allocate: noise does not touch that.
var overheads = []overhead{
	{name: "unknown host", api: unknown, quota: quota, ratio: 1, allocs: 7, bytes: 1200},
	{name: "Gemini", api: gemini, quota: quota, ratio: 1, allocs: 7, bytes: 1200},
	{name: "OpenAI", api: openAI, quota: quota, ratio: 1.3, allocs: 12, bytes: 1600},
	{name: "Gemini, RPM TPM RPD", api: gemini, quota: tollgate.Quota{tollgate.RPM(plenty), tollgate.TPM(plenty), tollgate.RPD(plenty)}, allocs: 12, bytes: 2500},
	{name: "unknown host, Retry", api: unknown, quota: quota, retry: true, allocs: 22, bytes: 2900},
}

// BenchmarkOverhead measures what a Transport with a free token adds to the bare
// RoundTripper, beside what failsafehttp with a rate limiter adds. The three
// take turns of so many calls that each turn has collections of garbage in it,
// which are part of what an allocation costs.
func BenchmarkOverhead(b *testing.B) {
	t := &table{}
	t.add("added to a call", "ns, ours", "failsafehttp", "ratio", "at most", "allocs, ours", "failsafehttp", "at most", "bytes, ours", "failsafehttp", "at most")
	for _, c := range overheads {
		b.Run(c.name, func(b *testing.B) {
			const n = 4000
			fs := []func(n int){c.api.send(b.Context(), c.api), c.api.send(b.Context(), c.transport()), c.api.send(b.Context(), failsafe(c.api))}
			took := byTurns(b, func() { fs[0](n) }, func() { fs[1](n) }, func() { fs[2](n) })
			ours, theirs := less(took[1], took[0]), less(took[2], took[0])
			report(b, "ns", median(ours)/n, median(theirs)/n)
			b.ReportMetric(ratio(ours, theirs), "ratio")
			var allocs, bytes [3]int
			for i, f := range fs {
				allocs[i], bytes[i] = allocated(f)
			}
			b.ReportMetric(float64(allocs[1]-allocs[0]), "allocs-ours")
			b.ReportMetric(float64(allocs[2]-allocs[0]), "allocs-theirs")
			t.add(c.name, median(ours)/n, median(theirs)/n, ratio(ours, theirs), bound(c.ratio),
				allocs[1]-allocs[0], allocs[2]-allocs[0], c.allocs, bytes[1]-bytes[0], bytes[2]-bytes[0], c.bytes)
		})
	}
	t.print()
}

// TestTransportAllocs holds what a Transport allocates for a call.
func TestTransportAllocs(t *testing.T) {
	for _, c := range overheads {
		t.Run(c.name, func(t *testing.T) {
			allocs, bytes := allocated(c.api.send(t.Context(), c.transport()))
			bare, bareBytes := allocated(c.api.send(t.Context(), c.api))
			if n := allocs - bare; n > c.allocs {
				t.Errorf("%d allocations, want at most %d", n, c.allocs)
			}
			if n := bytes - bareBytes; n > c.bytes {
				t.Errorf("%d bytes allocated, want at most %d", n, c.bytes)
			}
		})
	}
}

// allocated returns how many allocations f makes for a call, and of how many bytes:
// the medians, as a pool loses some of what it holds under the race detector.
func allocated(f func(n int)) (allocs, bytes int) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	f(100)
	var counts, sizes []float64
	for range 201 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f(1)
		runtime.ReadMemStats(&after)
		counts = append(counts, float64(after.Mallocs-before.Mallocs))
		sizes = append(sizes, float64(after.TotalAlloc-before.TotalAlloc))
	}
	return int(median(counts)), int(median(sizes))
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
