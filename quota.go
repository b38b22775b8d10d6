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
// such key has buckets of its own. A key with neither is not limited until the
// server refuses it.
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
type Refill uint8

const (
	// Auto is Window, unless the API is known to count in another way.
	Auto Refill = iota
	// Window returns each token Per after it was spent at the server. Never
	// more than N are spent in any span of Per, which every server that allows
	// N per Per accepts, whether it counts in fixed windows of any phase, in
	// sliding windows or with a token bucket of capacity N.
	Window
	// Steady refills continuously, N in every Per: the textbook token bucket,
	// for servers that have one themselves.
	Steady
)

func (r Refill) String() string {
	switch r {
	case Auto:
		return "auto"
	case Window:
		return "window"
	case Steady:
		return "steady"
	}
	return fmt.Sprintf("Refill(%d)", uint8(r))
}

// A Limit allows N units in every Per.
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
	case l.N < 0:
		return fmt.Errorf("tollgate: limit of %d %s: N is negative", l.N, l.Unit)
	case l.Per < 0:
		return fmt.Errorf("tollgate: limit of %v: Per is negative", l)
	case l.Burst < 0 || l.Burst > l.N:
		return fmt.Errorf("tollgate: limit of %v: Burst %d is not between 0 and N", l, l.Burst)
	case l.Refill > Steady:
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

// gap is the time in which one token comes back, rounded up to whole
// nanoseconds: the error is on the safe side.
func (l Limit) gap() time.Duration {
	if l.N <= 0 {
		return never
	}
	return time.Duration(math.Ceil(float64(l.Per) / float64(l.N)))
}
