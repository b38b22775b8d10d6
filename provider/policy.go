package provider

import (
	"strings"
	"time"
)

// A policy is a limit as header fields state it.
type policy struct {
	name      string // "": it has none of its own
	unit      Unit
	uncounted bool          // it counts what is no Unit
	n         int64         // 0: not stated
	per       time.Duration // 0: not stated
	left      int64         // -1: not stated
	reset     time.Duration // in which more are left; -1: not stated
}

const (
	maxPolicies = 16
	maxList     = 4 << 10 // bytes of a field
	maxSpan     = 31 * 24 * time.Hour
)

// policies reads the fields RateLimit-Policy and RateLimit, which are matched by
// the policies' names:
// https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/.
// Drafts before had the limit for a name, as in "100;w=60", or
// "limit=100, remaining=50, reset=30".
func policies(list []policy, stated, current []string) []policy {
	find := func(name string) *policy {
		for i := range list {
			if list[i].name == name {
				return &list[i]
			}
		}
		if len(list) == maxPolicies {
			return new(policy)
		}
		list = append(list, policy{name: name, left: -1, reset: -1})
		return &list[len(list)-1]
	}
	var array [maxPolicies]item
	for _, i := range items(array[:0], stated...) {
		unit, counted := quotaUnit(i.unit)
		if q, per := i.quota(), i.window(); q > 0 && per > 0 {
			p := find(i.name)
			p.unit, p.uncounted, p.n, p.per = unit, !counted, q, per
		}
	}
	for _, i := range items(array[:0], current...) {
		if i.name == "" {
			i.name, i.r, i.t = i.limitName, max(i.r, i.remaining), max(i.t, i.reset)
		}
		if i.r < 0 && i.t < 0 {
			continue
		}
		p := find(i.name)
		p.left = i.r
		if i.t >= 0 {
			p.reset = duration(float64(i.t), time.Second)
		}
		if n, ok := integer(i.limitName); ok && p.n == 0 {
			p.n = n
		}
	}
	for i := range list {
		if p := &list[i]; own(p.name) {
			p.name = ""
		}
	}
	return list
}

// quotaUnit reads what a policy counts: requests, unless it says otherwise.
func quotaUnit(s string) (u Unit, counted bool) {
	switch s {
	case "", "requests":
		return Requests, true
	case "tokens":
		return Tokens, true
	}
	return 0, false // bytes, say
}

// own reports whether a policy's name says nothing but how large the policy is,
// or how long: such a policy is the key's own. Others, such as "login", are for
// what states them.
func own(name string) bool {
	for name != "" {
		n := 0
		for n < len(name) && (name[n]|0x20 >= 'a' && name[n]|0x20 <= 'z') {
			n++
		}
		switch word := strings.ToLower(name[:n]); word {
		case "", "default", "global", "general", "api", "all", "burst", "sustained", "steady", "quota", "rate", "limit", "policy",
			"window", "fixed", "sliding", "rolling", "per", "in", "request", "requests", "req", "token", "tokens", "user", "ip", "key", "account", "project":
		default:
			if span(word) == 0 {
				return false
			}
		}
		name = strings.TrimLeft(name[n:], "0123456789-_/ .,;:")
		if n == 0 && name != "" && (name[0]|0x20 < 'a' || name[0]|0x20 > 'z') {
			return false // other characters
		}
	}
	return true
}

// An item is a member of a list (RFC 9651) with the parameters that matter. Those
// that are whole numbers are -1 if they are not there.
type item struct {
	name              string
	unit              string // qu
	limitName         string // limit
	q, w, r, t        int64
	remaining, reset  int64
	named, parameters bool
}

func (i *item) set(key, value string) {
	i.parameters = true
	n, ok := integer(value)
	if !ok {
		n = -1
	}
	switch key {
	case "q":
		i.q = n
	case "w", "window":
		i.w = max(i.w, n)
	case "r":
		i.r = n
	case "t":
		i.t = n
	case "qu":
		i.unit = value
	case "limit":
		i.limitName = value
	case "remaining":
		i.remaining = n
	case "reset":
		i.reset = n
	}
}

// quota returns the limit, which earlier drafts have for a name, -1 if there is
// none.
func (i *item) quota() int64 {
	if q, ok := integer(i.name); ok && i.q < 0 {
		return q
	}
	return i.q
}

// window returns the parameter that says in how long, 0 if there is none that
// makes sense.
func (i *item) window() time.Duration {
	if i.w <= 0 || i.w > int64(maxSpan/time.Second) {
		return 0
	}
	return time.Duration(i.w) * time.Second
}

var blank = item{q: -1, w: -1, r: -1, t: -1, remaining: -1, reset: -1}

// items appends the members of a list. One that goes wrong anywhere is no list
// (RFC 9651, section 4.2). Names may be strings or tokens; of several in a row, as
// some servers have them, the last one counts. Members that are key=value all by
// themselves make up one item without a name.
func items(list []item, values ...string) []item {
	pairs, paired := blank, false
	size := 0
	for _, v := range values {
		if size += len(v); size > maxList {
			return nil
		}
		for len(v) > 0 && len(list) < maxPolicies {
			i := blank
			target, end := &i, byte(';')
			for parts := 0; end == ';'; parts++ {
				var m member
				if m, v = cutMember(v); !m.ok {
					return nil
				}
				switch {
				case m.pair && parts == 0:
					target, paired = &pairs, true
					fallthrough
				case m.pair:
					target.set(m.key, m.value)
				case m.quoted || !i.named && !i.parameters:
					i.name, i.named = m.key, true
				}
				end = 0
				if len(v) > 0 {
					end, v = v[0], v[1:]
				}
			}
			if i.name != "" {
				list = append(list, i)
			}
		}
	}
	if paired && len(list) < maxPolicies {
		list = append(list, pairs)
	}
	return list
}

// A member is a name, or a key with its value.
type member struct {
	key, value       string
	quoted, pair, ok bool
}

// cutMember reads a member up to a semicolon, a comma or the end, which it leaves.
func cutMember(s string) (m member, rest string) {
	if m.key, m.quoted, s, m.ok = word(s); !m.ok {
		return m, ""
	}
	if strings.HasPrefix(s, "=") && !m.quoted {
		m.pair = true
		if m.value, _, s, m.ok = word(s[1:]); !m.ok {
			return m, ""
		}
	}
	m.ok = s == "" || s[0] == ';' || s[0] == ','
	return m, s
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
