package provider

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A policy is a limit as the fields RateLimit-Policy and RateLimit state it:
// https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/.
type policy struct {
	name  string
	unit  Unit
	n     int64         // 0: not stated
	per   time.Duration // 0: not stated
	left  int64         // -1: not stated
	reset time.Duration // in which more are left; -1: not stated
}

const (
	maxPolicies = 16
	maxList     = 4 << 10 // bytes of a field
	maxSpan     = 366 * 24 * time.Hour
)

// policies reads both fields, by the policies' names, and what went before them:
// RateLimit-Limit, -Remaining and -Reset, or RateLimit with the three in it, and
// policies that have their limit for a name, as in "100;w=60".
func policies(r *http.Response) (list []policy) {
	find := func(name string) *policy {
		for i := range list {
			if list[i].name == name {
				return &list[i]
			}
		}
		if len(list) == maxPolicies {
			return &policy{}
		}
		list = append(list, policy{name: name, left: -1, reset: -1})
		return &list[len(list)-1]
	}
	for _, i := range items(r.Header.Values("Ratelimit-Policy")) {
		q, per := i.quota(), i.window()
		u, known := quotaUnit(i.params["qu"])
		if q > 0 && per > 0 && known {
			p := find(i.name)
			p.unit, p.n, p.per = u, q, per
		}
	}
	for _, i := range items(r.Header.Values("Ratelimit")) {
		left, after := i.number("r"), i.number("t")
		if i.name == "" { // limit=100, remaining=50, reset=30
			left, after = i.number("remaining"), i.number("reset")
			i.name = i.params["limit"]
		}
		if left < 0 && after < 0 {
			continue
		}
		p := find(i.name)
		p.left = left
		if after >= 0 {
			p.reset = duration(float64(after), time.Second)
		}
		if n := i.number("limit"); n > 0 && p.n == 0 {
			p.n = n
		}
	}
	if len(r.Header["Ratelimit"]) == 0 {
		return drafted(r, "Ratelimit-", list)
	}
	return list
}

// drafted reads the three fields of earlier drafts, or of before there were any,
// and adds them to the policies. They may state those as well, in
// "100, 100;w=60, 1000;window=3600", where the first is the one that the others
// are about.
func drafted(r *http.Response, prefix string, list []policy) []policy {
	limit, more, _ := strings.Cut(header(r, prefix+"Limit"), ",")
	n, ok := integer(limit)
	if !ok || n < 0 {
		n = 0
	}
	for _, i := range items([]string{more}) {
		p := policy{name: i.name, n: i.quota(), per: i.window(), left: -1, reset: -1}
		if p.n > 0 && p.per > 0 && len(list) < maxPolicies && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	left, ok := integer(header(r, prefix+"Remaining"))
	if !ok || left < 0 {
		left = -1
	}
	reset, ok := resetIn(r, header(r, prefix+"Reset"))
	if !ok {
		reset = -1
	}
	for i := range list {
		if p := &list[i]; p.n == n {
			p.left, p.reset = left, reset
			return list
		}
	}
	if n == 0 && left < 0 && reset < 0 || len(list) == maxPolicies {
		return list
	}
	return append(list, policy{n: n, left: left, reset: reset})
}

// quotaUnit reads what a policy counts: requests, unless it says otherwise.
func quotaUnit(s string) (Unit, bool) {
	switch s {
	case "", "requests":
		return Requests, true
	case "tokens":
		return Tokens, true
	}
	return 0, false // bytes, say
}

// An item is a member of a list (RFC 9651) with its parameters.
type item struct {
	name   string
	params map[string]string
}

// number returns a parameter that is a whole number, -1 if there is none.
func (i item) number(name string) int64 {
	n, err := strconv.ParseInt(i.params[name], 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// quota returns the limit, which earlier drafts have for a name, -1 if there is
// none.
func (i item) quota() int64 {
	if q, ok := integer(i.name); ok && i.params["q"] == "" {
		return q
	}
	return i.number("q")
}

// window returns the parameter that says in how long, 0 if there is none that
// makes sense.
func (i item) window() time.Duration {
	w := max(i.number("w"), i.number("window"))
	if w <= 0 || w > int64(maxSpan/time.Second) {
		return 0
	}
	return time.Duration(w) * time.Second
}

// items reads a list. One that goes wrong anywhere is no list (RFC 9651, section
// 4.2). Names may be strings or tokens; of several in a row, as some have them,
// the last one counts. Members that are key=value all by themselves make up one
// item without a name.
func items(values []string) (list []item) {
	var pairs item
	size := 0
	for _, v := range values {
		if size += len(v); size > maxList {
			return nil
		}
		for len(v) > 0 && len(list) < maxPolicies {
			i := item{params: make(map[string]string)}
			end := byte(';')
			for end == ';' {
				var key, value string
				var quoted, paired, ok bool
				if key, value, quoted, paired, v, ok = member(v); !ok {
					return nil
				}
				switch {
				case !paired && (quoted || i.name == "" && len(i.params) == 0):
					i.name = key
				case paired && len(i.params) < maxPolicies:
					i.params[key] = value
				}
				end = 0
				if len(v) > 0 {
					end, v = v[0], v[1:]
				}
			}
			if i.name != "" {
				list = append(list, i)
				continue
			}
			if pairs.params == nil {
				pairs.params = make(map[string]string)
			}
			for k, v := range i.params {
				if len(pairs.params) < maxPolicies {
					pairs.params[k] = v
				}
			}
		}
	}
	if pairs.params != nil {
		list = append(list, pairs)
	}
	return list
}

// member reads a name, or a key with its value, up to a semicolon, a comma or
// the end, which it leaves.
func member(s string) (key, value string, quoted, paired bool, rest string, ok bool) {
	if key, quoted, s, ok = word(s); !ok {
		return "", "", false, false, "", false
	}
	if strings.HasPrefix(s, "=") && !quoted {
		paired = true
		if value, _, s, ok = word(s[1:]); !ok {
			return "", "", false, false, "", false
		}
	}
	return key, value, quoted, paired, s, s == "" || s[0] == ';' || s[0] == ','
}

// word reads a string in quotes, bytes between colons, as partitions have for a
// key, or a run of other characters, and the space around it.
func word(s string) (w string, quoted bool, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	n := strings.IndexAny(s, "=;, \t\"")
	switch {
	case strings.HasPrefix(s, ":"):
		if n = strings.IndexByte(s[1:], ':'); n < 0 {
			return "", false, "", false
		}
		w, s = s[:n+2], s[n+2:]
	case strings.HasPrefix(s, `"`):
		if n = strings.IndexByte(s[1:], '"'); n < 0 {
			return "", false, "", false
		}
		w, quoted, s = s[1:n+1], true, s[n+2:]
	case n < 0:
		w, s = s, ""
	default:
		w, s = s[:n], s[n:]
	}
	return w, quoted, strings.TrimLeft(s, " \t"), w != "" || quoted
}

// fieldLevels reads the levels of any API that states them in the fields of the
// drafts, or else in X-RateLimit-Limit and so on, of which mostly nobody can tell
// in how long.
func fieldLevels(r *http.Response) (list []Level) {
	found := policies(r)
	for _, prefix := range []string{"X-Ratelimit-", "X-Rate-Limit-"} {
		if len(found) == 0 {
			found = drafted(r, prefix, nil)
		}
	}
	for _, p := range found {
		if p.n <= 0 {
			continue
		}
		if p.per == 0 {
			p.left = -1 // says nothing of a limit of another Per
		}
		list = append(list, Level{Unit: p.unit, N: p.n, Per: p.per, Left: min(p.left, p.n), Full: p.reset})
	}
	return list
}

// exceeded reads which limits the headers of a refusal say are used up. GitHub
// Models names one as UserByModelByDay.
func exceeded(r *http.Response, levels []Level) (list []Violation) {
	for _, l := range levels {
		if l.Left == 0 && l.Per > 0 {
			list = append(list, Violation{Unit: l.Unit, N: l.N, Per: l.Per})
		}
	}
	kind := header(r, "X-Ratelimit-Type")
	if i := strings.LastIndex(kind, "By"); i >= 0 {
		if per, ok := spans[strings.ToLower(kind[i+len("By"):])]; ok {
			v := Violation{Per: per}
			if strings.Contains(kind, "Token") {
				v.Unit = Tokens
			}
			list = append(list, v)
		}
	}
	return list[:min(len(list), maxFew)]
}
