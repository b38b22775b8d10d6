// Package bench measures tollgate beside its peers, always side by side in one
// run: what is claimed of its speed are ratios.
package bench

import (
	"slices"
	"testing"
	"time"
)

// versus measures two ways of doing the same by turns, and reports the medians
// and their ratio. Each of them does it n times.
func versus(b *testing.B, ours, theirs func(n int)) {
	const n = 200
	var took [2][]time.Duration
	for b.Loop() {
		for i, f := range []func(int){ours, theirs} {
			began := time.Now()
			f(n)
			took[i] = append(took[i], time.Since(began))
		}
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2]) / n
	}
	report(b, "ns", median(took[0]), median(took[1]))
	b.ReportMetric(testing.AllocsPerRun(100, func() { ours(1) }), "allocs")
}

// report reports what is measured of us and of a peer.
func report(b *testing.B, unit string, ours, theirs float64) {
	b.ReportMetric(0, "ns/op") // left out: it would be that of both
	b.ReportMetric(ours, unit+"-ours")
	b.ReportMetric(theirs, unit+"-theirs")
	b.ReportMetric(ours/theirs, "ratio")
}
