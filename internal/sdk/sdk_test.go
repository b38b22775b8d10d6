package sdk

import (
	"errors"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

func request(header ...string) *http.Request {
	r, err := http.NewRequest("POST", "https://example.com/v1beta/interactions", nil)
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// insisting is a request of genai's client.
func insisting() *http.Request {
	return request("Api-Revision", "2026-05-20", "User-Agent", "google-genai-sdk/1.77.0 gl-go/go1.26")
}

func response(status int, body io.Reader) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"X": {"y"}}, Body: io.NopCloser(body)}
}

func TestInsists(t *testing.T) {
	const revision, genai, bare = "2026-05-20", "google-genai-sdk/1.77.0 gl-go/go1.26", "speakeasy-sdk/go 0.0.1 internal v1beta google.golang.org/genai/interactions"
	for _, tt := range []struct {
		header []string
		want   bool
	}{
		{[]string{"Api-Revision", revision, "User-Agent", genai}, true},
		{[]string{"Api-Revision", revision, "User-Agent", "mine", "X-Goog-Api-Client", genai}, true},
		{[]string{"Api-Revision", revision, "User-Agent", bare}, true},
		{[]string{"User-Agent", genai}, false}, // of generateContent
		{[]string{"Api-Revision", revision, "User-Agent", "google-genai-sdk/2.0 gl-python/3.14"}, false},
		{[]string{"Api-Revision", revision}, false},
		{nil, false},
	} {
		if got := Insists(request(tt.header...)); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.header, got, tt.want)
		}
	}
}

func TestFinal(t *testing.T) {
	for name, look := range map[string]func(io.ReadCloser){
		"read":   func(b io.ReadCloser) { _, _ = io.ReadAll(b) },
		"closed": func(b io.ReadCloser) { b.Close() },
	} {
		resp := response(429, strings.NewReader("text"))
		resp.Status = "429 Slow Down"
		Final(resp)
		if resp.StatusCode != 424 || retried(resp.StatusCode) || resp.Status != "424 Failed Dependency" {
			t.Errorf("%s: at first %s", name, resp.Status)
		}
		look(resp.Body)
		if resp.StatusCode != 429 || resp.Status != "429 Slow Down" {
			t.Errorf("%s: then %s", name, resp.Status)
		}
	}
}

func TestQuiet(t *testing.T) {
	err := Quiet(os.ErrDeadlineExceeded)
	if _, ok := err.(interface{ Timeout() bool }); ok || !errors.Is(err, os.ErrDeadlineExceeded) || err.Error() != os.ErrDeadlineExceeded.Error() {
		t.Errorf("%v", err)
	}
	if plain := errors.New("x"); Quiet(plain) != plain {
		t.Error("an error that is no timeout has changed")
	}
}

func TestEnds(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name   string
		req    *http.Request
		status int
		body   io.Reader
		err    error
		want   bool
	}{
		{"unavailable", insisting(), 503, strings.NewReader("busy"), nil, true},
		{"refused", insisting(), 429, strings.NewReader("no"), nil, true},
		{"a timeout", insisting(), 408, strings.NewReader(""), nil, true},
		{"an error", insisting(), 0, nil, broken, true},
		{"a conflict", insisting(), 409, strings.NewReader("no"), nil, false},
		{"a success", insisting(), 200, strings.NewReader("yes"), nil, false},
		{"too long", insisting(), 503, strings.NewReader(strings.Repeat("x", maxBody+1)), nil, false},
		{"broken off", insisting(), 503, iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("xyz"))), nil, false},
		{"of another client", request(), 503, strings.NewReader("busy"), nil, false},
	} {
		var e Ends
		var resp *http.Response
		var text string
		if tt.err == nil {
			resp = response(tt.status, tt.body)
			if r, ok := tt.body.(*strings.Reader); ok {
				b := make([]byte, r.Len())
				_, _ = r.ReadAt(b, 0)
				text = string(b)
			}
		}
		resp, err := e.Keep(tt.req, resp, tt.err)
		if err != tt.err {
			t.Errorf("%s: error %v", tt.name, err)
		}
		if resp != nil {
			if b, err := io.ReadAll(resp.Body); text != "" && (string(b) != text || err != nil) || text == "" && tt.name == "broken off" && err != iotest.ErrTimeout {
				t.Errorf("%s: the body is %d bytes, %v", tt.name, len(b), err)
			}
			if got := resp.Header.Get("Retry-After-Ms") == "1"; got != tt.want {
				t.Errorf("%s: Retry-After-Ms %q", tt.name, resp.Header.Get("Retry-After-Ms"))
			}
		}
		for range 2 {
			again, resp, err := e.Of(tt.req.WithContext(t.Context())) // as http.Client does for a timeout
			if again != tt.want || err != tt.err {
				t.Errorf("%s: %v, %v, want %v", tt.name, again, err, tt.want)
			}
			if resp == nil {
				continue
			}
			if b, err := io.ReadAll(resp.Body); string(b) != text || err != nil || resp.StatusCode != tt.status || resp.Header.Get("X") != "y" || resp.Request == nil {
				t.Errorf("%s: %d %q, %v", tt.name, resp.StatusCode, b, err)
			}
		}
		if other, _, _ := e.Of(insisting()); other {
			t.Errorf("%s: another request has ended as well", tt.name)
		}
	}
}

// What is remembered goes with its request, and is not too much.
func TestEndsForget(t *testing.T) {
	var e Ends
	size := func() int {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.ends)
	}
	func() {
		var all []*http.Request
		for range maxEnds + 10 {
			r := insisting()
			all = append(all, r)
			_, _ = e.Keep(r, response(503, strings.NewReader("busy")), nil)
		}
		if got := size(); got != maxEnds {
			t.Errorf("%d are remembered, want %d", got, maxEnds)
		}
		runtime.KeepAlive(all)
	}()
	for range 1000 {
		if runtime.GC(); size() == 0 {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d are remembered for nobody", size())
}
