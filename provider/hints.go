package provider

import (
	"net/http"
	"time"
)

// hint reads when to try again from where a refusal says it best: what Google
// has in its body, the headers made for it, the fields of the body, the message,
// the headers that state limits. Each of them may be missing.
func hint(r *http.Response, e *googleError, p *problem, text []byte) (time.Duration, bool) {
	if d, ok := e.retryIn(); ok {
		return d, true
	}
	if d, ok := e.retryDelay(); ok {
		return d, true
	}
	if d, ok := retryAfter(r); ok {
		return d, true
	}
	if p.hinted {
		return p.wait, true
	}
	if d, ok := tryAgain(text); ok {
		return d, true
	}
	return limitReset(r)
}

// retryAfter reads the headers that say when to try again. Those of milliseconds
// are more exact, unless they are 0; Retry-After has seconds or a date by the
// server's own clock (RFC 9110, section 10.2.3), and elsewhere fractions and units.
func retryAfter(r *http.Response) (time.Duration, bool) {
	for _, name := range [...]string{"Retry-After-Ms", "X-Ms-Retry-After-Ms", "X-Retry-After-Ms"} { // Azure OpenAI, Cosmos DB
		if d, ok := waiting(r, first(r.Header, name), time.Millisecond); ok && d > 0 {
			return d, true
		}
	}
	for _, name := range [...]string{"Retry-After", "X-Retry-After", "X-Ratelimit-Retry-After", "X-Rate-Limit-Retry-After"} {
		if d, ok := waiting(r, first(r.Header, name), time.Second); ok {
			return d, true
		}
	}
	return 0, false
}

// waits reports whether a header says when to try again.
func waits(r *http.Response) bool {
	_, ok := retryAfter(r)
	return ok
}

// limitReset reads when a limit is back of which the headers do not say that
// something is left. Where something is left, the refusal is for another limit,
// and the reset is not its end:
// https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api.
// Limits of a subject, such as tokens, state when they are full and not when a
// request fits.
func limitReset(r *http.Response) (wait time.Duration, ok bool) {
	var f fields
	f.read(r.Header)
	var array [maxPolicies]policy
	for _, p := range policies(array[:0], f.policy, f.current) {
		if p.left <= 0 && p.reset >= 0 {
			wait, ok = max(wait, p.reset), true
		}
	}
	for i := range f.families[:f.n] {
		m := &f.families[i]
		if left, known := number(m.values[remaining]); m.subject != "" || known && left > 0 {
			continue
		}
		if d, known := m.resets(r); known {
			wait, ok = max(wait, d), true
		}
	}
	return wait, ok
}
