package tollgate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
)

// answering is a base that accepts every request.
var answering = roundTripFunc(func(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	return ok(r)
})

// posting makes a request with a body that can be had again.
func posting(ctx context.Context, t *testing.T, url, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// through counts how many of n requests are not rejected.
func through(t *testing.T, tr *tollgate.Transport, n int, req func() *http.Request) (got int) {
	t.Helper()
	for range n {
		resp, err := tr.RoundTrip(req())
		if err == nil {
			got++
			resp.Body.Close()
		} else if !errors.Is(err, tollgate.ErrLimited) {
			t.Fatal(err)
		}
	}
	return got
}

const (
	chat   = "https://api.openai.com/v1/chat/completions"
	gpt    = `{"model":"gpt-5","messages":[]}`
	mini   = `{"model":"gpt-5-mini","messages":[]}`
	counts = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:countTokens"
)

// Quotas are found under keys as people write them. A host's quota is for all that
// has no entry of its own, at every API.
func TestKeysAsWritten(t *testing.T) {
	type call struct {
		url, body string
		want      int // let through of 9, one call after the other
	}
	for _, test := range []struct {
		name   string
		quotas tollgate.Quotas
		calls  []call
	}{
		{"the resource of a model", tollgate.Quotas{"models/gemini-2.5-flash": {tollgate.RPM(2)}}, []call{{flash, "", 2}, {pro, "", 9}}},
		{"a model in another case", tollgate.Quotas{"GPT-5": {tollgate.RPM(2)}}, []call{{chat, gpt, 2}, {chat, mini, 9}}},
		{"a host with all that it may have", tollgate.Quotas{"https://API.Example.com:443/": {tollgate.RPM(2)}}, []call{{"https://api.example.com/x", "", 2}, {"https://Api.example.com:443/y", "", 0}}},
		{"hosts below a domain", tollgate.Quotas{"*.example.com": {tollgate.RPM(2)}, "c.example.com": {tollgate.RPM(3)}},
			[]call{{"https://a.example.com/", "", 2}, {"https://b.example.com/", "", 2}, {"https://c.example.com/", "", 3}, {"https://example.com/", "", 9}}},
		{"OpenAI's host", tollgate.Quotas{"api.openai.com": {tollgate.RPM(4)}, "gpt-5": {tollgate.RPM(2)}, "*": {tollgate.RPM(1)}},
			[]call{{chat, gpt, 2}, {chat, mini, 4}, {chat, `{"model":"o9"}`, 0}, {"https://api.openai.com/v1/models", "", 0}}},
		{"Gemini's host", tollgate.Quotas{"generativelanguage.googleapis.com": {tollgate.RPM(4)}, "gemini-2.5-flash": {tollgate.RPM(2)}, "*": {tollgate.RPM(1)}},
			[]call{{flash, "", 2}, {pro, "", 4}, {counts, "", 0}, {embed, `{"requests":[{}]}`, 0}}},
		{"a template is not for calls aside", tollgate.Quotas{"*": {tollgate.RPM(1)}}, []call{{pro, "", 1}, {counts, "", 9}}},
		{"an empty quota", tollgate.Quotas{"gpt-5": {}, "*": {tollgate.RPM(1)}}, []call{{chat, gpt, 9}, {chat, mini, 1}}},
		{"a service tier", tollgate.Quotas{"gpt-5": {tollgate.RPM(2)}, "api.openai.com": {tollgate.RPM(1)}}, []call{{chat, gpt, 2}, {chat, `{"model":"gpt-5","service_tier":"flex"}`, 2}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := &tollgate.Transport{Base: answering, Quotas: test.quotas, MaxWait: -1}
				for _, c := range test.calls {
					if got := through(t, tr, 9, func() *http.Request { return posting(t.Context(), t, c.url, c.body) }); got != c.want {
						t.Errorf("%s %s: %d of 9 let through, want %d", c.url, c.body, got, c.want)
					}
				}
			})
		})
	}
}

// A key that the caller chooses is a quota of its own, whatever the host.
func TestKeysChosen(t *testing.T) {
	for _, test := range []struct {
		name        string
		field       func(*http.Request) string
		ctx         string
		header, url string
		want        int
		key         string
	}{
		{"by context", nil, "acme", "", flash, 2, "acme"},
		{"by field", tenant, "", "acme", flash, 2, "acme"},
		{"the context goes first", tenant, "acme", "other", flash, 2, "acme"},
		{"not chosen", tenant, "", "", flash, 3, "gemini-2.5-flash"},
		{"without an entry", tenant, "", "other", "https://api.example.com/", 1, "other"},
		{"another letter case", tenant, "", "ACME", "https://api.example.com/", 1, "ACME"},
		{"a call aside", tenant, "", "acme", counts, 2, "acme"},
		{"a body that names its model", tenant, "", "acme", chat, 2, "acme"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var key string
				tr := &tollgate.Transport{
					Base: answering, MaxWait: -1, Key: test.field,
					Quotas: tollgate.Quotas{"acme": {tollgate.RPM(2)}, "gemini-2.5-flash": {tollgate.RPM(3)}, "*": {tollgate.RPM(1)}, "api.example.com": {tollgate.RPM(5)}},
					Trace:  &tollgate.Trace{Rejected: func(_ *http.Request, e *tollgate.LimitError) { key = e.Key }},
				}
				n := 0
				got := through(t, tr, 9, func() *http.Request {
					url := test.url
					if n++; n%2 == 0 && test.key == "acme" {
						url = "https://elsewhere.example.com/"
					}
					req := posting(tollgate.WithKey(t.Context(), test.ctx), t, url, gpt)
					req.Header.Set("Tenant", test.header)
					return req
				})
				if got != test.want || key != test.key {
					t.Errorf("%d of 9 let through by %q, want %d by %q", got, key, test.want, test.key)
				}
			})
		})
	}
}

func tenant(r *http.Request) string { return r.Header.Get("Tenant") }

// A key from outside may be as long as it likes; what is kept of it may not.
func TestKeysLong(t *testing.T) {
	tr := &tollgate.Transport{Base: answering, Quotas: tollgate.Quotas{"*": {tollgate.RPM(1)}}, MaxWait: -1, Key: tenant}
	long := strings.Repeat("x", 1<<16)
	for _, name := range []string{long + "a", long + "b"} {
		if got := through(t, tr, 3, func() *http.Request {
			req := posting(t.Context(), t, flash, "")
			req.Header.Set("Tenant", name)
			return req
		}); got != 1 {
			t.Errorf("%d of 3 let through, want 1", got)
		}
	}
	for _, s := range tr.Status() {
		if len(s.Key) > 256 {
			t.Errorf("a key of %d bytes is kept", len(s.Key))
		}
	}
}

// A key without a quota is told of once, with some of those that have one.
func TestNoQuota(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	q := tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(10)}, "acme ltd": {tollgate.RPM(1)}}
	tr := &tollgate.Transport{Base: answering, Quotas: q, Trace: tollgate.LogTrace(log)}
	for range 3 {
		get(t, tr, pro)
		get(t, tr, flash)
		get(t, tr, counts) // nobody expects a quota of it
		get(t, tr, "https://api.example.com/")
	}
	for want, n := range map[string]int{
		`level=INFO msg="no quota for gemini-2.5-pro; there are quotas for \"acme ltd\", gemini-2.5-flash"`: 1,
		`msg="no quota for api.example.com;`: 1,
		"no quota":                           2,
	} {
		if got := strings.Count(out.String(), want); got != n {
			t.Errorf("%q %d times, want %d:\n%s", want, got, n, &out)
		}
	}
	for _, q := range []tollgate.Quotas{nil, {}, {"gemini-2.5-flash": {}, "*": {}}} {
		out.Reset()
		tr := &tollgate.Transport{Base: answering, Quotas: q, Trace: tollgate.LogTrace(log)}
		get(t, tr, pro)
		if out.Len() > 0 {
			t.Errorf("%v: %s", q, &out)
		}
	}

	// Both lists are bounded: keys may come from outside.
	told, most := 0, 0
	many := make(tollgate.Quotas)
	for i := range 1000 {
		many[fmt.Sprint("key", i)] = nil
	}
	tr = &tollgate.Transport{Base: answering, Quotas: many, Trace: &tollgate.Trace{NoQuota: func(_ *http.Request, _ string, others []string) {
		told++
		most = max(most, len(others))
	}}}
	for i := range 1000 {
		get(t, tr, fmt.Sprintf("https://api%d.example.com/", i))
	}
	if told != 256 || most != 10 {
		t.Errorf("told of %d keys with up to %d others, want 256 and 10", told, most)
	}
}

// Quotas that cannot be are an error of every request, which names the key, and is
// not tried again.
func TestQuotasInvalid(t *testing.T) {
	for _, test := range []struct {
		quotas tollgate.Quotas
		want   string // "": they can be
	}{
		{tollgate.Quotas{"other": {tollgate.RPM(-1)}}, `tollgate: quota of "other": limit of -1 requests: N is negative`},
		{tollgate.Quotas{"other": {{N: 1, Per: -1}}}, `tollgate: quota of "other": limit of 1 request per -1ns: Per is negative`},
		{tollgate.Quotas{"other": {{N: 1, Unit: 7}}}, `unknown Unit`},
		{tollgate.Quotas{"other": {{N: 1, Per: 1, Refill: 9}}}, `unknown Refill 9`},
		{tollgate.Quotas{"other": {{N: 5, Per: 1, Refill: tollgate.Steady, Burst: 6}}}, `Burst 6 is not between 0 and N`},
		{tollgate.Quotas{"other": {{N: 5, Per: time.Minute, Refill: tollgate.Window, Burst: 2}}}, `limit of 5 requests per minute: it has a Burst`},
		{tollgate.Quotas{"other": {{N: 5, Per: time.Minute, Refill: tollgate.Calendar, Burst: 2}}}, `it has a Burst`},
		{tollgate.Quotas{"other": {{N: 5, Burst: 2}}}, `it has a Burst`},
		{tollgate.Quotas{"a.example.com": nil, "https://A.example.com/": nil}, `tollgate: Quotas: the keys "a.example.com" and "https://A.example.com/" are the same`},
		{tollgate.Quotas{"": nil}, `tollgate: Quotas: the key "" is empty`},
		{tollgate.Quotas{"gemini-*": nil}, `pattern`},
		{tollgate.Quotas{"*": {tollgate.RPM(0)}, "other": {tollgate.RPM(math.MaxInt64), tollgate.TPM(math.MaxInt64), {N: math.MaxInt64, Per: math.MaxInt64},
			{N: math.MaxInt64, Per: 1, Refill: tollgate.Steady}, {N: 1, Per: math.MaxInt64, Refill: tollgate.Steady, Burst: 1}, {N: 1, Per: math.MaxInt64, Refill: tollgate.Calendar}, tollgate.Concurrency(math.MaxInt64)}}, ""},
	} {
		for _, wrap := range []func(*tollgate.Transport) http.RoundTripper{
			func(tr *tollgate.Transport) http.RoundTripper { return tr },
			func(tr *tollgate.Transport) http.RoundTripper { return &tollgate.Retry{Base: tr} },
		} {
			n := 0
			rt := wrap(&tollgate.Transport{Quotas: test.quotas, Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				n++
				return answering(r)
			})})
			req, body := newRequest(tollgate.WithKey(t.Context(), "other"), t, flash)
			body.Reader = strings.NewReader("")
			if _, retries := rt.(*tollgate.Retry); retries && test.want != "" {
				req.GetBody = func() (io.ReadCloser, error) { t.Error("tried again"); return nil, errors.New("again") }
			}
			resp, err := rt.RoundTrip(req)
			switch {
			case test.want == "" && (err != nil || n == 0):
				t.Errorf("%v: %v, sent %d times", test.quotas, err, n)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || resp != nil || n > 0):
				t.Errorf("%v: error %v, sent %d times, want %q", test.quotas, err, n, test.want)
			case body.closed.Load() != 1:
				t.Errorf("%v: the body was closed %d times", test.quotas, body.closed.Load())
			}
		}
	}
}

// What a caller says of a request's cost is charged.
func TestCostSaid(t *testing.T) {
	const limit = 10_000
	usage := `{"usageMetadata":{"promptTokenCount":77,"candidatesTokenCount":9}}`
	tokens, requests, output := tollgate.TPM(limit), tollgate.RPM(limit), tollgate.OTPM(limit)
	say := func(c ...tollgate.Cost) func(context.Context) context.Context {
		return func(ctx context.Context) context.Context {
			for _, c := range c {
				ctx = tollgate.WithCost(ctx, c)
			}
			return ctx
		}
	}
	field := func(f func(*http.Request, tollgate.Cost) tollgate.Cost) func(*http.Request, tollgate.Cost) tollgate.Cost {
		return f
	}
	plus := field(func(_ *http.Request, c tollgate.Cost) tollgate.Cost { c[tollgate.Tokens] += 100; return c })
	const host = "https://api.example.com/graphql"
	ninety := `{"contents":[{"parts":[{"text":"` + strings.Repeat("x", 90) + `"}]}]}`
	for _, test := range []struct {
		name      string
		url       string
		ctx       func(context.Context) context.Context
		field     func(*http.Request, tollgate.Cost) tollgate.Cost
		limit     tollgate.Limit
		sent, end int64
	}{
		{"points", host, say(tollgate.Cost{1, 52, 0}), nil, tokens, 52, 52},
		{"requests", host, say(tollgate.Cost{5, 0, 0}), nil, requests, 5, 5},
		{"no request", host, say(tollgate.Cost{0, 52, 0}), nil, requests, 0, 0},
		{"as estimated", flash, say(tollgate.Cost{-1, -1, -1}), nil, tokens, 30, 77},
		{"set right by usage", flash, say(tollgate.Cost{1, 500, -1}), nil, tokens, 500, 77},
		{"nothing, whatever the usage", flash, say(tollgate.Cost{1, 0, 0}), nil, tokens, 0, 0},
		{"no output, whatever the usage", flash, say(tollgate.Cost{1, 0, 0}), nil, output, 0, 0},
		{"output", flash, say(tollgate.Cost{1, 0, 300}), nil, output, 300, 9},
		{"the later one", host, say(tollgate.Cost{1, 5, 1}, tollgate.Cost{-1, 7, -1}), nil, tokens, 7, 7},
		{"the earlier one where the later says nothing", host, say(tollgate.Cost{1, 5, 1}, tollgate.Cost{7, -1, -1}), nil, tokens, 5, 5},
		{"tokens alone", host, func(ctx context.Context) context.Context { return tollgate.WithTokens(ctx, 8) }, nil, requests, 1, 1},
		{"no tokens", flash, func(ctx context.Context) context.Context { return tollgate.WithTokens(ctx, -8) }, nil, tokens, 0, 0},
		{"more than there is", host, say(tollgate.Cost{1, math.MaxInt64, 1}), nil, tokens, limit, limit},
		{"by the field, from the estimate", flash, nil, plus, tokens, 130, 77},
		{"by the field, where there is no estimate", host, nil, plus, tokens, 100, 100},
		{"by the field, as estimated", flash, nil, field(func(_ *http.Request, c tollgate.Cost) tollgate.Cost { return c }), tokens, 30, 77},
		{"by the field, negative", flash, nil, field(func(*http.Request, tollgate.Cost) tollgate.Cost { return tollgate.Cost{-1, math.MinInt64, -1} }), tokens, 30, 77},
		{"by the field, too much", host, nil, field(func(*http.Request, tollgate.Cost) tollgate.Cost {
			return tollgate.Cost{math.MaxInt64, math.MaxInt64, 0}
		}), requests, limit, limit},
		{"by the field, nothing", flash, nil, field(func(*http.Request, tollgate.Cost) tollgate.Cost { return tollgate.Cost{} }), output, 0, 0},
		{"the context before the field", host, say(tollgate.Cost{1, 5, 1}), plus, tokens, 5, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := &tollgate.Transport{
					Quotas: tollgate.Quotas{"*": {test.limit}}, Cost: test.field,
					Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
						r.Body.Close()
						return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(usage)), Request: r}, nil
					}),
				}
				ctx := t.Context()
				if test.ctx != nil {
					ctx = test.ctx(ctx)
				}
				resp, err := tr.RoundTrip(posting(ctx, t, test.url, ninety))
				if err != nil {
					t.Fatal(err)
				}
				if n := limit - left(t, tr); n != test.sent {
					t.Errorf("charged %d when sent, want %d", n, test.sent)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if n := limit - left(t, tr); n != test.end {
					t.Errorf("charged %d in the end, want %d", n, test.end)
				}
			})
		})
	}
}

// Points come back as tokens do, and requests that draw nothing else wait for them.
func TestCostWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &tollgate.Transport{
			Base: answering, Quotas: tollgate.Quotas{"*": {{Unit: tollgate.Tokens, N: 100, Per: time.Minute, Refill: tollgate.Window}, tollgate.RPM(1)}},
		}
		began := time.Now()
		var mu sync.Mutex
		var at []time.Duration
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				resp, err := tr.RoundTrip(posting(tollgate.WithCost(t.Context(), tollgate.Cost{tollgate.Tokens: 50}), t, "https://api.example.com/", ""))
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				mu.Lock()
				defer mu.Unlock()
				at = append(at, time.Since(began).Truncate(time.Second))
			})
		}
		time.Sleep(time.Second)
		// One that would wait for longer than it can is rejected at once.
		ctx, cancel := context.WithTimeout(tollgate.WithCost(t.Context(), tollgate.Cost{tollgate.Tokens: 50}), 2*time.Minute)
		defer cancel()
		if _, err := tr.RoundTrip(posting(ctx, t, "https://api.example.com/", "")); !errors.Is(err, tollgate.ErrLimited) {
			t.Errorf("%v, want ErrLimited", err)
		}
		wg.Wait()
		slices.Sort(at)
		if got := fmt.Sprint(at); got != "[0s 0s 1m0s 1m0s 2m0s 2m0s]" {
			t.Errorf("answered at %s", got)
		}
	})
}

// Where a function of the caller's panics, the body is closed, and nothing is held.
func TestCallerPanics(t *testing.T) {
	for name, tr := range map[string]*tollgate.Transport{
		"Key":     {Key: func(*http.Request) string { panic("oops") }},
		"Cost":    {Cost: func(*http.Request, tollgate.Cost) tollgate.Cost { panic("oops") }},
		"NoQuota": {Trace: &tollgate.Trace{NoQuota: func(*http.Request, string, []string) { panic("oops") }}},
	} {
		tr.Base, tr.Quotas = answering, tollgate.Quotas{"other": {tollgate.Concurrency(1)}}
		req, body := newRequest(t.Context(), t, flash)
		func() {
			defer func() {
				if recover() != "oops" {
					t.Errorf("%s: no panic", name)
				}
			}()
			tr.RoundTrip(req)
		}()
		if n := body.closed.Load(); n != 1 {
			t.Errorf("%s: the body was closed %d times", name, n)
		}
		tr.Key, tr.Cost, tr.Trace = nil, nil, nil
		get(t, tr, flash)
		for _, s := range tr.Status() {
			if s.InFlight != 0 || s.Waiting != 0 {
				t.Errorf("%s: %+v", name, s)
			}
		}
	}
}

// The chain that NewClient documents is the one that it makes.
func TestNewClientChain(t *testing.T) {
	q := tollgate.Quotas{apiHost: {tollgate.RPM(1)}}
	client := tollgate.NewClient(q)
	tr, ok := client.Transport.(*tollgate.Retry).Base.(*tollgate.Transport)
	if !ok || tr.Base != nil || len(tr.Quotas) != 1 || client.Timeout != 0 {
		t.Fatalf("%#v", client)
	}
	synctest.Test(t, func(t *testing.T) {
		tr.Base = slow(time.Hour, 0)
		tr.Timeout = time.Minute
		req := posting(t.Context(), t, "https://"+apiHost, "")
		began := time.Now()
		if _, err := tr.RoundTrip(req); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("%v after %v, want the Timeout", err, time.Since(began))
		}
	})
}
