package tollgate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"google.golang.org/genai"

	"example.com/tollgate"
	"example.com/tollgate/provider"
	"example.com/tollgate/quotatest"
)

const (
	flash = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent"
	pro   = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:generateContent"
)

// mock returns a transport that answers every request with r.
func mock(r httpmock.Responder) *httpmock.MockTransport {
	m := httpmock.NewMockTransport()
	m.RegisterNoResponder(r)
	return m
}

// A readCloser counts how often it is closed.
type readCloser struct {
	io.Reader
	closed atomic.Int32
}

func (b *readCloser) Close() error {
	b.closed.Add(1)
	return nil
}

func newRequest(ctx context.Context, t *testing.T, url string) (*http.Request, *readCloser) {
	t.Helper()
	body := &readCloser{Reader: strings.NewReader("prompt")}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Goog-Api-Key", "key")
	return req, body
}

// get makes a call that has to succeed, and closes its body.
func get(t *testing.T, rt http.RoundTripper, url string) {
	t.Helper()
	req, _ := newRequest(t.Context(), t, url)
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestTransportLeavesRequestAlone(t *testing.T) {
	for _, status := range []int{200, 429, 503} {
		m := mock(httpmock.NewStringResponder(status, "answer"))
		tr := &tollgate.Transport{Base: m, Quotas: tollgate.Quotas{"*": {tollgate.RPM(100)}}}
		req, body := newRequest(t.Context(), t, flash)
		before, header, ctx := *req, req.Header.Clone(), req.Context()
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Request != req {
			t.Errorf("%d: Response.Request is not the caller's", status)
		}
		resp.Body.Close()
		if req.Body != body || req.Context() != ctx || !reflect.DeepEqual(req.Header, header) || *req.URL != *before.URL {
			t.Errorf("%d: the request was changed: %+v", status, req)
		}
	}
}

func TestTransportClosesBody(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name string
		tr   *tollgate.Transport
		ctx  context.Context
		want error
	}{
		{"rejected", &tollgate.Transport{Quotas: tollgate.Quotas{"*": {tollgate.RPM(0)}}}, t.Context(), tollgate.ErrLimited},
		{"cancelled", &tollgate.Transport{}, canceled, context.Canceled},
		{"bad quota", &tollgate.Transport{Quotas: tollgate.Quotas{"*": {tollgate.RPM(-1)}}}, t.Context(), nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.tr.Base = mock(func(*http.Request) (*http.Response, error) {
				t.Error("the request was sent")
				return nil, errors.New("sent")
			})
			for _, rt := range []http.RoundTripper{test.tr, &tollgate.Retry{Base: test.tr}} {
				req, body := newRequest(test.ctx, t, flash)
				resp, err := rt.RoundTrip(req)
				if resp != nil || err == nil {
					t.Fatalf("%T: response %v, error %v", rt, resp, err)
				}
				if test.want != nil && !errors.Is(err, test.want) {
					t.Errorf("%T: error %v, want %v", rt, err, test.want)
				}
				if n := body.closed.Load(); n != 1 {
					t.Errorf("%T: body closed %d times", rt, n)
				}
			}
			req := &http.Request{Body: &readCloser{}}
			if _, err := test.tr.RoundTrip(req); err == nil || req.Body.(*readCloser).closed.Load() != 1 {
				t.Errorf("nil URL: error %v, body closed %d times", err, req.Body.(*readCloser).closed.Load())
			}
		})
	}
}

// A Base that breaks the rules of a RoundTripper does not make us break them.
func TestTransportBadBase(t *testing.T) {
	body := &readCloser{Reader: strings.NewReader("x")}
	tests := []struct {
		name string
		base roundTripFunc
	}{
		{"both", func(*http.Request) (*http.Response, error) { return &http.Response{Body: body}, io.ErrUnexpectedEOF }},
		{"neither", func(*http.Request) (*http.Response, error) { return nil, nil }},
		{"no body", func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 204}, nil }},
	}
	for _, test := range tests {
		tr := &tollgate.Transport{Base: test.base}
		req, _ := newRequest(t.Context(), t, flash)
		resp, err := tr.RoundTrip(req)
		if (resp == nil) == (err == nil) {
			t.Errorf("%s: response %v and error %v, want one of them", test.name, resp, err)
		}
		if resp != nil && resp.Body == nil {
			t.Errorf("%s: no body", test.name)
		}
		if n := tr.Status()[0].InFlight; n != 0 {
			t.Errorf("%s: %d in flight in the end", test.name, n)
		}
	}
	if body.closed.Load() != 1 {
		t.Errorf("response body closed %d times", body.closed.Load())
	}
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// After a switch of protocols the body is a connection, to be written to.
func TestTransportSwitchingProtocols(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	tr := &tollgate.Transport{Base: roundTripFunc(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 101, Body: a}, nil
	})}
	resp, err := (&tollgate.Retry{Base: tr}).RoundTrip(httptest.NewRequest("GET", "http://example.com/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, ok := resp.Body.(io.Writer); !ok {
		t.Errorf("body of a 101 is a %T, which can't be written to", resp.Body)
	}
	if n := tr.Status()[0].InFlight; n != 0 {
		t.Errorf("%d in flight, want 0", n)
	}
}

type idleCloser struct {
	roundTripFunc
	n int
}

func (c *idleCloser) CloseIdleConnections() { c.n++ }

func TestCloseIdleConnections(t *testing.T) {
	c := &idleCloser{}
	client := &http.Client{Transport: &tollgate.Retry{Base: &tollgate.Transport{Base: c}}}
	client.CloseIdleConnections()
	if c.n != 1 {
		t.Errorf("Base was told %d times, want once", c.n)
	}
	(&tollgate.Transport{Base: mock(nil)}).CloseIdleConnections() // has none to close
}

// The body of a refusal is read for its hint, and handed on byte for byte.
func TestTransportRefusalBody(t *testing.T) {
	for _, size := range []int{0, 10, 64 << 10, 64<<10 + 1, 1 << 20} {
		want := strings.Repeat("a", size)
		body := &readCloser{Reader: strings.NewReader(want)}
		tr := &tollgate.Transport{Base: mock(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 429, Body: body}, nil
		})}
		req, _ := newRequest(t.Context(), t, flash)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || string(got) != want {
			t.Errorf("%d bytes: got %d back, error %v", size, len(got), err)
		}
		if resp.Body.Close(); body.closed.Load() != 1 {
			t.Errorf("%d bytes: body closed %d times", size, body.closed.Load())
		}
	}
	broken := io.MultiReader(strings.NewReader("half"), errReader{io.ErrUnexpectedEOF})
	tr := &tollgate.Transport{Base: mock(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 429, Body: io.NopCloser(broken)}, nil
	})}
	req, _ := newRequest(t.Context(), t, flash)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(resp.Body); string(got) != "half" || err != io.ErrUnexpectedEOF {
		t.Errorf("a body that breaks off: %q, %v", got, err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// Each model has buckets of its own, so has each host; calls aside from a
// model's quota draw on none.
func TestTransportKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &tollgate.Transport{
			Base: mock(httpmock.NewStringResponder(200, "")),
			Quotas: tollgate.Quotas{
				"gemini-2.5-flash": {tollgate.RPM(2)}, "api.example.com": {tollgate.RPM(3)}, "*": {tollgate.RPM(1)},
				"gemini-2.5-pro:countTokens": {tollgate.RPM(4)},
			},
			MaxWait: -1,
		}
		for _, test := range []struct {
			url  string
			want int // calls let through of 6
		}{
			{flash, 2},
			{"http://localhost:8080/proxy/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse", 2},
			{"https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-flash:generateContent", 2},
			{pro, 1},
			{"https://generativelanguage.googleapis.com/v1beta/tunedModels/mine:generateContent", 1},
			{"https://api.example.com/v1/things", 3},
			{"https://api2.example.com/v1/things", 1},
			{"https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:countTokens", 6},
			{"https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:countTokens", 4},
			{"https://generativelanguage.googleapis.com/v1beta/models", 6},
			{"https://generativelanguage.googleapis.com/v1beta/files/abc", 6},
			{"https://generativelanguage.googleapis.com/upload/v1beta/files", 6},
		} {
			got := 0
			for range 6 {
				req, _ := newRequest(t.Context(), t, test.url)
				resp, err := tr.RoundTrip(req)
				if err == nil {
					got++
					resp.Body.Close()
				} else if !errors.Is(err, tollgate.ErrLimited) {
					t.Fatal(err)
				}
			}
			if got != test.want {
				t.Errorf("%s: %d of 6 let through, want %d", test.url, got, test.want)
			}
		}
	})
}

func TestTransportUsesAPI(t *testing.T) {
	tr := &tollgate.Transport{Base: mock(httpmock.NewStringResponder(200, "")), API: fixedKey{provider.HTTP}, Quotas: tollgate.Quotas{"mine": {tollgate.RPM(1)}}, MaxWait: -1}
	get(t, tr, "http://a.example/")
	req, _ := newRequest(t.Context(), t, "http://a.example/other")
	if _, err := tr.RoundTrip(req); !errors.Is(err, tollgate.ErrLimited) {
		t.Errorf("second call: %v, want ErrLimited", err)
	}
}

// The hint of a 429 drains the bucket, wherever it stands.
func TestTransportHints(t *testing.T) {
	gemini := func(message, delay string) string {
		return fmt.Sprintf(`{"error":{"code":429,"message":%q,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":%q}]}}`, message, delay)
	}
	date := func(d time.Duration) string {
		return time.Date(2000, 1, 1, 5, 0, 0, 0, time.UTC).Add(d).Format(http.TimeFormat)
	}
	tests := []struct {
		name   string
		url    string
		header http.Header
		body   string
		want   time.Duration
	}{
		{"message", flash, nil, gemini("Quota exceeded. Please retry in 17.5s.", "17s"), 17500 * time.Millisecond},
		{"message in ms", flash, nil, gemini("Please retry in 210.928645ms.", "0s"), 210928645},
		{"message in minutes", flash, nil, gemini("Please retry in 2m3.5s.", "123s"), 123500 * time.Millisecond},
		{"RetryInfo", flash, nil, gemini("Quota exceeded.", "17s"), 18 * time.Second},
		{"RetryInfo, fraction", flash, nil, gemini("Quota exceeded.", "3.25s"), 4250 * time.Millisecond},
		{"array", flash, nil, "[" + gemini("Please retry in 9s.", "9s") + "]", 9 * time.Second},
		{"body before header", flash, http.Header{"Retry-After": {"3"}}, gemini("Please retry in 9s.", "9s"), 9 * time.Second},
		{"header where the body says nothing", flash, http.Header{"Retry-After": {"3"}}, "busy", 3 * time.Second},
		{"seconds", "http://example.com/", http.Header{"Retry-After": {"7"}}, "", 7 * time.Second},
		{"seconds with a fraction", "http://example.com/", http.Header{"Retry-After": {"0.25"}}, "", 250 * time.Millisecond},
		{"date", "http://example.com/", http.Header{"Retry-After": {date(9 * time.Second)}, "Date": {date(0)}}, "", 9 * time.Second},
		{"milliseconds", "http://example.com/", http.Header{"Retry-After": {"1"}, "Retry-After-Ms": {"120"}}, "", 120 * time.Millisecond},
		{"no milliseconds", "http://example.com/", http.Header{"Retry-After": {"1"}, "Retry-After-Ms": {"0"}}, "", time.Second},
		{"too many seconds", "http://example.com/", http.Header{"Retry-After": {"1e300"}}, "", time.Hour},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := httpmock.NewMockTransport()
				m.RegisterNoResponder(httpmock.ResponderFromMultipleResponses([]*http.Response{
					{StatusCode: 429, Header: test.header, Body: io.NopCloser(strings.NewReader(test.body))},
					{StatusCode: 200, Body: http.NoBody},
				}))
				rt := &tollgate.Retry{Base: &tollgate.Transport{Base: m, Quotas: tollgate.Quotas{"*": {tollgate.RPM(1000)}}}}
				req, _ := http.NewRequest("POST", test.url, strings.NewReader("prompt"))
				start := time.Now()
				resp, err := rt.RoundTrip(req)
				if err != nil || resp.StatusCode != 200 {
					t.Fatal(resp, err)
				}
				if got := time.Since(start); got != test.want {
					t.Errorf("sent again after %v, want %v", got, test.want)
				}
			})
		})
	}
}

// A zero Transport knows no limits, and heeds the server's word for them.
func TestTransportZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &quotatest.Server{Limits: map[string][]quotatest.Limit{"*": {quotatest.RPM(10)}}}
		startAt(30 * time.Second)
		client := &http.Client{Transport: &tollgate.Retry{Base: &tollgate.Transport{Base: server}}}
		start := time.Now()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				resp, err := client.Post(flash, "application/json", strings.NewReader("{}"))
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Errorf("status %d", resp.StatusCode)
				}
			})
		}
		wg.Wait()
		if n := server.Refused(); n < 1 || n > 10 || time.Since(start) > 31*time.Second {
			t.Errorf("%d refused, all done after %v; want each of 10 once at the most, and 30s", n, time.Since(start))
		}
	})
}

// A concurrency token is back when the body is closed or read to its end.
func TestTransportConcurrency(t *testing.T) {
	tr := &tollgate.Transport{
		Base:    mock(httpmock.NewStringResponder(200, "answer")),
		Quotas:  tollgate.Quotas{"*": {tollgate.Concurrency(1)}},
		MaxWait: -1,
	}
	for i, end := range []func(*http.Response) error{
		func(r *http.Response) error { return r.Body.Close() },
		func(r *http.Response) error { _, err := io.ReadAll(r.Body); return err },
		func(r *http.Response) error { _, err := io.ReadAll(r.Body); return errors.Join(err, r.Body.Close()) },
		func(r *http.Response) error { return errors.Join(r.Body.Close(), r.Body.Close()) },
	} {
		req, _ := newRequest(t.Context(), t, flash)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		req, _ = newRequest(t.Context(), t, flash)
		if _, err := tr.RoundTrip(req); !errors.Is(err, tollgate.ErrLimited) {
			t.Errorf("%d: a second at once: %v", i, err)
		}
		if err := end(resp); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	if n := tr.Status()[0].Limits[0].Left; n != 1 {
		t.Errorf("%d tokens in the end, want 1", n)
	}
}

// Over real connections: a request that never reached the server costs
// nothing, one that did counts from when it was written.
func TestTransportRealConnections(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d", len(body))
	}))
	tr := &tollgate.Transport{Base: srv.Client().Transport, Quotas: tollgate.Quotas{"*": {tollgate.RPM(2)}}, MaxWait: -1}
	client := &http.Client{Transport: tr}
	resp, err := client.Post(srv.URL, "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(resp.Body); string(got) != "5" {
		t.Errorf("server got %s bytes, want 5", got)
	}
	resp.Body.Close()
	srv.Close()
	for range 3 {
		if _, err := client.Post(srv.URL, "text/plain", strings.NewReader("hello")); err == nil || errors.Is(err, tollgate.ErrLimited) {
			t.Errorf("closed server: %v, want a failed connection", err)
		}
	}
	if st := tr.Status()[0]; st.Limits[0].Left != 1 || st.InFlight != 0 {
		t.Errorf("status %+v, want 1 token left and none in flight", st)
	}
}

func TestReject429(t *testing.T) {
	var calls atomic.Int32
	tr := &tollgate.Transport{Quotas: tollgate.Quotas{"*": {tollgate.RPM(1)}}, MaxWait: -1, Reject: tollgate.Reject429,
		Base: mock(httpmock.NewStringResponder(200, "{}"))}
	retry := &tollgate.Retry{Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
		calls.Add(1)
		return tr.RoundTrip(r)
	})}
	client, err := genai.NewClient(t.Context(), &genai.ClientConfig{APIKey: "key", HTTPClient: &http.Client{Transport: retry}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Models.GenerateContent(t.Context(), "gemini-2.5-flash", genai.Text("hello"), nil); err != nil {
		t.Fatal(err)
	}
	_, err = client.Models.GenerateContent(t.Context(), "gemini-2.5-flash", genai.Text("hello"), nil)
	var api genai.APIError
	if !errors.As(err, &api) || api.Code != 429 || api.Status != "RESOURCE_EXHAUSTED" || !strings.Contains(api.Message, "gemini-2.5-flash") {
		t.Errorf("got %#v, want genai's own error", err)
	}
	if calls.Load() != 2 {
		t.Errorf("%d attempts at 2 calls", calls.Load())
	}
	req, body := newRequest(t.Context(), t, flash)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if h := resp.Header; h.Get("Retry-After") == "" || h.Get("X-Should-Retry") != "false" || resp.Request != req || body.closed.Load() != 1 {
		t.Errorf("header %v, request body closed %d times", h, body.closed.Load())
	}
}

// LimitError is found through http.Client and genai.
func TestLimitErrorThroughClients(t *testing.T) {
	hc := tollgate.NewClient(tollgate.Quotas{"*": {tollgate.RPM(0)}})
	_, err := hc.Get("http://example.com/")
	check := func(name string, err error) {
		var limit *tollgate.LimitError
		if !errors.Is(err, tollgate.ErrLimited) || !errors.As(err, &limit) || limit.Reason != tollgate.TooLarge {
			t.Errorf("%s: %v", name, err)
		}
	}
	check("http.Client", err)
	client, err := genai.NewClient(t.Context(), &genai.ClientConfig{APIKey: "key", HTTPClient: hc})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Models.GenerateContent(t.Context(), "gemini-2.5-flash", genai.Text("hello"), nil)
	check("genai", err)
}

func TestTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		handler := slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})
		server := &quotatest.Server{Limits: map[string][]quotatest.Limit{"*": {{N: 1, Per: time.Minute, Count: quotatest.Sliding}}}}
		tr := &tollgate.Transport{Base: server, Quotas: tollgate.Quotas{"*": {tollgate.RPM(2)}}, Trace: tollgate.LogTrace(slog.New(handler)), MaxWait: time.Minute}
		get(t, tr, flash)
		get(t, tr, flash) // refused
		req, _ := newRequest(t.Context(), t, flash)
		if _, err := tr.RoundTrip(req); !errors.Is(err, tollgate.ErrLimited) {
			t.Error(err)
		}
		tr.MaxWait = 0
		get(t, tr, flash)
		for _, want := range []string{
			`level=DEBUG msg="request is sent" waited=0s key=gemini-2.5-flash method=POST host=generativelanguage.googleapis.com`,
			`level=WARN msg="server refused request" status=429 hint=1m0s`,
			`level=WARN msg="request was not sent" reason="its turn comes after MaxWait" retry_after=1m0.03s`,
			`level=DEBUG msg="request waits for quota" ahead=0 estimate=1m0.03s`,
			`level=DEBUG msg="request is sent" waited=1m0.03s`,
		} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("no line %s in\n%s", want, &log)
			}
		}
	})
}

// fixedKey is an API of the user's own, with one key for everything.
type fixedKey struct{ provider.API }

func (fixedKey) Name() string { return "mine" }
func (fixedKey) Call(*http.Request) provider.Call {
	return provider.Call{Key: "mine", Cost: provider.Cost{1}}
}
