package tollgate_test

import (
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

// Nothing configured: the first round of refusals says it all.
func TestLearnGemini(t *testing.T) {
	for _, start := range []time.Duration{0, 20 * time.Second, 50 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			startAt(start)
			server := &quotatest.Server{Limits: map[string][]quotatest.Limit{"*": {quotatest.RPM(15)}}, Latency: workload.Jitter}
			r := workload.Calls(server, make([]time.Duration, 150), auto())
			ideal := 9*time.Minute - start
			ratio := r.Makespan.Seconds() / ideal.Seconds()
			t.Logf("start :%02.0f: %d ok, %d refused, %v, %.3f of ideal", start.Seconds(), r.OK, r.Refused, r.Makespan.Round(time.Millisecond), ratio)
			if r.OK != 150 || r.Refused > 135 || ratio > 1.05 {
				t.Errorf("want 150 ok, at most the first 135 refused, at most 1.05 of ideal")
			}
		})
	}
}

// A configured limit is lowered when the server enforces less.
func TestLearnLower(t *testing.T) {
	for _, start := range []time.Duration{0, 20 * time.Second, 50 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			startAt(start)
			server := &quotatest.Server{Limits: map[string][]quotatest.Limit{"*": {quotatest.RPM(15)}}, Latency: workload.Jitter}
			r := workload.Calls(server, make([]time.Duration, 300), auto(tollgate.RPM(60)))
			ratio := r.Makespan.Seconds() / (19*time.Minute - start).Seconds()
			t.Logf("start :%02.0f: %d ok, %d refused, %v, %.3f of ideal", start.Seconds(), r.OK, r.Refused, r.Makespan.Round(time.Millisecond), ratio)
			if r.OK != 300 || r.Refused > 60 || ratio > 1.05 {
				t.Errorf("want 300 ok, at most 60 refused, at most 1.05 of ideal")
			}
		})
	}
}

// A stranger draws on the same quota.
func TestLearnStranger(t *testing.T) {
	for _, start := range []time.Duration{0, 20 * time.Second, 50 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			startAt(start)
			server := &quotatest.Server{Limits: map[string][]quotatest.Limit{"*": {quotatest.RPM(20)}}, Latency: workload.Jitter}
			done := make(chan struct{})
			var stranger sync.WaitGroup
			stranger.Go(func() { // takes 6 of each 20, at random times
				for {
					select {
					case <-done:
						return
					case <-time.After(time.Duration(rand.ExpFloat64() * float64(10*time.Second))):
					}
					req, _ := http.NewRequest(http.MethodPost, workload.URL, strings.NewReader(workload.Prompt))
					if resp, err := server.RoundTrip(req); err == nil {
						io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
					}
				}
			})
			r := workload.Calls(server, make([]time.Duration, 280), auto(tollgate.RPM(20)))
			close(done)
			stranger.Wait()
			ratio := r.Makespan.Seconds() / (280.0 / 14 * 60)
			t.Logf("start :%02.0f: %d ok, %d refused, %v, %.3f of what is left over", start.Seconds(), r.OK, r.Refused, r.Makespan.Round(time.Millisecond), ratio)
			if r.OK != 280 || ratio > 1.25 {
				t.Errorf("want 280 ok, at most 1.25")
			}
		})
	}
}

// Bare refusals of a server of which nothing is known.
func TestLearnBare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &quotatest.Server{Limits: map[string][]quotatest.Limit{"*": {quotatest.RPM(60)}}, Latency: workload.Jitter}
		r := workload.Calls(inner, make([]time.Duration, 300), func(rt http.RoundTripper) http.RoundTripper {
			return auto()(roundTripFunc(func(r *http.Request) (*http.Response, error) {
				resp, err := rt.RoundTrip(r)
				if err == nil && resp.StatusCode == http.StatusTooManyRequests {
					resp.Body.Close()
					resp.Body = io.NopCloser(strings.NewReader(`{"error":{"code":429,"message":"Resource exhausted.","status":"RESOURCE_EXHAUSTED"}}`))
				}
				return resp, err
			}))
		})
		ratio := r.Makespan.Seconds() / 240
		t.Logf("%d ok, %d lost, %d refused, %v, %.3f of ideal", r.OK, r.Lost, r.Refused, r.Makespan.Round(time.Millisecond), ratio)
		if r.OK != 300 || r.Refused > 900 || ratio > 1.6 {
			t.Errorf("want 300 ok, at most 900 refused, at most 1.6 of ideal")
		}
	})
}

// Several names, one quota.
func TestLearnFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refuse := true
		tr := &tollgate.Transport{Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}
			if refuse {
				resp.StatusCode = http.StatusTooManyRequests
				resp.Body = io.NopCloser(strings.NewReader(`{"error":{"message":"Please retry in 9.5s.","details":[{"violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel","quotaValue":"7","quotaDimensions":{"model":"gemini-3-pro"}}]}]}}`))
			}
			return resp, nil
		})}
		const host = "https://generativelanguage.googleapis.com/v1beta/models/"
		get(t, tr, host+"gemini-3-pro-tools:generateContent")
		refuse = false
		began := time.Now()
		get(t, tr, host+"gemini-3-pro:generateContent")
		if got := time.Since(began); got != 9500*time.Millisecond {
			t.Errorf("the other one went after %v, want 9.5s", got)
		}
		st := tr.Status()
		if len(st) != 1 || len(st[0].Limits) != 1 || st[0].Limits[0].N != 7 || !st[0].Limits[0].Learned {
			t.Errorf("status %+v, want one of a learned limit of 7", st)
		}
	})
}

// An error in a stream that began with 200 holds up those that come after.
func TestLearnStreamError(t *testing.T) {
	var learned changes
	defer func() {
		if len(learned.list) != 1 || learned.list[0].To.N != 7 {
			t.Errorf("learned %v, want the limit of 7 that a stream named", learned.list)
		}
	}()
	for name, test := range map[string]struct {
		stream string
		want   time.Duration
	}{
		"a limit":              {"data: {\"error\":{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\",\"message\":\"Please retry in 2s.\",\"details\":[{\"violations\":[{\"quotaId\":\"RequestsPerMinute\",\"quotaValue\":\"7\"}]}]}}\n\n", 2 * time.Second},
		"an error":             {"data: {\"a\":1}\r\n\r\ndata: {\"error\":{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\",\"message\":\"Please retry in 12.5s.\"}}\r\n\r\n", 12500 * time.Millisecond},
		"followed by others":   {"data: {\"error\":{\"status\":\"RESOURCE_EXHAUSTED\",\"message\":\"Please retry in 4s.\"}}\n\ndata: {\"a\":1}\n\ndata: [DONE]\n\n", 4 * time.Second},
		"another error":        {"data: {\"error\":{\"status\":\"INTERNAL\"}}\n\n", 0},
		"an error that is not": {"data: {\"text\":\"\\\"error\\\" rate_limit\"}\n\n", 0},
		"after a long stream":  {"data: {\"a\":\"" + strings.Repeat("x", 10_000) + "\"}\n\ndata: {\"error\":{\"status\":\"RESOURCE_EXHAUSTED\",\"message\":\"Please retry in 3s.\"}}\n\n", 3 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			text := test.stream
			tr := &tollgate.Transport{Trace: learned.trace(), Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				body := io.NopCloser(strings.NewReader(text))
				text = "data: {}\n\n"
				return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: body, Request: r}, nil
			})}
			req, _ := newRequest(t.Context(), t, stream)
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(resp.Body); err != nil || string(b) != test.stream {
				t.Errorf("%s: read %q, %v", name, b, err)
			}
			began := time.Now()
			get(t, tr, stream)
			if got := time.Since(began); got != test.want {
				t.Errorf("%s: the next one went after %v, want %v", name, got, test.want)
			}
		})
	}
}

// An API of OpenAI's kind states its limits with every response.
func TestLearnOpenAI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &quotatest.Server{
			Limits:  map[string][]quotatest.Limit{"*": {{N: 30, Per: time.Minute, Count: quotatest.Bucket}}},
			Latency: workload.Jitter,
		}
		tr := &tollgate.Transport{Base: server}
		client := &http.Client{Transport: &tollgate.Retry{Base: tr}}
		call := func() {
			resp, err := client.Post(openai, "application/json", strings.NewReader(`{"model":"gpt","messages":[{"role":"user","content":"Hello."}]}`))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("%d %s, %v", resp.StatusCode, b, err)
			}
		}
		for range 5 {
			call()
		}
		st := tr.Status()
		if len(st) != 1 || len(st[0].Limits) != 1 || st[0].Limits[0].N != 30 || st[0].Limits[0].Per != time.Minute || !st[0].Limits[0].Learned || st[0].Limits[0].Refill != tollgate.Steady {
			t.Fatalf("status %+v, want 30 requests per minute, learned, steady", st)
		}
		began := time.Now()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(call)
		}
		wg.Wait()
		ideal := (100 - 25) * 2 * time.Second
		ratio := time.Since(began).Seconds() / ideal.Seconds()
		t.Logf("100 more: %d refused, %v, %.3f of ideal", server.Refused(), time.Since(began).Round(time.Millisecond), ratio)
		if server.Refused() > 1 || ratio > 1.1 {
			t.Errorf("%d refused, %.3f of ideal; want at most 1 and 1.1", server.Refused(), ratio)
		}
	})
}

// A limit of a quarter of an hour, learned when it is used up, is back when the
// server says.
func TestLearnFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		tr := &tollgate.Transport{Quotas: tollgate.Quotas{"*": {tollgate.RPM(1000)}}, Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}
			resp.Header.Set("RateLimit-Policy", `"default";q=100;w=900`)
			resp.Header.Set("RateLimit", `"default";r=50;t=870`)
			if time.Since(began) < 30*time.Second {
				resp.StatusCode = http.StatusTooManyRequests
				resp.Header.Set("RateLimit", `"default";r=0;t=30`)
			}
			return resp, nil
		})}
		resp, err := (&http.Client{Transport: &tollgate.Retry{Base: tr}}).Get("http://api.example.com/")
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		resp.Body.Close()
		if got := time.Since(began); got < 30*time.Second || got > 31*time.Second {
			t.Errorf("answered after %v, want 30s", got)
		}
	})
}

// Who is asked for a slower ramp sends at half the rate, and at the full one a
// quarter of an hour later.
func TestLearnSlower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var sent []time.Duration
		refuse := true
		tr := &tollgate.Transport{
			Quotas: tollgate.Quotas{"gpt": {{N: 60, Per: time.Minute, Refill: tollgate.Steady, Burst: 1}}},
			Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				r.Body.Close()
				resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}
				if time.Since(began) > 10*time.Second && refuse {
					refuse = false
					resp.StatusCode = http.StatusTooManyRequests
					resp.Body = io.NopCloser(strings.NewReader(`{"error":{"code":"slow_down","message":"Slow down."}}`))
				}
				sent = append(sent, time.Since(began))
				return resp, nil
			}),
		}
		client := &http.Client{Transport: &tollgate.Retry{Base: tr}}
		for time.Since(began) < 20*time.Minute {
			resp, err := client.Post(openai, "application/json", strings.NewReader(`{"model":"gpt"}`))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		count := func(from, to time.Duration) (n int) {
			for _, at := range sent {
				if at >= from && at < to {
					n++
				}
			}
			return n
		}
		for _, test := range []struct {
			from, to    time.Duration
			least, most int
		}{
			{time.Minute, 2 * time.Minute, 28, 36},
			{8 * time.Minute, 9 * time.Minute, 42, 50},
			{17 * time.Minute, 18 * time.Minute, 55, 60},
		} {
			if n := count(test.from, test.to); n < test.least || n > test.most {
				t.Errorf("%d sent from %v to %v, want %d to %d", n, test.from, test.to, test.least, test.most)
			}
		}
	})
}
