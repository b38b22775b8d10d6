package tollgate

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

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
	// NoQuota is called when Quotas has entries and none of them is for the key of
	// a request, once a key and for 256 keys at most. others are some of those that
	// there are.
	NoQuota func(r *http.Request, key string, others []string)
	// Rejected is called when a request is not sent because of a limit.
	Rejected func(*http.Request, *LimitError)
	// StoreError is called when the store that a quota is shared through does
	// not answer, once, and with nil when it does again. nil: slog.Default is
	// told.
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

func (t *Trace) noQuota(r *http.Request, key string, others []string) {
	if t != nil && t.NoQuota != nil {
		t.NoQuota(r, key, others)
	}
}

func (t *Trace) rejected(r *http.Request, e *LimitError) {
	if t != nil && t.Rejected != nil {
		t.Rejected(r, e)
	}
}

func (t *Trace) storeError(key string, err error) {
	switch {
	case t != nil && t.StoreError != nil:
		t.StoreError(key, err)
	case err != nil:
		slog.Warn("tollgate: store of shared tokens does not answer", "key", key, "error", err)
	default:
		slog.Info("tollgate: store of shared tokens answers again", "key", key)
	}
}

func (t *Trace) stateError(err error) {
	if t != nil && t.StateError != nil {
		t.StateError(err)
		return
	}
	slog.Warn(err.Error())
}

// plain returns names for a line of text: those in quotes that may not stand there
// as they are.
func plain(names ...string) string {
	list := make([]string, len(names))
	for i, s := range names {
		if list[i] = s; s == "" || strconv.Quote(s) != `"`+s+`"` || strings.ContainsAny(s, " ,;") {
			list[i] = strconv.Quote(s)
		}
	}
	return strings.Join(list, ", ")
}

// LogTrace returns a Trace that logs to l: refusals and rejections as warnings,
// limits that are news as information, all else at the debug level.
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
		NoQuota: func(r *http.Request, key string, others []string) {
			log(r, slog.LevelInfo, "no quota for "+plain(key)+"; there are quotas for "+plain(others...), key)
		},
		StateError: func(err error) { l.Warn(err.Error()) },
		StoreError: func(key string, err error) {
			if err != nil {
				l.Warn("store of shared tokens does not answer", "key", key, "error", err)
			} else {
				l.Info("store of shared tokens answers again", "key", key)
			}
		},
		Rejected: func(r *http.Request, e *LimitError) {
			log(r, slog.LevelWarn, "request was not sent", e.Key, slog.String("reason", string(e.Reason)), slog.Duration("retry_after", e.RetryAfter))
		},
	}
}
