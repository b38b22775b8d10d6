package tollgate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/sdk"
	"example.com/tollgate/provider"
)

// ErrLimited is what every [LimitError] is, for errors.Is.
var ErrLimited = errors.New("tollgate: rate limited")

var (
	errNoURL   = errors.New("tollgate: nil Request.URL")
	errNothing = errors.New("tollgate: Base returned neither a response nor an error")
	errCancel  = cancelError{}
	errNoBody  = errors.New("tollgate: Request.GetBody returned neither a body nor an error")
)

// A cancelError is the error of a request whose Cancel was closed while it was not
// with Base. It is context.Canceled for errors.Is, and what http.Transport returns for
// the same, which has no name outside its package.
type cancelError struct{}

func (cancelError) Error() string        { return "tollgate: Request.Cancel was closed: context canceled" }
func (cancelError) Unwrap() error        { return context.Canceled }
func (cancelError) Is(target error) bool { return target.Error() == "net/http: request canceled" }

// A Reason is why a request was not sent.
type Reason string

// The reasons for a [LimitError].
const (
	PastDeadline Reason = "its turn comes after its deadline"
	PastMaxWait  Reason = "its turn comes after MaxWait"
	PastMaxQueue Reason = "the queue is full"
	DailySpent   Reason = "the day's quota is spent"
	TooLarge     Reason = "it is larger than the limit"
	LongPause    Reason = "the server asks to wait for hours, which no limit explains"
)

// A LimitError is the error of a request that was not sent because of a limit.
// errors.Is finds ErrLimited in it, and context.DeadlineExceeded if that is
// what it would have missed; errors.As finds it through http.Client and genai.
type LimitError struct {
	Key        string        // of the quota; empty for a Bucket's
	Limit      Limit         // the one that the request would have waited for longest; zero if the server alone asked to wait
	Reason     Reason        // why it did not wait
	RetryAfter time.Duration // in which a request of its size would have its turn, as far as is known; the largest Duration if never

	why   engine.Why // what the server said, where Limit is zero
	bound string     // what Reason is about: "MaxWait of 5s"; empty: not known
}

func (e *LimitError) Error() string {
	if e.Key == "" {
		return "tollgate: " + e.text()
	}
	return "tollgate: " + limiter.Quote(e.Key) + ": " + e.text()
}

// text says which limit is used up, when it is free again, and what that exceeds.
func (e *LimitError) text() string {
	switch {
	case e.Reason == TooLarge && e.Limit.N == 0:
		return "no request is ever sent under a limit of " + e.Limit.String()
	case e.Reason == TooLarge:
		return "the request is larger than the limit of " + e.Limit.String() + ", and can never be sent"
	}
	what, again := whys[e.why], ", may be sent again in "
	if what == "" {
		what = "the rate limit is used up"
	}
	if e.Limit != (Limit{}) {
		what, again = e.Limit.usedUp(), ", free again in "
	}
	switch {
	case e.Limit.Per == 0 && e.Limit != (Limit{}):
		again = ", free again when one of them ends"
	case e.RetryAfter == refill.Never:
		again = ", and it is not known when that ends"
	case e.RetryAfter <= 0:
		again = ", free again at once"
	default:
		again += span(e.RetryAfter)
	}
	return what + again + e.exceeded()
}

// usedUp says that nothing is left of a limit.
func (l Limit) usedUp() string {
	verb := " are"
	if l.N == 1 {
		verb = " is"
	}
	if l.Per == 0 {
		return l.String() + verb + " under way"
	}
	return l.String() + verb + " used up"
}

// exceeded says what it would take too long for.
func (e *LimitError) exceeded() string {
	switch e.Reason {
	case PastDeadline:
		return ", after the request's deadline"
	case PastMaxWait:
		return ", later than " + cmp.Or(e.bound, "MaxWait") + " allows"
	case PastMaxQueue:
		return ", and the queue is full (" + cmp.Or(e.bound, "MaxQueue") + ")"
	case DailySpent, LongPause:
		if e.bound == "" {
			return ", and without a MaxWait nobody waits for that"
		}
		return ", later than " + e.bound + " allows"
	}
	return ""
}

// whys are the reasons for pauses, as people read them.
var whys = [...]string{
	engine.NoPause:     "",
	engine.Refusing:    "the server refuses requests",
	engine.Overloaded:  "the server is overloaded",
	engine.NothingLeft: "the server says that nothing is left",
	engine.DayOver:     "the server says that the day's quota is used up",
	engine.LongWait:    "the server asks for a pause of hours",
	engine.Elsewhere:   "the server has asked another process to wait",
}

// span returns a time as people read it, rounded up: after it, the time is over.
func span(d time.Duration) string {
	unit := time.Second
	switch {
	case d == refill.Never:
		return "an unknown time"
	case d < 100*time.Millisecond:
		unit = time.Millisecond
	case d < 10*time.Second:
		unit = 100 * time.Millisecond
	case d >= time.Hour:
		unit = time.Minute
	}
	if over := d % unit; over > 0 {
		d += unit - over
	}
	return brief(d)
}

// describe says what was learned: "limit learned: 5 requests per minute",
// "limit corrected: 10 → 5 requests per minute".
func (c Change) describe() string {
	switch {
	case c.From == Limit{}:
		return "limit learned: " + c.To.String()
	case c.From.N != c.To.N && c.From.Per == c.To.Per:
		return fmt.Sprintf("limit corrected: %d → %v", c.From.N, c.To)
	case c.From.Per != c.To.Per:
		return fmt.Sprintf("limit corrected: %v → %v", c.From, c.To)
	}
	return fmt.Sprintf("limit corrected: %v, by the rule %v → %v", c.To, c.From.Refill, c.To.Refill)
}

// reasons are those of package engine.
var reasons = [...]Reason{
	engine.PastDeadline: PastDeadline,
	engine.PastMaxWait:  PastMaxWait,
	engine.PastMaxQueue: PastMaxQueue,
	engine.DailySpent:   DailySpent,
	engine.TooLarge:     TooLarge,
	engine.LongPause:    LongPause,
}

// limitError returns the error of a request that was turned away.
func limitError(t *Transport, a *attempt) *LimitError {
	r := a.Rejection
	e := &LimitError{Key: a.key.Name, Limit: limitOf(r.Limit), Reason: reasons[r.Reason], RetryAfter: r.After, why: r.Why}
	switch {
	case r.Reason == engine.PastMaxQueue:
		e.bound = fmt.Sprintf("MaxQueue of %d", t.MaxQueue)
	case (r.Reason == engine.DailySpent || r.Reason == engine.LongPause) && a.MaxWait > 0 && r.After <= a.MaxWait:
		e.bound = "the request's deadline"
	case t.MaxWait < 0:
		e.bound = "a negative MaxWait"
	case t.MaxWait > 0:
		e.bound = "MaxWait of " + span(t.MaxWait)
	}
	return e
}

// Is reports whether e is also target: ErrLimited, and
// context.DeadlineExceeded where the deadline was the reason.
func (e *LimitError) Is(target error) bool {
	return target == ErrLimited || target == context.DeadlineExceeded && e.Reason == PastDeadline
}

// Timeout reports whether the deadline was the reason, as net.Error has it.
func (e *LimitError) Timeout() bool { return e.Reason == PastDeadline }

// Reject429 is for Transport.Reject: it answers a request that was not sent as
// the server would have, with a 429. SDKs turn that into the error that their
// users know (genai, openai-go and anthropic-sdk-go all read the body), and do
// not try again, as they would after a Go error. The answer names the key, unless
// that is the host: a proxy's clients need not know what stands behind it.
//
// To genai's client of the Interactions API, which tries any 429 again, the status
// is 424 until the body is read or closed: its error has the 429.
func Reject429(req *http.Request, e *LimitError) (*http.Response, error) {
	header := http.Header{
		"Content-Type":   {"application/json; charset=utf-8"},
		"Date":           {time.Now().UTC().Format(http.TimeFormat)},
		"X-Should-Retry": {"false"},
	}
	seconds := int64(-1)
	if e.RetryAfter < refill.Never {
		seconds = int64(math.Ceil(e.RetryAfter.Seconds()))
		header.Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	insists := sdk.Insists(req)
	text, err := json.Marshal(rejection(req, e, seconds, insists || provider.Interactions(req)))
	if err != nil {
		return nil, err
	}
	resp := &http.Response{
		Status:        "429 Too Many Requests",
		StatusCode:    http.StatusTooManyRequests,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          io.NopCloser(bytes.NewReader(text)),
		ContentLength: int64(len(text)),
		Request:       req,
	}
	if insists {
		resp = sdk.Final(resp)
	}
	return resp, nil
}

// rejection is the body of a 429. seconds is when to try again, below 0 if never. In
// the Interactions API the code of an error is a word, and there are no details.
func rejection(req *http.Request, e *LimitError, seconds int64, word bool) any {
	type details struct {
		Type       string `json:"@type"`
		RetryDelay string `json:"retryDelay"`
	}
	var body struct {
		Type  string `json:"type"` // Anthropic's
		Error struct {
			Code    any       `json:"code"`
			Status  string    `json:"status"` // Google's
			Type    string    `json:"type"`   // Anthropic's and OpenAI's
			Message string    `json:"message"`
			Details []details `json:"details,omitempty"`
		} `json:"error"`
	}
	body.Type = "error"
	body.Error.Code = http.StatusTooManyRequests
	body.Error.Status = "RESOURCE_EXHAUSTED"
	body.Error.Type = "rate_limit_error"
	if e.Key == "" || strings.Contains(e.Key, req.URL.Hostname()) || req.Host != "" && strings.Contains(e.Key, req.Host) {
		body.Error.Message = "tollgate: " + e.text() // whom the caller calls may know the host, but not who calls that
	} else {
		body.Error.Message = e.Error()
	}
	switch {
	case word && e.Reason == DailySpent:
		body.Error.Code = "quota_exceeded"
	case word:
		body.Error.Code = "rate_limit_exceeded"
	case seconds >= 0:
		body.Error.Details = []details{{"type.googleapis.com/google.rpc.RetryInfo", fmt.Sprintf("%ds", seconds)}}
	}
	return body
}

// A slotError is the error of a request whose context was done while it waited for
// one of few requests at once to end.
type slotError struct {
	key    string
	limit  Limit
	waited time.Duration
	err    error
}

func (e *slotError) Error() string {
	return fmt.Sprintf("tollgate: %s: %s, waited %s for one of them to end: %v", limiter.Quote(e.key), e.limit.usedUp(), span(e.waited), e.err)
}

func (e *slotError) Unwrap() error { return e.err }
func (e *slotError) Timeout() bool { return errors.Is(e.err, context.DeadlineExceeded) }

// A statusError is the cause of a retry that is a response.
type statusError int

func (e statusError) Error() string {
	if text := http.StatusText(int(e)); text != "" {
		return strconv.Itoa(int(e)) + " " + text
	}
	return "status " + strconv.Itoa(int(e))
}
