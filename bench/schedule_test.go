package bench

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"golang.org/x/time/rate"

	"example.com/tollgate"
	"example.com/tollgate/internal/workload"
)

// A peer is what people put before a rate-limited API.
type peer struct {
	name   string
	client func(rpm int64, server http.RoundTripper) http.RoundTripper
}

var peers = []peer{
	{"tollgate", func(rpm int64, server http.RoundTripper) http.RoundTripper {
		limit := tollgate.RPM(rpm)
		limit.Refill = tollgate.Window
		return &tollgate.Retry{Base: &tollgate.Transport{Base: server, Quotas: tollgate.Quotas{"*": {limit}}}}
	}},
	{"x/time/rate, burst N, + go-retryablehttp", func(rpm int64, server http.RoundTripper) http.RoundTripper {
		return retryable(waiting{server, rate.NewLimiter(rate.Limit(rpm)/60, int(rpm))})
	}},
	{"x/time/rate, burst 1, + go-retryablehttp", func(rpm int64, server http.RoundTripper) http.RoundTripper {
		return retryable(waiting{server, rate.NewLimiter(rate.Limit(rpm)/60, 1)})
	}},
	{"go-retryablehttp alone", func(_ int64, server http.RoundTripper) http.RoundTripper {
		return retryable(server)
	}},
}

// retryable is go-retryablehttp as it comes, but for its number of tries: with
// the usual four, most calls would be lost.
func retryable(base http.RoundTripper) http.RoundTripper {
	c := retryablehttp.NewClient()
	c.HTTPClient = &http.Client{Transport: base}
	c.Logger, c.RetryMax = nil, 1000
	return &retryablehttp.RoundTripper{Client: c}
}

// waiting waits for a token before each attempt.
type waiting struct {
	base    http.RoundTripper
	limiter *rate.Limiter
}

func (w waiting) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := w.limiter.Wait(req.Context()); err != nil {
		return nil, err
	}
	return w.base.RoundTrip(req)
}

// TestSchedules prints the table that the README shows: at worst, over all
// servers, how many requests were refused and how long it took.
func TestSchedules(t *testing.T) {
	table := "\n| |"
	for _, c := range workload.Cases {
		table += " " + c.Name + " |"
	}
	table += "\n|---|---|---|---|\n| *no safe schedule is faster than* |"
	for _, c := range workload.Cases {
		table += fmt.Sprintf(" *%s* |", clock(c.Ideal()))
	}
	for _, p := range peers {
		table += "\n| " + p.name + " |"
		for _, c := range workload.Cases {
			refused, makespan := worst(t, p, c)
			table += fmt.Sprintf(" %d refused, %s |", refused, clock(makespan))
			switch ours := p.name == "tollgate"; {
			case ours && refused > 0:
				t.Errorf("%s, %s: %d refused", p.name, c.Name, refused)
			case !ours && refused == 0 && makespan < c.Ideal():
				t.Errorf("%s, %s: faster than what is said to be the shortest safe schedule", p.name, c.Name)
			}
		}
	}
	t.Log(table)
}

// worst runs a case against every server.
func worst(t *testing.T, p peer, c workload.Case) (refused int, makespan time.Duration) {
	for _, s := range workload.Servers {
		synctest.Test(t, func(t *testing.T) {
			r := c.Run(s, 0, func(server http.RoundTripper) http.RoundTripper { return p.client(c.RPM, server) })
			if r.Lost > 0 {
				t.Errorf("%s, %s, %s: %d calls lost", p.name, c.Name, s.Name, r.Lost)
			}
			refused, makespan = max(refused, r.Refused), max(makespan, r.Makespan)
		})
	}
	return refused, makespan
}

// clock writes a time as minutes and seconds.
func clock(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}
