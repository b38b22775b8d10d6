package provider

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
)

// fields are the header fields of a response that state limits. They come in
// families, such as X-RateLimit-Limit, X-RateLimit-Remaining and
// X-RateLimit-Reset; there is one for every prefix ("X-", "Anthropic-", none) and
// for every subject ("Requests", "Tokens-Minute", none), which follows the
// field's kind (OpenAI) or goes before it (Anthropic).
type fields struct {
	families [maxFamilies]family
	n        int
	policy   []string // RateLimit-Policy
	current  []string // RateLimit
}

const maxFamilies = 12

type family struct {
	prefix, subject string
	unit            Unit
	counted         bool // the subject is a Unit
	per             time.Duration
	values          [kinds]string
}

// A kind is what a field of a family says.
type kind uint8

const (
	limit kind = iota
	remaining
	reset
	resetAfter
	used
	period

	kinds
	none = kinds
)

func kindOf(word string) kind {
	switch word {
	case "Limit", "Max", "Quota":
		return limit
	case "Remaining", "Left", "Available":
		return remaining
	case "Reset":
		return reset
	case "Resetafter", "After":
		return resetAfter
	case "Used", "Observed":
		return used
	case "Renewalperiod", "Interval", "Period", "Window": // in seconds
		return period
	}
	return none
}

// states reports whether a header has fields that may state limits. It costs as
// little as can be, as most responses have none.
func states(h http.Header) bool {
	for name := range h {
		if len(name) < len("Ratelimit") {
			continue
		}
		if name[:4] == "Rate" || name[:6] == "X-Rate" || strings.HasSuffix(name, "Remaining") {
			return true
		}
	}
	return false
}

// read collects the fields of a header.
func (f *fields) read(h http.Header) {
	for name, values := range h {
		i, n := 2, len("Ratelimit")
		if len(name) < n {
			continue
		}
		if !strings.HasPrefix(name, "X-Ratelimit") {
			if i = strings.Index(name, "Rate"); i < 0 {
				continue
			}
			if rest := name[i+len("Rate"):]; strings.HasPrefix(rest, "-Limit") {
				n = len("Rate-Limit")
			} else if !strings.HasPrefix(rest, "limit") {
				continue
			}
		}
		if len(values) == 0 {
			continue
		}
		prefix, rest := name[:i+n], name[i+n:]
		switch {
		case rest == "" && (f.current == nil || i == 0):
			f.current = values
		case rest == "-Policy" && (f.policy == nil || i == 0):
			f.policy = values
		case rest != "" && rest[0] == '-':
			f.add(prefix, rest[1:], values[0])
		}
	}
	// Iteration over a map has no order.
	slices.SortFunc(f.families[:f.n], func(a, b family) int {
		return cmp.Or(cmp.Compare(a.per, b.per), cmp.Compare(a.unit, b.unit), cmp.Compare(a.prefix, b.prefix), cmp.Compare(a.subject, b.subject))
	})
}

// add notes a field.
func (f *fields) add(prefix, name, value string) {
	before, after, _ := strings.Cut(name, "-")
	k, subject := kindOf(before), after
	switch {
	case k == reset && subject == "After":
		k, subject = resetAfter, ""
	case k == none:
		i := strings.LastIndexByte(name, '-')
		k, subject = kindOf(name[i+1:]), name[:max(i, 0)]
		if k == resetAfter {
			subject = strings.TrimSuffix(strings.TrimSuffix(subject, "Reset"), "-")
		}
	}
	if k == none {
		if _, ok := integer(value); !ok {
			return
		}
		k, subject = limit, name // HubSpot's X-HubSpot-RateLimit-Daily
	}
	if len(value) > maxList {
		return
	}
	for i := range f.families[:f.n] {
		if m := &f.families[i]; m.prefix == prefix && m.subject == subject {
			m.values[k] = value
			return
		}
	}
	if f.n == maxFamilies {
		return
	}
	m := &f.families[f.n]
	f.n++
	*m = family{prefix: prefix, subject: subject}
	m.unit, m.per, m.counted = subjectOf(subject)
	m.values[k] = value
}

// subjectOf reads what a family counts, and in how long, from words such as
// Requests, Tokens-Minute, Req-10-Second, Input-Tokens. Months and weeks have no
// beginning that is known.
func subjectOf(s string) (unit Unit, per time.Duration, counted bool) {
	switch s {
	case "", "Requests":
		return Requests, 0, true
	case "Tokens":
		return Tokens, 0, true
	}
	times, output, counted := int64(1), false, true
	for s != "" {
		var w string
		w, s, _ = strings.Cut(s, "-")
		switch w {
		case "Requests", "Request", "Req", "Calls", "Call", "Per":
		case "Tokens", "Token":
			unit = Tokens
		case "Input":
		case "Prompt": // of a minute, as Fireworks states them
			per = cmp.Or(per, time.Minute)
		case "Generated":
			per, output = cmp.Or(per, time.Minute), true
		case "Output":
			output = true
		case "Second", "Secondly", "Seconds":
			per = time.Duration(times) * time.Second
		case "Minute", "Minutely", "Min":
			per = time.Duration(times) * time.Minute
		case "Hour", "Hourly":
			per = time.Duration(times) * time.Hour
		case "Day", "Daily":
			per = time.Duration(times) * 24 * time.Hour
		default:
			n, ok := integer(w)
			if times = n; !ok || n <= 0 || n > 1000 {
				times, counted = 1, false
			}
		}
	}
	if output {
		unit = OutputTokens
	}
	return unit, min(per, maxSpan), counted
}

// list returns the policies that the fields state, those of RateLimit-Policy and
// RateLimit before others. A limit that several families state is returned once.
func (f *fields) list(r *http.Response, list []policy) []policy {
	if f.policy != nil || f.current != nil {
		list = policies(list, f.policy, f.current)
	}
	for i := range f.families[:f.n] {
		if m := &f.families[i]; m.counted && len(list) < maxPolicies {
			list = m.policies(r, list)
		}
	}
	return list
}

// policies adds the limits that a family states. Its first limit may be followed by
// a list of policies, as in "100, 100;w=60, 1000;window=3600", of which it is the
// one that the other fields are about.
func (m *family) policies(r *http.Response, list []policy) []policy {
	n, ok := integer(m.values[limit])
	if ok {
		return m.policy(r, list, policy{n: n})
	}
	var array [maxPolicies]item
	all := items(array[:0], m.values[limit])
	var p policy
	for i := range all {
		if q, per := all[i].quota(), all[i].window(); i == 0 {
			p.n, p.per = max(q, 0), per
		} else if q == p.n && p.per == 0 {
			p.per = per
		}
	}
	list = m.policy(r, list, p)
	for _, i := range all {
		q, per := i.quota(), i.window()
		if q > 0 && per > 0 && len(list) < maxPolicies && !slices.ContainsFunc(list, func(o policy) bool { return o.n == q && o.per == per }) {
			list = append(list, policy{unit: m.unit, n: q, per: per, left: -1, reset: -1})
		}
	}
	return list
}

// policy adds the limit that a family is about, of which p has the numbers that
// its limit states.
func (m *family) policy(r *http.Response, list []policy, p policy) []policy {
	p.unit, p.per, p.left = m.unit, cmp.Or(p.per, m.per), -1
	v, _, _ := strings.Cut(m.values[remaining], ";")
	if left, ok := number(strings.TrimSpace(v)); ok && left < 1<<53 {
		p.left = int64(left)
	}
	if spent, ok := integer(m.values[used]); ok {
		if p.left >= 0 && p.n == 0 {
			p.n = spent + p.left
		} else if p.left < 0 && spent <= p.n {
			p.left = p.n - spent
		}
	}
	if p.n > 0 && p.left > p.n {
		p.left = -1
	}
	if seconds, ok := integer(m.values[period]); ok && seconds > 0 && seconds <= int64(maxSpan/time.Second) {
		p.per = time.Duration(seconds) * time.Second
	}
	p.reset = m.full(r, p)
	if p.per == 0 && m.subject != "" {
		p.per = refillTime(p)
	}
	for i := range list {
		if o := &list[i]; !o.uncounted && o.unit == p.unit && o.n == p.n && (o.per == p.per || o.per == 0 || p.per == 0) {
			if o.left < 0 && o.reset < 0 {
				o.left, o.reset = p.left, p.reset
			}
			o.per = cmp.Or(o.per, p.per)
			return list
		}
	}
	if p.n == 0 && p.left < 0 && p.reset < 0 || len(list) == maxPolicies {
		return list
	}
	return append(list, p)
}

// full reads the time in which a limit is full, in any form that resets have.
// Where a field's name has a unit and does not say in how long, as on Azure, a
// bare number may be milliseconds instead of seconds, whichever makes sense.
func (m *family) full(r *http.Response, p policy) time.Duration {
	if d, ok := m.resets(r); !ok {
		return -1
	} else if n, ok := number(m.values[reset]); !ok || m.subject == "" || m.per != 0 || p.left < 0 || p.n == 0 || n >= 1e8 {
		return d
	} else {
		want := float64(p.n-p.left) / float64(p.n) * float64(cmp.Or(p.per, time.Minute))
		if ms := duration(n, time.Millisecond); math.Abs(float64(ms)-want) < math.Abs(float64(d)-want) {
			return ms
		}
		return d
	}
}

// resets reads when a family says that its limit is back.
func (m *family) resets(r *http.Response) (time.Duration, bool) {
	for _, k := range [...]kind{resetAfter, reset} {
		v := m.values[k]
		if i := strings.IndexByte(v, ';'); i >= 0 {
			v = v[:i]
		}
		if v = strings.TrimSpace(v); v != "" && len(v) <= maxValue {
			if d, ok := resetIn(r, v); ok {
				return d, true
			}
		}
	}
	return 0, false
}

// refillTime tells in how long a limit refills from how long it takes to be full:
// a second, a minute, an hour or a day, as it is nearest; 0 if that does not say.
func refillTime(p policy) time.Duration {
	if p.left < 0 || p.left >= p.n || p.reset <= 0 {
		return 0
	}
	per := float64(p.reset) / float64(p.n-p.left) * float64(p.n)
	for _, span := range [...]time.Duration{time.Second, time.Minute, time.Hour, 24 * time.Hour} {
		if ratio := per / float64(span); ratio > 0.7 && ratio < 1.4 {
			return span
		}
	}
	return 0
}
