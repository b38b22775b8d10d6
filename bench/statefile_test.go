package bench

import (
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/internal/workload"
)

// BenchmarkStateFile measures what keeping a day's counter in a file adds to a
// request: half of them, and all but one in a hundred, take at most so long.
func BenchmarkStateFile(b *testing.B) {
	req, err := http.NewRequest(http.MethodPost, workload.URL, http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	transport := func(file string) http.RoundTripper {
		return &tollgate.Transport{Base: &instant{}, Quotas: tollgate.Quotas{"*": {tollgate.RPD(plenty)}}, StateFile: file}
	}
	rts := []http.RoundTripper{transport(""), transport(filepath.Join(b.TempDir(), "state"))}
	var took [2][]time.Duration
	for b.Loop() {
		for i, rt := range rts {
			began := time.Now()
			resp, err := rt.RoundTrip(req)
			took[i] = append(took[i], time.Since(began))
			if err != nil {
				b.Fatal(err)
			}
			resp.Body.Close()
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
