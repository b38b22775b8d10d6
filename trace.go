package tollgate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/logline"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/provider"
)

// A Change is a limit that turned out to be another one. Where From is zero,
// nobody knew of it.
type Change struct{ From, To Limit }

// Trace is a set of functions that a Transport and a Retry call as things happen.
// Any of them may be nil, which costs nothing.
//
// For one attempt the order is: Waiting, if it has to wait; then Abandoned,
// Rejected or Sending; after Sending, Refused if the server refused it; then
// Settled, and Refused for an error in the body; then Done. If there is another
// attempt, Retrying comes next. Learned, Paused and Resumed come in between: each
// is called on behalf of the first request that passes after it has happened.
//
// The functions may be called concurrently, and must not change the request. No
// lock is held: they may use the Transport. What waits for them to return is the
// request itself. A panic in one goes to the caller of RoundTrip, or of Read or
// Close of the response's body; the request's tokens and its slot are not lost.
// StoreError, Exchanged and StateError are called on goroutines of their own, where a
// panic ends the program.
type Trace struct {
	// Waiting is called when a request has joined the queue.
	Waiting func(*http.Request, WaitInfo)
	// Abandoned is called when a request's context has ended while it was in
	// the queue.
	Abandoned func(*http.Request, WaitInfo)
	// Rejected is called when a request is not sent because of a limit.
	Rejected func(*http.Request, *LimitError)
	// Sending is called when a request has its tokens, before it is sent.
	Sending func(*http.Request, SendInfo)
	// Refused is called when the server has refused a request: with 429, 503,
	// 529 or another status that the API refuses with, or by an error inside a
	// response that began with 200.
	Refused func(*http.Request, RefusalInfo)
	// Settled is called when a response has said what its request drew on
	// limits of tokens. What it did not say is as estimated.
	Settled func(r *http.Request, key string, estimate, actual Cost)
	// Done is called when an attempt is over: its response's body is closed or
	// read to its end, or there is no response.
	Done func(*http.Request, DoneInfo)
	// Retrying is called when a Retry is about to make another attempt.
	Retrying func(*http.Request, RetryInfo)
	// Learned is called when a limit was corrected, or one was learned that nobody
	// knew of.
	Learned func(*http.Request, LearnInfo)
	// Paused is called when the server has stopped a key: nothing is sent until
	// then. It is called again if that is put off. why is a phrase such as
	// "the server refuses requests".
	Paused func(key string, until time.Time, why string)
	// Resumed is called when the first request since a pause is sent.
	Resumed func(key string)
	// NoQuota is called when Quotas has entries and none of them is for the key of
	// a request, once a key and for 256 keys at most. others are some of those that
	// there are.
	NoQuota func(r *http.Request, key string, others []string)
	// StoreError is called when the store that quotas are shared through does
	// not answer: once, whatever the number of keys and calls, with the key that
	// noticed it, and with nil when it answers again. The error says why, and
	// what is done until then. It is also called when a store that answers has
	// lost what it knew of a key. nil: slog.Default is told.
	StoreError func(key string, err error)
	// Exchanged is called when the store has answered for a key; err: it has not.
	Exchanged func(key string, took time.Duration, err error)
	// StateError is called when Transport.StateFile cannot be read or written,
	// once for each trouble in turn. nil: slog.Default is told.
	StateError func(error)
}

// WaitInfo is what Trace.Waiting and Trace.Abandoned tell.
type WaitInfo struct {
	Key      string
	Ahead    int           // requests before it in the queue, when it joined
	Estimate time.Duration // until its turn, from when it joined; the largest Duration if that cannot be said
	Waiting  int           // requests in the queue with it, when it joined
	Next     time.Duration // until the first of them has its turn; the largest Duration if that cannot be said
	Waited   time.Duration // Abandoned: how long it has waited
}

// SendInfo is what Trace.Sending tells.
type SendInfo struct {
	Key    string
	Waited time.Duration // in the queue, at this attempt
}

// RefusalInfo is what Trace.Refused tells.
type RefusalInfo struct {
	Key     string
	Status  int              // of the response; 200 if the refusal is in its body
	Refusal provider.Refusal // as the response states it
}

// RetryInfo is what Trace.Retrying tells.
type RetryInfo struct {
	Key     string        // empty: no Transport has seen the request
	Attempt int           // the number of the attempt to come: 2 for the first retry
	Status  int           // of the last attempt's response; 0: there was none
	Cause   error         // why: the error of the last attempt, or one that names its status; never nil
	Wait    time.Duration // before the attempt; a refused request then waits in the queue
}

// DoneInfo is what Trace.Done tells.
type DoneInfo struct {
	Key      string
	Status   int           // of the response; 0: there is none
	Err      error         // why there is none
	AtServer time.Duration // from when the request was sent until the response's headers, or Err, came
	Total    time.Duration // from when it was sent until its body was closed or read to its end
}

// LearnInfo is what Trace.Learned tells.
type LearnInfo struct {
	Key string
	Change
}

// JoinTraces returns a Trace that calls the functions of a, and then those of b.
// Either may be nil.
func JoinTraces(a, b *Trace) *Trace {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	joined := new(Trace)
	to := reflect.ValueOf(joined).Elem()
	for i := range to.NumField() {
		f, g := reflect.ValueOf(a).Elem().Field(i), reflect.ValueOf(b).Elem().Field(i)
		switch {
		case g.IsNil():
			to.Field(i).Set(f)
		case f.IsNil():
			to.Field(i).Set(g)
		default:
			to.Field(i).Set(reflect.MakeFunc(f.Type(), func(args []reflect.Value) []reflect.Value {
				f.Call(args)
				return g.Call(args)
			}))
		}
	}
	return joined
}

func (t *Trace) noQuota(r *http.Request, key string, others []string) {
	if t != nil && t.NoQuota != nil {
		t.NoQuota(r, key, others)
	}
}

func (t *Trace) storeError(key string, err error) {
	if t != nil && t.StoreError != nil {
		t.StoreError(key, err)
		return
	}
	logStoreError(slog.Default(), key, err)
}

// logStoreError logs what does not pass by itself as an error, all else as a
// warning.
func logStoreError(l *slog.Logger, key string, err error) {
	var o *limiter.Outage
	switch {
	case err == nil:
		l.Info("tollgate: store of shared tokens answers", "key", key)
	case errors.As(err, &o) && o.Config():
		l.Error(err.Error(), "key", key)
	default:
		l.Warn(err.Error(), "key", key)
	}
}

func (t *Trace) stateError(err error) {
	if t != nil && t.StateError != nil {
		t.StateError(err)
		return
	}
	slog.Warn(err.Error())
}

// waiting has an attempt call Waiting when it joins the queue. It returns what is to
// be called when that is abandoned; nil: nothing.
func (t *Trace) waiting(a *attempt) (abandoned func()) {
	if t == nil || t.Waiting == nil && t.Abandoned == nil {
		return nil
	}
	i, joined := WaitInfo{Key: a.key.Name}, false
	a.Waiting = func(ahead int, estimate time.Duration) {
		joined = true
		i.Ahead, i.Estimate, i.Waiting, i.Next = ahead, estimate, a.Queue.Waiting, a.Queue.Next
		if t.Waiting != nil {
			t.Waiting(a.req, i)
		}
	}
	return func() {
		if joined && t.Abandoned != nil {
			i.Waited = a.Waited
			t.Abandoned(a.req, i)
		}
	}
}

// times are those of an attempt.
type times struct {
	began    time.Time     // when it was sent
	atServer time.Duration // how long it took until the response came
}

func (t *Trace) sending(a *attempt) {
	t.pauses(a)
	if t == nil {
		return
	}
	if t.Sending != nil {
		t.Sending(a.req, SendInfo{Key: a.key.Name, Waited: a.waited})
	}
	if t.Done != nil {
		a.times = &times{began: time.Now()}
	}
}

// answered notes when the response came.
func (t *Trace) answered(a *attempt) {
	if t != nil && t.Done != nil {
		a.times.atServer = time.Since(a.times.began)
	}
}

func (t *Trace) refused(a *attempt, key string, resp *http.Response, r provider.Refusal) {
	if t != nil && t.Refused != nil {
		t.Refused(a.req, RefusalInfo{Key: key, Status: resp.StatusCode, Refusal: r})
	}
}

func (t *Trace) rejected(a *attempt, e *LimitError) {
	if t != nil && t.Rejected != nil {
		t.Rejected(a.req, e)
	}
}

// settled tells what a response said of the cost of a request, which may be an
// earlier one that this one polls; negative: nothing.
func (t *Trace) settled(a *attempt, of *limiter.Request, c refill.Cost) {
	if t == nil || t.Settled == nil {
		return
	}
	estimate := Cost(of.Estimate())
	actual := estimate
	for u, n := range c {
		if n >= 0 {
			actual[u] = n
		}
	}
	t.Settled(a.req, of.Limiter.Key(), estimate, actual)
}

// done tells that an attempt is over, with a response or an error.
func (t *Trace) done(a *attempt, resp *http.Response, err error) {
	if t == nil || t.Done == nil {
		return
	}
	i := DoneInfo{Key: a.key.Name, Err: err, AtServer: a.times.atServer, Total: time.Since(a.times.began)}
	if resp != nil {
		i.Status = resp.StatusCode
	} else {
		i.AtServer = i.Total
	}
	t.Done(a.req, i)
}

// retrying tells of the next attempt at a request.
func (t *Trace) retrying(x *try, wait time.Duration) {
	if t == nil || t.Retrying == nil {
		return
	}
	i := RetryInfo{Attempt: x.n + 1, Cause: x.err, Wait: wait}
	if x.last != nil {
		i.Key = x.last.key.Name
	}
	if i.Cause == nil {
		i.Status, i.Cause = x.resp.StatusCode, statusError(x.resp.StatusCode)
	}
	t.Retrying(x.req, i)
}

// learned tells of limits that turned out to be other ones, and of pauses.
func (t *Trace) learned(a *attempt, list []engine.Change) {
	if t != nil && t.Learned != nil {
		for _, c := range list {
			t.Learned(a.req, LearnInfo{Key: a.key.Name, Change: Change{limitOf(c.From), limitOf(c.To)}})
		}
	}
	t.pauses(a)
}

// pauses tells of pauses of the key that nobody was told of yet.
func (t *Trace) pauses(a *attempt) {
	for _, p := range a.Pauses() {
		switch {
		case t == nil:
		case !p.Until.IsZero() && t.Paused != nil:
			t.Paused(a.key.Name, p.Until, whys[p.Why])
		case p.Until.IsZero() && t.Resumed != nil:
			t.Resumed(a.key.Name)
		}
	}
}

// LogTrace returns a Trace that logs to l: a store that cannot answer before its
// configuration changes as an error; refusals, rejections and other errors as
// warnings; retries, pauses, limits that are news and long waits as information;
// all else at the debug level. A wait is long if it begins with more than 10 s to
// go, and at most one of a key is told of in 10 s.
//
// Lines name the key, and the method and host of a request. They do not have its
// path or query, which may hold a secret.
func LogTrace(l *slog.Logger) *Trace {
	about := func(r *http.Request, level slog.Level, msg, key string, attrs ...slog.Attr) {
		if ctx := context.WithoutCancel(r.Context()); l.Enabled(ctx, level) {
			l.LogAttrs(ctx, level, msg, append(attrs, slog.String("key", key), slog.String("method", r.Method), slog.String("host", r.URL.Host))...)
		}
	}
	long := logline.Seldom{Every: longWait}
	return &Trace{
		Waiting: func(r *http.Request, i WaitInfo) {
			about(r, slog.LevelDebug, "request waits for quota", i.Key, slog.Int("ahead", i.Ahead), logline.Time("estimate", i.Estimate))
			if i.Estimate > longWait && i.Estimate < refill.Never && l.Enabled(r.Context(), slog.LevelInfo) && long.Now(i.Key) {
				l.Info(fmt.Sprintf("%s: %d waiting, next in %s", limiter.Quote(i.Key), i.Waiting, span(i.Next)), "key", i.Key)
			}
		},
		Abandoned: func(r *http.Request, i WaitInfo) {
			about(r, slog.LevelDebug, "request was abandoned in the queue", i.Key, slog.Duration("waited", i.Waited))
		},
		Rejected: func(r *http.Request, e *LimitError) {
			about(r, slog.LevelWarn, "request was not sent", e.Key, slog.String("reason", string(e.Reason)), logline.Time("retry_after", e.RetryAfter), slog.String("error", e.Error()))
		},
		Sending: func(r *http.Request, i SendInfo) {
			about(r, slog.LevelDebug, "request is sent", i.Key, slog.Duration("waited", i.Waited))
		},
		Refused: func(r *http.Request, i RefusalInfo) {
			about(r, slog.LevelWarn, "server refused request", i.Key, slog.Int("status", i.Status), slog.Duration("hint", i.Refusal.Wait))
		},
		Settled: func(r *http.Request, key string, estimate, actual Cost) {
			about(r, slog.LevelDebug, "cost is known", key, slog.Int64("estimated_tokens", estimate[Tokens]), slog.Int64("tokens", actual[Tokens]),
				slog.Int64("estimated_output_tokens", estimate[OutputTokens]), slog.Int64("output_tokens", actual[OutputTokens]))
		},
		Done: func(r *http.Request, i DoneInfo) {
			attrs := []slog.Attr{slog.Int("status", i.Status), slog.Duration("at_server", i.AtServer), slog.Duration("total", i.Total)}
			if i.Err != nil {
				attrs = append(attrs, slog.String("error", logline.Cause(i.Err)))
			}
			about(r, slog.LevelDebug, "attempt is over", i.Key, attrs...)
		},
		Retrying: func(r *http.Request, i RetryInfo) {
			about(r, slog.LevelInfo, "request is sent again", i.Key, slog.Int("attempt", i.Attempt), slog.String("cause", logline.Cause(i.Cause)), slog.Duration("wait", i.Wait))
		},
		Learned: func(r *http.Request, i LearnInfo) {
			about(r, slog.LevelInfo, i.describe(), i.Key, slog.String("refill", i.To.Refill.String()))
		},
		Paused: func(key string, until time.Time, why string) {
			l.Info(fmt.Sprintf("%s: nothing is sent for %s: %s", limiter.Quote(key), span(time.Until(until)), why), "key", key, "until", until)
		},
		Resumed: func(key string) {
			l.Info(limiter.Quote(key)+": requests are sent again", "key", key)
		},
		NoQuota: func(r *http.Request, key string, others []string) {
			list := make([]string, len(others))
			for i, s := range others {
				list[i] = limiter.Quote(s)
			}
			about(r, slog.LevelInfo, "no quota for "+limiter.Quote(key)+"; there are quotas for "+strings.Join(list, ", "), key)
		},
		StateError: func(err error) { l.Warn(err.Error()) },
		StoreError: func(key string, err error) { logStoreError(l, key, err) },
	}
}

// longWait is how long a wait is that LogTrace tells of, and the time between two
// such lines of a key.
const longWait = 10 * time.Second
