package provider

import (
	"bytes"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

// maxProse is how much of a body is read as prose.
const maxProse = 8 << 10

// A phrase is prose in lower case around a word. The word is found fast in long
// bodies; the regexp is tried where it stands, so that a body of nothing but
// beginnings of phrases takes no time either.
type phrase struct {
	word string
	*regexp.Regexp
}

// How often a phrase is tried, and on how many bytes before and after its word.
const (
	maxTries = 8
	around   = 80
)

func (p phrase) find(text []byte) [][]byte {
	for at, n := 0, 0; n < maxTries; n++ {
		i := bytes.Index(text[at:], []byte(p.word))
		if i < 0 {
			break
		}
		i, at = at+i, at+i+len(p.word)
		if m := p.FindSubmatch(text[max(0, i-around):min(len(text), at+around)]); m != nil {
			return m
		}
	}
	return nil
}

func is(word, form string) phrase { return phrase{word, regexp.MustCompile(form)} }

// The prose of refusals.
var (
	// "Please try again in 6m0s.", "try again in 634ms"
	inForm = is("try", `(?:try again|retry) in ([0-9][0-9hms.]{0,40}[hms])\b`)
	// Azure: "Please retry after 7 seconds."
	inWords = is("try", `(?:retry|try again) (?:after|in) ([0-9][0-9.]{0,20}) ?(millisecond|ms|second|sec|s|minute|min|hour|day)s?\b`)
	// GitHub Models: "Please wait 15 seconds before retrying."
	waiting = is("please wait", `please wait (?:for )?([0-9][0-9.]{0,20}) ?(s|second|minute|hour)s?\b`)
	// "Limit 200000, Used 199821, Requested 2295"
	tally = is("requested", `limit:? ([0-9]{1,15}), (?:used:? ([0-9]{1,15}), )?requested:? ([0-9]{1,15})`)
	// what no waiting cures
	spent  = is("credit", `credits? (?:are|is|have been) (?:depleted|exhausted|used up)|used all available credits|credit balance is too low`)
	unpaid = []string{"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "spending limit", "spending cap", "spend_limit_reached"}
)

// namings are how messages name a limit: n of what per time, or as many of them
// as they say. The first one found counts.
var namings = []phrase{
	// OpenAI: "requests per day (RPD)". Anthropic: "40,000 output tokens per minute".
	is(" per ", `(?:\b(?P<n>[0-9][0-9,]{0,18}) )?\b(?:input |(?P<out>output ))?(?P<what>requests|tokens) per (?P<per>second|min|minute|hour|day)\b`),
	is("(", `\((?:i|(?P<out>o))?(?P<what>r|t)p(?P<per>s|m|h|d)\)`),
	// Anthropic: "Number of request tokens has exceeded your daily rate limit"
	is("has exceeded your", `number of (?:request |input |(?P<out>output ))?(?P<what>requests|tokens) has exceeded your (?:per-)?(?P<per>minute|hourly|daily) rate limit`),
	// Cohere: "limited to 10 API calls / minute", "past the per minute request limit"
	is(" call", `(?P<n>[0-9]{1,15}) (?:api )?calls? ?(?:/|per) ?(?P<per>second|minute|hour|day|month)\b`),
	is("past the per", `past the per (?P<per>minute|hour|day|month) (?P<what>request|token) limit`),
	// OpenRouter: "Rate limit exceeded: free-models-per-day"
	is("free-models-per-", `free-models-per-(?P<per>min|day)\b`),
	// GitHub Models: "Rate limit of 150 per 86400s exceeded for UserByModelByDay"
	is("rate limit of", `rate limit of (?P<n>[0-9]{1,15}) per (?P<seconds>[0-9]{1,8})s exceeded`),
	// Azure: "exceeded token rate limit", "exceeded the call rate limit"
	is(" rate limit", `exceeded (?:the )?(?P<what>token|call) rate limit`),
	// Bedrock: "Too many tokens per day, please wait before trying again."
	is("too many", `too many (?P<what>requests|tokens)(?: per (?P<per>day))?, please wait`),
}

var spans = map[string]time.Duration{
	"ms": time.Millisecond, "millisecond": time.Millisecond,
	"s": time.Second, "sec": time.Second, "second": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute,
	"h": time.Hour, "hour": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour,
	"hourly": time.Hour, "daily": 24 * time.Hour,
	"month": 30 * 24 * time.Hour,
}

// refusal reads what any API says with a refusal, given what its headers say of
// limits.
func refusal(r *http.Response, body []byte, levels []Level) (ref Refusal) {
	text := bytes.ToLower(body[:min(len(body), maxProse)])
	ref.Wait, ref.Hinted = hint(r, nil, text)
	ref.Never = spent.find(text) != nil
	for _, s := range unpaid {
		ref.Never = ref.Never || bytes.Contains(text, []byte(s))
	}
	if v, known := named(text); known {
		ref.Limits = []Violation{v}
	} else {
		ref.Limits = exceeded(r, levels)
	}
	if m := tally.find(text); m != nil && whole(m[3]) > whole(m[1]) {
		ref.Never = true // it can never fit
	}
	return ref
}

// named reads which limit a message says was exceeded.
func named(text []byte) (v Violation, known bool) {
	for _, naming := range namings {
		m := naming.find(text)
		if m == nil {
			continue
		}
		for i, group := range naming.SubexpNames() {
			switch s := string(m[i]); {
			case s == "" || i == 0:
			case group == "n":
				v.N = whole(bytes.ReplaceAll(m[i], []byte(","), nil))
			case group == "out":
				v.Unit = OutputTokens
			case group == "what" && s[0] == 't' && v.Unit == Requests:
				v.Unit = Tokens
			case group == "per":
				v.Per = spans[s]
			case group == "seconds":
				v.Per = min(time.Duration(whole(m[i]))*time.Second, maxSpan)
			}
		}
		known = true
		break
	}
	if m := tally.find(text); m != nil {
		known = true
		v.N = whole(m[1])
	}
	return v, known
}

// tryAgain reads when to try again from a message: in so many words, or from how
// it accounts for the refusal, where the limit refills continuously.
func tryAgain(text []byte) (time.Duration, bool) {
	if m := inForm.find(text); m != nil {
		if d, err := time.ParseDuration(string(m[1])); err == nil {
			return d, true
		}
	}
	for _, p := range []phrase{inWords, waiting} {
		if m := p.find(text); m != nil {
			if n, ok := number(string(m[1])); ok {
				return duration(n, spans[string(m[2])]), true
			}
		}
	}
	m := tally.find(text)
	if m == nil {
		return 0, false
	}
	v, _ := named(text)
	over := whole(m[2]) + whole(m[3]) - v.N
	if over <= 0 || v.N <= 0 || v.Per <= 0 {
		return 0, false
	}
	return duration(float64(over)/float64(v.N), v.Per), true
}

// whole reads digits: 0 if they are too many.
func whole(digits []byte) int64 {
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
