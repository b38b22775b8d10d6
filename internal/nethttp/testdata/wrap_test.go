package http_test

import (
	"net/http"
	"os"
	"reflect"
	"sync"
	"time"
	"weak"

	"example.com/tollgate"
)

// The round trippers that stand before transports, and the requests that those got
// in place of others: a copy of a request has its Header, which tells them.
var wrapped, sent sync.Map

func headerOf(req *http.Request) uintptr { return reflect.ValueOf(req.Header).Pointer() }

// A bare is a transport as it is.
type bare struct {
	*http.Transport
	send func(*http.Request) (*http.Response, error)
}

func (b bare) RoundTrip(req *http.Request) (*http.Response, error) {
	sent.Store(headerOf(req), weak.Make(req))
	return b.send(req)
}

func init() {
	how := os.Getenv("TOLLGATE_WRAP")
	if how == "none" {
		return
	}
	http.Sent = func(req *http.Request) *http.Request {
		if p, ok := sent.Load(headerOf(req)); ok {
			return p.(weak.Pointer[http.Request]).Value()
		}
		return req
	}
	http.Wrap = func(t *http.Transport, send func(*http.Request) (*http.Response, error), req *http.Request) (*http.Response, error) {
		if req.URL == nil { // which no Transport sends: some tests have theirs prepare itself that way
			return send(req)
		}
		w, ok := wrapped.Load(t)
		if !ok {
			w, _ = wrapped.LoadOrStore(t, wrap(bare{t, send}, how))
		}
		return w.(http.RoundTripper).RoundTrip(req)
	}
}

// wrap puts a Transport before another. Its limits are never reached, and
// all are there: requests, tokens, concurrency, time.
func wrap(rt http.RoundTripper, how string) http.RoundTripper {
	t := &tollgate.Transport{Base: rt}
	if how == "plain" {
		return t
	}
	t.Quotas = tollgate.Quotas{"*": {tollgate.RPS(1e6), tollgate.TPM(1e12), tollgate.Concurrency(1e6)}}
	t.Timeout = time.Hour
	if how == "retry" {
		return &tollgate.Retry{Base: t, Max: -1}
	}
	return t
}
