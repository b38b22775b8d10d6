package provider_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"example.com/tollgate/provider"
)

func TestCall(t *testing.T) {
	type want struct {
		api    string
		key    string
		aside  bool
		once   bool
		open   bool
		refill provider.Refill
	}
	tests := []struct {
		method, url string
		want        want
	}{
		{"POST", "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent", want{"gemini", "gemini-2.5-flash", false, false, false, provider.Calendar}},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", want{"gemini", "gemini-2.5-flash", false, false, false, provider.Calendar}},
		{"POST", "http://127.0.0.1:8080/some/proxy/v1/models/gemini-2.5-pro:generateContent", want{"gemini", "gemini-2.5-pro", false, false, false, provider.Calendar}},
		{"POST", "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/google/models/gemini-2.5-pro:generateContent", want{"gemini", "gemini-2.5-pro", false, false, false, provider.Calendar}},
		{"POST", "https://aiplatform.googleapis.com/v1/projects/p/locations/global/endpoints/1234:predict", want{"gemini", "1234", false, false, false, provider.Calendar}},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/tunedModels/mine-1:generateContent", want{"gemini", "mine-1", false, false, false, provider.Calendar}},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-001:batchEmbedContents", want{"gemini", "gemini-embedding-001", false, false, true, provider.Calendar}},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:countTokens", want{"gemini", "gemini-2.5-flash:countTokens", true, false, false, provider.Calendar}},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:batchGenerateContent", want{"gemini", "gemini-2.5-flash:batchGenerateContent", true, true, false, provider.Calendar}},
		{"GET", "https://generativelanguage.googleapis.com/v1beta/models", want{"gemini", "generativelanguage.googleapis.com", true, false, false, provider.Calendar}},
		{"POST", "https://generativelanguage.googleapis.com/upload/v1beta/files", want{"gemini", "generativelanguage.googleapis.com", true, true, false, provider.Calendar}},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/cachedContents", want{"gemini", "generativelanguage.googleapis.com", true, true, false, provider.Calendar}},
		{"GET", "https://generativelanguage.googleapis.com/v1beta/files/abc", want{"gemini", "generativelanguage.googleapis.com", true, false, false, provider.Calendar}},
		{"POST", "https://api.openai.com/v1/chat/completions", want{"openai", "api.openai.com", false, false, true, provider.Steady}},
		{"POST", "https://api.openai.com/v1/batches", want{"openai", "api.openai.com", true, true, false, provider.Steady}},
		{"POST", "https://api.openai.com/v1/fine_tuning/jobs", want{"openai", "api.openai.com", true, true, false, provider.Steady}},
		{"GET", "https://api.openai.com/v1/files", want{"openai", "api.openai.com", true, false, false, provider.Steady}},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/interactions", want{"gemini", "generativelanguage.googleapis.com", false, false, true, provider.Calendar}},
		{"POST", "https://mine.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=1", want{"openai", "gpt", false, false, false, provider.Steady}},
		{"POST", "https://proxy.example.com/api/v1/chat/completions", want{"openai", "proxy.example.com", false, false, true, provider.Steady}},
		{"POST", "https://api.anthropic.com/v1/messages", want{"anthropic", "api.anthropic.com", false, false, true, provider.Steady}},
		{"POST", "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse", want{"bedrock", "anthropic.claude-3-haiku-20240307-v1:0", false, false, false, provider.Auto}},
		{"POST", "https://proxy.example.com/aws/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fx/invoke-with-response-stream", want{"bedrock", "arn:aws:bedrock:us-east-1:1:inference-profile/x", false, false, false, provider.Auto}},
		{"POST", "https://bedrock-runtime.us-east-1.amazonaws.com/guardrail/g/version/1/apply", want{"bedrock", "bedrock-runtime.us-east-1.amazonaws.com", true, false, false, provider.Auto}},
		{"POST", "https://models.github.ai/inference/chat/completions", want{"openai", "models.github.ai", false, false, true, provider.Steady}},
		{"POST", "https://models.github.ai/inference/embeddings", want{"openai", "models.github.ai", false, false, true, provider.Steady}},
		{"POST", "https://mine.services.ai.azure.com/models/chat/completions?api-version=1", want{"openai", "mine.services.ai.azure.com", false, false, true, provider.Steady}},
		{"GET", "https://mine.cognitiveservices.azure.com/openai/files", want{"openai", "mine.cognitiveservices.azure.com", true, false, false, provider.Steady}},
		{"POST", "https://api.deepseek.com/beta/completions", want{"openai", "api.deepseek.com", false, false, true, provider.Steady}},
		{"POST", "https://api.perplexity.ai/chat/completions", want{"openai", "api.perplexity.ai", false, false, true, provider.Steady}},
		{"POST", "https://api.openai.com/v1/images/generations", want{"openai", "api.openai.com", false, false, true, provider.Steady}},
		{"POST", "https://api.cohere.com/v2/rerank", want{"cohere", "api.cohere.com", false, false, true, provider.Auto}},
		{"POST", "https://api.cohere.ai/compatibility/v1/chat/completions", want{"cohere", "api.cohere.ai", false, false, true, provider.Auto}},
		{"GET", "https://api.cohere.com/v1/models", want{"cohere", "api.cohere.com", true, false, false, provider.Auto}},
		{"GET", "https://openrouter.ai/api/v1/models", want{"openai", "openrouter.ai", true, false, false, provider.Steady}},
		{"POST", "https://api.example.com/apis/apps/v1/deployments/x", want{"http", "api.example.com", false, true, false, provider.Auto}},
		{"GET", "https://api.example.com:8443/", want{"http", "api.example.com:8443", false, false, false, provider.Auto}},
		{"GET", "https://api.example.com/models/", want{"http", "api.example.com", false, false, false, provider.Auto}},
		{"GET", "https://api.example.com/models/:", want{"http", "api.example.com", false, false, false, provider.Auto}},
		{"GET", "https://api.example.com", want{"http", "api.example.com", false, false, false, provider.Auto}},
		{"GET", "https://api.example.com/a:b", want{"http", "api.example.com", false, false, false, provider.Auto}},
	}
	for _, test := range tests {
		r, err := http.NewRequest(test.method, test.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		api := provider.For(r)
		c := api.Call(r)
		if got := (want{api.Name(), c.Key, c.Aside, c.Once, c.Open, c.Refill}); got != test.want {
			t.Errorf("%s %s: got %+v, want %+v", test.method, test.url, got, test.want)
		}
		if c.Cost != (provider.Cost{provider.Requests: 1}) {
			t.Errorf("%s: cost %v, want one request", test.url, c.Cost)
		}
	}
	r := httptest.NewRequest("POST", "https://api.openai.com/v1/batches", nil)
	r.Header.Set("Idempotency-Key", "k")
	if provider.For(r).Call(r).Once {
		t.Error("a call with an Idempotency-Key is harmless to send again")
	}
}

// body is a refusal of the Gemini API's.
func body(message string, details ...string) string {
	return fmt.Sprintf(`{"error":{"code":429,"message":%q,"status":"RESOURCE_EXHAUSTED","details":[%s]}}`, message, strings.Join(details, ","))
}

func violation(id, value, model string) string {
	if value != "" {
		value = fmt.Sprintf(`,"quotaValue":%q`, value)
	}
	return fmt.Sprintf(`{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaMetric":"m","quotaId":%q,"quotaDimensions":{"location":"global","model":%q}%s}]}`, id, model, value)
}

func delay(d string) string {
	return fmt.Sprintf(`{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":%q}`, d)
}

func TestGeminiRefusal(t *testing.T) {
	const (
		perMinute = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
		perDay    = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
		tokens    = "GenerateContentPaidTierInputTokensPerModelPerMinute"
	)
	hinted := func(d time.Duration, v ...provider.Violation) provider.Refusal {
		return provider.Refusal{Wait: d, Hinted: true, Limits: v}
	}
	tests := []struct {
		name string
		body string
		want provider.Refusal
	}{
		{"per minute", body("Quota exceeded, limit: 10\nPlease retry in 58.934s.", violation(perMinute, "10", "gemini-2.5-flash"), delay("58s")),
			hinted(58934*time.Millisecond, provider.Violation{N: 10, Per: time.Minute, Model: "gemini-2.5-flash"})},
		{"details in another order", body("Please retry in 58.934s.", delay("58s"), violation(perMinute, "10", "")),
			hinted(58934*time.Millisecond, provider.Violation{N: 10, Per: time.Minute})},
		{"per day, with a hint of seconds", body("Please retry in 7s.", violation(perDay, "250", "")), hinted(7*time.Second, provider.Violation{N: 250, Per: 24 * time.Hour})},
		{"tokens", body("Please retry in 7s.", violation(tokens, "250000", "")), hinted(7*time.Second, provider.Violation{Unit: provider.Tokens, N: 250000, Per: time.Minute})},
		{"two at once", body("", violation(perMinute, "2", ""), violation(tokens, "9", ""), delay("3s")),
			hinted(4*time.Second, provider.Violation{N: 2, Per: time.Minute}, provider.Violation{Unit: provider.Tokens, N: 9, Per: time.Minute})},
		{"hours", body("", delay("7200s")), hinted(2*time.Hour + time.Second)},
		{"less than a second", body("", delay("0s")), hinted(time.Second)},
		{"fraction", body("", delay("0.5s")), hinted(1500 * time.Millisecond)},
		{"huge", body("", delay("2562047h47m16.854775807s")), hinted(1<<63 - 1)},
		{"negative", body("", delay("-5s")), provider.Refusal{}},
		{"array", "[" + body("Please retry in 2s.") + "]", hinted(2 * time.Second)},
		{"array with a line feed before", "\n[" + body("Please retry in 2s.") + ",{}]", hinted(2 * time.Second)},
		{"limit of nothing", body("Quota exceeded for metric: m, limit: 0, model: gemini-2.5-pro\nPlease retry in 9s.", violation(perMinute, "", "")),
			provider.Refusal{Wait: 9 * time.Second, Hinted: true, Never: true, Limits: []provider.Violation{{Per: time.Minute}}}},
		{"limit of nothing, at the end", body("Quota exceeded, limit: 0"), provider.Refusal{Never: true}},
		{"limit below one", body("Quota exceeded, limit: 0.5 per second"), provider.Refusal{}},
		{"credits", body("Your prepayment credits are depleted."), provider.Refusal{Never: true}},
		{"spending cap", body("Your project has exceeded its monthly spending cap."), provider.Refusal{Never: true}},
		{"bare", body("Resource exhausted. Please try again later."), provider.Refusal{}},
		{"no body", "", provider.Refusal{}},
		{"no JSON", "<html>Please retry in 3s.", provider.Refusal{}},
		{"empty array", "[]", provider.Refusal{}},
		{"other types", `{"error":{"message":"Please retry in 3s.","details":[7,{"retryDelay":5},{"violations":[{"quotaId":"XPerMinute","quotaValue":3}]}]}}`,
			hinted(3*time.Second, provider.Violation{Per: time.Minute})},
	}
	for _, test := range tests {
		got := provider.Gemini.Refusal(&http.Response{}, []byte(test.body))
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
	if daily := provider.Gemini.Refusal(&http.Response{}, []byte(body("", violation(perDay, "50", "")))); !daily.Daily() {
		t.Error("a violation of a limit per day is not daily")
	}
}

func TestHTTPRefusal(t *testing.T) {
	const date = "Sat, 01 Jan 2000 05:00:00 GMT"
	tests := []struct {
		header map[string]string
		want   time.Duration
		ok     bool
	}{
		{nil, 0, false},
		{map[string]string{"Retry-After": "120"}, 2 * time.Minute, true},
		{map[string]string{"Retry-After": " 1.5 "}, 1500 * time.Millisecond, true},
		{map[string]string{"Retry-After": "0"}, 0, true},
		{map[string]string{"Retry-After": "-1"}, 0, false},
		{map[string]string{"Retry-After": "NaN"}, 0, false},
		{map[string]string{"Retry-After": "Inf"}, 0, false},
		{map[string]string{"Retry-After": "1e300"}, 1<<63 - 1, true},
		{map[string]string{"Retry-After": "99999999999999999999"}, 1<<63 - 1, true},
		{map[string]string{"Retry-After": "soon"}, 0, false},
		{map[string]string{"Retry-After": "Sat, 01 Jan 2000 05:00:09 GMT", "Date": date}, 9 * time.Second, true},
		{map[string]string{"Retry-After": "Saturday, 01-Jan-00 05:00:09 GMT", "Date": date}, 9 * time.Second, true},
		{map[string]string{"Retry-After": "Sat, 01 Jan 2000 04:00:00 GMT", "Date": date}, 0, true},
		{map[string]string{"Retry-After-Ms": "250"}, 250 * time.Millisecond, true},
		{map[string]string{"Retry-After-Ms": "0", "Retry-After": "1"}, time.Second, true},
		{map[string]string{"Retry-After-Ms": "Inf", "Retry-After": "1"}, time.Second, true},
	}
	for _, test := range tests {
		r := &http.Response{Header: http.Header{}}
		for k, v := range test.header {
			r.Header.Set(k, v)
		}
		got := provider.HTTP.Refusal(r, nil)
		if got.Wait != test.want || got.Hinted != test.ok {
			t.Errorf("%v: %v, %v; want %v, %v", test.header, got.Wait, got.Hinted, test.want, test.ok)
		}
	}
	// Without a Date the local clock is all there is.
	r := &http.Response{Header: http.Header{"Retry-After": {time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}}}
	if got := provider.HTTP.Refusal(r, nil).Wait; got < 59*time.Minute || got > 61*time.Minute {
		t.Errorf("date without a Date: %v, want about an hour", got)
	}
}

// No input makes a refusal negative, and none breaks the parser.
func FuzzGeminiRefusal(f *testing.F) {
	f.Add([]byte(body("Please retry in 58.934s.", violation("XPerDay", "3", "m"), delay("58s"))))
	f.Add([]byte("[" + body("limit: 0") + "]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := provider.Gemini.Refusal(&http.Response{}, b)
		check(t, r)
	})
}

func FuzzHTTPRefusal(f *testing.F) {
	f.Add("120", "0", "")
	f.Add("Sat, 01 Jan 2000 05:00:09 GMT", "", "Sat, 01 Jan 2000 05:00:00 GMT")
	f.Add("1e308", "1e-308", "x")
	f.Fuzz(func(t *testing.T, after, ms, date string) {
		check(t, provider.HTTP.Refusal(&http.Response{Header: http.Header{"Retry-After": {after}, "Retry-After-Ms": {ms}, "Date": {date}}}, nil))
	})
}

func check(t *testing.T, r provider.Refusal) {
	if r.Wait < 0 || !r.Hinted && r.Wait != 0 {
		t.Errorf("%+v", r)
	}
	for _, v := range r.Limits {
		if v.N < 0 || v.Per < 0 {
			t.Errorf("%+v", v)
		}
	}
}

func FuzzCall(f *testing.F) {
	f.Add("/v1beta/models/gemini-2.5-flash:generateContent", "{}")
	f.Add("/models/:/upload/x", "")
	f.Add("/v1beta/interactions", `{"model":"models/m","previous_interaction_id":"i","service_tier":"flex"}`)
	f.Add("/v1beta/interactions/i1/cancel", "")
	f.Fuzz(func(t *testing.T, path, body string) {
		for _, method := range []string{"POST", "GET", "DELETE"} {
			r := httptest.NewRequest(method, "http://example.com/", nil)
			r.URL.Path = path
			api := provider.For(r)
			c := api.Call(r)
			if c.Key == "" || c.Polls != "" && (!c.Aside || c.Record == nil || strings.Contains(c.Polls, "/")) {
				t.Errorf("%s %q: %+v", method, path, c)
			}
			if c.Open {
				api.Read(&c, strings.NewReader(body), true)
			}
			if c.Key == "" || len(c.Follows) > 256 || c.Cost[provider.Requests] < 1 || c.Cost[provider.Tokens] < 0 {
				t.Errorf("%s %q %q: %+v", method, path, body, c)
			}
		}
	})
}
