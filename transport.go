// Package tollgate keeps the calls of any http.Client within the rate limits of
// the API it calls: each request takes a token before it is sent, waits in a queue
// if there is none, and goes back to the front of the queue if the server
// refuses it all the same.
//
//	client := tollgate.NewClient(tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(10)}})
//
// While the quota is ours alone no request is refused, and no schedule that
// keeps that promise is faster.
package tollgate

import (
	"errors"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"example.com/tollgate/internal/dayfile"
	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/readahead"
	"example.com/tollgate/internal/receipt"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/sdk"
	"example.com/tollgate/provider"
)

// NewClient returns an HTTP client that keeps to the quotas and sends refused
// and failed requests again: [Retry] over [Transport] over
// http.DefaultTransport. What is to be set beyond quotas is within reach:
//
//	t := client.Transport.(*tollgate.Retry).Base.(*tollgate.Transport)
//	t.Timeout = 30 * time.Second // for each attempt, from when it is sent
//
// Set that Timeout before the client is first used, and leave http.Client.Timeout
// zero: it would include the time in the queue and all attempts.
func NewClient(q Quotas) *http.Client {
	return &http.Client{Transport: &Retry{Base: &Transport{Quotas: q}}}
}

// Transport is an http.RoundTripper that takes a token for each request before
// it passes it on, and drains its bucket when the server refuses.
//
// It sends each request once; [Retry] on top of it sends again what was refused
// or failed. The zero value limits nothing until a server says so. A Transport
// is safe for concurrent use by multiple goroutines; its fields must not change
// after first use.
type Transport struct {
	// Base sends the requests. nil: http.DefaultTransport.
	Base http.RoundTripper

	// Quotas holds the limits of each key. nil: none is known. They are read when
	// the Transport is first used.
	Quotas Quotas

	// API says what a request draws on and what a refusal means. nil: it is
	// recognised from the request.
	API provider.API

	// Priority says which requests go first, and whose share of the quota they draw
	// on. It must not change the request. nil: what [WithPriority] says, else none.
	Priority func(*http.Request) Priority

	// Key chooses which quota a request draws on, as [WithKey] does, which goes
	// before it. It does not read the body. nil or an empty result: the model's
	// name or the host.
	Key func(*http.Request) string

	// Cost is given the estimate of what a request draws, and returns what it does
	// draw, by Unit. [WithCost] goes before it, and says what a number means. A
	// number that is left as it is stays an estimate. Tokens are estimated only
	// where the key has a limit of them; else they are 0. nil: the estimate.
	Cost func(*http.Request, Cost) Cost

	// MaxWait is the longest time in the queue, over all attempts at a request: one
	// whose turn would come later is rejected at once. 0: as long as its
	// context allows. Negative: requests never wait.
	//
	// A deadline in the request's context, which http.Client.Timeout sets too,
	// includes the time in the queue.
	MaxWait time.Duration

	// MaxQueue is the longest queue of one key, and where requests have a
	// [Priority], of each tenant of a level: further requests are rejected. 0: no
	// bound.
	MaxQueue int

	// MaxBuffered is how many bytes of request bodies that cannot be had twice
	// (see http.Request.GetBody) are held in memory, of all requests together,
	// while those wait. Such a body is read before its request is sent only where
	// it names the model, or where its length in tokens counts, and for at most
	// 8 MiB. Where there is no memory it stays unread, and a request draws one
	// token for each 3 bytes of its Content-Length, 1,048,576 if it has none, until
	// its response says what it has cost; one whose model only the body names
	// waits for memory. 0: 64 MiB. Negative: none is read, so that such a request
	// draws on the quota of its host if only the body names the model.
	//
	// A body of which nothing comes for 10 seconds is treated in the same way: its
	// caller may be waiting for the response before writing on.
	MaxBuffered int64

	// Timeout is the longest time from when a request is sent until its
	// response's body is closed or read to its end, each attempt on its own:
	// unlike http.Client.Timeout, it leaves out the time in the queue. 0: none.
	Timeout time.Duration

	// Reject makes the result of a request that was not sent. nil: the
	// LimitError itself. [Reject429] answers as the server would.
	Reject func(*http.Request, *LimitError) (*http.Response, error)

	// Limiter keeps the tokens of all keys: redislimit.New makes one that shares
	// them with other processes. nil: they are kept in memory.
	Limiter *limiter.Shared

	// StateFile is the path of a file where what was spent of limits of a day
	// is kept, so that it survives a restart; several processes of a machine
	// may use one at once. Its folder has to exist, and gets two lock files and
	// a journal beside it. A file that is not understood is replaced; see
	// Trace.StateError. Not for a Limiter of your own. Empty: none.
	StateFile string

	// Trace has functions to call on the way. nil: none.
	Trace *Trace

	places   atomic.Uint64 // the last place in the queue that was given away
	limiters limiter.Registry
	receipts receipt.Book         // of what the servers keep
	quotas   atomic.Pointer[book] // in force; nil: Quotas were not read yet
	outages  limiter.Outages
	setting  sync.Mutex // held by SetQuotas
	dated    atomic.Pointer[dated]
	once     sync.Once
	state    *dayfile.File // nil: there is none
	memory   readahead.Memory
}

// RoundTrip implements http.RoundTripper. A request that would not get its turn
// in time is not sent: the error is a [*LimitError], or what Reject makes of it.
// If the context is done while the request waits in the queue, the error is the
// context's.
//
// The request's body is closed once, also if it was not sent. Then no Read of it is
// begun after RoundTrip has returned. One that is blocked at that time is ended by
// the Close; RoundTrip waits for that for a tenth of a second at most, as some
// bodies, such as that of a request in an http.Server, do not end it.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil {
		closeBody(req)
		return nil, errNoURL
	}
	planned, a := false, &attempt{req: req}
	defer func() {
		if !planned { // Key, Cost or a function of Trace panics
			a.closeBody()
		}
	}()
	err := plan(t, a)
	planned = true
	n := a.note
	resp, err := t.attempt(a, err)
	n.end(a.fate, resp)
	return resp, err
}

// attempt makes an attempt that err has not ended already.
func (t *Transport) attempt(a *attempt, err error) (*http.Response, error) {
	req := a.req
	if err == nil {
		err = t.wait(a)
	}
	if err == nil {
		return t.send(a)
	}
	a.closeBody()
	a.final = true
	var limit *LimitError
	if !errors.As(err, &limit) {
		return nil, err
	}
	t.Trace.rejected(a, limit)
	if t.Reject == nil {
		if sdk.Insists(req) {
			err = sdk.Quiet(err)
		}
		return nil, err
	}
	return t.rejected(req, limit)
}

// rejected returns what Reject makes of a request that was not sent.
func (t *Transport) rejected(req *http.Request, limit *LimitError) (*http.Response, error) {
	resp, err := t.Reject(req, limit)
	if err != nil || resp == nil {
		if resp != nil && resp.Body != nil {
			resp.Body.Close()
		}
		if err == nil {
			err = limit
		}
		return nil, err
	}
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	resp.Request = req
	return resp, nil
}

// book returns the quotas in force.
func (t *Transport) book() *book {
	if b := t.quotas.Load(); b != nil {
		return b
	}
	t.quotas.CompareAndSwap(nil, newBook(t.Quotas, 1))
	return t.quotas.Load()
}

// SetQuotas has the Transport keep to other quotas from now on, in place of Quotas. It
// may be called at any time, also while requests wait.
//
// What was spent of a key stays spent; so it does of a limit that is left out for a
// while. Requests that wait are judged again: they are sent if there is room, and
// rejected if their turn comes too late now. Limits that only the server has stated
// stay. What a limit was corrected to stays too, unless more is configured than was.
//
// Quotas that cannot be are an error of every request from then on, until SetQuotas
// is called again; those that wait already keep to the quotas before. Over a
// Limiter of redislimit, a limit that is changed is changed for all processes, and
// what is left out is no longer kept by this one; each has to be told.
func (t *Transport) SetQuotas(q Quotas) {
	t.setting.Lock()
	defer t.setting.Unlock()
	b := newBook(q, t.book().version+1)
	t.quotas.Store(b)
	if b.err != nil {
		return
	}
	t.limiters.Each(func(k limiter.Key, l *limiter.Limiter) bool {
		o := l.Owner().(*origin)
		if k != o.key && b.find(k.Host, &subject{name: k.Name}).named {
			return false // it shared the quota of another key, and has its own now
		}
		t.requota(l, b)
		return true
	})
}

// An origin is what a limiter was made for.
type origin struct {
	subject
	host string
	key  limiter.Key
	rule refill.Rule
}

// requota has a limiter keep to what a book says.
func (t *Transport) requota(l *limiter.Limiter, b *book) {
	o := l.Owner().(*origin)
	x := b.find(o.host, &o.subject)
	q := limiter.Quota{Version: b.version, Limits: x.quota.kept(o.rule), Named: x.named, Gone: x.key != o.key}
	q.Stays = func(owner any) bool {
		a := owner.(*attempt)
		return b.find(provider.Host(a.req), &a.subject).key == a.key
	}
	limiter.Requota(l, q)
}

// Forecast returns in how long the last of n requests asked for now would be sent,
// given those that wait already, except at a lower level of [Priority]; of those alone
// if n is 0. The key is that of the
// quota, as in Quotas, [Status] and [LimitError]; at several hosts it is that which
// takes longest. each is what one of them draws, at least one request: where it says
// 0 output tokens, they are as estimated. The largest Duration means never, as far as
// is known.
//
// It takes the server to refuse nothing, each request to reach it as fast as those
// before, and nobody to give up or to come in between, and leaves Concurrency aside:
// how long responses take is not known. The server's clock is known to a second
// or two: what a span's beginning decides may come a span sooner. What Redis holds it can only estimate. The time that it
// takes grows with the queue and with n, to tens of milliseconds for 100,000; others
// wait for a fraction of one.
func (t *Transport) Forecast(key string, n int, each Cost) time.Duration {
	b := t.book()
	if b.err != nil {
		return refill.Never
	}
	d := estimate.Draw{Fixed: true}
	for u, c := range each {
		d.Cost[u] = min(max(c, 0), mostCost)
	}
	d.Cost[Requests] = max(d.Cost[Requests], 1)
	if each[OutputTokens] > 0 {
		d.Said = d.Said.With(int(OutputTokens))
	}
	names, quota, _ := b.entries.Find(key)
	var list []*limiter.Limiter
	for _, name := range names {
		list = append(list, t.limiters.Named(name)...)
	}
	if list == nil { // nobody has asked for it yet
		host := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "https", Host: key}, Header: http.Header{}}
		rule := refill.Rule(provider.For(host).Call(host).Refill)
		list = append(list, limiter.New(key, limiter.Options{Limits: quota.kept(rule), Version: b.version}))
	}
	var most time.Duration
	for _, l := range list {
		if l.Version() < b.version {
			t.requota(l, b)
		}
		most = max(most, limiter.Forecast(l, max(n, 0), d))
	}
	return most
}

// limiter returns the limiter of an attempt, made by what a book says of it if there
// is none.
func (t *Transport) limiter(a *attempt, b *book, x *extract) *limiter.Limiter {
	if l := t.limiters.Find(x.key); l != nil {
		if l.Version() < b.version {
			t.requota(l, b)
		}
		return l
	}
	return t.limiters.Get(x.key, func(m *engine.Memory) *limiter.Limiter {
		o := limiter.Options{Limits: x.quota.kept(a.Rule), Named: x.named, Memory: m, Shared: t.Limiter, Name: x.key.Host + " " + x.key.Name, Version: b.version}
		from := &origin{a.subject, provider.Host(a.req), x.key, a.Rule}
		if x.whole {
			from.subject = subject{name: from.host}
		}
		o.Owner = from
		if t.Limiter != nil {
			key := x.key.Name
			o.Told = &t.outages
			o.Tell = func(err error) { t.Trace.storeError(key, err) }
			if t.Trace != nil && t.Trace.Exchanged != nil {
				o.Exchanged = func(took time.Duration, err error) { t.Trace.Exchanged(key, took, err) }
			}
		}
		if t.StateFile != "" && t.Limiter == nil {
			t.once.Do(func() { t.state = dayfile.Open(t.StateFile, t.Trace.stateError) })
			o.File = t.state
		}
		return limiter.New(x.key.Name, o)
	})
}

// Status returns a snapshot of every key in use, in no order. Of keys that turned
// out to share a quota there is one.
func (t *Transport) Status() []Status {
	list := t.limiters.All()
	all := make([]Status, 0, len(list))
	for _, l := range list {
		all = append(all, statusOf(l))
	}
	return all
}

// CloseIdleConnections closes those of Base, if it has any.
func (t *Transport) CloseIdleConnections() { closeIdle(t.base(nil)) }

func closeIdle(rt http.RoundTripper) {
	if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}
