package provider

import (
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
	inForm = regexp.MustCompile(`[Tt]ry again in ([0-9][0-9hms.]{0,40}[hms])`)
	// Azure: "Please retry after 7 seconds."
	inWords = regexp.MustCompile(`(?:[Rr]etry|[Tt]ry again) (?:after|in) ([0-9][0-9.]{0,20}) ?(millisecond|ms|second|sec|minute|min|hour|day)s?\b`)
	// "Limit 200000, Used 199821, Requested 2295"
	tally = regexp.MustCompile(`Limit:? ([0-9]{1,15}), (?:Used:? ([0-9]{1,15}), )?Requested:? ([0-9]{1,15})`)
	// "on tokens per min (TPM)", "requests per day (RPD)"
	counts = regexp.MustCompile(`(?i)\b(requests|tokens) per (second|min|minute|hour|day)\b|\((R|T)P(S|M|H|D)\)`)
	// Cohere: "limited to 10 API calls / minute", "1000 API calls / month"
	calls = regexp.MustCompile(`([0-9]{1,15}) (?:API )?calls? ?(?:/|per) ?(second|minute|hour|day|month)\b`)
	// Azure: "exceeded token rate limit", "exceeded call rate limit"
	rates = regexp.MustCompile(`exceeded (?:the )?(token|call) rate limit`)
	// Bedrock: "Too many tokens per day, please wait before trying again."
	tooMany = regexp.MustCompile(`Too many (requests|tokens)( per day)?, please wait`)
	// what no waiting cures
	unpaid = regexp.MustCompile(`insufficient_quota|billing_hard_limit_reached|billing_not_active|credit balance is too low|(?i:credits?) (?i:are|is|have been) (?i:depleted|exhausted|used up)|spending (?:limit|cap)`)
)

var spans = map[string]time.Duration{
	"ms": time.Millisecond, "millisecond": time.Millisecond,
	"s": time.Second, "sec": time.Second, "second": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute,
	"h": time.Hour, "hour": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour,
	"month": 30 * 24 * time.Hour,
}

// refusal reads what any API says with a refusal.
func refusal(r *http.Response, body []byte) (ref Refusal) {
	text := body[:min(len(body), maxProse)]
	ref.Wait, ref.Hinted = hint(r, nil, text)
	ref.Never = unpaid.Match(text)
	if v, known := named(text); known {
		ref.Limits = append(ref.Limits, v)
	}
	if m := tally.FindSubmatch(text); m != nil && whole(m[3]) > whole(m[1]) {
		ref.Never = true // it can never fit
	}
	ref.Limits = append(ref.Limits, exceeded(r)...)
	return ref
}

// named reads which limit a message says was exceeded.
func named(text []byte) (v Violation, known bool) {
	if m := counts.FindSubmatch(text); m != nil {
		known = true
		if what := string(m[1]) + string(m[3]); what[0]|0x20 == 't' {
			v.Unit = Tokens
		}
		v.Per = spans[strings.ToLower(string(m[2])+string(m[4]))]
	} else if m := calls.FindSubmatch(text); m != nil {
		known = true
		v.N, v.Per = whole(m[1]), spans[string(m[2])]
	} else if m := rates.FindSubmatch(text); m != nil {
		known = true
		if m[1][0] == 't' {
			v.Unit = Tokens
		}
	} else if m := tooMany.FindSubmatch(text); m != nil {
		known = true
		if m[1][0] == 't' {
			v.Unit = Tokens
		}
		if v.Per = time.Minute; len(m[2]) > 0 {
			v.Per = 24 * time.Hour
		}
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

func whole(digits []byte) int64 {
	n, _ := strconv.ParseInt(string(digits), 10, 64)
	return n
}
