package redislimit_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/redislimit"
	"example.com/tollgate/redislimit/internal/redistest"
)

type base func(*http.Request) (*http.Response, error)

func (f base) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A limit that one process sets is that of all, and what any of them has spent stays
// spent.
func TestSetQuotas(t *testing.T) {
	c := redistest.Start(t).Client()
	hourly := func(n int64) tollgate.Quotas {
		return tollgate.Quotas{"api.example.com": {{N: n, Per: time.Hour, Refill: tollgate.Window}}}
	}
	process := func() *tollgate.Transport {
		return &tollgate.Transport{
			Quotas: hourly(6), MaxWait: -1, Limiter: redislimit.New(c, redislimit.Options{Timeout: 10 * time.Second}),
			Base: base(func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
			}),
		}
	}
	a, b := process(), process()
	for i, step := range []struct {
		by   *tollgate.Transport
		set  int64 // 0: nothing is set
		want int   // let through of 9
	}{
		{a, 0, 6},
		{a, 8, 2}, // more
		{b, 0, 0},
		{b, 11, 3}, // more, by the other one
		{a, 0, 0},
		{a, 7, 0}, // fewer than are spent
		{b, 0, 0},
		{b, 12, 1},
	} {
		if step.set > 0 {
			step.by.SetQuotas(hourly(step.set))
		}
		got := 0
		for range 9 {
			req, err := http.NewRequest(http.MethodGet, "https://api.example.com/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := step.by.RoundTrip(req)
			if err == nil {
				got++
				resp.Body.Close()
			} else if !errors.Is(err, tollgate.ErrLimited) {
				t.Fatal(err)
			}
		}
		if got != step.want {
			t.Errorf("step %d: %d let through, want %d", i+1, got, step.want)
		}
	}
}
