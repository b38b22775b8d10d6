package bench

import (
	"runtime"
	"testing"
)

// A figure is what something costs where there is much of everything.
type figure struct {
	what  string
	unit  string
	value float64
	most  string // the bound set for it; "": there is none
}

// scales measure figures. Each call of one is a measurement of its own.
var scales = []struct {
	name    string
	measure func(b *testing.B) []figure
}{
	{"comeback", comeback},
	{"refusal", refusal},
	{"estimate", estimate},
	{"join", join},
	{"waiters", waiters},
	{"status", status},
	{"forgotten", forgotten},
}

// BenchmarkScale prints what it costs to have 100,000 in a queue, as many keys,
// and a million waiters, each beside its bound. Several measurements of one
// figure are told by their median.
//
// Files are taken in the order of their names, and this one comes after those
// that time single calls: what a process keeps of 100,000 goroutines that have
// ended makes each later collection of garbage take longer.
func BenchmarkScale(b *testing.B) {
	t := &table{}
	t.add("with 100,000 waiting, or as many keys", "measured", "unit", "at most")
	for _, s := range scales {
		b.Run(s.name, func(b *testing.B) {
			var runs [][]figure
			for b.Loop() {
				runs = append(runs, s.measure(b))
				runtime.GC() // what one leaves behind is not the next one's to pay for
			}
			b.ReportMetric(0, "ns/op") // left out: most of it is preparation
			for i, f := range runs[0] {
				var values []float64
				for _, r := range runs {
					values = append(values, r[i].value)
				}
				t.add(f.what, median(values), f.unit, f.most)
			}
		})
	}
	t.print()
}
