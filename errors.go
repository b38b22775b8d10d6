package tollgate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/sdk"
	"example.com/tollgate/provider"
)

// ErrLimited is what every [LimitError] is, for errors.Is.
var ErrLimited = errors.New("tollgate: rate limited")

var (
	errNoURL   = errors.New("tollgate: nil Request.URL")
	errNothing = errors.New("tollgate: Base returned neither a response nor an error")
	errNoBody  = errors.New("tollgate: Request.GetBody returned neither a body nor an error")
)

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
}

func (e *LimitError) Error() string {
	what := "rate limited"
	if e.Limit != (Limit{}) {
		what = e.Limit.String()
	}
	if e.Key != "" {
		what = e.Key + ": " + what
	}
	if e.RetryAfter == refill.Never {
		return fmt.Sprintf("tollgate: %s: request not sent: %s", what, e.Reason)
	}
	return fmt.Sprintf("tollgate: %s: request not sent: %s (in %v)", what, e.Reason, e.RetryAfter.Round(time.Millisecond))
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

func limitError(key string, r *engine.Rejection) *LimitError {
	return &LimitError{Key: key, Limit: limitOf(r.Limit), Reason: reasons[r.Reason], RetryAfter: r.After}
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
// not try again, as they would after a Go error.
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
	text, err := json.Marshal(rejection(e, seconds, insists || provider.Interactions(req)))
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
func rejection(e *LimitError, seconds int64, word bool) any {
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
	body.Error.Message = e.Error()
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
