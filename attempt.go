package tollgate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/failure"
	"example.com/tollgate/internal/limiter"
)

// send passes on a request that has its tokens.
func (t *Transport) send(a *attempt) (resp *http.Response, err error) {
	f := &flight{body: body{attempt: a}}
	req, stop := t.outgoing(a, f)
	done := false
	defer func() {
		if done {
			return
		}
		// Base, or a function of Trace, panics or ends the goroutine.
		defer a.Failed(true)
		stop.end()
		if resp != nil && resp.Body != nil {
			resp.Body.Close()
		}
	}()
	t.Trace.sending(a)
	base := t.base(a.req)
	resp, err = base.RoundTrip(req)
	if err == nil && resp == nil {
		a.final, err = true, errNothing
	}
	if err != nil {
		if resp != nil && resp.Body != nil {
			resp.Body.Close() // a base that breaks the rules
		}
		resp, err = nil, stop.cause(err)
		stop.end()
		_, traces := base.(*http.Transport)
		a.reached = err == errNothing || failure.Sent(err, traces || f.traced.Load(), f.wrote.Load())
		a.Failed(a.reached)
		done = true
		t.Trace.done(a, nil, err)
		return nil, err
	}
	a.reached = true
	t.Trace.answered(a)
	refuses := a.api.Refuses(resp)
	var room [4]engine.Level
	news := a.Answered(answerOf(t, a.api, resp, refuses, room[:]))
	resp.Request = a.req
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	if refuses {
		news = append(news, t.refused(req.Context(), a, resp)...)
	}
	t.Trace.learned(a, news)
	if resp.Body == http.NoBody || resp.StatusCode == http.StatusSwitchingProtocols {
		// After a switch the body is a connection, and not ours to watch.
		stop.release()
		a.Closed()
		done = true
		t.Trace.done(a, resp, nil)
		a.forget()
		return resp, nil
	}
	b := &f.body
	b.ReadCloser, b.transport, b.resp, b.stop = resp.Body, t, resp, stop
	b.scan(a, resp)
	b.watch(a.req.Context())
	resp.Body = b
	done = true
	return resp, nil
}

// refused reads why a request was refused, and acts on it. It returns the limits that
// turned out to be other ones.
func (t *Transport) refused(ctx context.Context, a *attempt, resp *http.Response) []engine.Change {
	r := readRefusal(ctx, a.api, resp)
	a.heeded, a.final = !r.Overload && !r.None, r.Never || r.Daily()
	if r.None {
		return a.Answered(engine.Answer{})
	}
	changes, accepted, spent := a.Refused(refusalOf(r))
	a.final = a.final || a.Hopeless
	a.once = a.once && !r.Hinted // who says when to come back has not done it
	a.alone = a.heeded && spent
	if n := a.note; n != nil && a.heeded {
		if n.refusals == 0 || accepted != n.accepted {
			n.refusals, n.accepted = 0, accepted
		}
		n.refusals++
		n.giveUp = a.GaveUp
	}
	for _, v := range r.Limits {
		if v.Model != "" {
			t.limiters.Join(a.key, limiter.Key{Host: a.key.Host, Name: v.Model}, a.Limiter)
		}
	}
	t.Trace.refused(a, a.key.Name, resp, r)
	return changes
}

// failedWithin heeds an error in the body of a response whose status was 200. That
// response cannot be had again; what it says holds for all others.
func (t *Transport) failedWithin(a *attempt, resp *http.Response, kind string, data []byte) {
	r, ok := a.api.Event(resp, kind, data)
	if !ok || r.None {
		return
	}
	of := &a.Request
	if a.kept != nil && a.kept.polls != "" { // what was begun by another request has failed
		if of = t.receipts.Request(a.key.Host, a.kept.polls); of == nil {
			return
		}
		t.receipts.Done(a.key.Host, a.kept.polls, unknown)
	}
	changes, _, _ := of.Refused(refusalOf(r))
	t.Trace.refused(a, of.Limiter.Key(), resp, r)
	t.Trace.learned(a, changes)
}

// A dated is a Date header and what it says. Most responses of a second have the
// same one.
type dated struct {
	text string
	at   time.Duration
}

// date returns what the server's clock stood at, since 1970, 0 if it does not say:
// not what it did when a cache got the response (RFC 9111, section 5.1).
func (t *Transport) date(resp *http.Response) time.Duration {
	v := resp.Header["Date"]
	if len(v) == 0 || len(v[0]) > len(time.RFC850)+10 || len(resp.Header["Age"]) > 0 {
		return 0
	}
	if last := t.dated.Load(); last != nil && last.text == v[0] {
		return last.at
	}
	d, err := http.ParseTime(v[0])
	if err != nil {
		return 0
	}
	is := &dated{strings.Clone(v[0]), time.Duration(d.UnixNano())}
	t.dated.Store(is)
	return is.at
}

// A flight is what there is of an attempt once it is sent, in one piece of memory.
type flight struct {
	body
	trace         httptrace.ClientTrace
	traced, wrote atomic.Bool // the base reports what it does; has begun to write
}

// tracing returns a context in which the base reports how far the request is on
// its way to the server.
func (f *flight) tracing(ctx context.Context) context.Context {
	f.trace.GetConn = func(string) {
		f.traced.Store(true)
		f.attempt.Unsent()
	}
	f.trace.WroteHeaders = func() { f.wrote.Store(true) }
	f.trace.WroteRequest = func(httptrace.WroteRequestInfo) { f.attempt.Sent() }
	return httptrace.WithClientTrace(ctx, &f.trace)
}

// closeBody closes the body of a request that is not sent.
func (a *attempt) closeBody() {
	if a.body != nil {
		a.body.Close()
		return
	}
	closeBody(a.req)
}

// forget lets go of the request: the limiter may know of the attempt for longer,
// until something else happens to its key.
func (a *attempt) forget() {
	a.req, a.body, a.note, a.usage, a.Waiting = nil, nil, nil, nil, nil
}

// outgoing returns the request as it is passed on, and what stops it when the
// Timeout is over.
func (t *Transport) outgoing(a *attempt, f *flight) (*http.Request, *stop) {
	ctx := a.req.Context()
	left := time.Duration(math.MaxInt64)
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	var s *stop
	if t.Timeout > 0 {
		s = &stop{err: &timeoutError{a.key.Name, t.Timeout}}
		ctx, s.cancel = context.WithCancelCause(ctx)
		s.timer = time.AfterFunc(t.Timeout, func() { s.cancel(s.err) })
		s.ctx = ctx
		left = min(left, t.Timeout)
	}
	if t.Base == nil && http.DefaultTransport != defaultTransport {
		ctx = context.WithValue(ctx, baseKey{}, true)
	}
	req := a.req.WithContext(f.tracing(ctx))
	if a.body != nil {
		req.Body = a.body
	}
	if h := req.Header[serverTimeout]; len(h) > 0 {
		if was, err := strconv.ParseFloat(h[0], 64); err == nil && left.Seconds() < was {
			req.Header = req.Header.Clone()
			req.Header.Set(serverTimeout, strconv.FormatFloat(math.Max(1, math.Ceil(left.Seconds())), 'f', -1, 64))
		}
	}
	return req, s
}

// defaultTransport is http.DefaultTransport as the net/http package has it.
var defaultTransport = http.DefaultTransport

// baseKey is for a context in which http.DefaultTransport was asked already.
type baseKey struct{}

// base returns what sends a request. Where http.DefaultTransport has been replaced
// by something that leads back here, it is the original one.
func (t *Transport) base(req *http.Request) http.RoundTripper {
	switch {
	case t.Base != nil:
		return t.Base
	case http.DefaultTransport == defaultTransport || http.DefaultTransport == http.RoundTripper(t), req != nil && req.Context().Value(baseKey{}) != nil:
		return defaultTransport
	}
	return http.DefaultTransport
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
type timeoutError struct {
	key   string
	after time.Duration
}

func (e *timeoutError) Error() string {
	return fmt.Sprintf("tollgate: %s: no answer within %s, which is Transport.Timeout", limiter.Quote(e.key), brief(e.after))
}
func (e *timeoutError) Timeout() bool   { return true }
func (e *timeoutError) Temporary() bool { return true }

// Is lets errors.Is find context.DeadlineExceeded, as in http.Client's timeout.
func (e *timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// wait has a request wait in the queue, and returns why it may not be sent.
func (t *Transport) wait(a *attempt) error {
	n := a.note
	a.MaxWait, a.MaxQueue = t.MaxWait, t.MaxQueue
	if n != nil && n.place > 0 {
		a.Place, a.MaxQueue = n.place, 0 // its place is its own
		if t.MaxWait > 0 {
			if a.MaxWait -= n.waited; a.MaxWait <= 0 {
				a.MaxWait = -1
			}
		}
	} else {
		a.Place = t.places.Add(1)
	}
	abandoned := t.Trace.waiting(a)
	ctx, end := canceled(a.req)
	defer end()
	err := a.Limiter.Acquire(ctx, &a.Request)
	a.waited = a.Waited
	for err == limiter.ErrForgotten || err == limiter.ErrStale {
		if err == limiter.ErrForgotten {
			t.limiters.Drop(a.key, a.Limiter)
		}
		if a.Waited > 0 { // in a queue that is not its any more: its place is its own
			a.MaxQueue = 0
			if t.MaxWait > 0 {
				if a.MaxWait -= a.Waited; a.MaxWait <= 0 {
					a.MaxWait = -1
				}
			}
		}
		if err = a.relocate(t); err == nil {
			err = a.Limiter.Acquire(ctx, &a.Request)
			a.waited += a.Waited
		}
		a.HandOn() // if it has not arrived
	}
	if n != nil {
		n.place = a.Place
		n.waited += a.waited
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, limiter.ErrRejected):
		return limitError(t, a)
	case ctx.Err() == nil:
		return err
	}
	if err = ctx.Err(); context.Cause(ctx) == errCancel {
		err = errCancel
	}
	if abandoned != nil {
		abandoned()
	}
	if a.Delay != nil && a.Slots != nil {
		return &slotError{a.key.Name, limitOf(*a.Slots), a.Waited, err}
	}
	return err
}

// canceled returns the context of a request, which is done as well when its Cancel
// is closed, and what ends the watch over that.
func canceled(req *http.Request) (context.Context, func()) {
	ctx, ch := req.Context(), req.Cancel //nolint:staticcheck // deprecated, and heeded by http.Transport
	if ch == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	select {
	case <-ch:
		cancel(errCancel)
	default:
		go func() {
			select {
			case <-ch:
				cancel(errCancel)
			case <-ctx.Done():
			}
		}()
	}
	return ctx, func() { cancel(nil) }
}
