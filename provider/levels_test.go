package provider_test

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"example.com/tollgate/provider"
)

// response is one of the given host, with headers in pairs.
func response(host string, status int, header ...string) *http.Response {
	r := &http.Response{StatusCode: status, Header: http.Header{}, Request: &http.Request{Method: "POST", URL: &url.URL{Scheme: "https", Host: host, Path: "/v1/chat/completions"}}}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func TestLevels(t *testing.T) {
	const (
		minute = time.Minute
		date   = "Wed, 05 Mar 2025 10:00:00 GMT"
	)
	level := func(u provider.Unit, n int64, per time.Duration, left int64, full time.Duration) provider.Level {
		return provider.Level{Unit: u, N: n, Per: per, Left: left, Full: full}
	}
	tests := []struct {
		name   string
		host   string
		header []string
		want   []provider.Level
	}{
		{"nothing", "api.openai.com", nil, nil},
		{"a minute's", "api.openai.com", []string{
			"x-ratelimit-limit-requests", "600", "x-ratelimit-remaining-requests", "590", "x-ratelimit-reset-requests", "1s",
			"x-ratelimit-limit-tokens", "30000", "x-ratelimit-remaining-tokens", "20000", "x-ratelimit-reset-tokens", "20s",
		}, []provider.Level{level(provider.Requests, 600, minute, 590, time.Second), level(provider.Tokens, 30000, minute, 20000, 20*time.Second)}},
		{"a day's", "api.openai.com", []string{"x-ratelimit-limit-requests", "200", "x-ratelimit-remaining-requests", "199", "x-ratelimit-reset-requests", "7m12s"},
			[]provider.Level{level(provider.Requests, 200, 24*time.Hour, 199, 432*time.Second)}},
		{"full, which does not say in how long", "api.openai.com", []string{"x-ratelimit-limit-tokens", "1000", "x-ratelimit-remaining-tokens", "1000", "x-ratelimit-reset-tokens", "0s"},
			[]provider.Level{level(provider.Tokens, 1000, 0, 1000, 0)}},
		{"no reset", "api.x.ai", []string{"x-ratelimit-limit-requests", "300", "x-ratelimit-remaining-requests", "299"},
			[]provider.Level{level(provider.Requests, 300, 0, 299, -1)}},
		{"Groq's requests are a day's", "api.groq.com", []string{"x-ratelimit-limit-requests", "1000", "x-ratelimit-remaining-requests", "1000", "x-ratelimit-reset-requests", "0s"},
			[]provider.Level{level(provider.Requests, 1000, 24*time.Hour, 1000, 0)}},
		{"Azure, in seconds", "x.openai.azure.com", []string{"x-ratelimit-limit-tokens", "6000", "x-ratelimit-remaining-tokens", "3000", "x-ratelimit-reset-tokens", "30", "x-ratelimit-renewalperiod-tokens", "60"},
			[]provider.Level{level(provider.Tokens, 6000, minute, 3000, 30*time.Second)}},
		{"Azure, in milliseconds", "x.openai.azure.com", []string{"x-ratelimit-limit-tokens", "6000", "x-ratelimit-remaining-tokens", "5900", "x-ratelimit-reset-tokens", "1000"},
			[]provider.Level{level(provider.Tokens, 6000, minute, 5900, time.Second)}},
		{"Azure, unknown", "x.openai.azure.com", []string{"x-ratelimit-limit-requests", "-1", "x-ratelimit-limit-tokens", "6000", "x-ratelimit-remaining-tokens", "-1", "x-ratelimit-reset-tokens", "-1"},
			[]provider.Level{level(provider.Tokens, 6000, 0, -1, -1)}},
		{"Mistral", "api.mistral.ai", []string{"x-ratelimit-limit-req-minute", "60", "x-ratelimit-remaining-req-minute", "59", "x-ratelimit-limit-tokens-minute", "500000", "x-ratelimit-remaining-tokens-minute", "499000"},
			[]provider.Level{level(provider.Requests, 60, minute, 59, -1), level(provider.Tokens, 500000, minute, 499000, -1)}},
		{"Anthropic", "api.anthropic.com", []string{"Date", date,
			"anthropic-ratelimit-requests-limit", "50", "anthropic-ratelimit-requests-remaining", "49", "anthropic-ratelimit-requests-reset", "2025-03-05T10:00:01Z",
			"anthropic-ratelimit-tokens-limit", "50000", "anthropic-ratelimit-tokens-remaining", "48000", "anthropic-ratelimit-tokens-reset", "2025-03-05T10:00:03Z",
			"anthropic-ratelimit-input-tokens-limit", "40000", "anthropic-ratelimit-input-tokens-remaining", "39000", "anthropic-ratelimit-input-tokens-reset", "2025-03-05T09:59:00Z",
			"anthropic-ratelimit-output-tokens-limit", "8000", "anthropic-ratelimit-output-tokens-remaining", "8000",
		}, []provider.Level{level(provider.Requests, 50, minute, 49, time.Second), level(provider.Tokens, 40000, minute, 39000, 0), level(provider.OutputTokens, 8000, minute, 8000, -1)}},
		{"nonsense", "api.openai.com", []string{"x-ratelimit-limit-requests", "many", "x-ratelimit-limit-tokens", "99999999999999999999"}, nil},
		{"more left than there is", "api.openai.com", []string{"x-ratelimit-limit-requests", "5", "x-ratelimit-remaining-requests", "6", "x-ratelimit-reset-requests", "-3s"},
			[]provider.Level{level(provider.Requests, 5, 0, -1, -1)}},
		{"a plain host", "api.example.com", nil, nil},
		{"IETF", "api.example.com", []string{"RateLimit-Policy", `"burst";q=100;w=60, "day";q=5000;w=86400;qu="tokens", "size";q=9;w=1;qu="content-bytes"`, "RateLimit", `"burst";r=50;t=30, "size";r=1;t=1`},
			[]provider.Level{level(provider.Requests, 100, minute, 50, 30*time.Second), level(provider.Tokens, 5000, 24*time.Hour, -1, -1)}},
		{"IETF, as Hugging Face has it", "router.huggingface.co", []string{"RateLimit-Policy", `"fixed window";"api";q=1000;w=300`, "RateLimit", `"api";r=999;t=295`},
			[]provider.Level{level(provider.Requests, 1000, 5*minute, 999, 295*time.Second)}},
		{"IETF, tokens for names, and spaces", "api.example.com", []string{"RateLimit-Policy", ` default ; q=10 ; w=1 `, "RateLimit", `default;r=11;t=1`}, []provider.Level{level(provider.Requests, 10, time.Second, 10, time.Second)}},
		{"IETF, broken off", "api.example.com", []string{"RateLimit-Policy", `"a";q=5;w=60, "b;q=7;w=60`}, nil},
		{"IETF, with partitions", "api.example.com", []string{"RateLimit-Policy", `"a"; q=5; w=60; pk=:YQ==:`, "RateLimit", `"a"; r=4; t=9; pk=:YQ==:`}, []provider.Level{{N: 5, Per: minute, Left: 4, Full: 9 * time.Second, Name: "a"}}},
		{"IETF, a limit for a name", "api.example.com", []string{"RateLimit-Policy", "10;w=1, 100;w=60", "RateLimit", "limit=100, remaining=50, reset=30"}, []provider.Level{level(provider.Requests, 10, time.Second, -1, -1), level(provider.Requests, 100, minute, 50, 30*time.Second)}},
		{"IETF, three fields and a policy", "api.example.com", []string{"RateLimit-Policy", "100;w=60", "RateLimit-Limit", "100, 100;w=60", "RateLimit-Remaining", "50", "RateLimit-Reset", "30"}, []provider.Level{level(provider.Requests, 100, minute, 50, 30*time.Second)}},
		{"IETF, nonsense", "api.example.com", []string{"RateLimit-Policy", `"a";q=-5;w=60, "b";q=1.5;w=60, "c";q=5;w=99999999999, "d";q=5`, "RateLimit", `;;=,`}, nil},
		{"IETF, of one draft", "api.example.com", []string{"RateLimit", "limit=100, remaining=50, reset=30"}, []provider.Level{level(provider.Requests, 100, 0, 50, 30*time.Second)}},
		{"IETF, of another", "api.example.com", []string{"RateLimit-Limit", "10, 10;w=1, 1000;w=3600", "RateLimit-Remaining", "9", "RateLimit-Reset", "1"}, []provider.Level{level(provider.Requests, 10, time.Second, 9, time.Second), level(provider.Requests, 1000, time.Hour, -1, -1)}},
		{"plain, with windows", "api.example.com", []string{"X-RateLimit-Limit", "100, 100;window=60, 10000;window=86400", "X-RateLimit-Remaining", "98", "X-RateLimit-Reset", "3"}, []provider.Level{level(provider.Requests, 100, minute, 98, 3*time.Second), level(provider.Requests, 10000, 24*time.Hour, -1, -1)}},
		{"Cohere's trial keys", "api.cohere.com", []string{"X-Trial-Endpoint-Call-Limit", "20", "X-Trial-Endpoint-Call-Remaining", "8", "X-Endpoint-Monthly-Call-Limit", "1000"}, []provider.Level{level(provider.Requests, 20, minute, 8, -1)}},
		{"Cerebras", "api.cerebras.ai", []string{"x-ratelimit-limit-requests-day", "14400", "x-ratelimit-remaining-requests-day", "14399", "x-ratelimit-reset-requests-day", "33011.382867", "x-ratelimit-limit-tokens-minute", "60000"}, []provider.Level{level(provider.Tokens, 60000, minute, -1, -1), level(provider.Requests, 14400, 24*time.Hour, 14399, 33011382867*time.Microsecond)}},
		{"since 1970", "api.sambanova.ai", []string{"Date", date, "x-ratelimit-limit-requests", "60", "x-ratelimit-remaining-requests", "30", "x-ratelimit-reset-requests", "1741168830"}, []provider.Level{level(provider.Requests, 60, minute, 30, 30*time.Second)}},
		{"Anthropic, before tokens were two", "api.anthropic.com", []string{"anthropic-ratelimit-requests-limit", "50", "anthropic-ratelimit-tokens-limit", "50000"}, []provider.Level{level(provider.Requests, 50, minute, -1, -1), level(provider.Tokens, 50000, minute, -1, -1)}},
		{"what is left and no limit", "api.replicate.com", []string{"RateLimit-Remaining", "599", "RateLimit-Reset", "1"}, nil},
		{"plain", "api.example.com", []string{"X-RateLimit-Limit", "450", "X-RateLimit-Remaining", "405", "X-RateLimit-Reset", "1741168830", "Date", date}, []provider.Level{level(provider.Requests, 450, 0, 405, 30*time.Second)}},
		{"plain, of OpenAI's kind", "api.together.xyz", []string{"X-RateLimit-Limit", "2", "X-RateLimit-Remaining", "1", "X-RateLimit-Reset", "2"}, []provider.Level{level(provider.Requests, 2, 0, 1, 2*time.Second)}},
		{"of a prefix of its own", "api.example.com", []string{"X-Discogs-Ratelimit", "60", "X-Discogs-Ratelimit-Limit", "60", "X-Discogs-Ratelimit-Remaining", "7", "X-Discogs-Ratelimit-Used", "53"}, []provider.Level{level(provider.Requests, 60, 0, 7, -1)}},
		{"of subjects, at an unknown host", "gateway.example.com", []string{"x-ratelimit-limit-requests-day", "1000", "x-ratelimit-remaining-requests-day", "0", "x-ratelimit-reset-requests-day", "3600", "x-ratelimit-limit-tokens-hour", "9000", "x-ratelimit-remaining-tokens-hour", "10"},
			[]provider.Level{level(provider.Tokens, 9000, time.Hour, 10, -1), level(provider.Requests, 1000, 24*time.Hour, 0, time.Hour)}},
		{"of what is no Unit", "api.openai.com", []string{"x-ratelimit-limit-input-images", "50", "x-ratelimit-remaining-input-images", "0", "x-ratelimit-limit-project-tokens", "9", "x-ratelimit-remaining-project-tokens", "8", "x-ratelimit-limit-tokens-month", "7", "x-ratelimit-remaining-tokens-month", "6"}, nil},
		{"HubSpot", "api.example.com", []string{"X-HubSpot-RateLimit-Daily", "250000", "X-HubSpot-RateLimit-Daily-Remaining", "249000", "X-HubSpot-RateLimit-Max", "100", "X-HubSpot-RateLimit-Remaining", "99", "X-HubSpot-RateLimit-Interval", "10"},
			[]provider.Level{level(provider.Requests, 100, 10*time.Second, 99, -1), level(provider.Requests, 250000, 24*time.Hour, 249000, -1)}},
		{"Docker Hub", "registry-1.example.com", []string{"RateLimit-Limit", "100;w=21600", "RateLimit-Remaining", "76;w=21600"}, []provider.Level{level(provider.Requests, 100, 6*time.Hour, 76, -1)}},
		{"the same twice", "api.example.com", []string{"RateLimit-Limit", "100", "RateLimit-Remaining", "76", "X-RateLimit-Limit", "100", "X-RateLimit-Remaining", "76", "X-RateLimit-Reset", "4"}, []provider.Level{level(provider.Requests, 100, 0, 76, -1)}},
		{"what was used", "api.example.com", []string{"X-RateLimit-Used", "40", "X-RateLimit-Remaining", "60.0", "X-RateLimit-Reset", "4"}, []provider.Level{level(provider.Requests, 100, 0, 60, 4*time.Second)}},
		{"nothing left, and no limit", "api.example.com", []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "5"}, []provider.Level{level(provider.Requests, 0, 0, 0, 5*time.Second)}},
		{"nothing left, and no reset", "api.example.com", []string{"X-RateLimit-Remaining", "0"}, nil},
		{"a time without seconds", "api.example.com", []string{"Date", date, "X-RateLimit-Limit", "350", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "2025-03-05T10:02Z"}, []provider.Level{level(provider.Requests, 350, 0, 0, 2*minute)}},
		{"milliseconds since 1970", "openrouter.ai", []string{"Date", date, "X-RateLimit-Limit", "20", "X-RateLimit-Remaining", "3", "X-RateLimit-Reset", "1741168830500"}, []provider.Level{level(provider.Requests, 20, 0, 3, 30500*time.Millisecond)}},
		{"a policy of one endpoint", "api.example.com", []string{"RateLimit-Policy", `"login";q=5;w=3600, "burst-10s";q=9;w=10`, "RateLimit", `"login";r=4;t=60`}, []provider.Level{{N: 5, Per: time.Hour, Left: 4, Full: minute, Name: "login"}, level(provider.Requests, 9, 10*time.Second, -1, -1)}},
		{"a policy of a year", "api.example.com", []string{"RateLimit-Policy", `"default";q=5;w=31622400`}, nil},
		{"a policy of a month", "api.example.com", []string{"RateLimit-Policy", `"default";q=5;w=2678400`}, []provider.Level{level(provider.Requests, 5, 31*24*time.Hour, -1, -1)}},
		{"a beta's", "api.example.com", []string{"Beta-RateLimit-Policy", `"default";q=5;w=60`, "Beta-RateLimit", `"default";r=2;t=7`, "X-RateLimit-Remaining", "2"}, []provider.Level{level(provider.Requests, 5, minute, 2, 7*time.Second)}},
	}
	for _, test := range tests {
		r := response(test.host, 200, test.header...)
		if got := provider.For(r.Request).Levels(r); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestProse(t *testing.T) {
	openai := func(text string) string {
		return fmt.Sprintf(`{"error":{"message":%q,"type":"tokens","code":"rate_limit_exceeded"}}`, text)
	}
	tpm := provider.Violation{Unit: provider.Tokens, N: 30000, Per: time.Minute}
	tests := []struct {
		name, body string
		header     []string
		want       provider.Refusal
	}{
		{"bare", `{"error":{"message":"slow down"}}`, nil, provider.Refusal{}},
		{"milliseconds", openai("Please try again in 634ms. Visit the page."), nil, provider.Refusal{Wait: 634 * time.Millisecond, Hinted: true}},
		{"minutes", openai("Please try again in 7m12s."), nil, provider.Refusal{Wait: 432 * time.Second, Hinted: true}},
		{"fractions", openai("Please try again in 1m2.5s"), nil, provider.Refusal{Wait: 62500 * time.Millisecond, Hinted: true}},
		{"the whole account", openai("Rate limit reached for m in organization o on tokens per min (TPM): Limit 30000, Used 29000, Requested 2500. Please try again in 3s."), nil,
			provider.Refusal{Wait: 3 * time.Second, Hinted: true, Limits: []provider.Violation{tpm}}},
		{"an account without a hint", openai("on tokens per min (TPM): Limit 30000, Used 29000, Requested 2500."), nil,
			provider.Refusal{Wait: 3 * time.Second, Hinted: true, Limits: []provider.Violation{tpm}}},
		{"never fits", openai("Request too large on tokens per min (TPM): Limit 30000, Requested 45000."), nil,
			provider.Refusal{Wait: 30 * time.Second, Hinted: true, Never: true, Limits: []provider.Violation{tpm}}},
		{"requests a day", openai("on requests per day (RPD): Limit 200, Used 200, Requested 1. Please try again in 7m12s."), nil,
			provider.Refusal{Wait: 432 * time.Second, Hinted: true, Limits: []provider.Violation{{N: 200, Per: 24 * time.Hour}}}},
		{"a header goes before", openai("Please try again in 7m12s."), []string{"Retry-After", "5"}, provider.Refusal{Wait: 5 * time.Second, Hinted: true}},
		{"Azure's two", openai("Please retry after 1 second."), []string{"Retry-After", "1", "Retry-After-Ms", "0"}, provider.Refusal{Wait: time.Second, Hinted: true}},
		{"no quota at all", `{"error":{"message":"You exceeded your current quota, please check your plan.","type":"insufficient_quota"}}`, nil, provider.Refusal{Never: true}},
		{"no credit", `{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}`, nil, provider.Refusal{Never: true}},
		{"numbers beyond reason", openai("Limit 1, Used 999999999999999, Requested 1 on tokens per min. Please try again in 999999h"), nil,
			provider.Refusal{Wait: 999999 * time.Hour, Hinted: true, Limits: []provider.Violation{{Unit: provider.Tokens, N: 1, Per: time.Minute}}}},
		{"no time at all", openai("Please try again in a while."), nil, provider.Refusal{}},
		{"words before the number", openai("Please wait at least 20 seconds and retry."), nil, provider.Refusal{Wait: 20 * time.Second, Hinted: true}},
		{"when it is back", openai("Your limit resets in 3 minutes."), nil, provider.Refusal{Wait: 3 * time.Minute, Hinted: true}},
		{"thousands", openai("on tokens per min (TPM): Limit 30,000, Used 29,000, Requested 2,500."), nil, provider.Refusal{Wait: 3 * time.Second, Hinted: true, Limits: []provider.Violation{tpm}}},
		{"more than fits, about", openai("on tokens per min (TPM): Limit 30000, Requested ~45000."), nil, provider.Refusal{Wait: 30 * time.Second, Hinted: true, Never: true, Limits: []provider.Violation{tpm}}},
		{"a daily quota", openai("You have exceeded your daily quota."), nil, provider.Refusal{Limits: []provider.Violation{{Per: 24 * time.Hour}}}},
		{"a day's limit that was reached", openai("Daily request limit reached."), nil, provider.Refusal{Limits: []provider.Violation{{Per: 24 * time.Hour}}}},
		{"images", openai("on images per minute (IPM): Limit 5, Used 5, Requested 1."), nil, provider.Refusal{Wait: 12 * time.Second, Hinted: true, Limits: []provider.Violation{{N: 5, Per: time.Minute, Uncounted: true}}}},
		{"a shared limit", openai("Rate limit reached for gpt-x-mini (for limit GPT-X) on tokens per min (TPM): Limit 30000, Used 29000, Requested 2500."), nil,
			provider.Refusal{Wait: 3 * time.Second, Hinted: true, Limits: []provider.Violation{{Unit: provider.Tokens, N: 30000, Per: time.Minute, Model: "GPT-X"}}}},
		{"a balance", openai("Insufficient account balance."), nil, provider.Refusal{Never: true}},
		{"in a long body", `{"x":"` + strings.Repeat("x", 20000) + `","error":{"message":"Please try again in 3s."}}`, nil, provider.Refusal{Wait: 3 * time.Second, Hinted: true}},
	}
	for _, test := range tests {
		r := response("api.openai.com", 429, test.header...)
		if got := provider.OpenAI.Refusal(r, []byte(test.body)); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

func FuzzLevels(f *testing.F) {
	f.Add("600", "590", "1s", "60", "2025-03-05T10:00:01Z")
	f.Add("1", "0", "30", "", "")
	f.Fuzz(func(t *testing.T, limit, left, reset, period, date string) {
		var header []string
		for _, unit := range []string{"requests", "tokens", "req-minute"} {
			header = append(header, "x-ratelimit-limit-"+unit, limit, "x-ratelimit-remaining-"+unit, left, "x-ratelimit-reset-"+unit, reset, "x-ratelimit-renewalperiod-"+unit, period)
		}
		header = append(header, "anthropic-ratelimit-requests-limit", limit, "anthropic-ratelimit-requests-remaining", left, "anthropic-ratelimit-requests-reset", date)
		r := response("api.groq.com", 200, header...)
		for _, api := range []provider.API{provider.OpenAI, provider.Anthropic} {
			for _, l := range api.Levels(r) {
				if l.N < 0 || l.N == 0 && l.Left != 0 || l.Per < 0 || l.Left < -1 || l.Left > l.N || l.Full < -1 {
					t.Errorf("%+v", l)
				}
			}
		}
	})
}

// Whatever stands in the fields that are meant for everyone.
func FuzzFields(f *testing.F) {
	f.Add(`"burst";q=100;w=60, "daily";q=5000;w=86400`, `"burst";r=0;t=30`, "1741168830")
	f.Add(`"fixed window";"api";q=1000;w=300`, "limit=100, remaining=0, reset=30", "1741168830000")
	f.Add("10, 10;w=1", "0", "2")
	f.Fuzz(func(t *testing.T, policy, limit, reset string) {
		for _, header := range [][]string{
			{"RateLimit-Policy", policy, "RateLimit", limit},
			{"RateLimit-Limit", policy, "RateLimit-Remaining", limit, "RateLimit-Reset", reset},
			{"X-RateLimit-Limit", policy, "X-RateLimit-Remaining", limit, "X-RateLimit-Reset", reset, "X-RateLimit-Type", policy},
		} {
			r := response("api.example.com", 429, header...)
			check(t, provider.HTTP.Refusal(r, nil))
			for _, l := range provider.HTTP.Levels(r) {
				if l.N < 0 || l.N == 0 && l.Left != 0 || l.Per < 0 || l.Left < -1 || l.Left > l.N || l.Full < -1 {
					t.Errorf("%+v", l)
				}
			}
		}
	})
}

func FuzzProse(f *testing.F) {
	f.Add([]byte("on tokens per min (TPM): Limit 30000, Used 29000, Requested 2500. Please try again in 1h2m3.5s"))
	f.Fuzz(func(t *testing.T, b []byte) { check(t, provider.OpenAI.Refusal(&http.Response{}, b)) })
}
