package provider

import (
	"bytes"
	"net/http"
	"strings"
	"time"
)

// refusal reads what any API says with a refusal, given what its headers say of
// limits.
func refusal(r *http.Response, body []byte, levels []Level) Refusal {
	p := readProblem(r, body)
	return p.refusal(r, p.prose(body), levels)
}

func (p *problem) refusal(r *http.Response, text []byte, levels []Level) (ref Refusal) {
	ref.Wait, ref.Hinted = hint(r, nil, p, text)
	ref.Never = p.sign&unpaid != 0 || p.sign&capped != 0 && !p.hinted || incurable(text)
	ref.Slower = p.sign&gradual != 0 || asksForSlower(text)
	ref.Overload = p.overload(r) && !ref.Slower
	v, known := named(text)
	if m := sharedLimit.find(p.message); m != nil {
		v.Model, known = string(m[1]), true
	}
	switch {
	case known:
		ref.Limits = []Violation{v}
	case p.sign&daily != 0:
		ref.Limits = []Violation{{Per: 24 * time.Hour}}
	case p.per > 0:
		ref.Limits = []Violation{{Per: p.per}}
	default:
		ref.Limits = exceeded(r, levels)
	}
	if r.StatusCode == http.StatusForbidden {
		ref.None = p.sign&^busy == 0 && !waits(r) && !exhausted(r)
	}
	return ref
}

// overload reports whether the server is busy, whatever the quota.
func (p *problem) overload(r *http.Response) bool {
	if r.StatusCode == http.StatusServiceUnavailable || r.StatusCode == statusOverloaded {
		return p.sign&rate == 0 || p.sign&busy != 0
	}
	return p.sign&busy != 0 && p.sign&rate == 0
}

// prose returns what of a body is read as prose, in lower case: its beginning, and
// messages that are not in it as they are.
func (p *problem) prose(body []byte) []byte {
	text := lower(body[:min(len(body), maxProse)])
	if len(body) > maxProse {
		return append(lower(p.message), text...)[:maxProse]
	}
	if bytes.Contains(text, []byte(`\u`)) {
		return append(append(text, '\n'), lower(p.message)...)
	}
	return text
}

// event reads an error that came with status 200.
func event(r *http.Response, kind string, data []byte) (Refusal, bool) {
	status, p := misfortune(r, kind, data)
	if status == 0 {
		return Refusal{}, false
	}
	resp := inBody(r, status)
	ref := p.refusal(resp, p.prose(data), levels(resp))
	if wait, ok := p.points.until(); ok {
		ref.Wait, ref.Hinted = wait, true
		ref.Limits = []Violation{{N: int64(p.points.most), Uncounted: true}} // points
	}
	return ref, true
}

// misfortune reads an error that came with status 200, and returns the status
// that it should have come with if it is a refusal, else 0.
func misfortune(r *http.Response, kind string, data []byte) (status int, p *problem) {
	p = readProblem(r, data)
	s := signOf([]byte(kind))
	p.sign |= s
	words := strings.ToLower(kind)
	if s == 0 && !p.failed && words != "error" && !strings.Contains(words, "exception") && (p.other || p.sign == 0) {
		return 0, p // it is no error
	}
	if p.sign == 0 {
		p.sign = signOfProse(lower(p.message))
	}
	switch {
	case p.sign == 0:
		return 0, p
	case p.sign&^busy != 0:
		return http.StatusTooManyRequests, p
	}
	return http.StatusServiceUnavailable, p
}

// signOfProse reads what a message of an error means whose code means nothing.
func signOfProse(text []byte) sign {
	for _, s := range [...]string{"rate limit", "ratelimit", "rate-limit", "too many requests", "too many tokens", "throttl", "exceeded your quota", "exceeded your current quota", "quota exceeded", "resource exhausted", "resource has been exhausted"} {
		if bytes.Contains(text, []byte(s)) {
			return rate
		}
	}
	for _, s := range [...]string{"overloaded", "temporarily unavailable", "at capacity", "server is busy"} {
		if bytes.Contains(text, []byte(s)) {
			return busy
		}
	}
	if incurable(text) {
		return unpaid
	}
	return 0
}

// inBody returns the response that an error in a body would have been. What its
// header says of limits holds; when to try again it says only of an error that is
// all of the body, as in a stream it was sent before.
func inBody(r *http.Response, status int) *http.Response {
	resp := &http.Response{StatusCode: status, Header: r.Header, Request: r.Request}
	if t := first(r.Header, "Content-Type"); strings.Contains(t, "stream") || strings.Contains(t, "ndjson") {
		resp.Header = r.Header.Clone()
		for _, name := range [...]string{"Retry-After", "Retry-After-Ms", "X-Ms-Retry-After-Ms", "X-Retry-After", "X-Retry-After-Ms", "Date"} {
			delete(resp.Header, name)
		}
	}
	return resp
}
