package bench

import (
	"net/http"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/ratelimiter"

	"example.com/tollgate"
	"example.com/tollgate/internal/workload"
)

// instant answers at once, and as far as it can for nothing.
type instant struct{ resp http.Response }

func (i *instant) RoundTrip(*http.Request) (*http.Response, error) {
	i.resp = http.Response{StatusCode: http.StatusOK, Body: http.NoBody}
	return &i.resp, nil
}

// A Transport with a free token beside failsafehttp with a rate limiter. What
// is compared is what either adds to the bare RoundTripper, whose own time is a
// few nanoseconds.
func BenchmarkTransport(b *testing.B) {
	req, err := http.NewRequest(http.MethodPost, workload.URL, http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	limiter := ratelimiter.NewBursty[*http.Response](plenty, 1000*time.Second)
	theirs := failsafehttp.NewRoundTripper(&instant{}, limiter)
	ours := &tollgate.Transport{Base: &instant{}, Quotas: quotas(plenty)}
	for name, ours := range map[string]http.RoundTripper{"Transport": ours, "Retry over Transport": &tollgate.Retry{Base: ours}} {
		b.Run(name, func(b *testing.B) { versus(b, send(ours, req), send(theirs, req)) })
	}
}

func send(rt http.RoundTripper, req *http.Request) func(n int) {
	return func(n int) {
		for range n {
			resp, err := rt.RoundTrip(req)
			if err != nil {
				panic(err)
			}
			resp.Body.Close()
		}
	}
}

func quotas(n int64) tollgate.Quotas { return tollgate.Quotas{"*": {tollgate.RPM(n)}} }

func TestTransportAllocs(t *testing.T) {
	req, err := http.NewRequest(http.MethodPost, workload.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	one := send(&tollgate.Transport{Base: &instant{}, Quotas: quotas(plenty)}, req)
	if n := testing.AllocsPerRun(100, func() { one(1) }); n > 10 {
		t.Errorf("%v allocations, want at most 10", n)
	}
}
