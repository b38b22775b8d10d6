package bench

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"example.com/tollgate"
)

// BenchmarkStateFile measures what keeping a day's counter in a file adds to a
// request: half of them, and all but one in a hundred, take at most so long.
func BenchmarkStateFile(b *testing.B) {
	call := func(file string) func(n int) {
		return gemini.send(b.Context(), &tollgate.Transport{Base: gemini, Quotas: tollgate.Quotas{"*": {tollgate.RPD(plenty)}}, StateFile: file})
	}
	calls := []func(n int){call(""), call(filepath.Join(b.TempDir(), "state"))}
	var took [2][]time.Duration
	for b.Loop() {
		for i, call := range calls {
			began := time.Now()
			call(1)
			took[i] = append(took[i], time.Since(began))
		}
		time.Sleep(time.Millisecond) // as if they did something else
	}
	for i := range took {
		slices.Sort(took[i])
	}
	added := func(part float64) float64 {
		at := func(d []time.Duration) time.Duration { return d[int(part*float64(len(d)-1))] }
		return (at(took[1]) - at(took[0])).Seconds() * 1e6
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(added(0.5), "µs-half")
	b.ReportMetric(added(0.99), "µs-99%")
}
