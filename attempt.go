package tollgate

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"time"

	"example.com/tollgate/provider"
)

// send passes on a request that has its tokens.
func (t *Transport) send(p *plan) (*http.Response, error) {
	grant, n := p.grant, p.note
	req, stop := t.outgoing(p)
	grant.Sent()
	resp, err := t.base().RoundTrip(req)
	if err != nil {
		if resp != nil && resp.Body != nil {
			resp.Body.Close() // a base that breaks the rules
		}
		err = stop.cause(err)
		stop.end()
		n.reached = p.reached()
		grant.Failed(n.reached)
		return nil, err
	}
	if resp == nil {
		stop.end()
		n.final = true
		grant.Failed(true)
		return nil, errNothing
	}
	n.reached = true
	t.learned(p, grant.Answered(resp.StatusCode, date(resp), p.api.Levels(resp)))
	resp.Request = p.req
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	if refusing(resp.StatusCode) {
		t.refused(p, resp)
	}
	if resp.Body == http.NoBody || resp.StatusCode == http.StatusSwitchingProtocols {
		// After a switch the body is a connection, and not ours to watch.
		stop.release()
		grant.Done()
		return resp, nil
	}
	b := &body{ReadCloser: resp.Body, transport: t, plan: p, stop: stop}
	if len(p.call.Usage) > 0 && !p.call.Exact && !p.call.Aside && resp.Header.Get("Content-Encoding") == "" && p.entry.tokens.Load() {
		b.meter = provider.NewMeter(p.call.Usage)
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		b.last = new(last)
	}
	resp.Body = b
	return resp, nil
}

// refused reads why a request was refused, and acts on it.
func (t *Transport) refused(p *plan, resp *http.Response) {
	r := readRefusal(p.api, resp)
	p.note.heeded = resp.StatusCode == http.StatusTooManyRequests
	p.note.final = r.Never || r.Daily()
	t.learned(p, p.grant.Refused(resp.StatusCode, r))
	for _, v := range r.Limits {
		t.family(provider.Host(p.req), p.call, p.entry, v.Model)
	}
	t.Trace.refused(p.req, RefusalInfo{Key: p.call.Key, Status: resp.StatusCode, Refusal: r})
}

// learned tells of limits that are another than was thought.
func (t *Transport) learned(p *plan, list []Change) {
	for _, c := range list {
		p.entry.count(c.To.Unit)
		t.Trace.learned(p.req, LearnInfo{Key: p.call.Key, Change: c})
	}
}

// date returns what the server's clock stood at: not what it did when a cache
// got the response (RFC 9111, section 5.1).
func date(resp *http.Response) time.Time {
	v := resp.Header.Get("Date")
	if v == "" || len(v) > len(time.RFC850)+10 || resp.Header.Get("Age") != "" {
		return time.Time{}
	}
	d, err := http.ParseTime(v)
	if err != nil {
		return time.Time{}
	}
	return d
}

// trace returns a context in which the base reports how far the request is on
// its way to the server.
func (p *plan) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) {
			p.traced.Store(true)
			p.grant.Unsent()
		},
		WroteHeaders: func() { p.wrote.Store(true) },
		WroteRequest: func(httptrace.WroteRequestInfo) { p.grant.Sent() },
	})
}

// reached reports whether the request may have reached the server.
func (p *plan) reached() bool { return !p.traced.Load() || p.wrote.Load() }

// outgoing returns the request as it is passed on, and what stops it when the
// Timeout is over.
func (t *Transport) outgoing(p *plan) (*http.Request, *stop) {
	ctx := p.req.Context()
	left := time.Duration(math.MaxInt64)
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	var s *stop
	if t.Timeout > 0 {
		s = &stop{err: &timeoutError{t.Timeout}}
		ctx, s.cancel = context.WithCancelCause(ctx)
		s.timer = time.AfterFunc(t.Timeout, func() { s.cancel(s.err) })
		s.ctx = ctx
		left = min(left, t.Timeout)
	}
	req := p.req.WithContext(p.trace(ctx))
	if p.body != nil {
		req.Body = p.body
	}
	if h := req.Header.Get(serverTimeout); h != "" {
		if was, err := strconv.ParseFloat(h, 64); err == nil && left.Seconds() < was {
			req.Header = req.Header.Clone()
			req.Header.Set(serverTimeout, strconv.FormatFloat(math.Max(1, math.Ceil(left.Seconds())), 'f', -1, 64))
		}
	}
	return req, s
}

// serverTimeout is the header that tells a Google API how many seconds it has.
// The SDK sets it before the request has waited.
const serverTimeout = "X-Server-Timeout"

// A stop ends an attempt that takes longer than Transport.Timeout. A nil one
// does not.
type stop struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	err    *timeoutError
}

// cause returns the timeout where that is why err happened.
func (s *stop) cause(err error) error {
	if s != nil && context.Cause(s.ctx) == error(s.err) {
		return s.err
	}
	return err
}

// release lets the attempt go on for as long as it likes.
func (s *stop) release() {
	if s != nil {
		s.timer.Stop()
	}
}

// end frees what the attempt holds.
func (s *stop) end() {
	if s != nil {
		s.timer.Stop()
		s.cancel(nil)
	}
}

// A timeoutError is the error of an attempt that took longer than Timeout. It
// is not the context's: that may have time for another attempt.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string   { return fmt.Sprintf("tollgate: no answer within %v", e.after) }
func (e *timeoutError) Timeout() bool   { return true }
func (e *timeoutError) Temporary() bool { return true }

// Is lets errors.Is find context.DeadlineExceeded, as in http.Client's timeout.
func (e *timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }
