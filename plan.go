package tollgate

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/provider"
)

type tokensKey struct{}

// WithTokens returns a context for requests of n tokens each, where the caller
// knows better than an estimate what a request draws on limits of [Tokens]. An
// n below 0 is 0.
func WithTokens(ctx context.Context, n int64) context.Context {
	return context.WithValue(ctx, tokensKey{}, max(n, 0))
}

// An attempt is one attempt at a request: what that draws on, and how far it has
// come. A waiter is little more than that, so it is kept small.
type attempt struct {
	limiter.Request
	req   *http.Request
	body  io.ReadCloser // to be sent in place of the request's; nil: that itself
	note  *note
	api   provider.API
	key   limiter.Key
	usage []provider.Usage // where the response says what it has cost; nil: nowhere, or it does not matter
	kept  *kept            // what the server keeps of it; nil: nothing
	aside bool             // see provider.Call
	open  bool

	traced, wrote atomic.Bool   // the base reports what it does; has begun to write
	began         time.Time     // when it was sent; only for Trace.Done
	atServer      time.Duration // how long it took until the response came; likewise
	own           note          // if none came with the request
}

// kept is what the server keeps of a call, and where it says so.
type kept struct {
	record *provider.Record
	polls  string // see provider.Call
}

// plan finds out what a request draws on.
func plan(t *Transport, req *http.Request) (*attempt, error) {
	a := &attempt{req: req, api: t.API}
	a.note = &a.own
	if a.api == nil {
		a.api = provider.For(req)
	}
	call := a.api.Call(req)
	given, known := req.Context().Value(tokensKey{}).(int64)
	host := provider.Host(req)
	var err error
	if call.Open {
		if call, err = a.read(call, !known); err != nil {
			return a, err
		}
		// The quota of a host is for all of its models together.
		if _, ok := t.Quotas[call.Key]; !ok && t.Quotas[host] != nil {
			call.Key = host
		}
	}
	a.key = limiter.Key{Host: host, Name: call.Key}
	a.aside, a.open, a.Rule, a.Zone = call.Aside, call.Open, refill.Rule(call.Refill), call.Zone
	a.note = noteOf(req, t, a.key, a.note)
	a.note.once = call.Once
	if a.Limiter, err = t.limiter(a); err != nil {
		return a, err
	}
	if !call.Open && !known && !call.Aside && a.Limiter.CountsTokens() {
		if call, err = a.read(call, true); err != nil {
			return a, err
		}
	}
	if known {
		call.Cost[Tokens] = given
	}
	if !call.Exact && (!call.Aside || call.Polls != "") {
		a.usage = call.Usage
	}
	a.Draw = estimate.Draw{Fixed: known || call.Exact, Continues: call.Continues}
	if call.Record != nil {
		a.kept = &kept{call.Record, call.Polls}
	}
	if cost, ok := t.receipts.Cost(host, call.Follows); ok && call.Follows != "" {
		a.Draw.History = max(cost[Tokens], 0) + max(cost[OutputTokens], 0)
	}
	for u, n := range call.Cost {
		a.Draw.Cost[u] = min(max(n, 0), mostCost)
	}
	return a, nil
}

// mostCost is more than any request costs.
const mostCost = 1 << 40

// maxPrompt is how much is read of a body that cannot be had twice.
const maxPrompt = 8 << 20

// read has the API read the request's body, which is sent all the same.
func (a *attempt) read(c provider.Call, tokens bool) (provider.Call, error) {
	req := a.req
	switch {
	case req.Body == nil || req.Body == http.NoBody || req.Header.Get("Content-Encoding") != "":
		return c, nil
	case req.GetBody != nil:
		body, err := getBody(req)
		if err != nil {
			return c, err
		}
		defer body.Close()
		a.api.Read(&c, body, tokens)
		return c, nil
	}
	head, err := io.ReadAll(io.LimitReader(req.Body, maxPrompt))
	a.body = joined(head, req.Body, err)
	a.api.Read(&c, bytes.NewReader(head), tokens)
	return c, nil
}

// getBody returns a new copy of a request's body.
func getBody(req *http.Request) (io.ReadCloser, error) {
	body, err := req.GetBody()
	if err == nil && body == nil {
		err = errNoBody
	}
	return body, err
}

// refusalOf returns a refusal as the engine has it.
func refusalOf(r provider.Refusal) engine.Refusal {
	f := engine.Refusal{Never: r.Never, Overload: r.Overload, Slower: r.Slower}
	if r.Hinted {
		f.Wait = max(r.Wait, 0)
	}
	for _, v := range r.Limits {
		if !v.Uncounted {
			f.Limits = append(f.Limits, engine.Named{Unit: int(v.Unit), N: v.N, Per: v.Per})
		}
	}
	return f
}

// answerOf returns what the headers of a response say, as the engine has it.
func answerOf(t *Transport, api provider.API, resp *http.Response, refused bool) engine.Answer {
	a := engine.Answer{Refused: refused, Invalid: invalid(resp.StatusCode), Date: t.date(resp)}
	levels := api.Levels(resp)
	if levels == nil {
		return a
	}
	a.Levels = make([]engine.Level, 0, len(levels))
	for i := range levels {
		if l := &levels[i]; l.Name == "" {
			a.Levels = append(a.Levels, engine.Level{Unit: int(l.Unit), N: l.N, Per: l.Per, Left: l.Left, Full: l.Full})
		}
	}
	return a
}

// invalid reports whether a status means that the server did not process a request.
func invalid(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return true
	}
	return false
}
