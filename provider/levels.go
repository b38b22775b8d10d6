package provider

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Headers that state limits, by what comes after x-ratelimit-limit-,
// -remaining- and -reset-. A Per of 0 is told by how fast the limit refills.
var headers = []struct {
	name string
	unit Unit
	per  time.Duration
}{
	{"Requests", Requests, 0},
	{"Tokens", Tokens, 0},
	{"Req-Minute", Requests, time.Minute}, // Mistral
	{"Req-10-Second", Requests, 10 * time.Second},
	{"Tokens-Minute", Tokens, time.Minute}, // and Cerebras
	{"Requests-Minute", Requests, time.Minute},
	{"Requests-Hour", Requests, time.Hour},
	{"Requests-Day", Requests, 24 * time.Hour}, // Cerebras, SambaNova
	{"Tokens-Hour", Tokens, time.Hour},
	{"Tokens-Day", Tokens, 24 * time.Hour},
	{"Tokens-Per-Minute", Tokens, time.Minute}, // DigitalOcean
	{"Tokens-Per-Day", Tokens, 24 * time.Hour},
	{"Tokens-Prompt", Tokens, time.Minute}, // Fireworks
	{"Tokens-Generated", OutputTokens, time.Minute},
}

// levels reads the x-ratelimit headers of OpenAI and those who followed:
// https://platform.openai.com/docs/guides/rate-limits.
func levels(r *http.Response) (list []Level) {
	for _, h := range headers {
		n, ok := integer(header(r, "X-Ratelimit-Limit-"+h.name))
		if !ok || n <= 0 {
			continue
		}
		l := Level{Unit: h.unit, N: n, Per: h.per, Left: -1, Full: -1}
		if left, ok := integer(header(r, "X-Ratelimit-Remaining-"+h.name)); ok && left >= 0 && left <= n {
			l.Left = left
		}
		period, _ := integer(header(r, "X-Ratelimit-Renewalperiod-"+h.name)) // Azure, in seconds
		if period > 0 && period <= 366*24*60*60 {
			l.Per = time.Duration(period) * time.Second
		}
		l.Full = full(r, header(r, "X-Ratelimit-Reset-"+h.name), l, h.per == 0)
		if l.Per == 0 {
			l.Per = refill(l)
		}
		list = append(list, l)
	}
	return list
}

// full reads the time in which a limit is full: a duration in Go's form, a time
// since 1970, or a bare number of seconds. Where the header's name does not say
// in how long, as on Azure, that may be milliseconds, whichever makes sense.
func full(r *http.Response, s string, l Level, milli bool) time.Duration {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 && s != "0" {
		return d
	}
	n, ok := number(s)
	if !ok {
		return -1
	}
	in, _ := resetIn(r, s)
	if l.Left < 0 || n >= 1e8 || !milli {
		return in
	}
	per := l.Per
	if per == 0 {
		per = time.Minute
	}
	want := float64(l.N-l.Left) / float64(l.N) * float64(per)
	if ms := duration(n, time.Millisecond); math.Abs(float64(ms)-want) < math.Abs(float64(in)-want) {
		return ms
	}
	return in
}

// refill tells in how long a limit refills from how long it takes to be full:
// a minute or a day, as it is nearest; 0 if that does not say.
func refill(l Level) time.Duration {
	if l.Left < 0 || l.Left >= l.N || l.Full <= 0 {
		return 0
	}
	per := float64(l.Full) / float64(l.N-l.Left) * float64(l.N)
	for _, p := range []time.Duration{time.Second, time.Minute, time.Hour, 24 * time.Hour} {
		if ratio := per / float64(p); ratio > 0.7 && ratio < 1.4 {
			return p
		}
	}
	return 0
}

// anthropicLevels reads the headers of https://docs.anthropic.com/en/api/rate-limits.
// Their resets are times by the server's clock, which its Date states.
func anthropicLevels(r *http.Response) (list []Level) {
	now := serverTime(r)
	for _, h := range []struct {
		name string
		unit Unit
	}{{"Requests", Requests}, {"Input-Tokens", Tokens}, {"Output-Tokens", OutputTokens}, {"Tokens", Tokens}} {
		if h.name == "Tokens" && len(list) > 1 {
			break // the sum of the two, which were one until 2024
		}
		name := "Anthropic-Ratelimit-" + h.name
		n, ok := integer(header(r, name+"-Limit"))
		if !ok || n <= 0 {
			continue
		}
		l := Level{Unit: h.unit, N: n, Per: time.Minute, Left: -1, Full: -1}
		if left, ok := integer(header(r, name+"-Remaining")); ok && left >= 0 && left <= n {
			l.Left = left
		}
		if at, err := time.Parse(time.RFC3339, header(r, name+"-Reset")); err == nil {
			l.Full = max(0, at.Sub(now))
		}
		list = append(list, l)
	}
	return list
}

// integer reads a whole number, which a fraction of nothing may follow.
func integer(s string) (int64, bool) {
	s = strings.TrimSuffix(strings.TrimSpace(s), ".0")
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
