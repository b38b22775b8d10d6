//go:build !race

// With the race detector on, what the peers make of it outgrows the detector.

package bench

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/hashicorp/go-retryablehttp"
	"golang.org/x/time/rate"

	"example.com/tollgate"
	"example.com/tollgate/internal/zoo"
)

// The peers get this many retries. tollgate has its usual eight.
const zooRetries = 100

// zooPeers are the clients of the zoo. Where nothing is told, the peers have no
// limit to keep to.
var zooPeers = []struct {
	name   string
	client zoo.Client
}{
	{"tollgate", func(server http.RoundTripper, q tollgate.Quotas) http.RoundTripper {
		return &tollgate.Retry{Base: &tollgate.Transport{Base: server, Quotas: q}}
	}},
	{"go-retryablehttp", func(server http.RoundTripper, _ tollgate.Quotas) http.RoundTripper {
		return zooRetryable(server)
	}},
	{"x/time/rate, burst N, + go-retryablehttp", func(server http.RoundTripper, q tollgate.Quotas) http.RoundTripper {
		return zooRate(server, q, func(n int64) int { return int(n) })
	}},
	{"x/time/rate, burst 1, + go-retryablehttp", func(server http.RoundTripper, q tollgate.Quotas) http.RoundTripper {
		return zooRate(server, q, func(int64) int { return 1 })
	}},
	{"failsafe-go, rate limiter and retry", func(server http.RoundTripper, q tollgate.Quotas) http.RoundTripper {
		retry := failsafehttp.NewRetryPolicyBuilder().WithMaxRetries(zooRetries).WithBackoff(time.Second, 30*time.Second).ReturnLastFailure().Build()
		if q == nil {
			return failsafehttp.NewRoundTripper(server, retry)
		}
		limit := q["*"][0]
		limiter := ratelimiter.NewBurstyBuilder[*http.Response](uint(limit.N), limit.Per).WithMaxWaitTime(zoo.Most).Build()
		return failsafehttp.NewRoundTripper(server, retry, limiter)
	}},
}

func zooRetryable(base http.RoundTripper) http.RoundTripper {
	c := retryablehttp.NewClient()
	c.HTTPClient = &http.Client{Transport: base}
	c.Logger, c.RetryMax = nil, zooRetries
	return &retryablehttp.RoundTripper{Client: c}
}

func zooRate(base http.RoundTripper, q tollgate.Quotas, burst func(n int64) int) http.RoundTripper {
	if q == nil {
		return zooRetryable(base)
	}
	limit := q["*"][0]
	per := rate.Limit(float64(limit.N) / limit.Per.Seconds())
	return zooRetryable(waiting{base, rate.NewLimiter(per, burst(limit.N))})
}

// TestZoo prints what each client makes of servers that it does not know. A play
// is broken off after two virtual hours, and the number of retries is bounded, so
// that it ends.
func TestZoo(t *testing.T) {
	names := zoo.Names(40, 21, 22, 23, 24, 25)
	const width = 40
	table := fmt.Sprintf("\n%-*s %s", width, "", zoo.Header)
	for _, p := range zooPeers {
		var all zoo.Report
		for _, name := range names {
			synctest.Test(t, func(*testing.T) {
				r := zoo.New(name).Play(p.client)
				r.Log = zoo.Log{}
				all = append(all, r)
			})
		}
		s := all.Summary()
		if got := s.Requests; got == 0 || s.Servers != len(names) {
			t.Errorf("%s: %d servers and %d requests", p.name, s.Servers, got)
		}
		table += fmt.Sprintf("\n%-*s %s", width, p.name, s.Row())
	}
	t.Log(table)
}
