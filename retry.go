package tollgate

import (
	"cmp"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"example.com/tollgate/internal/failure"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/sdk"
	"example.com/tollgate/provider"
)

// Retry is an http.RoundTripper that sends again what can succeed the next
// time: refused requests (429), timeouts (408), server errors and failed
// connections. It belongs outside a [Transport], so that every attempt takes
// tokens.
//
// A refused request goes back to the queue at once, at its old place: the
// Transport knows when it is time. All others wait an exponential backoff with
// full jitter first, and then take their turn. Over any Base that has no
// Transport in it, the time that the server asks for is waited out.
//
// A POST or PATCH that met a 5xx or a lost connection may have been done all the same.
// It is sent again only if the server refused it (429, or 503 with a Retry-After), it
// never reached the server, its header has an idempotency key (Idempotency-Key,
// PayPal-Request-Id, …), it calls a model that generates, or Resend says so.
//
// Not sent again are requests whose context is done, that were not sent because of a
// limit, that no waiting helps, that are not valid, or whose body cannot be had again
// (see http.Request.GetBody). An error that will most likely come again, such as that
// of a host that does not exist, is tried once more at most. When tries run out, the
// caller gets the last response, its body unread.
//
// A Retry is safe for concurrent use by multiple goroutines; its fields must
// not change after first use.
type Retry struct {
	// Base makes each attempt. nil: a zero Transport.
	Base http.RoundTripper

	// Max is how often a request is sent again. 0: 8. Negative: never.
	Max int

	// Resend reports whether a request, which may have been done already, is
	// harmless to send again: a POST whose idempotency key is in its body, as
	// Square's, or that only reads, as a GraphQL query. nil: none is.
	Resend func(*http.Request) bool

	// Trace has functions to call: of a Retry, that is Retrying. nil: those of
	// the Transport that made the attempt.
	Trace *Trace

	zero Transport // stands in for a nil Base
	ends sdk.Ends  // of requests that an SDK sends again whatever the response says
}

const (
	defaultMax = 8
	minBackoff = 500 * time.Millisecond
	maxBackoff = 30 * time.Second
	maxHint    = time.Hour // the longest wait that is waited out where no Transport heeds it
)

// RoundTrip implements http.RoundTripper.
func (r *Retry) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil {
		closeBody(req)
		return nil, errNoURL
	}
	if ended, resp, err := r.ends.Of(req); ended {
		closeBody(req)
		return resp, err
	}
	t := &try{retry: r, base: r.base(), req: req, max: max(r.Max, 0)}
	if r.Max == 0 {
		t.max = defaultMax
	}
	t.ctx = context.WithValue(req.Context(), tryKey{}, t)
	ctx, end := canceled(req)
	defer end()
	done := false
	defer func() {
		if !done && t.resp != nil { // Resend, or a function of Trace, panics
			t.resp.Body.Close()
		}
	}()
	_, err := r.engine(t).Do(&retryablehttp.Request{Request: token.WithContext(ctx)})
	done = true
	if err != nil && err == ctx.Err() { // done while backing off: the last response is closed
		if context.Cause(ctx) == errCancel {
			err = errCancel
		}
		return nil, err
	}
	if t.max > 0 {
		return r.ends.Keep(req, t.resp, t.err)
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

// engine returns go-retryablehttp's loop, and nothing else of it. What it passes
// around is a token for the real request, which so meets none of what its http.Client
// does to requests and responses (redirects, credentials in URLs, bodies).
func (r *Retry) engine(t *try) *retryablehttp.Client {
	return &retryablehttp.Client{
		HTTPClient:   &http.Client{Transport: t}, // without CloseIdleConnections, which the engine calls when it gives up
		RetryMax:     math.MaxInt,                // tries are counted by again
		CheckRetry:   t.again,
		Backoff:      t.backoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
}

var token = &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: "token"}, Header: http.Header{}}

// A try is one request and what has become of it so far.
type try struct {
	retry  *Retry
	base   http.RoundTripper
	req    *http.Request
	ctx    context.Context // of each attempt
	max    int
	n      int  // attempts
	failed int  // of those, how many were not refused by a key that others use up as well
	lasts  int  // of those, how many failed in a way that will most likely come again
	final  bool // there is no use in another
	resp   *http.Response
	err    error
	last   *labelled      // the attempt's note; nil: no Transport has seen it
	wait   time.Duration  // that the server asked for, where no Transport heeds it
	watch  *failure.Watch // over the attempt, where no Transport is next

	mu    sync.Mutex
	notes []*labelled
	ended int // how many attempts of any note have ended
}

// A note is what one attempt leaves for the next.
type note struct {
	try    *try
	place  uint64
	waited time.Duration // in the queue, at all attempts

	refusals int    // in a row, with nothing of the key accepted in between
	accepted uint64 // by the key so far, at the last refusal

	// Of the last attempt.
	resp   *http.Response
	giveUp func()
	ended  int  // which one of the try's ends was its last; 0: it has not ended
	inUse  bool // by an attempt that has not ended
	fate
}

// A fate is what has become of an attempt.
type fate struct {
	once    bool // it creates something: see provider.Call
	reached bool // it may have reached the server
	heeded  bool // its refusal has closed the key
	final   bool // its result is not to be improved
	alone   bool // another request of the key has used up its tries to no avail
}

// A labelled note belongs to one request, one Transport and one key: a request that
// is made on the way of another, such as one for credentials, has a note of its
// own.
type labelled struct {
	note
	transport *Transport
	key       limiter.Key
	method    string
	url       *url.URL
}

// maxNotes is how many notes go with a request: for those beyond there is no
// next attempt.
const maxNotes = 16

type tryKey struct{}

// noteOf returns the note that belongs to a request; nil: none does.
func noteOf(req *http.Request, t *Transport, key limiter.Key) *note {
	x, ok := req.Context().Value(tryKey{}).(*try)
	if !ok {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, n := range x.notes {
		if n.transport == t && n.key == key && n.method == req.Method && *n.url == *req.URL && !n.inUse {
			return n.begin()
		}
	}
	if len(x.notes) == maxNotes {
		return nil
	}
	n := &labelled{note: note{try: x}, transport: t, key: key, method: req.Method, url: req.URL}
	x.notes = append(x.notes, n)
	return n.begin()
}

func (n *note) begin() *note {
	n.inUse = true
	n.resp, n.giveUp = nil, nil
	return n
}

// end says that an attempt has ended, and how.
func (n *note) end(f fate, resp *http.Response) {
	if n == nil {
		return
	}
	n.try.mu.Lock()
	defer n.try.mu.Unlock()
	n.try.ended++
	n.inUse, n.ended, n.fate, n.resp = false, n.try.ended, f, resp
}

// noted returns the note that the result of an attempt is of: the last one that
// returned this very response, else that of the request itself, else the last one.
func (t *try) noted(resp *http.Response) *labelled {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found *labelled
	rank := func(n *labelled) int {
		switch {
		case resp != nil && n.resp == resp:
			return 2
		case n.method == t.req.Method && *n.url == *t.req.URL:
			return 1
		}
		return 0
	}
	for _, n := range t.notes {
		if n.ended == 0 || n.inUse {
			continue
		}
		if found == nil || rank(n) > rank(found) || rank(n) == rank(found) && n.ended > found.ended {
			found = n
		}
	}
	return found
}

// RoundTrip makes one attempt. The response is a token for the real one, with its
// body, which the engine drains and closes before the next attempt.
func (t *try) RoundTrip(*http.Request) (*http.Response, error) {
	ctx := t.ctx
	if _, ok := t.base.(*Transport); !ok {
		t.watch = new(failure.Watch)
		ctx = t.watch.On(ctx)
	}
	req := t.req.WithContext(ctx)
	t.resp, t.err, t.wait, t.last, t.final = nil, nil, 0, nil, false
	t.mu.Lock()
	for _, n := range t.notes {
		n.ended = 0
	}
	t.mu.Unlock()
	if t.n++; t.n > 1 && req.GetBody != nil {
		if req.Body, t.err = getBody(req); t.err != nil {
			t.final = true
			return nil, t.err
		}
	}
	t.resp, t.err = t.base.RoundTrip(req)
	t.last = t.noted(t.resp)
	if t.err == nil && t.resp == nil {
		t.final = true
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
	return &http.Response{StatusCode: http.StatusOK, Body: &leftover{t}}, nil
}

// again decides whether to try again. It never returns an error, which would
// be passed on beside the response.
func (t *try) again(ctx context.Context, _ *http.Response, _ error) (bool, error) {
	return t.curable(ctx) && t.left(), nil
}

// left reports whether there are tries left. Refusals are not the request's fault
// while others of its key are accepted: those count only if nothing was accepted
// since the first of them. Once a request has given up for that reason, those
// behind it have one try each until something is.
func (t *try) left() bool {
	n := t.last
	if n == nil || !n.heeded {
		t.failed++
		return t.failed <= t.max
	}
	if t.failed+n.refusals <= t.max && !n.alone {
		return true
	}
	if t.max > 0 && n.giveUp != nil {
		n.giveUp()
	}
	return false
}

// curable reports whether another attempt may have a better result.
func (t *try) curable(ctx context.Context) bool {
	n := t.last
	if ctx.Err() != nil || t.final || n != nil && n.final || t.req.Body != nil && t.req.Body != http.NoBody && t.req.GetBody == nil {
		return false
	}
	if t.err != nil {
		kind := failure.Of(t.err)
		if kind == failure.Lasting {
			t.lasts++
		}
		return kind != failure.Final && t.lasts < 2 && !errors.Is(t.err, ErrLimited) && t.harmless()
	}
	if t.resp.Header.Get("X-Should-Retry") == "false" {
		return false
	}
	if n != nil && n.heeded {
		return true
	}
	code := t.resp.StatusCode
	if api := provider.For(t.req); n == nil && api.Refuses(t.resp) {
		refusal := readRefusal(ctx, api, t.resp)
		if refusal.None || refusal.Never || refusal.Daily() || refusal.Overload && !refusal.Hinted && !t.harmless() {
			return false
		}
		if refusal.Hinted {
			t.wait = min(refusal.Wait, maxHint)
		}
		return true
	}
	return (code == http.StatusRequestTimeout || code >= 500 && code != http.StatusNotImplemented) && t.harmless()
}

// harmless reports whether it does no harm to send the request again, though its
// fate is not known.
func (t *try) harmless() bool {
	switch n := t.last; {
	case n != nil && (!n.once || !n.reached):
		return true
	case n == nil && !provider.For(t.req).Call(t.req).Once:
		return true
	case n == nil && t.watch != nil && t.err != nil && !t.watch.Sent(t.err):
		return true
	}
	return t.retry.Resend != nil && t.retry.Resend(t.req)
}

// backoff returns how long to wait before the next attempt, and tells of that.
func (t *try) backoff(_, _ time.Duration, _ int, _ *http.Response) (wait time.Duration) {
	if n := t.last; n == nil || !n.heeded {
		wait = max(t.wait, rand.N(min(minBackoff<<min(t.failed-1, 10), maxBackoff)))
	}
	trace := t.retry.Trace
	if t.last != nil {
		trace = cmp.Or(trace, t.last.transport.Trace)
	}
	trace.retrying(t, wait)
	return wait
}
