package tollgate

import (
	"fmt"
	"strings"
	"time"

	"example.com/tollgate/internal/refill"
	"example.com/tollgate/provider"
)

// Quotas holds the quota of each key: for model APIs the model's name as it is
// requested ("gemini-2.5-flash"), for any other API the host ("api.example.com").
// The entry "*" is a template for every key without an entry of its own; each
// such key has buckets of its own. It leaves out calls that draw on no model's
// quota, such as listings, files and countTokens. A key with neither is not
// limited until the server refuses it.
type Quotas map[string]Quota

// A Quota is a set of limits that apply at once: a request is sent when every one
// has room for it, and then draws on all of them.
type Quota []Limit

// A Unit is what a limit counts.
type Unit = provider.Unit

// A Cost is what a request draws on limits, by [Unit].
type Cost = provider.Cost

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
func RPD(n int64) Limit { return Limit{Unit: Requests, N: n, Per: refill.Day} }

// TPM is a limit of n tokens a minute, as the API counts them: mostly those of
// the prompt. What a request costs is estimated before it is sent, and set
// right when the response says what it was; see [WithTokens].
func TPM(n int64) Limit { return Limit{Unit: Tokens, N: n, Per: time.Minute} }

// TPD is a limit of n tokens a day.
func TPD(n int64) Limit { return Limit{Unit: Tokens, N: n, Per: refill.Day} }

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
	case refill.Day:
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
	case int(l.Unit) >= refill.Units:
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

// kept returns the limit as package refill has it.
func (l Limit) kept() refill.Limit {
	return refill.Limit{Unit: int(l.Unit), N: l.N, Per: l.Per, Rule: refill.Rule(l.Refill), Burst: l.Burst}
}

// limitOf returns a limit of package refill as users know it.
func limitOf(l refill.Limit) Limit {
	return Limit{Unit: Unit(l.Unit), N: l.N, Per: l.Per, Refill: Refill(l.Rule), Burst: l.Burst}
}

// GeminiFree holds the limits of the Gemini API's free tier as they stood in
// the summer of 2025 (https://ai.google.dev/gemini-api/docs/rate-limits). Google
// has changed them since, and will again: the limits of your own project are at
// https://aistudio.google.com/usage.
var GeminiFree = Quotas{
	"gemini-2.5-pro":   {RPM(2), TPM(125_000), RPD(50)},
	"gemini-2.5-flash": {RPM(10), TPM(250_000), RPD(250)},
}
