package quotatest

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// refused is the body of a refusal, as a caller reads it.
type refused struct {
	Error struct {
		Code    int
		Message string
		Status  string
		Details []struct {
			Type       string `json:"@type"`
			Violations []struct {
				QuotaMetric     string
				QuotaID         string
				QuotaDimensions map[string]string
				QuotaValue      *string
			}
			Links []struct{ Description, URL string }

			RetryDelay string

			Reason, Domain string
			Metadata       map[string]string
		}
	}
}

func TestRefusal(t *testing.T) {
	const (
		requests = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
		tokens   = "generativelanguage.googleapis.com/generate_content_free_tier_input_token_count"
		rpm      = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
		rpd      = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
		tpm      = "GenerateContentInputTokensPerModelPerMinute-FreeTier"
		tpd      = "GenerateContentInputTokensPerModelPerDay-FreeTier"
		none     = "GenerateRequestsPerProjectPerModel-FreeTier" // says no span
		rph      = "GenerateRequestsPerHourPerProjectPerModel-FreeTier"
		rps      = "GenerateRequestsPerSecondPerProjectPerModel-FreeTier"
		tokensIn = "GenerateContentInputTokensPerModel-FreeTier"
	)
	type violation struct{ metric, id, value string }
	tests := []struct {
		name    string
		limits  []Limit
		at      time.Duration // of the second call, since a full minute
		want    []violation
		in      string // in the message
		seconds string // in RetryInfo
	}{
		{"requests", []Limit{RPM(1), TPM(100)}, 1066 * time.Millisecond,
			[]violation{{requests, rpm, "1"}}, "58.934s", "58s"},
		{"under a second", []Limit{RPM(1)}, time.Minute - 210928645,
			[]violation{{requests, rpm, "1"}}, "210.928645ms", "0s"},
		{"tokens", []Limit{RPM(2), TPM(3)}, 15 * time.Second,
			[]violation{{tokens, tpm, "3"}}, "45s", "45s"},
		{"all", []Limit{RPM(1), TPM(2), RPD(1)}, 20 * time.Second,
			[]violation{{requests, rpm, "1"}, {tokens, tpm, "2"}, {requests, rpd, "1"}}, "40s", "40s"},
		{"day", []Limit{RPM(10), RPD(1)}, 200 * time.Second,
			[]violation{{requests, rpd, "1"}}, "40s", "40s"},
		{"tokens of a day", []Limit{{Unit: Tokens, N: 2, Per: 24 * time.Hour, Count: Bucket}}, 59 * time.Second,
			[]violation{{tokens, tpd, "2"}}, "1s", "1s"},
		{"limit of 0", []Limit{RPM(0)}, 20 * time.Second,
			[]violation{{requests, rpm, ""}}, "40s", "40s"},
		{"a minute made short", []Limit{{N: 1, Per: 3 * time.Second}}, 500 * time.Millisecond,
			[]violation{{requests, none, "1"}}, "2.5s", "2s"},
		{"tokens of a minute made short", []Limit{{Unit: Tokens, N: 3, Per: 30 * time.Second}}, 10 * time.Second,
			[]violation{{tokens, tokensIn, "3"}}, "20s", "20s"},
		{"a second", []Limit{{N: 1, Per: time.Second}}, 500 * time.Millisecond,
			[]violation{{requests, rps, "1"}}, "500ms", "0s"},
		{"an hour", []Limit{{N: 1, Per: time.Hour, Count: Sliding}}, 500 * time.Millisecond,
			[]violation{{requests, rph, "1"}}, "59m59.5s", "3599s"},
		{"hours", []Limit{{N: 1, Per: 3 * time.Hour, Count: Sliding}}, 500 * time.Millisecond,
			[]violation{{requests, none, "1"}}, "2h59m59.5s", "10799s"},
		{"the longest of all", []Limit{{N: 1, Per: time.Minute, Count: Bucket}, {N: 1, Per: 2 * time.Minute, Count: Sliding}}, 30 * time.Second,
			[]violation{{requests, rpm, "1"}, {requests, none, "1"}}, "1m30s", "90s"},
	}
	for _, tt := range tests {
		for query, contentType := range map[string]string{
			":generateContent":               "application/json; charset=UTF-8",
			":streamGenerateContent":         "application/json; charset=UTF-8",
			":streamGenerateContent?alt=sse": "text/event-stream",
		} {
			t.Run(tt.name+query, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &Server{Limits: map[string][]Limit{"*": tt.limits}}
					do(s, "POST", flash+query, hello)
					time.Sleep(tt.at)
					resp := do(s, "POST", flash+query, hello)
					if resp.StatusCode != 429 || resp.Header.Get("Content-Type") != contentType {
						t.Errorf("%s, %s", resp.Status, resp.Header.Get("Content-Type"))
					}
					if resp.Header["Retry-After"] != nil {
						t.Error("a Retry-After header")
					}
					e := decode[refused](t, resp).Error
					if e.Code != 429 || e.Status != "RESOURCE_EXHAUSTED" {
						t.Errorf("error %d %s", e.Code, e.Status)
					}
					if want := "You exceeded your current quota"; !strings.HasPrefix(e.Message, want) {
						t.Errorf("message %q, want prefix %q", e.Message, want)
					}
					lines := strings.Split(e.Message, "\n")[1:]
					var want []string
					for _, v := range tt.want {
						n := v.value
						if n == "" {
							n = "0"
						}
						want = append(want, "* Quota exceeded for metric: "+v.metric+", limit: "+n+", model: gemini-2.5-flash")
					}
					if want = append(want, "Please retry in "+tt.in+"."); !reflect.DeepEqual(lines, want) {
						t.Errorf("message says %q, want %q", lines, want)
					}

					if len(e.Details) != 3 {
						t.Fatalf("%d details", len(e.Details))
					}
					for i, want := range []string{"QuotaFailure", "Help", "RetryInfo"} {
						if got := e.Details[i].Type; got != "type.googleapis.com/google.rpc."+want {
							t.Errorf("detail %d is %s, want %s", i, got, want)
						}
					}
					var got []violation
					for _, v := range e.Details[0].Violations {
						w := violation{v.QuotaMetric, v.QuotaID, ""}
						if v.QuotaValue != nil {
							w.value = *v.QuotaValue
							if w.value == "" {
								t.Error("an empty quotaValue")
							}
						}
						got = append(got, w)
						if want := map[string]string{"location": "global", "model": "gemini-2.5-flash"}; !reflect.DeepEqual(v.QuotaDimensions, want) {
							t.Errorf("dimensions %v", v.QuotaDimensions)
						}
					}
					if !reflect.DeepEqual(got, tt.want) {
						t.Errorf("violations %v, want %v", got, tt.want)
					}
					if got := e.Details[1].Links; len(got) != 1 || got[0].URL == "" {
						t.Errorf("links %v", got)
					}
					if got := e.Details[2].RetryDelay; got != tt.seconds {
						t.Errorf("retryDelay %s, want %s", got, tt.seconds)
					}
				})
			})
		}
	}
}

// TestRefusalKeepsItsWord comes back when the refusal says, and a nanosecond
// earlier.
func TestRefusalKeepsItsWord(t *testing.T) {
	for _, count := range []Counting{Fixed, Sliding, Bucket, Counter} {
		synctest.Test(t, func(t *testing.T) {
			s := &Server{
				Limits: map[string][]Limit{"*": {{N: 3, Per: 7 * time.Second, Count: count, Phase: time.Second}}},
				Skew:   1234567 * time.Microsecond,
			}
			for range 20 {
				resp := do(s, "POST", flash+":generateContent", hello)
				if resp.StatusCode == 200 {
					time.Sleep(300 * time.Millisecond)
					continue
				}
				_, word, _ := strings.Cut(decode[refused](t, resp).Error.Message, "Please retry in ")
				wait, err := time.ParseDuration(strings.TrimSuffix(word, "."))
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(wait - 1)
				if got := do(s, "POST", flash+":generateContent", hello).StatusCode; got != 429 {
					t.Errorf("counting %v: %d a nanosecond before the end of %v", count, got, wait)
				}
				time.Sleep(time.Nanosecond)
				if got := do(s, "POST", flash+":generateContent", hello).StatusCode; got != 200 {
					t.Errorf("counting %v: %d after %v", count, got, wait)
				}
			}
			if s.Refused() < 4 {
				t.Errorf("counting %v: %d refused", count, s.Refused())
			}
		})
	}
}

func TestFailures(t *testing.T) {
	for status, want := range map[int]string{
		400: "INVALID_ARGUMENT",
		401: "UNAUTHENTICATED",
		403: "PERMISSION_DENIED",
		404: "NOT_FOUND",
		429: "RESOURCE_EXHAUSTED",
		500: "INTERNAL",
		503: "UNAVAILABLE",
		504: "DEADLINE_EXCEEDED",
		529: "UNKNOWN",
	} {
		s := &Server{Script: func(int, *http.Request) int { return status }}
		resp := do(s, "POST", flash+":generateContent", hello)
		e := decode[refused](t, resp).Error
		if resp.StatusCode != status || e.Code != status || e.Status != want || e.Message == "" || e.Details != nil {
			t.Errorf("%d: %d %+v, want %s", status, resp.StatusCode, e, want)
		}
		if status == 503 && !strings.HasPrefix(e.Message, "The model is overloaded") {
			t.Errorf("503: %s", e.Message)
		}
		if strings.Contains(e.Message, "retry in") {
			t.Errorf("%d has a hint: %s", status, e.Message)
		}
	}
}

func TestBadKey(t *testing.T) {
	s := &Server{APIKey: "secret", Limits: map[string][]Limit{"*": {{N: 1, Per: time.Hour, Count: Sliding}}}}
	e := decode[refused](t, do(s, "POST", flash+":generateContent?key=guess", hello)).Error
	if e.Code != 400 || e.Status != "INVALID_ARGUMENT" || len(e.Details) != 1 {
		t.Fatalf("%+v", e)
	}
	d := e.Details[0]
	if d.Type != "type.googleapis.com/google.rpc.ErrorInfo" || d.Reason != "API_KEY_INVALID" ||
		d.Domain != "googleapis.com" || d.Metadata["service"] != "generativelanguage.googleapis.com" {
		t.Errorf("%+v", d)
	}
	if got := do(s, "POST", flash+":generateContent?key=secret", hello).StatusCode; got != 200 {
		t.Errorf("then %d: it drew on the quota", got)
	}
}
