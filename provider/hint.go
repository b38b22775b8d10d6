package provider

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// hint reads when to try again from where a refusal says it best: what Google
// has in its body, the headers made for it, the message, the headers that state
// limits.
func hint(r *http.Response, e *google, text []byte) (time.Duration, bool) {
	if d, ok := e.retryIn(); ok {
		return d, true
	}
	if d, ok := e.retryDelay(); ok {
		return d, true
	}
	if d, ok := retryAfterMs(r); ok {
		return d, true
	}
	if d, ok := retryAfter(r); ok {
		return d, true
	}
	if d, ok := tryAgain(text); ok {
		return d, true
	}
	if d, ok := empty(r); ok {
		return d, true
	}
	return reset(r)
}

// retryAfterMs reads the milliseconds that Azure has beside Retry-After, and
// which are more exact unless they are 0.
func retryAfterMs(r *http.Response) (time.Duration, bool) {
	ms, ok := number(header(r, "Retry-After-Ms"))
	return duration(ms, time.Millisecond), ok && ms > 0
}

// retryAfter reads Retry-After: seconds, whole (RFC 9110, section 10.2.3) or
// not, or a date by the server's own clock.
func retryAfter(r *http.Response) (time.Duration, bool) {
	v := header(r, "Retry-After")
	if s, ok := number(v); ok {
		return duration(s, time.Second), true
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0, false
	}
	return max(0, at.Sub(serverTime(r))), true
}

// empty reads in how long a limit is back of which the RateLimit fields do not
// say that something is left.
func empty(r *http.Response) (wait time.Duration, ok bool) {
	for _, p := range policies(r) {
		if p.left <= 0 && p.reset >= 0 {
			wait, ok = max(wait, p.reset), true
		}
	}
	return wait, ok
}

// reset reads X-RateLimit-Reset and its like. Where something is left of that
// limit, the refusal is for another one, and the reset is not its end:
// https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api.
func reset(r *http.Response) (time.Duration, bool) {
	for _, prefix := range []string{"X-Ratelimit-", "X-Rate-Limit-"} {
		if left, ok := integer(header(r, prefix+"Remaining")); ok && left > 0 {
			continue
		}
		for _, name := range []string{"Reset-After", "Reset"} {
			if d, ok := resetIn(r, header(r, prefix+name)); ok {
				return d, true
			}
		}
	}
	return 0, false
}

// resetIn reads a reset: seconds from now, or a time in seconds since 1970
// (GitHub) or in milliseconds (OpenRouter). Nothing waits three years, and no
// clock is in the year 5138.
func resetIn(r *http.Response, value string) (time.Duration, bool) {
	n, ok := number(value)
	switch {
	case !ok:
		return 0, false
	case n >= 1e11:
		return until(r, n, time.Millisecond), true
	case n >= 1e8:
		return until(r, n, time.Second), true
	}
	return duration(n, time.Second), true
}

// until returns how long it is until a time since 1970, by the server's clock.
func until(r *http.Response, n float64, unit time.Duration) time.Duration {
	at := duration(n, unit)
	return max(0, at-time.Duration(serverTime(r).UnixNano()))
}

// serverTime is what the server's clock stood at, or ours if it does not say.
func serverTime(r *http.Response) time.Time {
	if t, err := http.ParseTime(header(r, "Date")); err == nil {
		return t
	}
	return time.Now()
}

// header returns a header's value, if it is no longer than any that makes sense.
func header(r *http.Response, name string) string {
	if v := r.Header.Get(name); len(v) <= maxValue {
		return strings.TrimSpace(v)
	}
	return ""
}

const maxValue = 256

// number reads a finite number that is not less than 0.
func number(s string) (float64, bool) {
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil && n >= 0 && !math.IsInf(n, 0)
}

// duration returns n units, rounded up, saturating.
func duration(n float64, unit time.Duration) time.Duration {
	if d := math.Ceil(n * float64(unit)); d < math.MaxInt64 {
		return time.Duration(d)
	}
	return math.MaxInt64
}
