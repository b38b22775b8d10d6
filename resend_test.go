package tollgate_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"

	"example.com/tollgate"
)

// order returns a request that can be sent again.
func order(ctx context.Context, t *testing.T, url string, header ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// over returns the two ways to use a Retry: over a Transport, and over any other
// base.
func over(base http.RoundTripper) map[string]http.RoundTripper {
	return map[string]http.RoundTripper{"Transport": &tollgate.Transport{Base: base}, "another base": base}
}

// Who is sent again at a plain API after what.
func TestResend(t *testing.T) {
	const pay = "https://api.example.com/payments"
	dial := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	reset := &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	slowDown := func() *http.Response {
		return &http.Response{StatusCode: 403, Header: http.Header{"Retry-After": {"2"}}}
	}
	later := func() *http.Response {
		return &http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {"2"}}}
	}
	yes := func(*http.Request) bool { return true }
	no := func(*http.Request) bool { return false }
	for _, test := range []struct {
		name   string
		method string
		header string
		resend func(*http.Request) bool
		answer any
		again  bool
	}{
		{"POST, 500", "POST", "", nil, 500, false},
		{"POST, 503", "POST", "", nil, 503, false},
		{"POST, 529", "POST", "", nil, 529, false},
		{"POST, 408", "POST", "", nil, 408, false},
		{"PATCH, 502", "PATCH", "", nil, 502, false},
		{"POST, lost connection", "POST", "", nil, reset, false},
		{"POST, connection closed", "POST", "", nil, io.EOF, false},
		{"POST, 429", "POST", "", nil, 429, true},
		{"POST, 403 to slow down", "POST", "", nil, slowDown(), true},
		{"POST, 503 that says when", "POST", "", nil, later(), true},
		{"POST, no connection", "POST", "", nil, dial, true},
		{"POST with a key, 500", "POST", "Idempotency-Key", nil, 500, true},
		{"POST with a key, lost connection", "POST", "X-Idempotency-Key", nil, reset, true},
		{"PATCH with PayPal's key, 500", "PATCH", "PayPal-Request-Id", nil, 500, true},
		{"harmless POST, 500", "POST", "", yes, 500, true},
		{"harmless POST, lost connection", "POST", "", yes, reset, true},
		{"POST not known to be harmless, 500", "POST", "", no, 500, false},
		{"GET, 500", "GET", "", no, 500, true},
		{"HEAD, 500", "HEAD", "", nil, 500, true},
		{"PUT, lost connection", "PUT", "", nil, reset, true},
		{"DELETE, 504", "DELETE", "", nil, 504, true},
		{"OPTIONS, 500", "OPTIONS", "", nil, 500, true},
	} {
		for name, s := range map[string]*script{"Transport": {answers: []any{test.answer, 200}}, "another base": {answers: []any{test.answer, 200}}} {
			synctest.Test(t, func(t *testing.T) {
				req := order(t.Context(), t, pay)
				if req.Method = test.method; test.header != "" {
					req.Header.Set(test.header, "k")
				}
				resp, err := (&tollgate.Retry{Base: over(s)[name], Resend: test.resend}).RoundTrip(req)
				if err == nil {
					resp.Body.Close()
				}
				if want := map[bool]int{true: 2, false: 1}[test.again]; s.n != want {
					t.Errorf("%s, over %s: %d attempts, want %d", test.name, name, s.n, want)
				}
			})
		}
	}
}

// Resend is asked only about requests whose fate is not known, and of the caller's
// own request. If it panics, no body is left open.
func TestResendAsked(t *testing.T) {
	asked := 0
	req := order(context.Background(), t, "https://api.example.com/payments")
	retry := &tollgate.Retry{Resend: func(r *http.Request) bool {
		if asked++; r != req {
			t.Error("Resend got another request")
		}
		return true
	}}
	for _, answer := range []any{200, 404, 429, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}} {
		synctest.Test(t, func(t *testing.T) {
			retry.Base = &tollgate.Transport{Base: &script{answers: []any{answer, 200}}}
			if resp, err := retry.RoundTrip(req); err != nil {
				t.Error(err)
			} else {
				resp.Body.Close()
			}
		})
	}
	if asked != 0 {
		t.Errorf("Resend was asked %d times about what needs no asking", asked)
	}
	s := &script{answers: []any{500}}
	retry = &tollgate.Retry{Base: &tollgate.Transport{Base: s}, Resend: func(*http.Request) bool { panic("no") }}
	func() {
		defer func() { _ = recover() }()
		retry.RoundTrip(req)
		t.Error("no panic")
	}()
	if s.resp[0].closed.Load() == 0 {
		t.Error("the response's body was left open")
	}
}

// A server that accepts connections and closes them, before or after it has read the
// request: net/http cannot tell, and neither can we. One that was never connected to
// is another matter.
func TestResendRealConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var conns atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			_, _ = c.Read(make([]byte, 4096))
			c.Close()
		}
	}()
	for name, base := range over(&http.Transport{}) {
		conns.Store(0)
		if resp, err := (&tollgate.Retry{Base: base, Max: 1}).RoundTrip(order(t.Context(), t, "http://"+l.Addr().String())); err == nil {
			resp.Body.Close()
			t.Error("no error")
		}
		if n := conns.Load(); n != 1 {
			t.Errorf("over %s: a POST whose connection was lost was sent %d times", name, n)
		}
	}
	// The certificate is found wanting before anything is sent: tokens come back.
	tr := &tollgate.Transport{
		Quotas: tollgate.Quotas{"*": {tollgate.RPM(5)}},
		Base: &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, x509.UnknownAuthorityError{}
		}},
	}
	_, err = (&tollgate.Retry{Base: tr}).RoundTrip(order(t.Context(), t, "https://api.example.com/"))
	if !errors.As(err, new(x509.UnknownAuthorityError)) || left(t, tr) != 5 {
		t.Errorf("%v, %d of 5 tokens left", err, left(t, tr))
	}
}

// What another attempt will not cure is tried twice at most, and what is refused
// before it is sent once. Nothing was sent: the tokens are back. (An invalid method
// took 46 s and 8 retries.)
func TestFailFast(t *testing.T) {
	plain := func() http.RoundTripper { return &http.Transport{} }
	fails := func(err error) func() http.RoundTripper {
		return func() http.RoundTripper {
			return roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, err })
		}
	}
	get := func(r *http.Request) {}
	for _, test := range []struct {
		name string
		base func() http.RoundTripper
		make func(*http.Request)
		want int // attempts
	}{
		{"invalid method", plain, func(r *http.Request) { r.Method = "A B" }, 1},
		{"invalid header", plain, func(r *http.Request) { r.Header["a b"] = []string{"c"} }, 1},
		{"invalid value", plain, func(r *http.Request) { r.Header["A"] = []string{"b\nc"} }, 1},
		{"invalid trailer", plain, func(r *http.Request) { r.Trailer = http.Header{"a b": {"c"}} }, 1},
		{"no host", plain, func(r *http.Request) { r.URL.Host = "" }, 1},
		{"no header", plain, func(r *http.Request) { r.Header = nil }, 1},
		{"unsupported scheme", plain, func(r *http.Request) { r.URL.Scheme = "gopher" }, 1},
		{"certificate not trusted", fails(x509.UnknownAuthorityError{}), get, 1},
		{"no such host", fails(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", IsNotFound: true}}), get, 2},
		{"no such host for the moment", fails(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "server misbehaving", IsTemporary: true}}), get, 9},
		{"refused token", fails(errors.New(`oauth2: "invalid_grant" "Token has been expired or revoked."`)), get, 2},
		{"mock without a responder", func() http.RoundTripper { return httpmock.NewMockTransport() }, get, 2},
		{"refused connection", fails(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), get, 9},
	} {
		for _, method := range []string{"GET", "POST"} {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				base := test.base()
				count := roundTripFunc(func(r *http.Request) (*http.Response, error) {
					n++
					return base.RoundTrip(r)
				})
				tr := &tollgate.Transport{Base: count, Quotas: tollgate.Quotas{"*": {{N: 20, Per: time.Hour, Refill: tollgate.Window}}}}
				for _, rt := range []http.RoundTripper{tr, count} {
					req := order(t.Context(), t, "https://api.example.com/payments")
					req.Method = method
					test.make(req)
					n = 0
					resp, err := (&tollgate.Retry{Base: rt}).RoundTrip(req)
					if err == nil {
						resp.Body.Close()
						t.Errorf("%s: no error", test.name)
					}
					if n != test.want {
						t.Errorf("%s, %s, over a %T: %d attempts, want %d", test.name, method, rt, n, test.want)
					}
				}
				if len(tr.Status()) > 0 { // else the key is forgotten, since all are back
					if got := left(t, tr); got != 20 {
						t.Errorf("%s: %d of 20 tokens left", test.name, got)
					}
				}
			})
		}
	}
}

// A wrong ContentLength is noticed while the request is written: nothing has left
// this process, and no other attempt is made.
func TestFailFastContentLength(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var got atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n, _ := io.Copy(io.Discard, c)
			got.Add(n)
			c.Close()
		}
	}()
	for _, length := range []int64{1, 10} {
		tr := &tollgate.Transport{Base: &http.Transport{}, Quotas: tollgate.Quotas{"*": {{N: 20, Per: time.Hour, Refill: tollgate.Window}}}}
		attempts := 0
		trace := &tollgate.Trace{Sending: func(*http.Request, tollgate.SendInfo) { attempts++ }}
		tr.Trace = trace
		req := order(t.Context(), t, "http://"+l.Addr().String())
		req.ContentLength = length
		if _, err := (&tollgate.Retry{Base: tr}).RoundTrip(req); err == nil || !strings.Contains(err.Error(), "ContentLength") {
			t.Error(err)
		}
		if attempts != 1 || left(t, tr) != 20 || got.Load() != 0 {
			t.Errorf("ContentLength %d: %d attempts, %d of 20 tokens left, %d bytes at the server", length, attempts, left(t, tr), got.Load())
		}
	}
}

// Every retry is told of: which attempt comes, why, and after which wait. A Retry's own
// Trace is told in place of the Transport's.
func TestRetrying(t *testing.T) {
	for _, name := range []string{"Transport", "another base"} {
		synctest.Test(t, func(t *testing.T) {
			base := over(&script{answers: []any{
				500,
				io.ErrUnexpectedEOF,
				&http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"7"}}},
				&http.Response{StatusCode: 599},
				200,
			}})[name]
			var told, below []string
			var waits []time.Duration
			retry := &tollgate.Retry{Base: base, Trace: &tollgate.Trace{Retrying: func(r *http.Request, i tollgate.RetryInfo) {
				told = append(told, fmt.Sprintf("%s %s %d: %v", r.Method, i.Key, i.Attempt, i.Cause))
				waits = append(waits, i.Wait)
			}}}
			key := ""
			if tr, ok := base.(*tollgate.Transport); ok {
				key = "api.example.com"
				tr.Trace = &tollgate.Trace{Retrying: func(_ *http.Request, i tollgate.RetryInfo) { below = append(below, i.Key) }}
			}
			call(t, retry, "GET", "https://api.example.com/", "")
			want := fmt.Sprintf("[GET %s 2: 500 Internal Server Error GET %[1]s 3: unexpected EOF GET %[1]s 4: 429 Too Many Requests GET %[1]s 5: status 599]", key)
			if got := fmt.Sprint(told); got != want {
				t.Errorf("over %s: told\n%s, want\n%s", name, got, want)
			}
			most := map[string]time.Duration{"Transport": 0, "another base": 7 * time.Second}[name]
			if waits[0] > 500*time.Millisecond || waits[1] > time.Second || waits[2] != most {
				t.Errorf("over %s: waits %v", name, waits)
			}
			if below != nil {
				t.Errorf("the Transport's Trace was told as well: %v", below)
			}
			if key == "" {
				return
			}
			retry.Trace = nil
			tr := base.(*tollgate.Transport)
			tr.Base = &script{answers: []any{500, 200}}
			call(t, retry, "GET", "https://api.example.com/", "")
			if fmt.Sprint(below) != "[api.example.com]" {
				t.Errorf("the Transport's Trace was told of retries of %v", below)
			}
		})
	}
}

// Request.Cancel ends the wait in the queue, and the one between attempts.
func TestRequestCancel(t *testing.T) {
	for name, answer := range map[string]any{
		"in the queue":     &http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"600"}}},
		"between attempts": 500,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{answers: []any{answer}}
			cancel := make(chan struct{})
			time.AfterFunc(2*time.Minute, func() { close(cancel) })
			req := order(t.Context(), t, flash)
			req.Cancel = cancel //nolint:staticcheck // deprecated, and heeded by http.Transport
			began := time.Now()
			resp, err := (&tollgate.Retry{Base: &tollgate.Transport{Base: s}, Max: 1000}).RoundTrip(req)
			if resp != nil || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "Request.Cancel") || time.Since(began) != 2*time.Minute {
				t.Errorf("%s: %v, %v after %v", name, resp, err, time.Since(began))
			}
			n := s.n
			if _, err := (&tollgate.Transport{Base: s}).RoundTrip(req); !errors.Is(err, context.Canceled) || s.n != n {
				t.Errorf("%s: a request that was canceled before: %v", name, err)
			}
		})
	}
}
