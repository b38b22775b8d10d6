package bench

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"example.com/tollgate/internal/workload"
)

// An exchange is a request, and an API that answers it at once, as far as that
// can be for nothing: it reads the request's body and closes it, and its answer
// has the headers and the body of a real one. Its RoundTrip is the bare
// RoundTripper that is subtracted from what is measured.
type exchange struct {
	method, url string
	header      http.Header
	body        string // "": none
	answer      http.Header
	says        string

	parsed url.URL
	length int64
	dated  atomic.Pointer[dated]
}

// dated is the header of an answer within one second.
type dated struct {
	unix   int64
	header http.Header
}

// prepare makes an exchange ready for use.
func prepare(e *exchange) *exchange {
	u, err := url.Parse(e.url)
	if err != nil {
		panic(err)
	}
	e.parsed, e.length = *u, int64(len(e.says))
	return e
}

// headers returns the header of an answer, whose Date is that of now. The
// answers of a second share it: nobody may write to it.
func (e *exchange) headers() http.Header {
	now := time.Now()
	d := e.dated.Load()
	if d == nil || d.unix != now.Unix() {
		d = &dated{now.Unix(), e.answer.Clone()}
		d.header.Set("Date", now.UTC().Format(http.TimeFormat))
		e.dated.Store(d)
	}
	return d.header
}

// request returns a request of its own, with a URL of its own, for what is kept
// from one request to the next must not be what two have in common.
func (e *exchange) request(ctx context.Context) *http.Request {
	u := e.parsed
	req := (&http.Request{
		Method: e.method, URL: &u, Host: u.Host, Header: e.header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if e.body != "" {
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(e.body)), nil }
		req.Body, _ = req.GetBody()
		req.ContentLength = int64(len(e.body))
	}
	return req
}

// RoundTrip implements http.RoundTripper.
func (e *exchange) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		drain(req.Body)
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK,
		Proto: "HTTP/2.0", ProtoMajor: 2,
		Header: e.headers(), Body: &said{rest: e.says}, ContentLength: e.length,
		Request: req,
	}, nil
}

// said is a response's body, with no more methods than that of an http.Transport.
type said struct{ rest string }

func (s *said) Read(p []byte) (int, error) {
	if s.rest == "" {
		return 0, io.EOF
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *said) Close() error { return nil }

// drain reads a body to its end and closes it.
func drain(body io.ReadCloser) {
	var buf [1024]byte
	for {
		if _, err := body.Read(buf[:]); err != nil {
			body.Close()
			return
		}
	}
}

// send returns a function that makes n calls, as a careful client does: the
// response is read to its end and closed.
func (e *exchange) send(ctx context.Context, rt http.RoundTripper) func(n int) {
	return func(n int) {
		for range n {
			resp, err := rt.RoundTrip(e.request(ctx))
			if err != nil {
				panic(err)
			}
			drain(resp.Body)
		}
	}
}

// Three APIs as they answer: one that nobody knows, with nine ordinary headers;
// Gemini, with the nine that it sends; and OpenAI, with nine and six that state
// limits, which have the form of real ones, and are so high that they are never
// reached. The Date is added.
var (
	unknown = prepare(&exchange{
		method: http.MethodGet, url: "https://api.example.org/v2/items?page=3",
		header: lines("Accept: application/json", "Authorization: Bearer 0123456789abcdef", "User-Agent: bench/1"),
		answer: lines(
			"Content-Type: application/json; charset=utf-8",
			"Server: nginx/1.27.4",
			"Cache-Control: private, max-age=0",
			"Etag: W/\"5f2-Qk3v0m1hXoT8\"",
			"Vary: Accept-Encoding",
			"X-Request-Id: 6f1c2c1e-1c39-4f3b-9d7e-5a6f4f0e7b21",
			"X-Content-Type-Options: nosniff",
			"Strict-Transport-Security: max-age=31536000; includeSubDomains",
		),
		says: `{"items":[{"id":41,"name":"lamp","price":"19.90"},{"id":42,"name":"chair","price":"49.00"}],"page":3,"pages":17}`,
	})
	gemini = prepare(&exchange{
		method: http.MethodPost, url: workload.URL,
		header: lines("Content-Type: application/json", "X-Goog-Api-Key: 0123456789abcdef", "User-Agent: google-genai-sdk/1.77.0"),
		body:   workload.Prompt,
		answer: lines(
			"Content-Type: application/json; charset=UTF-8",
			"Server: scaffolding on HTTPServer2",
			"Server-Timing: gfet4t7; dur=612",
			"Vary: Origin, X-Origin, Referer",
			"X-Xss-Protection: 0",
			"X-Frame-Options: SAMEORIGIN",
			"X-Content-Type-Options: nosniff",
			"Alt-Svc: h3=\":443\"; ma=2592000",
		),
		says: geminiSays("4", "9"),
	})
	openAI = prepare(&exchange{
		method: http.MethodPost, url: "https://api.openai.com/v1/chat/completions",
		header: lines("Content-Type: application/json", "Authorization: Bearer 0123456789abcdef", "User-Agent: OpenAI/Go 3.72.0"),
		body:   `{"model":"gpt-5-mini","messages":[{"role":"user","content":"Say hello."}],"max_completion_tokens":64}`,
		answer: lines(
			"Content-Type: application/json",
			"Server: cloudflare",
			"Cf-Ray: 949e2f0c8b1c9b6d-FRA",
			"Cf-Cache-Status: DYNAMIC",
			"Openai-Organization: example",
			"Openai-Processing-Ms: 412",
			"X-Request-Id: req_5f0c1e4d2b7a4c8f9e3d6a1b0c2d4e6f",
			"Strict-Transport-Security: max-age=31536000; includeSubDomains; preload",
			"X-Ratelimit-Limit-Requests: 1000000000000",
			"X-Ratelimit-Remaining-Requests: 999900000000",
			"X-Ratelimit-Reset-Requests: 6ms",
			"X-Ratelimit-Limit-Tokens: 1000000000000000",
			"X-Ratelimit-Remaining-Tokens: 999700000000000",
			"X-Ratelimit-Reset-Tokens: 18ms",
		),
		says: `{"id":"chatcmpl-1","object":"chat.completion","created":1748944800,"model":"gpt-5-mini","choices":[{"index":0,` +
			`"message":{"role":"assistant","content":"Hello!"},"finish_reason":"stop"}],` +
			`"usage":{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13}}`,
	})
)

// geminiSays is an answer of Gemini that has cost so many tokens.
func geminiSays(prompt, total string) string {
	return `{"candidates":[{"content":{"role":"model","parts":[{"text":"Hello! How can I help you today?"}]},"finishReason":"STOP","index":0}],` +
		`"usageMetadata":{"promptTokenCount":` + prompt + `,"candidatesTokenCount":5,"totalTokenCount":` + total + `},` +
		`"modelVersion":"gemini-2.5-flash","responseId":"0123456789abcdef"}`
}

// lines returns the header of lines as they stand on the wire.
func lines(list ...string) http.Header {
	h := http.Header{}
	for _, line := range list {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h
}
