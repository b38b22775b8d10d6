package tollgate_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/provider"
)

const (
	embed  = "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-001:batchEmbedContents"
	count  = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:countTokens"
	openai = "https://api.openai.com/v1/chat/completions"
	claude = "https://api.anthropic.com/v1/messages"
)

// left returns the tokens left of the only limit of the only key.
func left(t *testing.T, tr *tollgate.Transport) int64 {
	t.Helper()
	st := tr.Status()
	if len(st) != 1 || len(st[0].Limits) != 1 {
		t.Fatalf("status %+v", st)
	}
	return st[0].Limits[0].Left
}

// What a request costs when it is sent, and when its response has been read.
func TestTransportCost(t *testing.T) {
	const limit = 10_000
	sse := "data: {\"usageMetadata\":{\"promptTokenCount\":50,\"candidatesTokenCount\":1}}\r\n\r\n" +
		"data: {\"usageMetadata\": {\"promptTokenCount\": 77,\n \"candidatesTokenCount\" : 30, \"thoughtsTokenCount\":12}}\r\n\r\n"
	messages := "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":5,\"cache_read_input_tokens\":1000,\"output_tokens\":1}}}\n\n" +
		"event: message_delta\ndata: {\"usage\":{\"output_tokens\":15}}\n\n"
	ninety := `{"contents":[{"parts":[{"text":"` + strings.Repeat("x", 90) + `"}]}]}`
	tests := []struct {
		name      string
		url, body string
		tokens    int64 // by the caller; 0: not
		limit     tollgate.Limit
		answer    string
		sent, end int64
	}{
		{"requests", flash, ninety, 0, tollgate.RPM(limit), sse, 1, 1},
		{"texts to embed", embed, `{"requests":[{"content":{}},{"content":{}},{"content":{}}]}`, 0, tollgate.RPM(limit), "{}", 3, 3},
		{"no texts to embed", embed, `{}`, 0, tollgate.RPM(limit), "{}", 1, 1},
		{"tokens", flash, ninety, 0, tollgate.TPM(limit), sse, 30, 77},
		{"tokens, fewer than estimated", flash, ninety, 0, tollgate.TPM(limit), `{"usageMetadata":{"promptTokenCount":11}}`, 30, 11},
		{"tokens, more than the limit", flash, `{"text":"` + strings.Repeat("x", 4*limit) + `"}`, 0, tollgate.TPM(limit), `{"usageMetadata":{"promptTokenCount":15000}}`, limit, 15_000},
		{"tokens by the caller", flash, ninety, 500, tollgate.TPM(limit), "{}", 500, 500},
		{"tokens by the caller, settled", flash, ninety, 500, tollgate.TPM(limit), sse, 500, 77},
		{"no usage", flash, ninety, 0, tollgate.TPM(limit), `{"promptTokenCount":"none","text":"\"promptTokenCount\": 7"}`, 30, 30},
		{"tokens per day", flash, ninety, 0, tollgate.TPD(limit), sse, 30, 77},
		{"output tokens", flash, ninety, 0, tollgate.OTPM(limit), sse, 1, 42},
		{"OpenAI charges what may be said", openai, `{"model":"gpt","messages":[{"role":"user","content":"` + strings.Repeat("x", 90) + `"}],"max_tokens":100}`, 0, tollgate.TPM(limit),
			`{"usage":{"prompt_tokens":9,"completion_tokens":9,"total_tokens":18}}`, 126, 126},
		{"Anthropic counts what was not cached", claude, `{"model":"claude","messages":[{"role":"user","content":"` + strings.Repeat("x", 90) + `"}],"max_tokens":100}`, 0, tollgate.TPM(limit),
			messages, 30, 30},
		{"Anthropic's output", claude, `{"model":"claude","messages":[]}`, 0, tollgate.OTPM(limit), messages, 1, 15},
	}
	ends := map[string]func(io.ReadCloser) error{
		"read whole": func(b io.ReadCloser) error { _, err := io.ReadAll(b); return err },
		"read in bytes, and closed twice": func(b io.ReadCloser) error {
			_, err := io.ReadAll(iotest.OneByteReader(b))
			return errors.Join(err, b.Close(), b.Close())
		},
	}
	for _, test := range tests {
		for how, end := range ends {
			t.Run(test.name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var got string
					tr := &tollgate.Transport{
						Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
							b, err := io.ReadAll(r.Body)
							got = string(b)
							return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(test.answer)), Request: r}, errors.Join(err, r.Body.Close())
						}),
						Quotas: tollgate.Quotas{"*": {test.limit}},
					}
					ctx := t.Context()
					if test.tokens != 0 {
						ctx = tollgate.WithTokens(ctx, test.tokens)
					}
					req, body := newRequest(ctx, t, test.url) // without GetBody
					body.Reader = strings.NewReader(test.body)
					resp, err := tr.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					if got != test.body {
						t.Errorf("sent %q, want %q", got, test.body)
					}
					if n := limit - left(t, tr); n != test.sent {
						t.Errorf("charged %d when sent, want %d", n, test.sent)
					}
					if err := end(resp.Body); err != nil {
						t.Error(err)
					}
					if n := limit - left(t, tr); n != test.end {
						t.Errorf("charged %d in the end, want %d", n, test.end)
					}
				})
			})
		}
	}
}

// Who breaks off settles by what was said until then.
func TestTransportCostBrokenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		tr := &tollgate.Transport{
			Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, Body: pr, Request: r}, nil
			}),
			Quotas: tollgate.Quotas{"*": {tollgate.TPM(1000)}},
		}
		req, _ := newRequest(t.Context(), t, flash)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = pw.Write([]byte(`[{"usageMetadata":{"promptTokenCount":60},"x":1},`)) }()
		b := make([]byte, 100)
		if n, err := resp.Body.Read(b); n != 49 || err != nil {
			t.Fatalf("read %d, %v: an event was held back", n, err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if n := left(t, tr); n != 940 {
			t.Errorf("%d left, want 940", n)
		}
	})
}

// What cannot be read is left as it was estimated.
func TestTransportCostCompressed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, err := io.WriteString(w, `{"promptTokenCount":60}`)
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		tr := &tollgate.Transport{
			Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Encoding": {"gzip"}}, Body: io.NopCloser(bytes.NewReader(packed.Bytes())), Request: r}, nil
			}),
			Quotas: tollgate.Quotas{"*": {tollgate.TPM(1000)}},
		}
		req, body := newRequest(tollgate.WithTokens(t.Context(), 30), t, flash)
		body.Reader = strings.NewReader(`{"text":"abc"}`)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(b, packed.Bytes()) {
			t.Errorf("read %q, %v", b, err)
		}
		if n := left(t, tr); n != 970 {
			t.Errorf("%d left, want 970", n)
		}
	})
}

// Calls aside from generation draw nothing from its quota, and a request that
// never reached the server gives back what it took.
func TestTransportCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &tollgate.Transport{
			Base:   roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, errors.New("no route") }),
			Quotas: tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(10), tollgate.TPM(1000), tollgate.RPD(50)}},
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		req, _ := newRequest(ctx, t, flash)
		if _, err := tr.RoundTrip(req); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		for _, url := range []string{count, "https://generativelanguage.googleapis.com/v1beta/files/x", "https://generativelanguage.googleapis.com/v1beta/models"} {
			req, _ := newRequest(t.Context(), t, url)
			if _, err := tr.RoundTrip(req); err == nil {
				t.Error("no error")
			}
		}
		for _, s := range tr.Status() {
			for _, l := range s.Limits {
				if s.Key != "gemini-2.5-flash" || l.Left != l.N {
					t.Errorf("%s: %d of %v left", s.Key, l.Left, l.Limit)
				}
			}
		}
	})
}

// A model's name in the body is the key, unless the host has a quota of its own.
func TestTransportKeyInBody(t *testing.T) {
	for _, test := range []struct {
		quotas tollgate.Quotas
		want   []string
	}{
		{tollgate.Quotas{"*": {tollgate.RPM(5)}}, []string{"gpt-a", "gpt-b"}},
		{tollgate.Quotas{"api.openai.com": {tollgate.RPM(5)}}, []string{"api.openai.com"}},
		{tollgate.Quotas{"api.openai.com": {tollgate.RPM(5)}, "gpt-b": {tollgate.RPM(5)}}, []string{"api.openai.com", "gpt-b"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			tr := &tollgate.Transport{Base: slow(0, 0), Quotas: test.quotas}
			for _, model := range []string{"gpt-a", "gpt-b"} {
				req, body := newRequest(t.Context(), t, openai)
				body.Reader = strings.NewReader(`{"messages":[],"model":"` + model + `"}`)
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
			}
			got := map[string]bool{}
			for _, s := range tr.Status() {
				got[s.Key] = true
				if s.Limits[0].Refill != tollgate.Steady {
					t.Errorf("%s is kept by %v, want steady", s.Key, s.Limits[0].Refill)
				}
			}
			for _, k := range test.want {
				if !got[k] || len(got) != len(test.want) {
					t.Errorf("keys %v, want %v", got, test.want)
				}
			}
		})
	}
}

// Auto is what the API is known for.
func TestTransportAuto(t *testing.T) {
	for _, test := range []struct {
		url   string
		limit tollgate.Limit
		want  tollgate.Refill
	}{
		{flash, tollgate.RPM(1), tollgate.Calendar},
		{flash, tollgate.RPD(1), tollgate.Calendar},
		{flash, tollgate.RPS(1), tollgate.Window}, // no clock is that good
		{flash, tollgate.Limit{N: 1, Per: time.Minute, Refill: tollgate.Steady}, tollgate.Steady},
		{openai, tollgate.RPM(1), tollgate.Steady},
		{claude, tollgate.RPM(1), tollgate.Steady},
		{"https://api.example.com/", tollgate.RPM(1), tollgate.Auto},
	} {
		tr := &tollgate.Transport{Base: slow(0, 0), Quotas: tollgate.Quotas{"*": {test.limit}}}
		req, _ := newRequest(t.Context(), t, test.url)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := tr.Status()[0].Limits[0].Refill; got != test.want {
			t.Errorf("%s, %v: %v, want %v", test.url, test.limit, got, test.want)
		}
	}
	if provider.Calendar.String() != "calendar" {
		t.Error(provider.Calendar)
	}
}

// The table that comes along is made of limits that can be kept.
func TestGeminiFree(t *testing.T) {
	for key, quota := range tollgate.GeminiFree {
		tr := &tollgate.Transport{Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
		}), Quotas: tollgate.Quotas{key: quota}}
		get(t, tr, "https://generativelanguage.googleapis.com/v1beta/models/"+key+":generateContent")
		st := tr.Status()[0]
		if st.Key != key || len(st.Limits) != 3 || st.Limits[0].Per != time.Minute || st.Limits[1].Unit != tollgate.Tokens || st.Limits[2].Per != 24*time.Hour {
			t.Errorf("%s: %+v, want requests and tokens a minute and requests a day", key, st.Limits)
		}
	}
}
