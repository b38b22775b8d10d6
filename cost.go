package tollgate

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"example.com/tollgate/provider"
)

type tokensKey struct{}

// WithTokens returns a context for requests of n tokens each, where the caller
// knows better than an estimate what a request draws on limits of [Tokens]. An
// n below 0 is 0.
func WithTokens(ctx context.Context, n int64) context.Context {
	return context.WithValue(ctx, tokensKey{}, max(n, 0))
}

// A plan is an attempt at a request: what that draws on, and how far it has come.
type plan struct {
	req   *http.Request
	body  io.ReadCloser // to be sent in place of the request's; nil: that itself
	note  *note
	api   provider.API
	call  provider.Call
	fixed bool // its cost in tokens is no estimate
	entry *entry
	grant Grant

	traced, wrote atomic.Bool // the base reports what it does; has begun to write
	own           note        // if none came with the request
}

// plan finds out what a request draws on.
func (t *Transport) plan(req *http.Request) (*plan, error) {
	p := &plan{req: req, note: noteOf(req.Context()), api: t.API}
	if p.note == nil {
		p.note = &p.own
	}
	n := p.note
	n.seen = true
	if p.api == nil {
		p.api = provider.For(req)
	}
	p.call = p.api.Call(req)
	given, known := req.Context().Value(tokensKey{}).(int64)
	if n.read { // at an earlier attempt
		p.call = n.call
	} else if p.call.Open {
		if err := p.read(!known); err != nil {
			return p, err
		}
		// The quota of a host is for all of its models together.
		if _, ok := t.Quotas[p.call.Key]; !ok && t.Quotas[provider.Host(req)] != nil {
			p.call.Key = provider.Host(req)
		}
	}
	var err error
	if p.entry, err = t.gate(provider.Host(req), p.call); err != nil {
		return p, err
	}
	if !n.read {
		if !p.call.Open && !known && !p.call.Aside && p.entry.tokens.Load() {
			if err := p.read(true); err != nil {
				return p, err
			}
		}
		n.call, n.read = p.call, true
	}
	p.fixed = known || p.call.Exact
	if known {
		p.call.Cost[Tokens] = given
	}
	return p, nil
}

// maxPrompt is how much is read of a body that cannot be had twice.
const maxPrompt = 8 << 20

// read has the API read the request's body, which is sent all the same.
func (p *plan) read(tokens bool) error {
	req := p.req
	switch {
	case req.Body == nil || req.Body == http.NoBody || req.Header.Get("Content-Encoding") != "":
		return nil
	case req.GetBody != nil:
		body, err := req.GetBody()
		if err != nil {
			return err
		}
		defer body.Close()
		p.api.Read(&p.call, body, tokens)
		return nil
	}
	head, err := io.ReadAll(io.LimitReader(req.Body, maxPrompt))
	rest := io.Reader(req.Body)
	if err != nil {
		rest = failing{err}
	}
	p.body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), req.Body}
	p.api.Read(&p.call, bytes.NewReader(head), tokens)
	return nil
}

// failed heeds an error in the middle of a stream, whose status was 200. That
// response cannot be had again; what it says holds for all others.
func (t *Transport) failed(p *plan, event []byte) {
	var status int
	switch text := string(event); {
	case strings.Contains(text, "overloaded"), strings.Contains(text, "UNAVAILABLE"):
		status = http.StatusServiceUnavailable
	case strings.Contains(text, "rate_limit"), strings.Contains(text, "RESOURCE_EXHAUSTED"), strings.Contains(text, "ThrottlingException"):
		status = http.StatusTooManyRequests
	default:
		return
	}
	resp := &http.Response{StatusCode: status, Header: http.Header{}, Request: p.req}
	t.learned(p, p.grant.Refused(status, p.api.Refusal(resp, event)))
}

// settle says what the request has cost, once the response has said so.
func (p *plan) settle(actual provider.Cost) {
	if actual != (provider.Cost{-1, -1, -1}) {
		actual[Requests] = -1
		p.grant.Settle(actual)
	}
}
