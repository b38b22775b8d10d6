package tollgate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/keys"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/provider"
)

// Quotas holds the quota of each key: for model APIs the model's name as it is
// requested ("gemini-2.5-flash"), for any other API the host ("api.example.com"),
// or the name that [WithKey] or Transport.Key has chosen.
//
// A model may be written with its resource's path ("models/gemini-2.5-flash"), a
// host in any letter case, with its scheme and that scheme's port
// ("https://API.example.com:443/"); any other port is a part of it. The quota of a
// host is for all its models together that have no entry of their own.
//
// "*.example.com" is a template for every host below example.com, but not for that
// itself: each has buckets of its own. An entry of the very host goes before it, and
// the longer of two such domains before the shorter one. "*" is the template for
// every key that no other entry matches. It leaves out calls that draw on no model's
// quota, such as listings, files and countTokens. A key with neither is not limited
// until the server refuses it; see Trace.NoQuota.
//
// Quotas that cannot be, such as a limit of less than 0 or two entries of one key,
// are an error of every request.
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
	Burst  int64         // Steady, also as Auto: how many may be sent back to back, 1 to N; 0: N
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
	case l.Burst > 0 && (l.Refill == Window || l.Refill == Calendar || l.Per == 0):
		return fmt.Errorf("tollgate: limit of %v: it has a Burst, which only Steady limits have", l)
	}
	return nil
}

// A book holds the quotas in force, to be looked up. It does not change.
type book struct {
	version uint64 // a later one has a higher one
	entries keys.Table[Quota]
	err     error // why there can be no such quotas; nil: there can

	mu   sync.Mutex
	told map[string]bool // keys that were found to have no quota
}

// newBook returns the book of quotas, which may change afterwards.
func newBook(q Quotas, version uint64) *book {
	b := &book{version: version}
	for _, key := range slices.Sorted(maps.Keys(q)) {
		for _, l := range q[key] {
			if err := l.check(); err != nil && b.err == nil {
				b.err = fmt.Errorf("tollgate: quota of %q: %s", key, strings.TrimPrefix(err.Error(), "tollgate: "))
			}
		}
		if err := b.entries.Add(key, slices.Clone(q[key])); err != nil && b.err == nil {
			b.err = fmt.Errorf("tollgate: Quotas: %w", err)
		}
	}
	return b
}

// A subject is what a request is to quotas.
type subject struct {
	name   string // chosen by the caller, or as the API has it
	chosen bool
	aside  bool // see provider.Call
	open   bool
}

// An extract of a book is what it says of a subject.
type extract struct {
	key   limiter.Key
	quota Quota
	named bool // the key has an entry of its own
	whole bool // it is the quota of the whole host
	found bool // there is an entry for it
}

// find returns what the book says of a subject at a host.
func (b *book) find(host string, s *subject) (x extract) {
	var key string
	x.key = limiter.Key{Host: host, Name: s.name}
	switch {
	case b.entries.Len() == 0:
	case s.chosen:
		if key, x.quota, x.found = b.entries.Name(s.name); x.found {
			x.key.Name, x.named = key, true
		}
	case s.name != host:
		if key, x.quota, x.found = b.entries.Model(s.name); x.found {
			x.key.Name, x.named = key, true
		} else if model, _, ok := cutLast(s.name, ":"); ok && s.open { // a service tier without an entry of its own
			_, x.quota, x.found = b.entries.Model(model)
		}
	}
	if s.chosen {
		x.key.Host = "" // whichever it is, the quota is one
	} else if !x.found {
		if key, x.quota, x.named, x.found = b.entries.Host(host); x.found {
			x.key.Name, x.whole = key, true
		}
	}
	if !x.found && (s.chosen || !s.aside) {
		x.quota, x.found = b.entries.Rest()
	}
	x.key.Name = keys.Short(x.key.Name)
	return x
}

// cutLast cuts s around the last instance of sep.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

const (
	maxTold   = 256 // keys without a quota that are told of: they may come from outside
	maxListed = 10  // keys with one that are listed beside
)

// tell reports whether it is to be told that a key has no quota: the first time, as
// long as such keys are few.
func (b *book) tell(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.entries.Len() == 0 || b.told[key] || len(b.told) == maxTold {
		return false
	}
	if b.told == nil {
		b.told = make(map[string]bool)
	}
	b.told[key] = true
	return true
}

// kept returns the limits of a quota at an API that returns tokens by the rule given.
func (q Quota) kept(rule refill.Rule) []refill.Limit {
	var list []refill.Limit
	for _, l := range q {
		if l.Refill == Auto && l.Per > 0 {
			l.Refill = Refill(engine.Kept(rule, l.Per))
		}
		list = append(list, l.kept())
	}
	return list
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
