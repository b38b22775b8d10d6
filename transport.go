// Package tollgate keeps the calls of any http.Client within the rate limits of
// the API it calls: each request takes a token before it is sent, waits in line
// if there is none, and goes back to the front of the line if the server
// refuses it all the same.
//
//	client := tollgate.NewClient(tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(10)}})
//
// While the quota is ours alone no request is refused, and no schedule that
// keeps that promise is faster.
package tollgate

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"example.com/tollgate/provider"
)

// NewClient returns an HTTP client that keeps to the quotas and sends refused
// and failed requests again: [Retry] over [Transport] over
// http.DefaultTransport.
//
// A Timeout set on the client includes the time in line.
func NewClient(q Quotas) *http.Client {
	return &http.Client{Transport: &Retry{Base: &Transport{Quotas: q}}}
}

// Transport is an http.RoundTripper that takes a token for each request before
// it passes it on, and closes the line when the server refuses.
//
// It sends each request once; [Retry] on top of it sends again what was refused
// or failed. The zero value limits nothing until a server says so. A Transport
// is safe for concurrent use by multiple goroutines; its fields must not change
// after first use.
type Transport struct {
	// Base sends the requests. nil: http.DefaultTransport.
	Base http.RoundTripper

	// Quotas holds the limits of each key. nil: none is known.
	Quotas Quotas

	// API says what a request draws on and what a refusal means. nil: it is
	// recognised from the request.
	API provider.API

	// MaxWait is the longest time in line, over all attempts at a request: one
	// whose turn would come later is rejected at once. 0: as long as its
	// context allows. Negative: requests never wait.
	//
	// A deadline in the request's context, which http.Client.Timeout sets too,
	// includes the time in line.
	MaxWait time.Duration

	// MaxQueue is the longest line of one key: a request that finds it full is
	// rejected. 0: no bound.
	MaxQueue int

	// Reject makes the result of a request that was not sent. nil: the
	// LimitError itself. [Reject429] answers as the server would.
	Reject func(*http.Request, *LimitError) (*http.Response, error)

	// Limiter makes the limiter of each key. nil: [NewGate], in memory.
	Limiter func(key string, q Quota) Limiter

	// Trace has functions to call on the way. nil: none.
	Trace *Trace

	places atomic.Uint64 // the last place in line that was given away
	mu     sync.RWMutex
	gates  map[gateKey]Limiter
}

type gateKey struct{ host, key string }

// RoundTrip implements http.RoundTripper. A request that would not get its turn
// in time is not sent: the error is a [*LimitError], or what Reject makes of it.
// If the context is done while the request waits in line, the error is the
// context's.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil {
		closeBody(req)
		return nil, errors.New("tollgate: nil Request.URL")
	}
	api := t.API
	if api == nil {
		api = provider.For(req)
	}
	call := api.Call(req)
	n := noteOf(req.Context())
	n.seen = true
	grant, err := t.acquire(req, call, n)
	if err != nil {
		closeBody(req)
		n.final = true
		var limit *LimitError
		if !errors.As(err, &limit) {
			return nil, err
		}
		t.Trace.rejected(req, limit)
		if t.Reject == nil {
			return nil, err
		}
		return t.rejected(req, limit)
	}
	return t.send(req, api, call, grant, n)
}

// acquire waits in line.
func (t *Transport) acquire(req *http.Request, call provider.Call, n *note) (Grant, error) {
	gate, err := t.gate(req.URL.Host, call)
	if err != nil {
		return nil, err
	}
	ask := Ask{Cost: call.Cost, MaxWait: t.MaxWait, MaxQueue: t.MaxQueue}
	if n.place == 0 {
		n.place = t.places.Add(1)
	} else {
		ask.MaxQueue = 0 // its place is its own
		if t.MaxWait > 0 {
			if ask.MaxWait -= n.waited; ask.MaxWait <= 0 {
				ask.MaxWait = -1
			}
		}
	}
	ask.Place = n.place
	if t.Trace != nil && t.Trace.Waiting != nil {
		ask.Waiting = func(ahead int, estimate time.Duration) {
			t.Trace.Waiting(req, WaitInfo{Key: call.Key, Ahead: ahead, Estimate: estimate})
		}
	}
	began := now()
	grant, err := gate.Acquire(req.Context(), ask)
	waited := now() - began
	n.waited += waited
	if err == nil {
		t.Trace.sending(req, SendInfo{Key: call.Key, Waited: waited})
	}
	return grant, err
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

// send passes on a request that has its tokens.
func (t *Transport) send(req *http.Request, api provider.API, call provider.Call, grant Grant, n *note) (*http.Response, error) {
	a := attempt{grant: grant}
	grant.Sent()
	resp, err := t.base().RoundTrip(req.WithContext(a.trace(req.Context())))
	if err != nil {
		if resp != nil && resp.Body != nil {
			resp.Body.Close() // a base that breaks the rules
		}
		n.reached = a.reached()
		grant.Failed(n.reached)
		return nil, err
	}
	if resp == nil {
		n.final = true
		grant.Failed(true)
		return nil, errors.New("tollgate: Base returned neither a response nor an error")
	}
	n.reached = true
	grant.Answered(resp.StatusCode)
	resp.Request = req
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	if refusing(resp.StatusCode) {
		r := readRefusal(api, resp)
		n.heeded = resp.StatusCode == http.StatusTooManyRequests
		n.final = r.Never || r.Daily()
		grant.Refused(resp.StatusCode, r)
		t.Trace.refused(req, RefusalInfo{Key: call.Key, Status: resp.StatusCode, Refusal: r})
	}
	if resp.Body == http.NoBody || resp.StatusCode == http.StatusSwitchingProtocols {
		grant.Done() // after a switch the body is a connection, and not ours to watch
	} else {
		resp.Body = &body{ReadCloser: resp.Body, done: grant.Done}
	}
	return resp, nil
}

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}

// gate returns the limiter of a call.
func (t *Transport) gate(host string, call provider.Call) (Limiter, error) {
	k := gateKey{host, call.Key}
	t.mu.RLock()
	g := t.gates[k]
	t.mu.RUnlock()
	if g != nil {
		return g, nil
	}
	q := t.Quotas.of(call.Key, call.Aside)
	for _, l := range q {
		if err := l.check(); err != nil {
			return nil, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.gates[k]; g != nil {
		return g, nil
	}
	if t.Limiter != nil {
		g = t.Limiter(call.Key, q)
	} else {
		g = NewGate(call.Key, q)
	}
	if t.gates == nil {
		t.gates = make(map[gateKey]Limiter)
	}
	t.gates[k] = g
	return g, nil
}

// Status returns a snapshot of every key that was used, in no order.
func (t *Transport) Status() []Status {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]Status, 0, len(t.gates))
	for _, g := range t.gates {
		list = append(list, g.Status())
	}
	return list
}

// CloseIdleConnections closes those of Base, if it has any.
func (t *Transport) CloseIdleConnections() { closeIdle(t.base()) }

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

// An attempt follows a request on its way to the server.
type attempt struct {
	grant  Grant
	traced atomic.Bool // the base reports what it does
	wrote  atomic.Bool // it has begun to write
}

// trace returns a context in which the base reports to the attempt.
func (a *attempt) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) {
			a.traced.Store(true)
			a.grant.Unsent()
		},
		WroteHeaders: func() { a.wrote.Store(true) },
		WroteRequest: func(httptrace.WroteRequestInfo) { a.grant.Sent() },
	})
}

// reached reports whether the request may have reached the server.
func (a *attempt) reached() bool { return !a.traced.Load() || a.wrote.Load() }
