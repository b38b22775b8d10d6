package tollgate_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/internal/workload"
	"example.com/tollgate/quotatest"
)

// limited returns the client under test, at so many requests a minute.
func limited(rpm int64) func(http.RoundTripper) http.RoundTripper {
	return func(server http.RoundTripper) http.RoundTripper {
		return &tollgate.Retry{Base: &tollgate.Transport{
			Base:   server,
			Quotas: tollgate.Quotas{"*": {{N: rpm, Per: time.Minute, Refill: tollgate.Window}}},
		}}
	}
}

// The promise: at every server that allows N a minute no request is refused,
// and no schedule that is as safe is faster.
func TestSchedule(t *testing.T) {
	t.Logf("%-22s %-22s %-8s %4s %8s %10s %6s", "wanted", "server", "answers", "ok", "refused", "makespan", "ratio")
	for _, c := range workload.Cases {
		for _, s := range workload.Servers {
			for _, think := range []time.Duration{0, 20 * time.Second, 90 * time.Second} {
				t.Run(fmt.Sprintf("%s/%s/%v", c.Name, s.Name, think), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						r := c.Run(s, think, limited(c.RPM))
						ratio := r.Makespan.Seconds() / c.Ideal().Seconds()
						t.Logf("%-22s %-22s %-8v %4d %8d %10v %6.3f", c.Name, s.Name, think, r.OK, r.Refused, r.Makespan.Round(time.Millisecond), ratio)
						if r.OK != len(c.Wanted) || r.Refused != 0 {
							t.Errorf("%d of %d calls ok and %d refused; want all and none", r.OK, len(c.Wanted), r.Refused)
						}
						if ratio > 1.03 {
							t.Errorf("makespan %v is %.3f of the ideal %v; want at most 1.03", r.Makespan, ratio, c.Ideal())
						}
					})
				})
			}
		}
	}
}

// One answer in ten is a 503: that request alone backs off, the others go on.
func TestScheduleFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &quotatest.Server{
			Limits:  map[string][]quotatest.Limit{"*": {{N: 100, Per: time.Minute, Count: quotatest.Sliding}}},
			Latency: workload.Jitter,
			Script: func(n int, _ *http.Request) int {
				if n%10 == 3 {
					return http.StatusServiceUnavailable
				}
				return 0
			},
		}
		r := workload.Calls(server, make([]time.Duration, 500), limited(100))
		t.Logf("%d ok, %d attempts, %d refused in %v", r.OK, len(server.Calls()), r.Refused, r.Makespan.Round(time.Millisecond))
		if r.OK != 500 || r.Refused != 0 || r.Makespan > 5*time.Minute*11/10 {
			t.Errorf("want 500 ok, 0 refused within 5m30s")
		}
	})
}

// A sliding-window counter suits no schedule with bursts. Steady with a burst of
// 1 and one less than N does.
func TestScheduleCounter(t *testing.T) {
	even := tollgate.Limit{N: 29, Per: time.Minute, Refill: tollgate.Steady, Burst: 1}
	for _, counted := range []bool{false, true} {
		for _, phase := range []time.Duration{0, 20 * time.Second, 50 * time.Second} {
			synctest.Test(t, func(t *testing.T) {
				startAt(phase)
				server := &quotatest.Server{
					Limits:       map[string][]quotatest.Limit{"*": {{N: 30, Per: time.Minute, Count: quotatest.Counter}}},
					Latency:      workload.Jitter,
					CountRefused: counted,
				}
				r := workload.Calls(server, make([]time.Duration, 300), auto(even))
				ratio := r.Makespan.Seconds() / (299 * time.Minute / 29).Seconds()
				t.Logf("refused counted %v, start :%02.0f: %d ok, %d refused, %v, %.3f of its own pace", counted, phase.Seconds(), r.OK, r.Refused, r.Makespan.Round(time.Millisecond), ratio)
				if r.OK != 300 || r.Refused > 3 || ratio > 1.03 {
					t.Error("want 300 ok, at most 3 refused, at most 1.03")
				}
			})
		}
	}
}
