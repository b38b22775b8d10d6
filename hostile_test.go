package tollgate_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/internal/workload"
	"example.com/tollgate/quotatest"
)

// says is a server that answers with the given headers and body.
func says(f func(r *http.Request, h http.Header) (status int, body string)) http.RoundTripper {
	return roundTripFunc(func(r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			r.Body.Close()
		}
		h := http.Header{"Content-Type": {"application/json"}, "Date": {time.Now().UTC().Format(http.TimeFormat)}}
		status, body := f(r, h)
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	})
}

// call makes a call and reads its answer.
func call(t *testing.T, rt http.RoundTripper, method, url, body string) (status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
	return resp.StatusCode
}

// A policy with a name of its own, stated by one endpoint, holds up no other one.
// (100 calls took 20 h.)
func TestHostileNamedPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &tollgate.Transport{Base: says(func(r *http.Request, h http.Header) (int, string) {
			if r.URL.Path == "/login" {
				h.Set("RateLimit-Policy", `"login";q=5;w=3600`)
				h.Set("RateLimit", `"login";r=0;t=3600`)
			}
			return 200, "{}"
		})}
		began := time.Now()
		call(t, tr, "POST", "http://api.example.com/login", "")
		for range 100 {
			call(t, tr, "GET", "http://api.example.com/things", "")
		}
		if got := time.Since(began); got > time.Second {
			t.Errorf("100 calls to another endpoint took %v", got)
		}
	})
}

// One odd statement lowers a configured limit until the next one corrects it. (It
// stayed lowered for ever.)
func TestHostileOddLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		tr := &tollgate.Transport{
			Quotas: tollgate.Quotas{"api.example.com": {tollgate.RPM(100)}},
			Base: says(func(_ *http.Request, h http.Header) (int, string) {
				n++
				limit := 100
				if n == 3 {
					limit = 2
				}
				h.Set("RateLimit-Policy", fmt.Sprintf(`"default";q=%d;w=60`, limit))
				return 200, "{}"
			}),
		}
		for want := range 5 {
			call(t, tr, "GET", "http://api.example.com/", "")
			if got := tr.Status()[0].Limits[0].N; got != map[bool]int64{true: 2, false: 100}[want == 2] {
				t.Errorf("after response %d the limit is %d", want+1, got)
			}
			time.Sleep(2 * time.Minute)
		}
	})
}

// A span that makes no sense is not believed. (It held for 366 days.)
func TestHostileSpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &tollgate.Transport{Base: says(func(_ *http.Request, h http.Header) (int, string) {
			h.Set("RateLimit-Policy", `"default";q=2;w=31622400`)
			h.Set("RateLimit", `"default";r=0;t=31622400`)
			return 200, "{}"
		})}
		began := time.Now()
		for range 5 {
			call(t, tr, "GET", "http://api.example.com/", "")
		}
		if got := time.Since(began); got > 5*time.Hour {
			t.Errorf("five calls took %v, want an hour each at most", got)
		}
	})
}

// Usage is read at its place, and what it states slows a key down for an hour at
// most. (2³¹−1 tokens stalled it for 895 h.)
func TestHostileUsage(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		most time.Duration
	}{
		"too many":                     {`{"usageMetadata":{"promptTokenCount":2147483647}}`, time.Hour + 2*time.Minute},
		"more than there are":          {`{"usageMetadata":{"promptTokenCount":9223372036854775807}}`, 2 * time.Minute},
		"arguments of a function call": {`{"candidates":[{"content":{"parts":[{"functionCall":{"args":{"usageMetadata":{"promptTokenCount":90000000}}}}]}}]}`, 0},
		"text":                         {`{"candidates":[{"content":{"parts":[{"text":"{\"usageMetadata\":{\"promptTokenCount\":90000000}}"}]}}]}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				body := test.body
				tr := &tollgate.Transport{
					Quotas: tollgate.Quotas{"*": {{Unit: tollgate.Tokens, N: 1000, Per: time.Minute, Refill: tollgate.Window}}},
					Base:   says(func(*http.Request, http.Header) (int, string) { return 200, body }),
				}
				began := time.Now()
				call(t, tr, "POST", flash, `{"contents":[{"parts":[{"text":"Hello."}]}]}`)
				body = `{"usageMetadata":{"promptTokenCount":2}}`
				call(t, tr, "POST", flash, `{"contents":[{"parts":[{"text":"Hello."}]}]}`)
				if got := time.Since(began); got > test.most {
					t.Errorf("the next call went after %v, want %v at most", got, test.most)
				}
			})
		})
	}
}

// However many limits a server states, few are kept. (2,000 responses left 32,000.)
func TestHostileWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		tr := &tollgate.Transport{Base: says(func(_ *http.Request, h http.Header) (int, string) {
			var policies []string
			for range 16 {
				n++
				policies = append(policies, fmt.Sprintf("1000000;w=%d", n))
			}
			h.Set("RateLimit-Limit", "1000000, "+strings.Join(policies, ", "))
			return 200, "{}"
		})}
		for range 2000 {
			call(t, tr, "GET", "http://api.example.com/", "")
		}
		if got := len(tr.Status()[0].Limits); got > 10 {
			t.Errorf("%d limits are kept", got)
		}
	})
}

// A refusal that names another model does not take a configured key's own limit
// away.
func TestHostileModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refuse := true
		tr := &tollgate.Transport{
			Quotas: tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(3)}, "gemini-2.5-pro": {tollgate.RPM(1000)}},
			Base: says(func(*http.Request, http.Header) (int, string) {
				if refuse {
					return 429, `{"error":{"message":"Please retry in 1s.","details":[{"violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel","quotaValue":"3","quotaDimensions":{"model":"gemini-2.5-pro"}}]}]}}`
				}
				return 200, "{}"
			}),
		}
		call(t, tr, "POST", flash, "{}")
		refuse = false
		began := time.Now()
		for range 8 {
			call(t, tr, "POST", flash, "{}")
		}
		if got := time.Since(began); got < time.Minute {
			t.Errorf("eight calls at 3 a minute took %v", got)
		}
	})
}

// One Date in fifty is off by seconds, as where one machine of many has a clock of
// its own. (It cost up to 1,780 refusals in 12 h.)
func TestHostileDates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		startAt(20 * time.Second)
		server := &quotatest.Server{Limits: map[string][]quotatest.Limit{"*": {quotatest.RPM(10)}}, Latency: workload.Jitter}
		var mu sync.Mutex
		rnd := rand.New(rand.NewPCG(1, 2))
		wrong := func() (off time.Duration, ok bool) {
			mu.Lock()
			defer mu.Unlock()
			return time.Duration(rnd.IntN(41)-20) * time.Second, rnd.IntN(50) == 0
		}
		r := workload.Calls(server, make([]time.Duration, 12*60*10), func(server http.RoundTripper) http.RoundTripper {
			return &tollgate.Retry{Base: &tollgate.Transport{
				Quotas: tollgate.Quotas{"*": {tollgate.RPM(10)}},
				Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
					resp, err := server.RoundTrip(r)
					if off, ok := wrong(); err == nil && ok {
						resp.Header.Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
					}
					return resp, err
				}),
			}}
		})
		t.Logf("%d ok, %d refused in %v", r.OK, r.Refused, r.Makespan.Round(time.Second))
		if r.OK != 7200 || r.Refused > 20 || r.Makespan > 12*time.Hour+15*time.Minute {
			t.Errorf("want 7200 ok, at most 20 refused")
		}
	})
}

// A request that is larger than the limit is charged all of it, and so it is in the
// estimate of its turn and of those behind it. (With a deadline of 30 minutes it
// was rejected, "in 50m".)
func TestHostileSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &tollgate.Transport{
			Quotas: tollgate.Quotas{"*": {{Unit: tollgate.Tokens, N: 1000, Per: time.Minute, Refill: tollgate.Window}}},
			Base:   says(func(*http.Request, http.Header) (int, string) { return 200, "{}" }),
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		for i, n := range []int64{1000, 50_000, 10} {
			req, _ := http.NewRequestWithContext(tollgate.WithTokens(ctx, n), "POST", flash, strings.NewReader("{}"))
			go func() {
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Errorf("request %d: %v", i, err)
					return
				}
				resp.Body.Close()
			}()
			synctest.Wait()
		}
		time.Sleep(3 * time.Minute)
	})
}

// What a request states that the server then rejects is not taken from the others.
func TestHostileMaxTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &tollgate.Transport{
			Quotas: tollgate.Quotas{"gpt": {{Unit: tollgate.Tokens, N: 100_000, Per: time.Minute, Refill: tollgate.Window}}},
			Base: says(func(r *http.Request, _ http.Header) (int, string) {
				if r.ContentLength > 100 {
					return 400, `{"error":{"message":"max_tokens is too large"}}`
				}
				return 200, "{}"
			}),
		}
		began := time.Now()
		if got := call(t, tr, "POST", openai, `{"model":"gpt","max_tokens":1000000000,"messages":[{"role":"user","content":"`+strings.Repeat("x", 100)+`"}]}`); got != 400 {
			t.Fatal(got)
		}
		call(t, tr, "POST", openai, `{"model":"gpt","max_tokens":1000,"messages":[]}`)
		if got := time.Since(began); got > time.Second {
			t.Errorf("the next call went after %v", got)
		}
	})
}
