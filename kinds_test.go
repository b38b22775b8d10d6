package tollgate_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"example.com/tollgate"
	"example.com/tollgate/provider"
)

// A kind is a way of saying no, or of saying how much is left, and what comes of it.
type kind struct {
	part   int    // of the list of kinds
	name   string // of a fixture in provider/testdata/refusals.txt, unless there is an answer
	want   string // drained | until | tries | the next request
	answer func(*http.Request) *http.Response

	url, contentType, body string // of the request; "": as fixtures have it
	quota                  tollgate.Quota
}

// kinds are those that were reported, by part: Gemini's Interactions, refusals inside
// a 200, 403, what is left, long hints, what no waiting cures, compressed bodies,
// which model, slower ramps.
var kinds = []kind{
	{part: 1, name: "Interactions: a minute", want: "nothing | ~1s | again after ~1s | at once"},
	{part: 1, name: "Interactions: a minute, with a hint", want: "requests/1m, tokens/1m | 9.25s | again after 9.25s | at once"},
	{part: 1, name: "Interactions: a day", want: "requests/24h | the day ends | not again | rejected, back in 8h"},
	{part: 1, name: "Interactions: an error in a stream", want: "requests/24h | the day ends | not again | rejected, back in 8h"},
	{part: 1, name: "Interactions: a minute, in a stream", url: interactionsURL, answer: events(`{"event_type":"interaction.created","interaction":{"id":"i","status":"in_progress"}}`, `{"event_type":"error","error":{"code":"rate_limit_exceeded","message":"Please retry in 30s."}}`, `[DONE]`),
		want: "requests/1m, tokens/1m | 30s | not again | after 30s"},

	{part: 2, name: "OpenAI: a failed response in a stream, more after it", want: "requests/1m, tokens/1m | 14.036s | not again | after 14.036s"},
	{part: 2, name: "OpenAI: a flat error in a stream", want: "nothing | ~1s | not again | after ~1s"},
	{part: 2, name: "OpenAI: an error in a stream", want: "tokens/1m | 634ms | not again | after 634ms"},
	{part: 2, name: "vLLM: an error in a stream", want: "requests/1m, tokens/1m | 3s | not again | after 3s"},
	{part: 2, name: "Anthropic: an error in a stream", want: "nothing | ~1s | not again | after ~1s"},
	{part: 2, name: "Anthropic: overloaded in a stream", want: "nothing | - | not again | at once"},
	{part: 2, name: "Azure: in a stream", url: "https://m.openai.azure.com/openai/deployments/m/chat/completions", answer: events(`{"error":{"code":"too_many_requests","message":"Retry after 7 seconds."}}`, `[DONE]`),
		want: "requests/1m, tokens/1m | 7s | not again | after 7s"},
	{part: 2, name: "OpenRouter: in a stream", url: "https://openrouter.ai/api/v1/chat/completions", answer: events(`{"id":"g","choices":[],"error":{"code":429,"message":"Slow down.","metadata":{"retry_after":3}}}`, `[DONE]`),
		want: "requests/1m, tokens/1m | 3s | not again | after 3s"},
	{part: 2, name: "Bedrock: a binary event stream", url: "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse-stream", answer: of(200, "application/vnd.amazon.eventstream", amazonFrame(`{"message":"Too many tokens."}`, ":message-type", "exception", ":exception-type", "throttlingException")),
		want: "nothing | ~1s | not again | after ~1s"},
	{part: 2, name: "Bedrock: a binary event stream, in a payload", url: "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse-stream", answer: of(200, "application/vnd.amazon.eventstream", amazonFrame(`{"throttlingException":{"message":"Too many requests."}}`, ":event-type", "x")),
		want: "nothing | ~1s | not again | after ~1s"},
	{part: 2, name: "a 200 that is nothing but an error", url: "https://api.example.com/v1/things", answer: of(200, "application/json", `{"error":{"code":"rate_limited","retry_after":4}}`),
		want: "requests/1m, tokens/1m | 4s | not again | after 4s"},
	{part: 2, name: "Shopify: throttled", want: "requests/1m, tokens/1m | 2s | not again | after 2s"},

	{part: 3, name: "GitHub: 403, the primary limit", want: "requests/1m, tokens/1m | 30s | again after 30s | at once"},
	{part: 3, name: "GitHub: 403, a secondary limit", want: "requests/1m, tokens/1m | 42s | again after 42s | at once"},
	{part: 3, name: "Drive: 403, the user's rate", want: "nothing | ~1s | again after ~1s | at once"},
	{part: 3, name: "Drive: 403, the day", want: "requests/24h | the day ends | not again | rejected, back in 8h"},
	{part: 3, name: "GitHub: 403, a permission", url: "https://api.github.com/repos/o/r", answer: of(403, "application/json", `{"message":"Resource not accessible by integration"}`, "X-Ratelimit-Remaining", "59"),
		want: "nothing | - | not again | at once"},
	{part: 3, name: "Groq: capacity of the flex tier", want: "nothing | ~1s | again after ~1s | at once"},

	{part: 4, name: "X-RateLimit: none left of a configured 5000 an hour, on a 200", url: "https://api.example.com/v1/things", answer: of(200, "application/json", `{}`, "X-Ratelimit-Limit", "5000", "X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "1800"),
		quota: tollgate.Quota{{N: 5000, Per: time.Hour}}, want: "requests/1h | - | not again | after 30m"},
	{part: 4, name: "0 left with a reset, on a 200", url: "https://api.example.com/v1/things", answer: of(200, "application/json", `{}`, "X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "25"),
		want: "nothing | 25s | not again | after 25s"},
	{part: 4, name: "Docker Hub", want: "requests/6h | ~1s | not again | after ~6h0m11s"},
	{part: 4, name: "Atlassian: a time without seconds", want: "requests/1m, tokens/1m | 15m | again after 15m | at once"},
	{part: 4, name: "X-RateLimit: with a prefix of its own", want: "requests/1m, tokens/1m | 45s | again after 45s | at once"},
	{part: 4, name: "X-RateLimit: a float", want: "requests/1m, tokens/1m | 2.75s | again after 2.75s | at once"},
	{part: 4, name: "Cosmos DB: milliseconds", want: "requests/1m, tokens/1m | 8s | again after 8s | at once"},
	{part: 4, name: "Discord: the body alone", want: "requests/1m, tokens/1m | 1m4.57s | again after 1m4.57s | at once"},
	{part: 4, name: "Retry-After: with a unit", want: "requests/1m, tokens/1m | 30s | again after 30s | at once"},

	{part: 5, name: "Spotify: a quota of its own", want: "nothing | 22h11m32s | not again | rejected, back in 22h11m32s"},
	{part: 5, name: "a day's refusal with a hint of hours", url: "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent", answer: of(429, "application/json", `{"error":{"code":429,"message":"Please retry in 5h30m.","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel"}]}]}}`),
		want: "requests/24h | 5h30m | not again | rejected, back in 5h30m"},

	{part: 6, name: "Z.ai: the balance", want: "nothing | - | not again | at once"},
	{part: 6, name: "Z.ai: the balance, in Chinese", want: "nothing | - | not again | at once"},
	{part: 6, name: "Anthropic: extra usage", want: "nothing | - | not again | at once"},
	{part: 6, name: "OpenAI: credit_balance_exhausted", want: "nothing | - | not again | at once"},
	{part: 6, name: "OpenAI: organization_usage_limit_exceeded", want: "nothing | - | not again | at once"},
	{part: 6, name: "Groq: about what was requested", want: "nothing | - | not again | at once"},
	{part: 6, name: "HubSpot: the day", want: "requests/24h | the day ends | not again | rejected, back in 24h"},

	{part: 7, name: "gzip", answer: packed(429, "gzip", retryJSON), want: "requests/1m, tokens/1m | 1.5s | again after 1.5s | at once"},
	{part: 7, name: "deflate", answer: packed(429, "deflate", retryJSON), want: "requests/1m, tokens/1m | 1.5s | again after 1.5s | at once"},
	{part: 7, name: "br", answer: packed(429, "br", retryJSON), want: "requests/1m, tokens/1m | 1.5s | again after 1.5s | at once"},
	{part: 7, name: "zstd", answer: packed(429, "zstd", retryJSON), want: "requests/1m, tokens/1m | 1.5s | again after 1.5s | at once"},
	{part: 7, name: "br, in a 200", answer: packed(200, "br", retryJSON), want: "requests/1m, tokens/1m | 1.5s | not again | after 1.5s"},
	{part: 7, name: "zstd, in a 200", answer: packed(200, "zstd", retryJSON), want: "requests/1m, tokens/1m | 1.5s | not again | after 1.5s"},

	{part: 8, name: "OpenAI: a limit that models share", want: "tokens/1m | 2s | again after 2s | at once"},
	{part: 8, name: "OpenAI: images", want: "requests/1m, tokens/1m | 12s | again after 12s | at once"},
	{part: 8, name: "Groq: no request left of the day", want: "requests/24h | the day ends | not again | rejected, back in 1m26s"},
	{part: 8, name: "a model in a form", url: "https://api.openai.com/v1/audio/transcriptions", contentType: "multipart/form-data; boundary=b", body: form("m"), answer: of(429, "application/json", `{"error":{"message":"Please try again in 8s.","code":"rate_limit_exceeded"}}`),
		want: "requests/1m, tokens/1m | 8s | again after 8s | at once"},
	{part: 8, name: "a tier of its own", url: "https://api.openai.com/v1/responses", body: `{"model":"m","service_tier":"flex","input":"a"}`, answer: of(429, "application/json", `{"error":{"message":"Please try again in 8s.","code":"rate_limit_exceeded"}}`),
		want: "requests/1m, tokens/1m | 8s | again after 8s | at once"},

	{part: 9, name: "OpenAI: slow_down", want: "nothing | ~1s | again after ~1s | at once"},
	{part: 9, name: "Anthropic: acceleration", want: "tokens/1m | 20s | again after 20s | at once"},
}

const (
	interactionsURL = "https://generativelanguage.googleapis.com/v1beta/interactions"
	retryJSON       = `{"error":{"message":"Slow down.","code":"rate_limit_exceeded","retry_after_ms":1500}}`
)

// of returns what answers with a status, a type, a body, and header fields in pairs.
func of(status int, contentType, body string, header ...string) func(*http.Request) *http.Response {
	return func(r *http.Request) *http.Response {
		h := http.Header{"Content-Type": {contentType}}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r}
	}
}

// events returns what answers with a stream of events.
func events(data ...string) func(*http.Request) *http.Response {
	return of(200, "text/event-stream", "data: "+strings.Join(data, "\n\ndata: ")+"\n\n")
}

// packed returns what answers with JSON that is compressed.
func packed(status int, encoding, text string) func(*http.Request) *http.Response {
	var b bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "br":
		w = brotli.NewWriter(&b)
	case "zstd":
		z, err := zstd.NewWriter(&b)
		if err != nil {
			panic(err)
		}
		w = z
	}
	_, _ = io.WriteString(w, text)
	w.Close()
	return of(status, "application/json", b.String(), "Content-Encoding", encoding)
}

// amazonFrame is a message of a binary event stream, with headers in pairs.
func amazonFrame(payload string, headers ...string) string {
	var h []byte
	for i := 0; i < len(headers); i += 2 {
		h = append(append(h, byte(len(headers[i]))), headers[i]...)
		h = append(binary.BigEndian.AppendUint16(append(h, 7), uint16(len(headers[i+1]))), headers[i+1]...)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(12+len(h)+len(payload)+4))
	b = binary.BigEndian.AppendUint32(b, uint32(len(h)))
	b = append(append(append(b, 0, 0, 0, 0), h...), payload...) // sums that nobody checks
	return string(append(b, 0, 0, 0, 0))
}

// form is a multipart body that names a model, with the boundary b.
func form(model string) string {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	_ = w.SetBoundary("b")
	_ = w.WriteField("model", model)
	w.Close()
	return b.String()
}

// TestKinds prints, with -v, what becomes of every kind: what is drained, until when,
// whether that request is tried again, and what the next one of its key meets.
func TestKinds(t *testing.T) {
	fixtures := map[string]recorded{}
	for _, r := range refusals(t) {
		fixtures[r.name] = r
	}
	var table strings.Builder
	table.WriteString("\npart | kind | drained | until | tried | the next one\n---|---|---|---|---|---\n")
	for _, k := range kinds {
		if k.answer == nil {
			r, ok := fixtures[k.name]
			if !ok {
				t.Fatalf("there is no fixture %q", k.name)
			}
			k.url, k.answer = r.url, func(req *http.Request) *http.Response { return r.answer(t, req) }
		}
		var got string
		synctest.Test(t, func(t *testing.T) { got = fate(t, k) })
		if got != k.want {
			t.Errorf("%d, %s:\n%s, want\n%s", k.part, k.name, got, k.want)
		}
		fmt.Fprintf(&table, "%d | %s | %s\n", k.part, k.name, got)
	}
	t.Log(table.String())
}

// soon is as long as it takes until a limit that was drained has a token more.
const soon = 200 * time.Millisecond

// span returns a duration as a person writes it.
func span(d time.Duration, exact bool) string {
	if !exact {
		return "~" + max(d.Round(time.Second), time.Second).String()
	}
	s := d.Round(time.Microsecond).String()
	if d >= time.Minute && d%time.Minute == 0 {
		s = strings.TrimSuffix(s, "0s")
	}
	if d >= time.Hour && d%time.Hour == 0 {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// fate returns what becomes of a request that gets an answer, and of the next one.
func fate(t *testing.T, k kind) string {
	quota := k.quota
	if quota == nil {
		quota = tollgate.Quota{tollgate.RPM(1000), {N: 100_000, Per: 24 * time.Hour}, tollgate.TPM(1_000_000), {Unit: tollgate.Tokens, N: 10_000_000, Per: 24 * time.Hour}}
	}
	var calls []time.Time
	var refusal *provider.Refusal
	var drained []string
	var until time.Duration
	var daily bool
	var tr *tollgate.Transport
	look := func() {
		drained, until = nil, time.Until(tr.Status()[0].PausedUntil)
		for _, l := range tr.Status()[0].Limits {
			if l.Left <= 0 {
				drained = append(drained, fmt.Sprintf("%v/%s", l.Unit, span(l.Per, true)))
				daily = daily || l.Per >= 24*time.Hour
			}
		}
	}
	tr = &tollgate.Transport{
		Quotas: tollgate.Quotas{"*": quota},
		Trace: &tollgate.Trace{Refused: func(_ *http.Request, i tollgate.RefusalInfo) {
			refusal = &i.Refusal
			look()
		}},
		Base: roundTripFunc(func(req *http.Request) (*http.Response, error) {
			if calls = append(calls, time.Now()); len(calls) == 1 {
				return k.answer(req), nil
			}
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
		}),
	}
	client := &http.Client{Transport: &tollgate.Retry{Base: tr}}
	if k.contentType == "" {
		k.contentType = "application/json"
	}
	if k.body == "" {
		k.body = `{"model":"m","messages":[{"role":"user","content":"Hello."}]}`
	}
	send := func() error {
		resp, err := client.Post(k.url, k.contentType, strings.NewReader(k.body))
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.Body.Close()
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	if refusal == nil {
		look() // at what is left
	}
	exact := refusal == nil || refusal.Hinted
	near := func(d time.Duration) string { // a limit of tokens has not all of them back at once
		if d >= until && d < until+5*time.Millisecond {
			d = until
		}
		return span(d, exact)
	}
	row := []string{"nothing", "-", "not again", "at once"}
	if len(drained) > 0 {
		row[0] = strings.Join(drained, ", ")
	}
	switch {
	case daily && (!refusal.Hinted || refusal.Wait < time.Hour):
		row[1] = "the day ends"
	case until > 0:
		row[1] = span(until, exact)
	}
	if len(calls) > 1 {
		row[2] = "again after " + near(calls[1].Sub(calls[0]))
	}
	start, n := time.Now(), len(calls)
	var limit *tollgate.LimitError
	switch err := send(); {
	case errors.As(err, &limit):
		row[3] = "rejected, back in " + span(limit.RetryAfter.Round(time.Second), true)
	case err != nil:
		t.Fatal(err)
	case calls[n].Sub(start) > soon:
		row[3] = "after " + near(calls[n].Sub(start))
	}
	return strings.Join(row, " | ")
}
