package tollgate

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/provider"
)

// A Change is a limit that turned out to be another one. Where From is zero,
// nobody knew of it.
type Change struct{ From, To Limit }

// Trace is a set of functions that a Transport calls as things happen. Any of
// them may be nil. They may be called concurrently, and must not change the
// request. What waits for them to return is the request itself.
type Trace struct {
	// Waiting is called when a request has joined the queue.
	Waiting func(*http.Request, WaitInfo)
	// Sending is called when a request has its tokens, before it is sent.
	Sending func(*http.Request, SendInfo)
	// Refused is called when the server has answered 429, 503 or 529.
	Refused func(*http.Request, RefusalInfo)
	// Learned is called when a limit was corrected, or one was learned that nobody
	// knew of.
	Learned func(*http.Request, LearnInfo)
	// Rejected is called when a request is not sent because of a limit.
	Rejected func(*http.Request, *LimitError)
	// StoreError is called when the store that quotas are shared through does
	// not answer: once, whatever the number of keys and calls, with the key that
	// noticed it, and with nil when it answers again. The error says why, and
	// what is done until then. It is also called when a store that answers has
	// lost what it knew of a key. nil: slog.Default is told.
	StoreError func(key string, err error)
	// StateError is called when Transport.StateFile cannot be read or written,
	// once for each trouble in turn. nil: slog.Default is told.
	StateError func(error)
}

// WaitInfo is what Trace.Waiting tells.
type WaitInfo struct {
	Key      string
	Ahead    int           // requests before it in the queue
	Estimate time.Duration // until its turn; the largest Duration if that cannot be said
}

// SendInfo is what Trace.Sending tells.
type SendInfo struct {
	Key    string
	Waited time.Duration // in the queue, at this attempt
}

// RefusalInfo is what Trace.Refused tells.
type RefusalInfo struct {
	Key     string
	Status  int
	Refusal provider.Refusal // as the response states it
}

// LearnInfo is what Trace.Learned tells.
type LearnInfo struct {
	Key string
	Change
}

func (t *Trace) learned(r *http.Request, i LearnInfo) {
	if t != nil && t.Learned != nil {
		t.Learned(r, i)
	}
}

func (t *Trace) sending(r *http.Request, i SendInfo) {
	if t != nil && t.Sending != nil {
		t.Sending(r, i)
	}
}

func (t *Trace) refused(r *http.Request, i RefusalInfo) {
	if t != nil && t.Refused != nil {
		t.Refused(r, i)
	}
}

func (t *Trace) rejected(r *http.Request, e *LimitError) {
	if t != nil && t.Rejected != nil {
		t.Rejected(r, e)
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

// LogTrace returns a Trace that logs to l: refusals and rejections as warnings,
// limits that are news as information, a store that cannot answer before its
// configuration changes as an error, all else at the debug level.
func LogTrace(l *slog.Logger) *Trace {
	log := func(r *http.Request, level slog.Level, msg, key string, attrs ...slog.Attr) {
		if l.Enabled(r.Context(), level) {
			attrs = append(attrs, slog.String("key", key), slog.String("method", r.Method), slog.String("path", r.URL.Path))
			l.LogAttrs(context.WithoutCancel(r.Context()), level, msg, attrs...)
		}
	}
	return &Trace{
		Waiting: func(r *http.Request, i WaitInfo) {
			log(r, slog.LevelDebug, "request waits for quota", i.Key, slog.Int("ahead", i.Ahead), slog.Duration("estimate", i.Estimate))
		},
		Sending: func(r *http.Request, i SendInfo) {
			log(r, slog.LevelDebug, "request is sent", i.Key, slog.Duration("waited", i.Waited))
		},
		Refused: func(r *http.Request, i RefusalInfo) {
			log(r, slog.LevelWarn, "server refused request", i.Key, slog.Int("status", i.Status), slog.Duration("hint", i.Refusal.Wait))
		},
		Learned: func(r *http.Request, i LearnInfo) {
			log(r, slog.LevelInfo, "limit corrected", i.Key, slog.String("from", i.From.String()), slog.String("to", i.To.String()), slog.String("refill", i.To.Refill.String()))
		},
		StateError: func(err error) { l.Warn(err.Error()) },
		StoreError: func(key string, err error) { logStoreError(l, key, err) },
		Rejected: func(r *http.Request, e *LimitError) {
			log(r, slog.LevelWarn, "request was not sent", e.Key, slog.String("reason", string(e.Reason)), slog.Duration("retry_after", e.RetryAfter))
		},
	}
}
