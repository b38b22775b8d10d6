package provider

import (
	"bytes"
	"regexp"
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

const (
	thousand = `([0-9][0-9,]{0,18})`
	timeUnit = `(?:milliseconds?|msecs?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?)\b`
	// "7 seconds", "1 hour, 2 minutes and 3 seconds"
	times = `([0-9][0-9.]{0,20} ?` + timeUnit + `(?:(?:,? and |, ?| )[0-9.]+ ?(?:m(?:s|secs?|ins?|inutes?|illiseconds?)?|s(?:ecs?|econds?)?|h(?:ours?|rs?)?)\b)*)`
)

// When to try again, in words.
var (
	// "Please try again in 6m0s.", "try again in 634ms"
	inForm = is("try", `(?:try again|retry) in ([0-9][0-9hms.]{0,40}[hms])\b`)
	// Azure: "Please retry after 7 seconds."
	inWords = is("try", `(?:retry|try again|retrying|try) (?:after|in|again in|again after|once more in) (?:about |approximately |~)?`+times)
	// GitHub Models: "Please wait 15 seconds before retrying."
	waitWords = is("wait", `wait (?:for |at least |about |another )*`+times)
	// "available again in 20 seconds", "Your limit resets in 3 minutes", "expires in 12s"
	backWords = is(" in ", `(?:resets?|reset|available|available again|renews?|refreshes|replenished|lifted|unblocked) in (?:about |approximately |~)?`+times)
)

// tally is how OpenAI accounts for a refusal: "Limit 200000, Used 199821,
// Requested 2295", at Groq with a tilde before what was requested.
var tally = is("requested", `limit:? ~?`+thousand+`,? (?:(?:used|current):? ~?`+thousand+`,? )?requested:? ~?`+thousand)

// sharedLimit is how OpenAI names the limit that several models share: "Rate limit
// reached for gpt-5-codex (for limit gpt-5) in organization".
var sharedLimit = is("(for limit ", `\(for limit ([^()\s"\\]{1,64})\)`)

// namings are how messages name a limit: n of what per time, or as many of them
// as they say. The first one found counts.
var namings = []phrase{
	// OpenAI: "requests per day (RPD)". Anthropic: "40,000 output tokens per minute".
	is(" per ", `(?:\b(?P<n>[0-9][0-9,]{0,18}) )?\b(?:input |(?P<out>output ))?(?P<what>requests|tokens|calls|queries) per (?P<per>second|min|minute|hour|day)\b`),
	is("(", `\((?:i|(?P<out>o))?(?P<what>r|t)p(?P<per>s|m|h|d)\)`),
	// OpenAI: "input-images per min". Groq: "seconds of audio per hour (ASPH)"
	is(" per ", `\b(?P<uncounted>(?:input-|output-)?(?:images?|videos?|pages?|characters?|chars|bytes|credits|points|minutes|audio|seconds of audio|audio seconds|audio-seconds|files|documents)) per (?P<per>second|sec|min|minute|hour|day)\b`),
	is("(", `\((?P<uncounted>ipm|ipd|asp[hd])\)`),
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
	// HubSpot: "You have reached your daily limit."
	is("daily", `\b(?:reached|exceeded|hit|over|past|exhausted|used up) (?:your|the|its|our|a) (?P<per>daily) (?:(?:api|call|rate|request|usage|search|message) ?)*(?:limit|quota)`),
	is("daily", `\b(?P<per>daily) (?:(?:api|call|rate|request|usage) )*(?:limit|quota) (?:of (?P<n>[0-9][0-9,]{0,18}) [a-z ]{0,20})?(?:has been |was |is )?(?:exceeded|reached|exhausted|used up)`),
}

// What no waiting cures.
var (
	spent     = is("credit", `credits? (?:are|is|have been|has been) (?:depleted|exhausted|used up|exceeded)|used all available credits|credit balance is too low|(?:insufficient|not enough|no) (?:remaining )?credits?\b|out of credits`)
	balance   = is("balance", `insufficient (?:account )?balance|balance (?:is )?(?:insufficient|too low|not enough|used up|exhausted)`)
	oversized = is("too large", `request (?:is )?too large for `)
	// Anthropic: "Extra usage is required for long context requests."
	extra = is("usage is required", `(?:extra|additional|on-demand|paid) usage is required`)
	bills = []string{"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "spending limit", "spending cap", "spend_limit_reached",
		"余额不足", "欠费", "请充值", "余额已用完"} // balance too low, in arrears, please top up, balance used up
)

// incurable reports whether a message says that no waiting helps.
func incurable(text []byte) bool {
	for _, p := range [...]phrase{spent, balance, extra, oversized} {
		if p.find(text) != nil {
			return true
		}
	}
	for _, s := range bills {
		if bytes.Contains(text, []byte(s)) {
			return true
		}
	}
	m := tally.find(text)
	return m != nil && whole(m[3]) > whole(m[1]) // it can never fit
}

// gently are how messages ask for a rate that grows more slowly. Anthropic:
// "scale up your input tokens usage more gradually to stay within the
// acceleration limit".
var gently = []string{"acceleration limit", "usage increase rate", "more gradually", "increase your request rate gradually", "<code>slowdown</code>"}

func asksForSlower(text []byte) bool {
	for _, s := range gently {
		if bytes.Contains(text, []byte(s)) {
			return true
		}
	}
	return false
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
				v.N = whole(m[i])
			case group == "out":
				v.Unit = OutputTokens
			case group == "what" && s[0] == 't' && v.Unit == Requests:
				v.Unit = Tokens
			case group == "per":
				v.Per = spans[s]
			case group == "seconds":
				v.Per = min(time.Duration(whole(m[i]))*time.Second, maxSpan)
			case group == "uncounted":
				v.Uncounted = true
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

// spanIn finds a span in the name of a policy, such as TEN_SECONDLY_ROLLING,
// DAILY, or DefaultRequestsPerMinutePerProject; 0 if there is none.
func spanIn(name []byte) time.Duration {
	var buf [maxWord]byte
	s := buf[:plain64(&buf, name)]
	for _, w := range [...]struct {
		word string
		span time.Duration
	}{{"tensecond", 10 * time.Second}, {"second", time.Second}, {"minute", time.Minute}, {"hour", time.Hour}, {"daily", 24 * time.Hour}, {"perday", 24 * time.Hour}, {"monthly", 30 * 24 * time.Hour}, {"permonth", 30 * 24 * time.Hour}} {
		if bytes.Contains(s, []byte(w.word)) {
			return w.span
		}
	}
	if string(s) == "day" {
		return 24 * time.Hour
	}
	return 0
}

// tryAgain reads when to try again from a message: in so many words, or from how
// it accounts for the refusal, where the limit refills continuously.
func tryAgain(text []byte) (time.Duration, bool) {
	if m := inForm.find(text); m != nil {
		if d, err := time.ParseDuration(string(m[1])); err == nil {
			return d, true
		}
	}
	for _, p := range [...]phrase{inWords, waitWords, backWords} {
		if m := p.find(text); m != nil {
			if d, ok := spelled(string(m[1])); ok {
				return d, true
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

// lower returns text in lower case as far as it is ASCII, so that what is found
// in it stands at the same place in the original.
func lower(text []byte) []byte {
	low := make([]byte, len(text))
	for i, c := range text {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		low[i] = c
	}
	return low
}
