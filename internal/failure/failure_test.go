package failure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// What net/http returns for requests that it cannot send, or cannot get through,
// with what it says of the connection.
func TestNetHTTP(t *testing.T) {
	type is struct {
		kind Kind
		sent bool
	}
	unsendable, unreachable := is{Final, false}, is{Lasting, false}
	tests := []struct {
		name string
		make func(*http.Request)
		http is // by HTTP/1.1
		h2   is // by HTTP/2
	}{
		{"method", func(r *http.Request) { r.Method = "A B" }, unsendable, is{kind: accepted}},
		{"header name", func(r *http.Request) { r.Header["a b"] = []string{"x"} }, unsendable, unsendable},
		{"header value", func(r *http.Request) { r.Header["A"] = []string{"x\ny"} }, unsendable, unsendable},
		{"trailer", func(r *http.Request) { r.Trailer = http.Header{"a b": {"x"}} }, unsendable, unsendable},
		{"trailer key", func(r *http.Request) { r.Trailer, r.ContentLength = http.Header{"Content-Length": {"1"}}, -1 }, unsendable, unsendable},
		{"no host", func(r *http.Request) { r.URL.Host = "" }, unsendable, unsendable},
		{"no header", func(r *http.Request) { r.Header = nil }, unsendable, unsendable},
		{"scheme", func(r *http.Request) { r.URL.Scheme = "gopher" }, unsendable, unsendable},
		{"no scheme", func(r *http.Request) { r.URL.Scheme = "" }, unsendable, unsendable},
		{"ContentLength beyond the body", func(r *http.Request) { r.ContentLength = 10 }, unsendable, is{kind: accepted}},
		{"ContentLength short of the body", func(r *http.Request) { r.ContentLength = 3 }, unsendable, is{Final, true}},
		{"ContentLength of no body", func(r *http.Request) { r.Body, r.GetBody = nil, nil }, unsendable, is{kind: accepted}},
		{"control character", func(r *http.Request) { r.URL.Opaque = "//a\nb" }, unsendable, unsendable},
		{"Connection", func(r *http.Request) { r.Header.Set("Connection", "x") }, is{kind: accepted}, unsendable},
		{"Upgrade", func(r *http.Request) { r.Header.Set("Upgrade", "x") }, is{kind: accepted}, unsendable},
		{"Transfer-Encoding", func(r *http.Request) { r.Header.Set("Transfer-Encoding", "x") }, is{kind: accepted}, unsendable},
		{"Host", func(r *http.Request) { r.Host = "a b" }, is{kind: accepted}, unsendable},
		{"port", func(r *http.Request) { r.URL.Host = "127.0.0.1:99999" }, unreachable, unreachable},
		{"refused connection", func(r *http.Request) { r.URL.Host = "127.0.0.1:1" }, is{Passing, false}, is{Passing, false}},
		{"body that breaks off", func(r *http.Request) {
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader("a"), failing{}))
			r.GetBody = nil
		}, is{Passing, true}, is{Passing, true}},
	}
	for _, h2 := range []bool{false, true} {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
		}))
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		if srv.EnableHTTP2 = h2; h2 {
			srv.StartTLS()
		} else {
			srv.Start()
		}
		t.Cleanup(srv.Close)
		for _, test := range tests {
			req, err := http.NewRequest("POST", srv.URL+"/x", strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			test.make(req)
			var traced, wrote atomic.Bool
			req = req.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GetConn:      func(string) { traced.Store(true) },
				WroteHeaders: func() { wrote.Store(true) },
			}))
			want := test.http
			if h2 {
				want = test.h2
			}
			resp, err := srv.Client().Transport.RoundTrip(req)
			if err == nil {
				resp.Body.Close()
				if want.kind != accepted {
					t.Errorf("%s, HTTP/2 %t: no error", test.name, h2)
				}
				continue
			}
			if want.kind == accepted { // by one way to a connection of HTTP/2, and not by the other
				want = unsendable
			}
			if got := (is{Of(err), Sent(err, traced.Load(), wrote.Load())}); got != want {
				t.Errorf("%s, HTTP/2 %t: %v: kind and whether it was sent are %v, want %v", test.name, h2, err, got, want)
			}
		}
	}
}

const accepted Kind = 255 // what is not refused is the server's to judge

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the disk is gone") }

// Errors by their types and texts, where the base tells of no connection.
func TestKinds(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	dns := func(notFound bool) error {
		return dial(&net.DNSError{Err: "no such host", Name: "a.example", IsNotFound: notFound})
	}
	for _, test := range []struct {
		err  error
		kind Kind
		sent bool
	}{
		{context.Canceled, Final, true},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), Final, true},
		{&url.Error{Err: context.DeadlineExceeded}, Final, true},
		{os.ErrDeadlineExceeded, Passing, true},
		{io.EOF, Passing, true},
		{io.ErrUnexpectedEOF, Passing, true},
		{dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), Passing, false},
		{dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), Passing, false},
		{dial(os.NewSyscallError("connect", syscall.EACCES)), Lasting, false},
		{dial(os.NewSyscallError("connect", syscall.ENOENT)), Lasting, false},
		{&net.OpError{Op: "proxyconnect", Err: dial(syscall.ECONNREFUSED)}, Passing, false},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, Passing, true},
		{&net.OpError{Op: "write", Err: syscall.EPIPE}, Passing, true},
		{&net.OpError{Op: "read", Err: os.ErrPermission}, Passing, true},
		{dns(true), Lasting, false},
		{dns(false), Passing, false},
		{dial(&net.AddrError{Err: "missing port in address", Addr: "a"}), Lasting, false},
		{dial(net.UnknownNetworkError("x")), Lasting, false},
		{&tls.CertificateVerificationError{Err: errors.New("bad")}, Final, false},
		{fmt.Errorf("tls: %w", x509.UnknownAuthorityError{}), Final, false},
		{x509.HostnameError{Certificate: &x509.Certificate{}, Host: "a"}, Final, false},
		{x509.CertificateInvalidError{Reason: x509.Expired}, Final, false},
		{tls.AlertError(116), Lasting, true}, // certificate required, after the request in TLS 1.3
		{tls.AlertError(80), Passing, true},
		{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, Lasting, true},
		{http.ErrSchemeMismatch, Lasting, true},
		{errors.New(`oauth2: "invalid_grant" "Bad Request"`), Lasting, false},
		{errors.New("oauth2: cannot fetch token: 400 Bad Request\nResponse: {\"error\":\"invalid_client\"}"), Lasting, false},
		{errors.New("auth: cannot fetch token: 503\nResponse: "), Passing, false},
		{errors.New("oauth2: cannot fetch token: 503 Service Unavailable\nResponse: "), Passing, false},
		{errors.New("oauth2: token expired and refresh token is not set"), Lasting, false},
		{errors.New("no responder found for GET http://a/"), Lasting, false},
		{errors.New("gock: cannot match any request"), Lasting, false},
		{errors.New("Proxy Authentication Required"), Lasting, false},
		{errors.New("http2: unsupported scheme"), Final, false},
		{errors.New(`http3: invalid http header field name "a b"`), Final, false},
		{errors.New(`http3: invalid method "a b"`), Final, false},
		{errors.New("http3: unsupported protocol scheme: gopher"), Final, false},
		{errors.New("http3: no Host in request URL"), Final, false},
		{errors.New("http3: nil Request.URL"), Final, false},
		{errors.New(`Get "/": stopped after 10 redirects`), Final, true},
		{errors.New(`stream error: stream ID 1; PROTOCOL_ERROR; invalid header field name "A"`), Passing, true},
		{errors.New("net/http: HTTP/1.x transport connection broken: malformed HTTP header \"invalid header\""), Passing, true},
		{errors.New("stream error: stream ID 3; REFUSED_STREAM; received from peer"), Passing, false},
		{errors.New("http2: Transport received Server's graceful shutdown GOAWAY"), Passing, false},
		{errors.New("http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR, debug=\"\""), Passing, true},
	} {
		if kind := Of(test.err); kind != test.kind {
			t.Errorf("%v: kind %d, want %d", test.err, kind, test.kind)
		}
		if sent := Sent(test.err, false, false); sent != test.sent {
			t.Errorf("%v: sent %t, want %t", test.err, sent, test.sent)
		}
	}
	// What the base says counts for more than what the error looks like: the one of a
	// second connection says nothing of the first.
	if !Sent(dns(true), true, true) {
		t.Error("a request that was written, and then failed to connect, was not sent")
	}
	if Sent(io.EOF, true, false) {
		t.Error("a request of which nothing was written was sent")
	}
}
