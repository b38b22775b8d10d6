package tollgate_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
)

// What is forecast is what then happens, whatever the quota, the load before, and how
// long the server takes.
func TestForecast(t *testing.T) {
	for seed := range uint64(400) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { forecast(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func forecast(t *testing.T, r *rand.Rand) {
	pick := func(list ...time.Duration) time.Duration { return list[r.IntN(len(list))] }
	latency := pick(0, 0, 70*time.Millisecond, 900*time.Millisecond, 3*time.Second)
	dated := r.IntN(3) == 0
	slack := time.Duration(0)
	spans := []time.Duration{0} // that it may be off by
	var quota tollgate.Quota
	for range 1 + r.IntN(3) {
		l := tollgate.Limit{N: 1 + r.Int64N(30), Per: pick(time.Second, 7*time.Second, 20*time.Second, time.Minute, time.Hour), Refill: tollgate.Refill(r.IntN(4))}
		if r.IntN(2) == 0 {
			l.Unit, l.N = tollgate.Tokens, 20+r.Int64N(500)
		}
		if l.Refill == tollgate.Calendar && dated {
			// The clock is known to a second or two, and better later, which adds up. Where a span
			// begins in between, it may be the one before.
			slack = 5 * time.Second
			spans = append(spans, l.Per)
		}
		if l.Refill == tollgate.Steady && r.IntN(2) == 0 {
			l.Burst = 1 + r.Int64N(l.N)
		}
		quota = append(quota, l)
	}
	var mu sync.Mutex
	var last time.Time
	sent := 0
	tr := &tollgate.Transport{Quotas: tollgate.Quotas{apiHost: quota}, Base: roundTripFunc(func(req *http.Request) (*http.Response, error) {
		mu.Lock()
		last = time.Now()
		sent++
		mu.Unlock()
		time.Sleep(latency)
		resp, err := answering(req)
		if dated {
			resp.Header = http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}
		}
		return resp, err
	})}
	var wg sync.WaitGroup
	ask := func(n int, c tollgate.Cost) {
		for range n {
			wg.Go(func() {
				resp, err := tr.RoundTrip(posting(tollgate.WithCost(t.Context(), c), t, "https://"+apiHost, ""))
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			})
			synctest.Wait()
		}
	}
	before := 0
	if latency > 0 || dated { // else nothing is known of the server
		ask(1, tollgate.Cost{1, 1, 0})
		before++
		time.Sleep(latency + time.Second)
	}
	for range r.IntN(6) {
		n := 1 + r.IntN(15)
		ask(n, tollgate.Cost{1 + r.Int64N(2), r.Int64N(60), 0})
		before += n
		time.Sleep(time.Duration(r.IntN(8000)) * time.Millisecond)
	}
	n, each := r.IntN(40), tollgate.Cost{1, r.Int64N(60), 0}
	mu.Lock()
	waiting := before - sent
	mu.Unlock()
	began := time.Now()
	is := tr.Forecast(apiHost, n, each)
	ask(n, each)
	wg.Wait()
	was := time.Duration(0)
	if waiting+n > 0 {
		was = last.Sub(began)
	}
	if off := (is - was).Abs(); !slices.ContainsFunc(spans, func(per time.Duration) bool { return (off - per).Abs() <= slack }) {
		t.Errorf("%v, latency %v, dated %t, %d wait, %d of %v more: forecast %v, and it took %v", quota, latency, dated, waiting, n, each, is, was)
	}
}

// What a forecast is of: the key as people write it, those that wait alone, requests
// that cost more than one.
func TestForecastOf(t *testing.T) {
	const never = time.Duration(math.MaxInt64)
	window := func(u tollgate.Unit, n int64) tollgate.Limit {
		return tollgate.Limit{Unit: u, N: n, Per: time.Hour, Refill: tollgate.Window}
	}
	quotas := tollgate.Quotas{
		apiHost: {window(tollgate.Requests, 10)}, "models/gemini-2.5-flash": {window(tollgate.Requests, 10)},
		"*.example.org": {window(tollgate.Requests, 10)}, "none": {tollgate.RPM(0)}, "no tokens": {tollgate.TPM(0)}, "free": {},
		"tokens": {window(tollgate.Tokens, 100)}, "output": {window(tollgate.OutputTokens, 100)}, "at once": {tollgate.Concurrency(1)}, "no slots": {tollgate.Concurrency(0)},
	}
	for _, test := range []struct {
		key   string
		n     int
		each  tollgate.Cost
		hours int // -1: never
	}{
		{apiHost, 10, tollgate.Cost{}, 0},
		{apiHost, 11, tollgate.Cost{}, 1},
		{apiHost, 25, tollgate.Cost{1}, 2},
		{apiHost, 10, tollgate.Cost{3}, 3},
		{apiHost, 3, tollgate.Cost{tollgate.Requests: 99}, 2},
		{apiHost, 0, tollgate.Cost{}, 0},
		{apiHost, -5, tollgate.Cost{-1, -1, -1}, 0},
		{"https://API.example.com:443/", 11, tollgate.Cost{}, 1},
		{"gemini-2.5-flash", 11, tollgate.Cost{}, 1},
		{"models/gemini-2.5-flash", 21, tollgate.Cost{}, 2},
		{"a.example.org", 11, tollgate.Cost{}, 1},
		{"unknown", 1 << 40, tollgate.Cost{}, 0},
		{"free", 1 << 40, tollgate.Cost{}, 0},
		{"none", 1, tollgate.Cost{}, -1},
		{"none", 0, tollgate.Cost{}, 0},
		{"no tokens", 1, tollgate.Cost{tollgate.Tokens: 1}, -1},
		{"no tokens", 1, tollgate.Cost{}, 0},
		{"no slots", 1, tollgate.Cost{}, -1},
		{"at once", 99, tollgate.Cost{}, 0},
		{"tokens", 4, tollgate.Cost{tollgate.Tokens: 50}, 1},
		{"output", 4, tollgate.Cost{tollgate.OutputTokens: 50}, 1},
		{"output", 101, tollgate.Cost{}, 1},
		{"tokens", math.MaxInt, tollgate.Cost{tollgate.Tokens: math.MaxInt64}, -1},
	} {
		synctest.Test(t, func(t *testing.T) {
			tr := &tollgate.Transport{Base: answering, Quotas: quotas}
			got := tr.Forecast(test.key, test.n, test.each)
			if test.hours < 0 && got != never || test.hours >= 0 && got.Round(10*time.Second) != time.Duration(test.hours)*time.Hour+(got-got.Truncate(time.Hour)).Round(10*time.Second) {
				t.Errorf("%q %d of %v: %v, want %d h", test.key, test.n, test.each, got, test.hours)
			}
			if len(tr.Status()) != 0 {
				t.Error("a forecast leaves something behind")
			}
		})
	}
	tr := &tollgate.Transport{Quotas: tollgate.Quotas{"x": {tollgate.RPM(-1)}}}
	if got := tr.Forecast("x", 1, tollgate.Cost{}); got != never {
		t.Errorf("of quotas that cannot be: %v", got)
	}
}

// A forecast of several hosts is that of the one that takes longest, and knows of
// quotas that were set, pauses, and those that wait.
func TestForecastNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refuse := true
		y := newSendings()
		y.base = says(func(r *http.Request, h http.Header) (int, string) {
			if refuse {
				h.Set("Retry-After", "30")
				return 429, ""
			}
			return 200, ""
		})
		tr := &tollgate.Transport{Base: y}
		req := func(int) *http.Request { return posting(t.Context(), t, "https://"+apiHost, "") }
		y.ask(tr, 1, req)
		y.wg.Wait()
		refuse = false
		if got := tr.Forecast(apiHost, 1, tollgate.Cost{}); got != 30*time.Second {
			t.Errorf("in a pause: %v, want 30 s", got)
		}
		time.Sleep(40 * time.Second)
		tr.SetQuotas(tollgate.Quotas{apiHost: {{N: 2, Per: 10 * time.Second, Refill: tollgate.Steady, Burst: 1}}})
		y.ask(tr, 5, req)
		want := tr.Forecast(apiHost, 0, tollgate.Cost{})
		began := time.Now()
		y.wg.Wait()
		if got := time.Since(began); got != want || got < 19*time.Second {
			t.Errorf("those that wait: %v, and it took %v", want, got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		tr := &tollgate.Transport{Base: answering, Quotas: tollgate.Quotas{"gemini-2.5-flash": {{N: 2, Per: time.Minute, Refill: tollgate.Window}}}}
		get(t, tr, flash)
		for range 2 {
			get(t, tr, "http://localhost:8080/v1/models/gemini-2.5-flash:generateContent")
		}
		if got := tr.Forecast("gemini-2.5-flash", 1, tollgate.Cost{}).Round(time.Second); got != time.Minute {
			t.Errorf("at two hosts: %v, want a minute", got)
		}
	})
}

// Those of a lower level go behind those asked for.
func TestForecastPriorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newSendings()
		tr := &tollgate.Transport{Base: y, Quotas: tollgate.Quotas{apiHost: {{N: 1, Per: 10 * time.Second, Refill: tollgate.Steady}}}}
		for _, level := range []int{-1, 0, 1} {
			y.ask(tr, 3, func(int) *http.Request {
				return posting(tollgate.WithPriority(t.Context(), tollgate.Priority{Level: level, Tenant: "x"}), t, "https://"+apiHost, "")
			})
		}
		// One has gone. Six are of level 0 or 1.
		if got := tr.Forecast(apiHost, 2, tollgate.Cost{}).Round(time.Second); got != 80*time.Second {
			t.Errorf("%v, want 1m20s", got)
		}
		y.wg.Wait()
	})
}
