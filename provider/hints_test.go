package provider_test

import (
	"fmt"
	"testing"
	"time"

	"example.com/tollgate/provider"
)

const noon = "Sat, 01 Jan 2000 12:00:00 GMT"

// Waits in every form, wherever they stand.
func TestWaits(t *testing.T) {
	tests := []struct {
		header, value string
		want          time.Duration // less than 0: none
	}{
		{"Retry-After", "30s", 30 * time.Second},
		{"Retry-After", "30 s", 30 * time.Second},
		{"Retry-After", "1500 ms", 1500 * time.Millisecond},
		{"Retry-After", "2 Minutes", 2 * time.Minute},
		{"Retry-After", "1 hour, 5 minutes and 3 seconds", 65*time.Minute + 3*time.Second},
		{"Retry-After", "1m30s", 90 * time.Second},
		{"Retry-After", "PT1M30S", 90 * time.Second},
		{"Retry-After", "946728030", 30 * time.Second},       // a time since 1970
		{"Retry-After", "946728030500", 30500000000},         // in milliseconds
		{"Retry-After", "2000-01-01T12:00:30Z", 30000000000}, // a time of day
		{"Retry-After", "2000-01-01 12:00:30", 30 * time.Second},
		{"Retry-After", "2000-01-01T13:01+01:00", time.Minute},
		{"Retry-After", "30 parsecs", -1},
		{"Retry-After", "s", -1},
		{"Retry-After", "1h 2", -1},
		{"Retry-After", "PT", -1},
		{"Retry-After", "0x10", -1},
		{"Retry-After", "+5", -1},
		{"Retry-After", "2000-13-01T12:00Z", -1},
		{"X-Ms-Retry-After-Ms", "8000", 8 * time.Second},
		{"X-Ms-Retry-After-Ms", "0", -1},
		{"X-Retry-After", "4", 4 * time.Second},
		{"X-RateLimit-Reset", "20m52.666s", 20*time.Minute + 52666*time.Millisecond},
		{"X-RateLimit-Reset", "2.5", 2500 * time.Millisecond},
		{"X-RateLimit-Reset", "946728030.5", 30500 * time.Millisecond},
		{"X-RateLimit-Reset", "946728030000", 30 * time.Second},
		{"X-RateLimit-Reset", "2000-01-01T12:01Z", time.Minute},
		{"X-RateLimit-Reset", "Sat, 01 Jan 2000 12:01:00 GMT", time.Minute},
		{"X-RateLimit-Reset", "tomorrow", -1},
		{"X-Rate-Limit-Reset-After", "1.25", 1250 * time.Millisecond},
		{"X-Example-RateLimit-Reset", "9", 9 * time.Second},
	}
	for _, test := range tests {
		r := response("api.example.com", 429, "Date", noon, test.header, test.value)
		got := provider.HTTP.Refusal(r, nil)
		if !got.Hinted {
			got.Wait = -1
		}
		if got.Wait != test.want {
			t.Errorf("%s: %s: %v, want %v", test.header, test.value, got.Wait, test.want)
		}
	}
}

// Fields of JSON that say when, in every place that is usual.
func TestJSONHints(t *testing.T) {
	fields := []struct {
		field string
		want  time.Duration // less than 0: none
	}{
		{`"retry_after":3`, 3 * time.Second},
		{`"retryAfter":3.5`, 3500 * time.Millisecond},
		{`"retry-after":"3"`, 3 * time.Second},
		{`"RetryAfter":"3s"`, 3 * time.Second},
		{`"retry_after_ms":3500`, 3500 * time.Millisecond},
		{`"retryAfterMilliseconds":3500`, 3500 * time.Millisecond},
		{`"retry_after_seconds":3`, 3 * time.Second},
		{`"retryAfterSecs":3`, 3 * time.Second},
		{`"retry_in":3`, 3 * time.Second},
		{`"retryDelay":"3s"`, 3 * time.Second},
		{`"reset_in":3`, 3 * time.Second},
		{`"resetInMs":3000`, 3 * time.Second},
		{`"resets_in_seconds":3`, 3 * time.Second},
		{`"reset_after":3.0`, 3 * time.Second},
		{`"seconds_until_reset":3`, 3 * time.Second},
		{`"msBeforeNext":3000`, 3 * time.Second},
		{`"wait":3`, 3 * time.Second},
		{`"wait_time_seconds":3`, 3 * time.Second},
		{`"wait_minutes":2`, 2 * time.Minute},
		{`"backoff":3`, 3 * time.Second},
		{`"reset_at":946728003`, 3 * time.Second},
		{`"resetsAt":"2000-01-01T12:00:03Z"`, 3 * time.Second},
		{`"resetTime":946728003000`, 3 * time.Second},
		{`"retry_after":3,"retry_after_ms":2750`, 2750 * time.Millisecond},
		{`"reset_at":946728099,"retry_after":3`, 3 * time.Second},
		{`"retry_after":0`, -1},
		{`"retry_after":-3`, -1},
		{`"retry_after":null`, -1},
		{`"retry_after":"soon"`, -1},
		{`"retry_after_x":3`, -1},
		{`"awaiting":3`, -1},
		{`"max_retries":3`, -1},
	}
	for place, ok := range map[string]bool{
		`{%s}`:                             true,
		`{"error":{"code":"x",%s}}`:        true,
		`{"error":{"details":[{%s}]}}`:     true,
		`{"errors":[{"extensions":{%s}}]}`: true,
		`[{"error":{%s}}]`:                 true,
		`{"parameters":{%s},"ok":false}`:   true,
		`{"error":{"error":{%s}}}`:         true,
		`{"request":{"tools":[{%s}]}}`:     false,
		`{"error":{"input":{%s}}}`:         false,
		`{"text":"{%s}"}`:                  false,
	} {
		for _, f := range fields {
			want := f.want
			if !ok {
				want = -1
			}
			field := f.field
			if place == `{"text":"{%s}"}` {
				field = fmt.Sprintf("%q", field)
				field = field[1 : len(field)-1]
			}
			got := provider.HTTP.Refusal(response("api.example.com", 429, "Date", noon), fmt.Appendf(nil, place, field))
			if !got.Hinted {
				got.Wait = -1
			}
			if got.Wait != want {
				t.Errorf("%s in %s: %v, want %v", f.field, place, got.Wait, want)
			}
		}
	}
}

// Whatever is said of when, in a header or a body, comes to no negative wait.
func FuzzWaits(f *testing.F) {
	f.Add("1 hour, 5 minutes", "946728030.5", `"retry_after":3`)
	f.Add("PT1M30S", "2000-01-01T12:01Z", `"reset_at":"2000-01-01 12:00:03 +0100"`)
	f.Fuzz(func(t *testing.T, after, reset, field string) {
		r := response("api.example.com", 429, "Date", noon, "Retry-After", after)
		check(t, provider.HTTP.Refusal(r, nil))
		r = response("api.example.com", 429, "X-RateLimit-Reset", reset, "X-Some-RateLimit-Remaining", after, "RateLimit-Limit", field)
		check(t, provider.HTTP.Refusal(r, fmt.Appendf(nil, `{"error":{%s}}`, field)))
		for _, l := range provider.HTTP.Levels(r) {
			if l.N < 0 || l.N == 0 && l.Left != 0 || l.Per < 0 || l.Left < -1 || l.Left > l.N || l.Full < -1 {
				t.Errorf("%+v", l)
			}
		}
	})
}
