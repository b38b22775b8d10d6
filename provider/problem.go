package provider

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// A problem is what the JSON body of an error says in fields of its own: codes,
// messages, and when to try again. They stand at the top level, in error or
// errors, or in what is usual inside of those.
type problem struct {
	sign    sign   // what the codes mean
	message []byte // all messages, a line each
	said    int    // how many
	wait    time.Duration
	hinted  bool
	rank    int           // of the field that wait was read from
	per     time.Duration // of the limit, from the name of a policy; 0: it does not say
	failed  bool          // the body says that it is an error
	other   bool          // it has top-level fields that errors do not have
	points  throttle
}

// A role is what an object or an array of a body is for.
type role uint8

const (
	foreign role = iota // not looked at
	top                 // a document
	beside              // holds an error, and what is not about it
	failure             // an error
	headers             // header fields, as gateways hand them on
	budget              // what a GraphQL query costs
)

// roleOf returns the role of an object or an array by its name and the role of
// what it stands in. Names are in lower case, of letters and digits.
func roleOf(in role, name string) role {
	switch name {
	case "error", "errors", "fault", "innererror", "exception", "cause":
		if in != foreign {
			return failure
		}
	case "response", "interaction", "choices":
		if in == top {
			return beside
		}
	case "details", "detail", "metadata", "meta", "parameters", "extensions", "info", "body", "baseresp", "ratelimit", "ratelimitinfo", "limit", "limits", "quota", "status", "params", "data":
		if in != beside {
			return in
		}
	case "headers":
		if in == top || in == failure {
			return headers
		}
	case "cost", "throttlestatus":
		if in != foreign && in != beside {
			return budget
		}
	default:
		if in == top && strings.HasSuffix(name, "exception") { // Bedrock
			return failure
		}
	}
	return foreign
}

// usual reports whether a top-level field is one that errors have.
func usual(name string) bool {
	switch name {
	case "error", "errors", "fault", "code", "status", "statuscode", "type", "eventtype", "eventid", "message", "messages", "msg", "detail", "details",
		"description", "title", "instance", "success", "ok", "requestid", "object", "timestamp", "path", "extensions", "data", "param", "params",
		"meta", "metadata", "documentationurl", "request", "url", "id", "sequencenumber", "traceid", "parameters", "global", "headers", "name":
		return true
	}
	_, _, ok := hintField(name)
	return ok || codeField(name) || strings.HasPrefix(name, "error") || strings.HasSuffix(name, "exception")
}

const (
	maxNesting = 32
	maxWord    = 64 // bytes of a name or a code
)

type nest struct {
	role  role
	array bool
	name  [maxWord]byte // of an array, which its elements share
	size  int
}

// readProblem reads JSON, or as much of it as there is, in one pass.
func readProblem(r *http.Response, body []byte) *problem {
	p := new(problem)
	var stack [maxNesting]nest
	stack[0] = nest{role: top, array: true}
	var name [maxWord]byte
	depth, size, keyed := 0, 0, false
	for i := 0; i < len(body); {
		f := &stack[min(depth, maxNesting-1)]
		in := f.role
		if depth >= maxNesting {
			in = foreign
		}
		c := body[i]
		i++
		key := name[:size]
		if f.array {
			key = f.name[:f.size]
		}
		switch {
		case c == '"':
			raw := str(body[i:])
			i = min(i+len(raw)+1, len(body))
			switch {
			case in == foreign:
			case !f.array && !keyed:
				size, keyed = plain64(&name, raw), true
				p.other = p.other || in == top && depth == 1 && !usual(string(name[:size]))
			default:
				p.field(r, in, string(key), raw)
			}
		case c >= '0' && c <= '9':
			n := i
			for n < len(body) && (body[n] >= '0' && body[n] <= '9' || strings.IndexByte(".eE+-", body[n]) >= 0) {
				n++
			}
			if in != foreign && (keyed || f.array) && (i < 2 || body[i-2] != '-') && n-i < maxWord {
				p.field(r, in, string(key), body[i-1:n])
			}
			i = n
		case c == '{', c == '[':
			next := in // of documents, and of what an array holds
			if keyed {
				next = roleOf(in, string(key))
			}
			if depth++; depth < maxNesting {
				g := &stack[depth]
				g.role, g.array = next, c == '['
				g.size = copy(g.name[:], key)
			}
			keyed = false
		case c == '}', c == ']':
			depth, keyed = max(depth-1, 0), false
		case c == ',':
			keyed = false
		case c == 'f' && keyed && in == top:
			p.failed = p.failed || string(key) == "ok" || string(key) == "success"
		}
	}
	return p
}

// str returns what stands before the end of a string.
func str(s []byte) []byte {
	for n := 0; ; n++ {
		i := bytes.IndexByte(s[n:], '"')
		if i < 0 {
			return s
		}
		n += i
		escapes := 0
		for escapes < n && s[n-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return s[:n]
		}
	}
}

// plain64 keeps letters, in lower case, and digits. It returns how many.
func plain64(to *[maxWord]byte, s []byte) (n int) {
	for _, c := range s {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if (c >= 'a' && c <= 'z' || c >= '0' && c <= '9') && n < len(to) {
			to[n] = c
			n++
		}
	}
	return n
}

// field notes a string or a number.
func (p *problem) field(r *http.Response, in role, name string, value []byte) {
	switch in {
	case budget:
		p.points.field(name, value)
		return
	case beside:
		return
	case failure:
		p.failed = p.failed || len(value) > 0
	}
	if rank, unit, ok := hintField(name); ok && rank > p.rank && len(value) <= maxWord {
		read := waiting
		if rank == rankTime {
			read = func(r *http.Response, s string, _ time.Duration) (time.Duration, bool) { return resetIn(r, s) }
		}
		if d, ok := read(r, string(value), unit); ok && d > 0 {
			p.wait, p.hinted, p.rank = d, true, rank
		}
	}
	if in == headers {
		return
	}
	if codeField(name) {
		p.sign |= signOf(value)
		switch {
		case in != top:
		case string(value) == "error", string(value) == "response.failed":
			p.failed = true
		}
	}
	switch name {
	case "error", "errors":
		p.failed = p.failed || in == top && len(value) > 0
		p.say(value)
	case "message", "msg", "detail", "details", "description", "errordescription", "errormessage", "title", "statusmsg":
		p.say(value)
	case "policyname", "policy", "limittype", "ratelimittype", "limitname", "quotatype", "quotalimit", "period":
		if p.per == 0 {
			p.per = spanIn(value)
		}
	}
}

// say adds a message.
func (p *problem) say(raw []byte) {
	if raw = raw[:min(len(raw), maxProse-len(p.message))]; len(raw) == 0 || p.said == maxFew {
		return
	}
	p.said++
	if bytes.IndexByte(raw, '\\') >= 0 {
		var s string
		if err := json.Unmarshal(append(append([]byte{'"'}, raw...), '"'), &s); err == nil {
			raw = []byte(s)
		}
	}
	p.message = append(append(p.message, raw...), '\n')
	p.message = p.message[:min(len(p.message), maxProse)]
}

// A throttle is what Shopify says of the points that a query costs:
// https://shopify.dev/docs/api/usage/limits#rate-limits.
type throttle struct{ requested, available, rate, most float64 }

func (t *throttle) field(name string, value []byte) {
	n, ok := number(string(value))
	if !ok {
		return
	}
	switch name {
	case "requestedquerycost":
		t.requested = n
	case "currentlyavailable":
		t.available = n
	case "restorerate":
		t.rate = n
	case "maximumavailable":
		t.most = n
	}
}

// until returns in how long there are points enough.
func (t *throttle) until() (time.Duration, bool) {
	if t.rate <= 0 || t.requested <= 0 {
		return 0, false
	}
	return duration(max(0, t.requested-t.available)/t.rate, time.Second), true
}

// Fields that say when to try again, from the least to the most exact.
const (
	rankTime = 1 + iota // a time of day, or since 1970
	rankWait
	rankMilli
)

// hintField reads the name of a field that may say when to try again, such as
// retry_after, retryAfterMs, reset_in_seconds, resetsAt, and the unit of a bare
// number in it.
func hintField(name string) (rank int, unit time.Duration, ok bool) {
	if len(name) < len("wait") {
		return 0, 0, false
	}
	base, rank, unit := name, rankWait, time.Second
	for _, u := range [...]struct {
		suffix string
		unit   time.Duration
	}{{"milliseconds", time.Millisecond}, {"millis", time.Millisecond}, {"msec", time.Millisecond}, {"ms", time.Millisecond}, {"seconds", time.Second}, {"secs", time.Second}, {"sec", time.Second}, {"minutes", time.Minute}, {"hours", time.Hour}} {
		if s, found := strings.CutSuffix(name, u.suffix); found {
			base, unit = s, u.unit
			break
		}
	}
	if strings.HasPrefix(base, "ms") || strings.HasPrefix(base, "milli") {
		unit = time.Millisecond
	}
	if unit == time.Millisecond {
		rank = rankMilli
	}
	switch base {
	case "wait", "waitfor", "delay":
		return rank, unit, true
	case "reset", "resets", "resetdate":
		return rankTime, unit, true
	}
	for _, end := range [...]string{"retryafter", "retryafters", "retryin", "retrydelay", "retrywait", "retryinterval", "tryagainin", "tryagainafter", "resetin", "resetsin", "resetafter",
		"waittime", "timetowait", "untilreset", "tilreset", "untilretry", "beforenext", "beforeretry", "backoff", "cooldown"} {
		if strings.HasSuffix(base, end) {
			return rank, unit, true
		}
	}
	for _, end := range [...]string{"resetat", "resetsat", "resettime", "resettimestamp", "ratelimitreset", "nextreset", "retryat", "retrytime", "tryagainat", "blockeduntil"} {
		if strings.HasSuffix(base, end) {
			return rankTime, unit, true
		}
	}
	return 0, 0, false
}
