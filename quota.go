package tollgate

import (
	"fmt"
	"math"
	"strings"
	"time"

	"example.com/tollgate/provider"
)

// Quotas holds the quota of each key: for model APIs the model's name as it is
// requested ("gemini-2.5-flash"), for any other API the host ("api.example.com").
// The entry "*" is a template for every key without an entry of its own; each
// such key has buckets of its own. It leaves out calls that draw on no model's
// quota, such as listings, files and countTokens. A key with neither is not
// limited until the server refuses it.
type Quotas map[string]Quota

// of returns the quota of key. Calls aside from a model's own quota (listings,
// uploads) only have the one that names them.
func (q Quotas) of(key string, aside bool) Quota {
	if quota, ok := q[key]; ok || aside {
		return quota
	}
	return q["*"]
}

// A Quota is a set of limits that hold together: a request goes when every one
// has room for it, and then draws on all of them.
type Quota []Limit

// A Unit is what a limit counts.
type Unit = provider.Unit

// The units that limits are stated in.
const (
	Requests     = provider.Requests     // calls
	Tokens       = provider.Tokens       // tokens, as the API counts them against its tokens per minute
	OutputTokens = provider.OutputTokens // tokens of the answer, where the API counts them apart
)

// Refill is the rule by which spent tokens come back.
type Refill = provider.Refill

// The rules.
const (
	Auto     = provider.Auto     // the one that the API is known for, else Window
	Window   = provider.Window   // each token Per after it was spent at the server: safe at every server
	Steady   = provider.Steady   // continuously, N in every Per: for servers that have a token bucket themselves
	Calendar = provider.Calendar // all at once, when a multiple of Per begins by the server's clock; a day, at midnight
)

// A Limit allows N units in every Per.
//
// Calendar is right for APIs whose windows begin at multiples of Per by their
// own clock, such as Gemini's, whose minutes begin at :00. That clock is known
// from the Date header of responses. While it is not, and if a refusal shows
// that there are no such windows, the limit is kept as by Window. A day begins
// at midnight Pacific for Gemini, else UTC. Spans of less than 10 s are shorter
// than clocks can be trusted: Auto has Window for them.
type Limit struct {
	Unit   Unit
	N      int64         // how many; 0: none at all
	Per    time.Duration // in how long; 0: at once, a token is back when its response body is closed
	Refill Refill        // how spent tokens come back; Auto (zero) picks the rule
	Burst  int64         // Steady: how many may be sent back to back, 1 to N; 0: N
}

// RPS is a limit of n requests a second.
func RPS(n int64) Limit { return Limit{Unit: Requests, N: n, Per: time.Second} }

// RPM is a limit of n requests a minute.
func RPM(n int64) Limit { return Limit{Unit: Requests, N: n, Per: time.Minute} }

// RPD is a limit of n requests a day. It is back at midnight where the API's
// days begin, if that is known.
func RPD(n int64) Limit { return Limit{Unit: Requests, N: n, Per: day} }

// TPM is a limit of n tokens a minute, as the API counts them: mostly those of
// the prompt. What a request costs is estimated before it is sent, and set
// right when the response says what it was; see [WithTokens].
func TPM(n int64) Limit { return Limit{Unit: Tokens, N: n, Per: time.Minute} }

// TPD is a limit of n tokens a day.
func TPD(n int64) Limit { return Limit{Unit: Tokens, N: n, Per: day} }

// OTPM is a limit of n tokens of answers a minute. A request counts for what
// the answers before it took on average, until its own says more.
func OTPM(n int64) Limit { return Limit{Unit: OutputTokens, N: n, Per: time.Minute} }

// Concurrency is a limit of n requests at once, each from the moment it is sent
// until its response body is closed or read to its end.
func Concurrency(n int64) Limit { return Limit{Unit: Requests, N: n} }

// String returns the limit as the field writes it, "10 requests per minute".
func (l Limit) String() string {
	var per string
	switch l.Per {
	case 0:
		per = " at once"
	case time.Second:
		per = " per second"
	case time.Minute:
		per = " per minute"
	case time.Hour:
		per = " per hour"
	case 24 * time.Hour:
		per = " per day"
	default:
		per = " per " + l.Per.String()
	}
	unit := l.Unit.String()
	if l.N == 1 {
		unit = strings.TrimSuffix(unit, "s")
	}
	return fmt.Sprintf("%d %s%s", l.N, unit, per)
}

// check reports what is wrong with a limit.
func (l Limit) check() error {
	switch {
	case int(l.Unit) >= len(cost{}):
		return fmt.Errorf("tollgate: limit of %d %v: unknown Unit", l.N, l.Unit)
	case l.N < 0:
		return fmt.Errorf("tollgate: limit of %d %s: N is negative", l.N, l.Unit)
	case l.Per < 0:
		return fmt.Errorf("tollgate: limit of %v: Per is negative", l)
	case l.Burst < 0 || l.Burst > l.N:
		return fmt.Errorf("tollgate: limit of %v: Burst %d is not between 0 and N", l, l.Burst)
	case l.Refill > Calendar:
		return fmt.Errorf("tollgate: limit of %v: unknown Refill %d", l, l.Refill)
	}
	return nil
}

// burst is how many may be sent back to back.
func (l Limit) burst() int64 {
	if l.Burst > 0 {
		return l.Burst
	}
	return l.N
}

// most is the largest number that a bucket gives at once.
func (l Limit) most() int64 {
	if l.Refill == Steady {
		return l.burst()
	}
	return l.N
}

// stretched returns the limit with a Per that is over by any clock.
func (l Limit) stretched() Limit {
	l.Per += time.Duration(float64(l.Per) * drift)
	return l
}

// gap is the time in which one token comes back, rounded up to whole
// nanoseconds: the error is on the safe side.
func (l Limit) gap() time.Duration {
	if l.N <= 0 {
		return never
	}
	return time.Duration(math.Ceil(float64(l.Per) / float64(l.N)))
}

// GeminiFree holds the limits of the Gemini API's free tier as they stood in
// the summer of 2025 (https://ai.google.dev/gemini-api/docs/rate-limits). Google
// has changed them since, and will again: the limits of your own project are at
// https://aistudio.google.com/usage.
var GeminiFree = Quotas{
	"gemini-2.5-pro":   {RPM(2), TPM(125_000), RPD(50)},
	"gemini-2.5-flash": {RPM(10), TPM(250_000), RPD(250)},
}
