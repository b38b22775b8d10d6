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
	"errors"
	"net/http"
	"slices"
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

	// Timeout is the longest time from when a request is sent until its
	// response's body is closed or read to its end, each attempt on its own:
	// unlike http.Client.Timeout, it leaves out the time in line. 0: none.
	Timeout time.Duration

	// Reject makes the result of a request that was not sent. nil: the
	// LimitError itself. [Reject429] answers as the server would.
	Reject func(*http.Request, *LimitError) (*http.Response, error)

	// Limiter makes the limiter of each key. nil: [NewGate], in memory.
	Limiter func(key string, q Quota) Limiter

	// StateFile is the path of a file where what was spent of limits of a day
	// is kept, so that it survives a restart; several processes of a machine
	// may use one at once. Its folder has to exist, and gets two lock files and
	// a journal beside it. A file that is not understood is replaced; see
	// Trace.StateError. Not for a Limiter of your own. Empty: none.
	StateFile string

	// Trace has functions to call on the way. nil: none.
	Trace *Trace

	places atomic.Uint64 // the last place in line that was given away
	mu     sync.RWMutex
	gates  map[gateKey]*entry
}

type gateKey struct{ host, key string }

// An entry is the limiter of a key.
type entry struct {
	Limiter
	tokens atomic.Bool // it has limits of tokens
}

// count notes that there is a limit of the given unit.
func (e *entry) count(u Unit) {
	if u != Requests {
		e.tokens.Store(true)
	}
}

// RoundTrip implements http.RoundTripper. A request that would not get its turn
// in time is not sent: the error is a [*LimitError], or what Reject makes of it.
// If the context is done while the request waits in line, the error is the
// context's.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil {
		closeBody(req)
		return nil, errNoURL
	}
	p, err := t.plan(req)
	if err == nil {
		err = t.acquire(p)
	}
	if err == nil {
		return t.send(p)
	}
	closeBody(req)
	p.note.final = true
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

// acquire waits in line.
func (t *Transport) acquire(p *plan) error {
	n, req := p.note, p.req
	ask := Ask{Cost: p.call.Cost, Fixed: p.fixed, Zone: p.call.Zone, Refill: p.call.Refill, MaxWait: t.MaxWait, MaxQueue: t.MaxQueue}
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
			t.Trace.Waiting(req, WaitInfo{Key: p.call.Key, Ahead: ahead, Estimate: estimate})
		}
	}
	if t.Limiter != nil {
		ask.Store = func(err error) { t.Trace.storeError(p.call.Key, err) }
	}
	began := now()
	grant, err := p.entry.Acquire(req.Context(), ask)
	waited := now() - began
	n.waited += waited
	p.grant = grant
	if err == nil {
		t.Trace.sending(req, SendInfo{Key: p.call.Key, Waited: waited})
	}
	return err
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

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}

// quota returns the limits of a call, each with the rule that it is kept by.
func (t *Transport) quota(call provider.Call) (Quota, error) {
	q := slices.Clone(t.Quotas.of(call.Key, call.Aside))
	for i, l := range q {
		if err := l.check(); err != nil {
			return nil, err
		}
		if l.Refill == Auto && l.Per > 0 {
			q[i].Refill = auto(call.Refill, l.Per)
		}
	}
	return q, nil
}

// minSpan is the shortest Per that Auto keeps by the server's clock.
const minSpan = 10 * time.Second

// gate returns the limiter of a call.
func (t *Transport) gate(host string, call provider.Call) (*entry, error) {
	k := gateKey{host, call.Key}
	t.mu.RLock()
	e := t.gates[k]
	t.mu.RUnlock()
	if e != nil {
		return e, nil
	}
	q, err := t.quota(call)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.gates[k]; e != nil {
		return e, nil
	}
	e = &entry{}
	if t.Limiter != nil {
		e.Limiter = t.Limiter(call.Key, q)
	} else {
		g := newGate(call.Key, q, nil)
		if t.StateFile != "" {
			g.ledger = ledger{openState(t.StateFile, t.Trace.stateError), host + " " + call.Key}
		}
		e.Limiter = g
	}
	for _, l := range q {
		e.count(l.Unit)
	}
	if t.gates == nil {
		t.gates = make(map[gateKey]*entry)
	}
	t.gates[k] = e
	return e, nil
}

// family has the keys of one quota share a limiter, once the server has said
// that the quota of a key goes by another name.
func (t *Transport) family(host string, call provider.Call, e *entry, name string) {
	if name == "" || name == call.Key {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key, whole := gateKey{host, call.Key}, gateKey{host, name}
	if other := t.gates[whole]; other != nil {
		t.gates[key] = other
	} else {
		t.gates[whole] = e
	}
}

// Status returns a snapshot of every key that was used, in no order. Of keys
// that turned out to share a quota there is one.
func (t *Transport) Status() []Status {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]Status, 0, len(t.gates))
	seen := make(map[*entry]bool)
	for _, g := range t.gates {
		if !seen[g] {
			seen[g] = true
			list = append(list, g.Status())
		}
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
