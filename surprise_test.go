package tollgate_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/internal/workload"
	"example.com/tollgate/quotatest"
)

// Nobody has told that the server is a sliding-window counter.
func TestSurpriseCounter(t *testing.T) {
	for _, bare := range []bool{false, true} {
		for _, counted := range []bool{false, true} {
			refused, slowest := int64(60), 1.25
			if counted {
				refused, slowest = 90, 1.4
			}
			for _, phase := range []time.Duration{0, 7 * time.Second, 20 * time.Second, 31 * time.Second, 50 * time.Second, 58 * time.Second} {
				synctest.Test(t, func(t *testing.T) {
					startAt(phase)
					server := &quotatest.Server{
						Limits:       map[string][]quotatest.Limit{"*": {{N: 30, Per: time.Minute, Count: quotatest.Counter}}},
						Latency:      workload.Jitter,
						CountRefused: counted,
					}
					base := auto(tollgate.RPM(30))
					if bare {
						base = barely(limited(30))
					}
					r := workload.Calls(server, make([]time.Duration, 300), base)
					ratio := r.Makespan.Seconds() / (9 * time.Minute).Seconds()
					t.Logf("bare %v, refused counted %v, start :%02.0f: %d ok, %d refused, %v, %.3f of ideal", bare, counted, phase.Seconds(), r.OK, r.Refused, r.Makespan.Round(time.Millisecond), ratio)
					if r.OK != 300 || int64(r.Refused) > refused || ratio > slowest {
						t.Errorf("want 300 ok, at most %d refused, at most %.2f", refused, slowest)
					}
				})
			}
		}
	}
}

// barely has refusals say nothing.
func barely(client func(http.RoundTripper) http.RoundTripper) func(http.RoundTripper) http.RoundTripper {
	return func(server http.RoundTripper) http.RoundTripper {
		return client(roundTripFunc(func(r *http.Request) (*http.Response, error) {
			resp, err := server.RoundTrip(r)
			if err == nil && resp.StatusCode == http.StatusTooManyRequests {
				resp.Body.Close()
				resp.Body = http.NoBody
				resp.Header = http.Header{"Date": resp.Header["Date"]}
			}
			return resp, err
		}))
	}
}

// changes collects what was learned.
type changes struct {
	mu   sync.Mutex
	list []tollgate.Change
}

func (c *changes) trace() *tollgate.Trace {
	return &tollgate.Trace{Learned: func(_ *http.Request, i tollgate.LearnInfo) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.list = append(c.list, i.Change)
	}}
}

// A limit that is less than was thought, of which the refusals say nothing, is
// found out; it grows back until that is too much, and once the server allows
// more, to what was configured.
func TestSurpriseInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := func(n int64) *quotatest.Server {
			return &quotatest.Server{
				Limits:  map[string][]quotatest.Limit{"*": {{N: n, Per: time.Minute, Count: quotatest.Sliding}}},
				Latency: workload.Jitter,
			}
		}
		low, high := limits(15), limits(60)
		began := time.Now()
		var learned changes
		var tr *tollgate.Transport
		r := workload.Calls(low, make([]time.Duration, 1200), barely(func(server http.RoundTripper) http.RoundTripper {
			tr = &tollgate.Transport{
				Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
					if time.Since(began) > 20*time.Minute {
						return high.RoundTrip(r)
					}
					return server.RoundTrip(r)
				}),
				Quotas: tollgate.Quotas{"*": {{N: 60, Per: time.Minute, Refill: tollgate.Window}}},
				Trace:  learned.trace(),
			}
			return &tollgate.Retry{Base: tr, Max: 30}
		}))
		n := slices.MinFunc(learned.list, func(a, b tollgate.Change) int { return int(a.To.N - b.To.N) }).To.N
		if r.OK != 1200 || n < 10 || n > 18 {
			t.Errorf("%d ok, limit in force %d; want 1200 and about 15", r.OK, n)
		}
		if ratio := r.Refused / 20; ratio > 9 {
			t.Errorf("%d refused in 20 minutes", r.Refused)
		}
		last := learned.list[len(learned.list)-1].To
		if st := tr.Status()[0].Limits[0]; st.Limit != last || st.N != 60 || high.Refused() > 0 {
			t.Errorf("in the end %v, last told of %v, %d refused; want 60 and none", st.Limit, last, high.Refused())
		}
		for _, c := range learned.list {
			if c.To.N > 60 || c.To.N > c.From.N && c.To.N-c.From.N > 3 {
				t.Errorf("%v, then %v: grew too fast", c.From, c.To)
			}
		}
		t.Logf("%d ok, %d refused, %v: %v", r.OK, r.Refused, r.Makespan.Round(time.Second), learned.list)
	})
}

// HAProxy as it is mostly set up: http_req_rate(60s) counts denied requests too, and
// says Retry-After: 1 whatever it takes. Who hammers is starved.
func TestSurpriseHammered(t *testing.T) {
	for _, phase := range []time.Duration{0, 7 * time.Second, 31 * time.Second, 58 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			startAt(phase)
			server := &quotatest.Server{
				Limits:       map[string][]quotatest.Limit{"*": {{N: 10, Per: time.Minute, Count: quotatest.Counter}}},
				Latency:      workload.Jitter,
				CountRefused: true,
			}
			second := func(server http.RoundTripper) http.RoundTripper {
				return &tollgate.Retry{Base: &tollgate.Transport{
					Quotas: tollgate.Quotas{"*": {{N: 10, Per: time.Minute, Refill: tollgate.Window}}},
					Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
						resp, err := server.RoundTrip(r)
						if err == nil && resp.StatusCode == http.StatusTooManyRequests {
							resp.Body.Close()
							resp.Body = http.NoBody
							resp.Header = http.Header{"Date": resp.Header["Date"], "Retry-After": {"1"}}
						}
						return resp, err
					}),
				}}
			}
			r := workload.Calls(server, make([]time.Duration, 25), second)
			t.Logf("start :%02.0f: %d ok, %d refused, %v", phase.Seconds(), r.OK, r.Refused, r.Makespan.Round(time.Second))
			if r.OK != 25 || r.Refused > 15 {
				t.Errorf("want 25 ok, at most 15 refused")
			}
		})
	}
}
