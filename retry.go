package tollgate

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"example.com/tollgate/provider"
)

// Retry is an http.RoundTripper that sends again what can succeed the next
// time: refused requests (429), timeouts (408), server errors and failed
// connections. It belongs outside a [Transport], so that every attempt takes
// tokens.
//
// A refused request goes back to the line at once, at its old place: the
// Transport knows when it is time. All others wait an exponential backoff with
// full jitter first, and then take their turn. Over any Base that has no
// Transport in it, the time that the server asks for is waited out.
//
// Not sent again are requests whose context is done, that were not sent because
// of a limit, that no waiting helps, whose body cannot be had again (see
// http.Request.GetBody), and those that create something, such as uploads and
// batches, when they may have done so. When tries run out, the caller gets the
// last response, its body unread.
//
// A Retry is safe for concurrent use by multiple goroutines; its fields must
// not change after first use.
type Retry struct {
	// Base makes each attempt. nil: a zero Transport.
	Base http.RoundTripper

	// Max is how often a request is sent again after the first time. 0: 8.
	// Negative: never.
	Max int

	zero Transport // stands in for a nil Base
}

const (
	defaultMax = 8
	minBackoff = 500 * time.Millisecond
	maxBackoff = 30 * time.Second
)

// RoundTrip implements http.RoundTripper.
func (r *Retry) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil {
		closeBody(req)
		return nil, errNoURL
	}
	t := &try{base: r.base(), req: req}
	ctx := context.WithValue(req.Context(), tryKey{}, t)
	_, err := r.engine(t).Do(&retryablehttp.Request{Request: token.WithContext(ctx)})
	if err != nil && err == ctx.Err() {
		return nil, err // done while backing off: the last response is closed
	}
	return t.resp, t.err
}

// CloseIdleConnections closes those of Base, if it has any.
func (r *Retry) CloseIdleConnections() { closeIdle(r.base()) }

func (r *Retry) base() http.RoundTripper {
	if r.Base != nil {
		return r.Base
	}
	return &r.zero
}

// engine returns go-retryablehttp's loop, and nothing else of it. What it
// passes around is a token for the real request, which therefore meets none of
// the things that its http.Client does to requests and responses (redirects,
// credentials in URLs, RequestURI), nor those that it does to bodies.
func (r *Retry) engine(t *try) *retryablehttp.Client {
	c := &retryablehttp.Client{
		HTTPClient:   &http.Client{Transport: t}, // without CloseIdleConnections, which the engine calls when it gives up
		RetryMax:     max(r.Max, 0),
		CheckRetry:   t.again,
		Backoff:      t.backoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
	if r.Max == 0 {
		c.RetryMax = defaultMax
	}
	return c
}

var token = &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: "token"}, Header: http.Header{}}

// A try is one request and what has become of it so far.
type try struct {
	note note
	base http.RoundTripper
	req  *http.Request
	n    int // attempts
	resp *http.Response
	err  error
	wait time.Duration // that the server asked for, where no Transport heeds it
}

// A note goes with a request through its attempts. The Transport that it passes
// fills it in.
type note struct {
	place   uint64        // in line; 0: none yet
	call    provider.Call // as its body says, once that was read
	read    bool
	waited  time.Duration // in line, at all attempts
	seen    bool          // a Transport has seen this attempt
	reached bool          // it may have reached the server
	heeded  bool          // its refusal has closed the gate
	final   bool          // its result is not to be improved
}

type tryKey struct{}

// noteOf returns the note that came with a request, if any.
func noteOf(ctx context.Context) *note {
	if t, ok := ctx.Value(tryKey{}).(*try); ok {
		return &t.note
	}
	return nil
}

// RoundTrip makes one attempt. The response is a token for the real one, with
// its body, which the engine drains and closes before the next attempt.
func (t *try) RoundTrip(token *http.Request) (*http.Response, error) {
	req := t.req.WithContext(token.Context())
	t.resp, t.err, t.wait = nil, nil, 0
	t.note = note{place: t.note.place, call: t.note.call, read: t.note.read, waited: t.note.waited}
	if t.n++; t.n > 1 && req.GetBody != nil {
		if req.Body, t.err = req.GetBody(); t.err != nil {
			t.note.final = true
			return nil, t.err
		}
	}
	t.resp, t.err = t.base.RoundTrip(req)
	if t.err == nil && t.resp == nil {
		t.note.final = true
		t.err = errNothing
	}
	if t.err != nil {
		t.resp = nil
		return nil, t.err
	}
	if t.resp.Body == nil {
		t.resp.Body = http.NoBody
	}
	t.resp.Request = t.req
	return &http.Response{StatusCode: http.StatusOK, Body: t.resp.Body}, nil
}

// again decides whether to try again. It never returns an error, which would
// be passed on beside the response.
func (t *try) again(ctx context.Context, _ *http.Response, err error) (bool, error) {
	if ctx.Err() != nil || t.note.final || t.req.Body != nil && t.req.Body != http.NoBody && t.req.GetBody == nil {
		return false, nil
	}
	api, call := provider.For(t.req), t.note.call
	if !t.note.read {
		call = api.Call(t.req)
	}
	undone := !call.Once || t.note.seen && !t.note.reached
	if t.err != nil {
		curable, _ := retryablehttp.DefaultRetryPolicy(ctx, nil, err)
		return curable && undone && !errors.Is(t.err, ErrLimited) && !isContext(t.err), nil
	}
	if t.resp.Header.Get("X-Should-Retry") == "false" {
		return false, nil
	}
	switch code := t.resp.StatusCode; {
	case code != http.StatusTooManyRequests && !undone:
		return false, nil
	case refusing(code):
		if t.note.seen {
			return true, nil
		}
		refusal := readRefusal(api, t.resp)
		t.wait = min(refusal.Wait, maxHint)
		return !refusal.Never && !refusal.Daily(), nil
	default:
		return code == http.StatusRequestTimeout || code >= 500 && code != http.StatusNotImplemented, nil
	}
}

// backoff returns how long to wait before the next attempt, the n-th from 0.
func (t *try) backoff(_, _ time.Duration, n int, _ *http.Response) time.Duration {
	if t.note.heeded {
		return 0
	}
	most := min(minBackoff<<min(n, 10), maxBackoff)
	return max(t.wait, rand.N(most))
}

// isContext reports whether err is a context's, and not just a timeout that
// passes for one.
func isContext(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if err == context.Canceled || err == context.DeadlineExceeded {
			return true
		}
	}
	return false
}
