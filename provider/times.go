package provider

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// never is the longest wait.
const never = time.Duration(math.MaxInt64)

// spans are units of time by their names in headers, bodies and prose.
var spans = map[string]time.Duration{
	"ns": time.Nanosecond, "us": time.Microsecond, "µs": time.Microsecond,
	"ms": time.Millisecond, "msec": time.Millisecond, "milli": time.Millisecond, "millis": time.Millisecond, "millisecond": time.Millisecond,
	"s": time.Second, "sec": time.Second, "second": time.Second, "secondly": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutely": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hourly": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour, "daily": 24 * time.Hour,
	"week": 7 * 24 * time.Hour, "weekly": 7 * 24 * time.Hour,
	"month": 30 * 24 * time.Hour, "monthly": 30 * 24 * time.Hour,
}

// span returns a unit of time by its name, in the singular or the plural.
func span(name string) time.Duration {
	if d, ok := spans[name]; ok {
		return d
	}
	return spans[strings.TrimSuffix(name, "s")]
}

// waiting reads how long to wait, in any form seen: a number of the given unit
// ("120", "1.5"), numbers with their units ("30s", "2 minutes", "1 h, 5 min",
// "1m2.5s", "PT30S"), or a time ("2026-03-26T16:00Z", an HTTP-date). A number too
// large for a wait is a time since 1970.
func waiting(r *http.Response, s string, unit time.Duration) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	if n, ok := number(s); ok {
		if n >= 1e8 && n < 1e13 && n*float64(unit) >= 1e17 { // three years
			return since1970(r, n), true
		}
		return duration(n, unit), true
	}
	if d, ok := spelled(s); ok {
		return d, true
	}
	return moment(r, s)
}

// resetIn reads when a limit is back: as a wait, or as a time in seconds since
// 1970 (GitHub) or in milliseconds (OpenRouter). Nothing waits three years.
func resetIn(r *http.Response, s string) (time.Duration, bool) {
	if n, ok := number(s); ok && n >= 1e8 {
		return since1970(r, n), true
	}
	return waiting(r, s, time.Second)
}

// since1970 returns how long it is until a time in seconds or milliseconds since
// 1970, by the server's clock, which is not in the year 5138.
func since1970(r *http.Response, n float64) time.Duration {
	unit := time.Second
	if n >= 1e11 {
		unit = time.Millisecond
	}
	return max(0, duration(n, unit)-time.Duration(serverTime(r).UnixNano()))
}

// layouts are forms of ISO 8601 beside RFC 3339, some of them without seconds.
var layouts = [...]string{
	time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05Z0700",
	"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05 MST", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05",
}

// moment returns how long it is until a date and time of day, by the server's
// clock. A time without a zone is UTC.
func moment(r *http.Response, s string) (time.Duration, bool) {
	if len(s) < len("2006-01-02T15:04") || len(s) > 40 {
		return 0, false
	}
	if c := s[0]; c >= '0' && c <= '9' {
		if s[4] != '-' {
			return 0, false
		}
		for _, layout := range layouts {
			if at, err := time.Parse(layout, s); err == nil {
				return max(0, at.Sub(serverTime(r))), true
			}
		}
		return 0, false
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0, false
	}
	return max(0, at.Sub(serverTime(r))), true
}

// spelled reads numbers, each with its unit, which add up.
func spelled(s string) (time.Duration, bool) {
	if len(s) > 64 {
		return 0, false
	}
	if rest, ok := strings.CutPrefix(s, "PT"); ok { // ISO 8601
		s = strings.ToLower(rest)
	}
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	if c := s[len(s)-1]; c == 's' || c == 'm' || c == 'h' {
		if d, err := time.ParseDuration(s); err == nil {
			return d, true
		}
	}
	var sum time.Duration
	for s != "" {
		end := 0
		for end < len(s) && (s[end] >= '0' && s[end] <= '9' || s[end] == '.') {
			end++
		}
		n, ok := number(s[:end])
		if !ok {
			return 0, false
		}
		s = strings.TrimLeft(s[end:], " ")
		for end = 0; end < len(s) && (s[end]|0x20 >= 'a' && s[end]|0x20 <= 'z' || s[end] >= 0x80); end++ {
		}
		unit := span(strings.ToLower(s[:end]))
		if unit == 0 {
			return 0, false
		}
		sum += min(duration(n, unit), never-sum)
		s = strings.TrimLeft(s[end:], " ,.")
		s = strings.TrimPrefix(s, "and ")
	}
	return sum, true
}

// serverTime is what the server's clock stood at, or ours if it does not say.
func serverTime(r *http.Response) time.Time {
	if date := first(r.Header, "Date"); date != "" {
		if t, err := http.ParseTime(date); err == nil {
			return t
		}
	}
	return time.Now()
}

// maxValue is the length of a header's value that makes sense, but for lists.
const maxValue = 256

// first returns the first value of a header, whose name is in canonical form, if
// it is no longer than any that makes sense.
func first(h http.Header, name string) string {
	if v := h[name]; len(v) > 0 && len(v[0]) <= maxValue {
		return strings.TrimSpace(v[0])
	}
	return ""
}

// number reads a finite number that is not less than 0. It does not allocate if
// there is none.
func number(s string) (float64, bool) {
	if s == "" {
		return 0, false
	}
	exponent := false
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c == '.':
		case i > 0 && (c == 'e' || c == 'E' || c == '+' || c == '-'):
			exponent = true
		default:
			return 0, false
		}
	}
	if n, ok := integer(s); ok && !exponent {
		return float64(n), true
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil && n >= 0 && !math.IsInf(n, 0)
}

// integer reads a whole number that is not less than 0 and fits, which a
// fraction of nothing may follow. It does not allocate.
func integer(s string) (n int64, ok bool) {
	s = strings.TrimSuffix(strings.TrimSpace(s), ".0")
	if s == "" || len(s) > 18 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

// whole reads digits, with commas between thousands or without: 0 if they are
// too many.
func whole(digits []byte) (n int64) {
	for _, c := range digits {
		switch {
		case c == ',':
		case n > math.MaxInt64/10-1:
			return 0
		default:
			n = n*10 + int64(c-'0')
		}
	}
	return n
}

// duration returns n units, to the nanosecond, saturating.
func duration(n float64, unit time.Duration) time.Duration {
	if d := math.Round(n * float64(unit)); d < math.MaxInt64 {
		return time.Duration(d)
	}
	return never
}
