package tollgate_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/provider"
	"example.com/tollgate/quotatest"
)

// A script answers the n-th request with its n-th entry, and the last one for
// ever: a status, or an error.
type script struct {
	answers []any
	n       int
	bodies  []string        // of the requests
	times   []time.Duration // of the requests, from the first
	resp    []*readCloser   // bodies of the responses
	start   time.Time
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.n == 0 {
		s.start = time.Now()
	}
	s.times = append(s.times, time.Since(s.start))
	if r.Body != nil {
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		s.bodies = append(s.bodies, string(body))
	}
	answer := s.answers[min(s.n, len(s.answers)-1)]
	s.n++
	if err, ok := answer.(error); ok {
		return nil, err
	}
	body := &readCloser{Reader: strings.NewReader("answer")}
	s.resp = append(s.resp, body)
	resp, ok := answer.(*http.Response)
	if !ok {
		resp = &http.Response{StatusCode: answer.(int)}
	}
	resp.Body = body
	return resp, nil
}

// What is sent again, and how often.
func TestRetry(t *testing.T) {
	reset := errors.New("connection reset")
	upload := "https://generativelanguage.googleapis.com/upload/v1beta/files"
	batch := "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:batchGenerateContent"
	header := func(status int, kv ...string) *http.Response {
		r := &http.Response{StatusCode: status, Header: http.Header{}}
		for i := 0; i < len(kv); i += 2 {
			r.Header.Set(kv[i], kv[i+1])
		}
		return r
	}
	tests := []struct {
		name    string
		url     string
		max     int
		answers []any
		want    int // attempts
	}{
		{"success", flash, 0, []any{200}, 1},
		{"refused", flash, 0, []any{429, 429, 200}, 3},
		{"timeout", flash, 0, []any{408, 200}, 2},
		{"server errors", flash, 0, []any{500, 502, 503, 504, 529, 200}, 6},
		{"not implemented", flash, 0, []any{501}, 1},
		{"client errors", flash, 0, []any{400}, 1},
		{"redirect", flash, 0, []any{header(302, "Location", "http://\x7f")}, 1},
		{"failed connections", flash, 0, []any{reset, io.EOF, 200}, 3},
		{"default of 8", flash, 0, []any{503}, 9},
		{"refused for ever", flash, 0, []any{429}, 9},
		{"at most 2", flash, 2, []any{503}, 3},
		{"never", flash, -1, []any{503}, 1},
		{"not to be tried again", flash, 0, []any{header(503, "X-Should-Retry", "false")}, 1},
		{"context error of the base", flash, 0, []any{context.Canceled}, 1},
		{"deadline of the base", flash, 0, []any{&url.Error{Err: context.DeadlineExceeded}}, 1},
		{"dial timeout", flash, 0, []any{os.ErrDeadlineExceeded, 200}, 2},
		{"bad certificate", flash, 0, []any{&tls.CertificateVerificationError{Err: errors.New("bad")}}, 1},
		{"limit error", flash, 0, []any{&tollgate.LimitError{}}, 1},
		{"upload, refused", upload, 0, []any{429, 429, 200}, 3},
		{"upload, unavailable", upload, 0, []any{503}, 1},
		{"upload, perhaps done", upload, 0, []any{500}, 1},
		{"upload, connection lost", upload, 0, []any{reset}, 1},
		{"batch, connection lost", batch, 0, []any{reset}, 1},
		{"batch, gateway timeout", batch, 0, []any{504}, 1},
	}
	for _, test := range tests {
		for _, over := range []string{"Transport", "another base"} {
			t.Run(test.name+"/"+over, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &script{answers: test.answers}
					rt := &tollgate.Retry{Base: s, Max: test.max}
					if over == "Transport" {
						rt.Base = &tollgate.Transport{Base: s}
					}
					body := &readCloser{Reader: strings.NewReader("prompt")}
					req, _ := http.NewRequest("POST", test.url, body)
					req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("prompt")), nil }
					before := *req
					resp, err := rt.RoundTrip(req)
					if (resp == nil) == (err == nil) {
						t.Fatalf("response %v and error %v, want one of them", resp, err)
					}
					if s.n != test.want {
						t.Errorf("%d attempts, want %d", s.n, test.want)
					}
					last := test.answers[min(test.want, len(test.answers))-1]
					if want, ok := last.(error); ok {
						if err != want {
							t.Errorf("error %v, want that of the last attempt, %v", err, want)
						}
					} else {
						got, err := io.ReadAll(resp.Body)
						if err != nil || string(got) != "answer" {
							t.Errorf("body %q, %v; want the last answer's, unread", got, err)
						}
						if resp.Request != req {
							t.Error("Response.Request is not the caller's")
						}
						resp.Body.Close()
					}
					for i, b := range s.bodies {
						if b != "prompt" {
							t.Errorf("attempt %d had the body %q", i, b)
						}
					}
					for i, b := range s.resp {
						if b.closed.Load() == 0 {
							t.Errorf("body of answer %d was left open", i)
						}
					}
					if body.closed.Load() != 1 || req.Body != before.Body || req.Context() != before.Context() || !reflect.DeepEqual(req.Header, before.Header) {
						t.Error("the request was changed, or its body not closed once")
					}
				})
			})
		}
	}
}

// A body that cannot be had again is sent once, and its answer handed on.
func TestRetryOneShotBody(t *testing.T) {
	s := &script{answers: []any{503}}
	req, body := newRequest(t.Context(), t, flash)
	resp, err := (&tollgate.Retry{Base: s}).RoundTrip(req)
	if err != nil || resp.StatusCode != 503 || s.n != 1 || body.closed.Load() != 1 {
		t.Errorf("%v, %v after %d attempts, body closed %d times", resp, err, s.n, body.closed.Load())
	}
	s = &script{answers: []any{503}}
	req, _ = newRequest(t.Context(), t, flash)
	lost := errors.New("body lost")
	req.GetBody = func() (io.ReadCloser, error) { return nil, lost }
	if resp, err := (&tollgate.Retry{Base: s}).RoundTrip(req); resp != nil || err != lost || s.n != 1 || s.resp[0].closed.Load() == 0 {
		t.Errorf("GetBody fails: %v, %v after %d attempts", resp, err, s.n)
	}
}

// Backoff is exponential with full jitter; what the server asked for is waited
// out where no Transport does it.
func TestRetryBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sum [8]time.Duration
		const rounds = 400
		for range rounds {
			s := &script{answers: []any{503}}
			req, _ := http.NewRequest("GET", "http://example.com/", nil)
			resp, err := (&tollgate.Retry{Base: &tollgate.Transport{Base: s}}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			for i := range sum {
				sum[i] += s.times[i+1] - s.times[i]
			}
		}
		for i, d := range sum {
			most := min(500*time.Millisecond<<i, 30*time.Second)
			if mean := d / rounds; mean < most*4/10 || mean > most*6/10 {
				t.Errorf("wait %d is %v on average, want about half of %v", i, mean, most)
			}
		}
		s := &script{answers: []any{&http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"40"}}}, 200}}
		req, _ := http.NewRequest("GET", "http://example.com/", nil)
		resp, err := (&tollgate.Retry{Base: s}).RoundTrip(req)
		if err != nil || resp.StatusCode != 200 || s.times[1] != 40*time.Second {
			t.Errorf("hint over another base: %v, %v, sent at %v", resp, err, s.times)
		}
	})
}

// A context that ends during a backoff or in line ends the call with its error.
func TestRetryContext(t *testing.T) {
	for _, answers := range [][]any{
		{500},
		{io.EOF},
		{&http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"600"}}}},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{answers: answers}
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(2*time.Minute, cancel)
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://example.com/", nil)
			resp, err := (&tollgate.Retry{Base: &tollgate.Transport{Base: s}, Max: 1000}).RoundTrip(req)
			if resp != nil || err != context.Canceled {
				t.Errorf("%v, %v; want context.Canceled undisguised", resp, err)
			}
			for i, b := range s.resp {
				if b.closed.Load() == 0 {
					t.Errorf("body of answer %d was left open", i)
				}
			}
		})
	}
}

// A refused request keeps its place: it goes before those who came later.
func TestRetryKeepsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &quotatest.Server{
			Script: func(n int, _ *http.Request) int {
				if n == 0 {
					return 429
				}
				return 0
			},
		}
		var order []string
		base := roundTripFunc(func(r *http.Request) (*http.Response, error) {
			resp, err := server.RoundTrip(r)
			if resp.StatusCode == 200 {
				order = append(order, r.Header.Get("N"))
			}
			return resp, err
		})
		quota := tollgate.Quota{{N: 60, Per: time.Minute, Refill: tollgate.Steady, Burst: 1}}
		client := &tollgate.Retry{Base: &tollgate.Transport{Base: base, Quotas: tollgate.Quotas{"*": quota}}}
		for _, n := range []string{"1", "2", "3"} {
			go func() {
				req, _ := http.NewRequest("POST", flash, strings.NewReader("{}"))
				req.Header.Set("N", n)
				resp, err := client.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			}()
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := strings.Join(order, " "); got != "1 2 3" {
			t.Errorf("answered in the order %s, want 1 2 3", got)
		}
	})
}

// MaxWait is the time in line over all attempts.
func TestRetryMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []any{&http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"10"}}}}}
		rt := &tollgate.Retry{Base: &tollgate.Transport{Base: s, MaxWait: 35 * time.Second}}
		start := time.Now()
		_, err := rt.RoundTrip(httptest.NewRequest("GET", "http://example.com/", nil))
		var limit *tollgate.LimitError
		if !errors.As(err, &limit) || limit.Reason != tollgate.PastMaxWait || s.n != 4 || time.Since(start) != 30*time.Second {
			t.Errorf("%v after %d attempts and %v, want PastMaxWait after 4 and 30s", err, s.n, time.Since(start))
		}
	})
}

// What go-retryablehttp's own client would do to requests and responses does
// not happen to ours, and nothing is logged.
func TestRetryHasNoSideEffects(t *testing.T) {
	var logged strings.Builder
	log.SetOutput(&logged)
	defer log.SetOutput(os.Stderr)
	stderr := os.Stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = w

	c := &idleCloser{}
	var seen *http.Request
	c.roundTripFunc = func(r *http.Request) (*http.Response, error) {
		seen = r
		return &http.Response{StatusCode: 302, Header: http.Header{"Location": {"http://[::bad"}}, Body: http.NoBody}, nil
	}
	rt := &tollgate.Retry{Base: c, Max: -1}
	req := httptest.NewRequest("GET", "http://user:secret@example.com/", nil) // has a RequestURI
	resp, err := rt.RoundTrip(req)
	if err != nil || resp.StatusCode != 302 || resp.Header.Get("Location") != "http://[::bad" {
		t.Errorf("redirect: %v, %v; want it as it is", resp, err)
	}
	if seen.Header.Get("Authorization") != "" || seen.URL.User == nil || seen.RequestURI != req.RequestURI {
		t.Errorf("the request was changed on the way: %+v", seen)
	}
	c.roundTripFunc = func(*http.Request) (*http.Response, error) { return nil, io.EOF }
	if _, err := rt.RoundTrip(req); err != io.EOF {
		t.Errorf("error %v, want io.EOF undisguised", err)
	}
	if c.n != 0 {
		t.Error("idle connections were closed")
	}

	os.Stderr = stderr
	w.Close()
	printed, _ := io.ReadAll(r)
	if logged.Len() > 0 || len(printed) > 0 {
		t.Errorf("logged %q, printed %q", &logged, printed)
	}
}

// Redirects and cookies are the client's business, and work as ever.
func TestRetryInClient(t *testing.T) {
	var n atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch cookie, err := r.Cookie("a"); {
		case n.Add(1) == 1:
			w.Header().Set("Retry-After", "0.01")
			w.WriteHeader(http.StatusTooManyRequests)
		case r.URL.Path == "/":
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
			http.Redirect(w, r, "/there", http.StatusFound)
		case err != nil || cookie.Value != "b":
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	defer srv.Close()
	client := tollgate.NewClient(nil)
	client.Jar, _ = cookiejar.New(nil)
	defer client.CloseIdleConnections()
	resp, err := client.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.Request.URL.Path != "/there" || n.Load() != 3 {
		t.Errorf("status %d at %s after %d requests, want 200 at /there after 3", resp.StatusCode, resp.Request.URL, n.Load())
	}
}

// The zero Retry is over a zero Transport.
func TestRetryZero(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	var rt tollgate.Retry
	resp, err := rt.RoundTrip(httptest.NewRequest("GET", srv.URL, nil))
	if err == nil { // a RequestURI is an error of http.Transport's in a client alone
		resp.Body.Close()
	}
	if err != nil || resp.StatusCode != 404 {
		t.Errorf("%v, %v", resp, err)
	}
	rt.CloseIdleConnections()
}

// Whatever a base does, a Retry does not panic.
func TestRetryBadBase(t *testing.T) {
	bases := map[string]http.RoundTripper{
		"nothing":           roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, nil }),
		"429 without body":  roundTripFunc(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 429}, nil }),
		"success, no body":  roundTripFunc(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 200}, nil }),
		"nothing, and more": &tollgate.Transport{Base: roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, nil })},
	}
	for name, base := range bases {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://a/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&tollgate.Retry{Base: base, Max: -1}).RoundTrip(req)
		switch {
		case (resp == nil) == (err == nil):
			t.Errorf("%s: %v, %v", name, resp, err)
		case resp != nil && resp.Body == nil:
			t.Errorf("%s: nil body", name)
		}
	}
	if _, err := (&tollgate.Retry{}).RoundTrip(&http.Request{}); err == nil {
		t.Error("no error without a URL")
	}
	tr := &tollgate.Transport{Base: bases["success, no body"], Quotas: tollgate.Quotas{"*": {{Unit: 7, N: 1, Per: time.Second}}}}
	req, _ := newRequest(t.Context(), t, flash)
	if _, err := tr.RoundTrip(req); err == nil || !strings.Contains(err.Error(), "Unit") {
		t.Errorf("unknown unit: %v", err)
	}
}

// once is an API whose calls must not be made twice.
type once struct{ provider.API }

func (o once) Call(r *http.Request) provider.Call {
	c := o.API.Call(r)
	c.Once = true
	return c
}

// What creates something is sent again only if the server has refused it, or has
// never seen it.
func TestRetryCreates(t *testing.T) {
	for status, want := range map[int]int{0: 1, 408: 1, 429: 3, 500: 1, 503: 1, 529: 1} {
		for name, api := range map[string]provider.API{"https://api.example.com/v1/batches": nil, "https://api.example.com/things": once{provider.HTTP}} {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				rt := &tollgate.Retry{Max: 2, Base: &tollgate.Transport{API: api, Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
					n++
					if status == 0 {
						return nil, errors.New("connection reset")
					}
					return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody}, nil
				})}}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, name, strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				if resp, err := rt.RoundTrip(req); err == nil {
					resp.Body.Close()
				}
				if n != want {
					t.Errorf("%s, status %d: sent %d times, want %d", name, status, n, want)
				}
			})
		}
	}
}
