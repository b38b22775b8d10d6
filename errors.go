package tollgate

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrLimited is what every [LimitError] is, for errors.Is.
var ErrLimited = errors.New("tollgate: rate limited")

var (
	errNoURL   = errors.New("tollgate: nil Request.URL")
	errNothing = errors.New("tollgate: Base returned neither a response nor an error")
)

// A Reason is why a request was not sent.
type Reason string

// The reasons for a [LimitError].
const (
	PastDeadline Reason = "its turn comes after its deadline"
	PastMaxWait  Reason = "its turn comes after MaxWait"
	PastMaxQueue Reason = "the line is full"
	DailySpent   Reason = "the day's quota is spent"
	TooLarge     Reason = "it is larger than the limit"
)

// A LimitError is the error of a request that was not sent because of a limit.
// errors.Is finds ErrLimited in it, and context.DeadlineExceeded if that is
// what it would have missed; errors.As finds it through http.Client and genai.
type LimitError struct {
	Key        string        // of the quota; empty for a Bucket's
	Limit      Limit         // the one that would have been waited for longest; zero if the server alone asked to wait
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
	if e.RetryAfter == never {
		return fmt.Sprintf("tollgate: %s: request not sent: %s", what, e.Reason)
	}
	return fmt.Sprintf("tollgate: %s: request not sent: %s (in %v)", what, e.Reason, e.RetryAfter.Round(time.Millisecond))
}

// Is reports whether e is also target: ErrLimited, and
// context.DeadlineExceeded where the deadline was the reason.
func (e *LimitError) Is(target error) bool {
	return target == ErrLimited || target == context.DeadlineExceeded && e.Reason == PastDeadline
}

// Timeout reports whether the deadline was the reason, as net.Error has it.
func (e *LimitError) Timeout() bool { return e.Reason == PastDeadline }
