package provider

import (
	"bytes"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxProse is how much of a body is read as prose.
const maxProse = 8 << 10

// The prose of refusals. What is looked for first is plain text, which is found
// fast in long bodies.
var (
	// "Please try again in 6m0s.", "try again in 634ms"
	inForm = regexp.MustCompile(`(?:[Tt]ry again|[Rr]etry) in ([0-9][0-9hms.]{0,40}[hms])\b`)
	// Azure: "Please retry after 7 seconds." GitHub Models: "Please wait 15 seconds before retrying."
	inWords = regexp.MustCompile(`(?:(?:[Rr]etry|[Tt]ry again) (?:after|in)|[Pp]lease wait(?: for)?) ([0-9][0-9.]{0,20}) ?(millisecond|ms|second|sec|s|minute|min|hour|day)s?\b`)
	// "Limit 200000, Used 199821, Requested 2295"
	tally = regexp.MustCompile(`Limit:? ([0-9]{1,15}), (?:Used:? ([0-9]{1,15}), )?Requested:? ([0-9]{1,15})`)
	// what no waiting cures
	unpaid = regexp.MustCompile(`insufficient_quota|billing_hard_limit_reached|billing_not_active|credit balance is too low|(?i:credits?) (?i:are|is|have been) (?i:depleted|exhausted|used up)|used all available credits|spending (?:limit|cap)|spend_limit_reached`)
)

// namings are how messages name a limit: n of what per time, or as many of them
// as they say. The first one found counts.
var namings = []*regexp.Regexp{
	// OpenAI: "requests per day (RPD)". Anthropic: "40,000 output tokens per minute".
	regexp.MustCompile(`(?i)(?:\b(?P<n>[0-9][0-9,]{0,18}) )?\b(?:input |(?P<out>output ))?(?P<what>requests|tokens) per (?P<per>second|min|minute|hour|day)\b`),
	regexp.MustCompile(`\((?:I|(?P<out>O))?(?P<what>R|T)P(?P<per>S|M|H|D)\)`),
	// Anthropic: "Number of request tokens has exceeded your daily rate limit"
	regexp.MustCompile(`Number of (?:request |input |(?P<out>output ))?(?P<what>requests|tokens) has exceeded your (?:per-)?(?P<per>minute|hourly|daily) rate limit`),
	// Cohere: "limited to 10 API calls / minute", "past the per minute request limit"
	regexp.MustCompile(`(?P<n>[0-9]{1,15}) (?:API )?calls? ?(?:/|per) ?(?P<per>second|minute|hour|day|month)\b`),
	regexp.MustCompile(`past the per (?P<per>minute|hour|day|month) (?P<what>request|token) limit`),
	// OpenRouter: "Rate limit exceeded: free-models-per-day"
	regexp.MustCompile(`free-models-per-(?P<per>min|day)\b`),
	// GitHub Models: "Rate limit of 150 per 86400s exceeded for UserByModelByDay"
	regexp.MustCompile(`Rate limit of (?P<n>[0-9]{1,15}) per (?P<seconds>[0-9]{1,8})s exceeded`),
	// Azure: "exceeded token rate limit", "exceeded the call rate limit"
	regexp.MustCompile(`exceeded (?:the )?(?P<what>token|call) rate limit`),
	// Bedrock: "Too many tokens per day, please wait before trying again."
	regexp.MustCompile(`Too many (?P<what>requests|tokens)(?: per (?P<per>day))?, please wait`),
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

// refusal reads what any API says with a refusal, whose headers say so much of
// limits.
func refusal(r *http.Response, body []byte, levels []Level) (ref Refusal) {
	text := body[:min(len(body), maxProse)]
	ref.Wait, ref.Hinted = hint(r, nil, text)
	ref.Never = unpaid.Match(text)
	if v, known := named(text); known {
		ref.Limits = []Violation{v}
	} else {
		ref.Limits = exceeded(r, levels)
	}
	if m := tally.FindSubmatch(text); m != nil && whole(m[3]) > whole(m[1]) {
		ref.Never = true // it can never fit
	}
	return ref
}

// named reads which limit a message says was exceeded.
func named(text []byte) (v Violation, known bool) {
	for _, naming := range namings {
		m := naming.FindSubmatch(text)
		if m == nil {
			continue
		}
		for i, group := range naming.SubexpNames() {
			switch s := strings.ToLower(string(m[i])); {
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
	if m := tally.FindSubmatch(text); m != nil {
		known = true
		v.N = whole(m[1])
	}
	return v, known
}

// tryAgain reads when to try again from a message: in so many words, or from how
// it accounts for the refusal, where the limit refills continuously.
func tryAgain(text []byte) (time.Duration, bool) {
	if m := inForm.FindSubmatch(text); m != nil {
		if d, err := time.ParseDuration(string(m[1])); err == nil {
			return d, true
		}
	}
	if m := inWords.FindSubmatch(text); m != nil {
		if n, ok := number(string(m[1])); ok {
			return duration(n, spans[string(m[2])]), true
		}
	}
	m := tally.FindSubmatch(text)
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
