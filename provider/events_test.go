package provider_test

import (
	"net/http"
	"reflect"
	"testing"
	"time"

	"example.com/tollgate/provider"
)

// How an error that comes with status 200 is read.
func TestEvent(t *testing.T) {
	const events = "text/event-stream"
	rate := func(d time.Duration, limits ...provider.Violation) *provider.Refusal {
		return &provider.Refusal{Wait: d, Hinted: d > 0, Limits: limits}
	}
	tests := []struct {
		name       string
		host       string
		header     []string
		kind, data string
		want       *provider.Refusal // nil: it is none
	}{
		{"OpenAI, failed", "api.openai.com", nil, "response.failed", `{"type":"response.failed","response":{"id":"r","error":{"code":"rate_limit_exceeded","message":"Rate limit reached on tokens per min (TPM): Limit 100, Used 90, Requested 20. Please try again in 14.036s."}}}`,
			rate(14036*time.Millisecond, provider.Violation{Unit: provider.Tokens, N: 100, Per: time.Minute})},
		{"OpenAI, flat", "api.openai.com", nil, "error", `{"type":"error","code":"rate_limit_exceeded","message":"Please try again in 2s.","param":null,"sequence_number":3}`, rate(2 * time.Second)},
		{"OpenAI, no credit", "api.openai.com", nil, "", `{"error":{"code":"insufficient_quota","message":"You have run out."}}`, &provider.Refusal{Never: true}},
		{"OpenAI, failed for another reason", "api.openai.com", nil, "response.failed", `{"type":"response.failed","response":{"error":{"code":"server_error","message":"An error occurred."}}}`, nil},
		{"OpenAI, too long a prompt", "api.openai.com", nil, "", `{"error":{"code":"context_length_exceeded","type":"invalid_request_error","message":"Too long."}}`, nil},
		{"Azure", "m.openai.azure.com", nil, "", `{"error":{"code":"too_many_requests","message":"Too many requests. Retry after 7 seconds."}}`, rate(7 * time.Second)},
		{"Azure, a number", "m.openai.azure.com", nil, "", `{"error":{"code":"429","message":"Slow down."}}`, rate(0)},
		{"OpenRouter", "openrouter.ai", nil, "", `{"id":"gen-1","choices":[{"delta":{"content":""},"finish_reason":"error"}],"error":{"code":429,"message":"Slow down.","metadata":{"retry_after":3}}}`, rate(3 * time.Second)},
		{"OpenRouter, of a choice", "openrouter.ai", nil, "", `{"id":"gen-1","choices":[{"error":{"code":429,"message":"Slow down."}}]}`, rate(0)},
		{"OpenRouter, of a server", "openrouter.ai", nil, "", `{"error":{"code":502,"message":"Broken."}}`, nil},
		{"vLLM", "localhost:8000", nil, "", `{"error":{"object":"error","message":"Slow down.","type":"TooManyRequests","param":null,"code":429}}`, rate(0)},
		{"LiteLLM", "localhost:4000", nil, "", `{"error":{"message":"litellm.RateLimitError: wait 20 seconds","type":"None","param":"None","code":"429"}}`, rate(20 * time.Second)},
		{"LiteLLM, a bad request", "localhost:4000", nil, "", `{"error":{"message":"litellm.BadRequestError","type":"None","param":"None","code":"400"}}`, nil},
		{"Anthropic", "api.anthropic.com", nil, "error", `{"type":"error","error":{"type":"rate_limit_error","message":"Number of requests has exceeded your per-minute rate limit."}}`, rate(0, provider.Violation{Per: time.Minute})},
		{"Anthropic, overloaded", "api.anthropic.com", nil, "error", `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, &provider.Refusal{Overload: true}},
		{"Anthropic, broken", "api.anthropic.com", nil, "error", `{"type":"error","error":{"type":"api_error","message":"Internal server error"}}`, nil},
		{"Bedrock", "bedrock-runtime.us-east-1.amazonaws.com", nil, "throttlingException", `{"message":"Too many tokens, please wait before trying again."}`, rate(0, provider.Violation{Unit: provider.Tokens})},
		{"Bedrock, no payload", "bedrock-runtime.us-east-1.amazonaws.com", nil, "throttlingException", ``, rate(0)},
		{"Bedrock, in a payload", "bedrock-runtime.us-east-1.amazonaws.com", nil, "", `{"throttlingException":{"message":"Too many requests, please wait before trying again."}}`, rate(0, provider.Violation{})},
		{"Bedrock, unavailable", "bedrock-runtime.us-east-1.amazonaws.com", nil, "serviceUnavailableException", `{"message":"Busy."}`, &provider.Refusal{Overload: true}},
		{"Bedrock, invalid", "bedrock-runtime.us-east-1.amazonaws.com", nil, "validationException", `{"message":"The model is not known."}`, nil},
		{"Gemini", "generativelanguage.googleapis.com", nil, "", body("Please retry in 9s.", violation("XRequestsPerMinute", "10", "m")), rate(9*time.Second, provider.Violation{N: 10, Per: time.Minute, Model: "m"})},
		{"Gemini, unavailable", "generativelanguage.googleapis.com", nil, "", `{"error":{"code":503,"status":"UNAVAILABLE","message":"The model is overloaded."}}`, &provider.Refusal{Overload: true}},
		{"Gemini, invalid", "generativelanguage.googleapis.com", nil, "", `{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"No."}}`, nil},
		{"Interactions", "generativelanguage.googleapis.com", nil, "", `{"event_type":"error","error":{"code":"rate_limit_exceeded","message":"Slow down."}}`, rate(0)},
		{"Interactions, a day", "generativelanguage.googleapis.com", nil, "", `{"event_type":"error","error":{"code":"quota_exceeded","message":"Come back tomorrow."}}`, rate(0, provider.Violation{Per: 24 * time.Hour})},
		{"Interactions, in the background", "generativelanguage.googleapis.com", nil, "", `{"id":"i","status":"failed","model":"m","errors":[{"code":"too_many_requests","message":"Slow down."}],"steps":[]}`, rate(0)},
		{"Shopify", "shop.example.com", nil, "", `{"errors":[{"message":"Throttled","extensions":{"code":"THROTTLED"}}],"extensions":{"cost":{"requestedQueryCost":152,"throttleStatus":{"maximumAvailable":1000.0,"currentlyAvailable":52,"restoreRate":50.0}}}}`,
			rate(2*time.Second, provider.Violation{N: 1000, Uncounted: true})},
		{"GitHub's GraphQL", "api.github.com", []string{"X-RateLimit-Limit", "5000", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "30"}, "", `{"errors":[{"type":"RATE_LIMITED","message":"API rate limit exceeded."}]}`, rate(30 * time.Second)},
		{"Slack", "slack.example.com", []string{"Retry-After", "30"}, "", `{"ok":false,"error":"ratelimited"}`, rate(30 * time.Second)},
		{"a header of a stream is not heeded", "api.openai.com", []string{"Content-Type", events, "Retry-After", "30"}, "", `{"error":{"code":"rate_limit_exceeded"}}`, rate(0)},
		{"no error by its name", "api.example.com", nil, "", `{"statusCode":429,"message":"Rate limit is exceeded. Try again in 12 seconds."}`, rate(12 * time.Second)},
		{"a flat one", "api.example.com", nil, "", `{"code":"rate_limited","message":"Slow down.","retry_after":4}`, rate(4 * time.Second)},
		{"slow_down", "api.openai.com", nil, "", `{"error":{"code":"slow_down","message":"Not so fast."}}`, &provider.Refusal{Slower: true}},
		{"an answer", "api.openai.com", nil, "", `{"id":"c","choices":[{"message":{"content":"error: rate limit exceeded, 429"}}],"error":null}`, nil},
		{"data about limits", "api.example.com", nil, "", `{"code":"rate_limited","items":[1,2],"total":7}`, nil},
		{"nothing", "api.example.com", nil, "", ``, nil},
		{"text", "api.example.com", nil, "error", `rate limit exceeded`, nil},
	}
	for _, test := range tests {
		r := response(test.host, 200, test.header...)
		got, ok := provider.For(r.Request).Event(r, test.kind, []byte(test.data))
		if want := test.want; ok != (want != nil) || ok && !reflect.DeepEqual(got, *want) {
			t.Errorf("%s: %+v, %v, want %+v", test.name, got, ok, want)
		}
	}
}

// A 403 is a refusal where it says so, and stays one that is not.
func TestForbidden(t *testing.T) {
	tests := []struct {
		name, host string
		header     []string
		body       string
		may, none  bool
	}{
		{"a permission", "api.example.com", nil, `{"message":"You may not."}`, false, false},
		{"a permission, much is left", "api.example.com", []string{"X-RateLimit-Limit", "60", "X-RateLimit-Remaining", "59"}, `{}`, false, false},
		{"nothing left", "api.example.com", []string{"X-RateLimit-Limit", "60", "X-RateLimit-Remaining", "0"}, `{}`, true, false},
		{"nothing left of a policy", "api.example.com", []string{"RateLimit", `"default";r=0;t=5`}, `{}`, true, false},
		{"when to come back", "api.example.com", []string{"Retry-After", "5"}, `{}`, true, false},
		{"GitHub, a permission", "api.github.com", []string{"X-RateLimit-Remaining", "59"}, `{"message":"Resource not accessible by integration"}`, true, true},
		{"GitHub, a secondary limit", "api.github.com", []string{"X-RateLimit-Remaining", "59"}, `{"message":"You have exceeded a secondary rate limit."}`, true, false},
		{"Drive, a permission", "www.googleapis.com", nil, `{"error":{"errors":[{"reason":"insufficientFilePermissions"}],"code":403}}`, true, true},
		{"Drive, the store is full", "www.googleapis.com", nil, `{"error":{"errors":[{"reason":"storageQuotaExceeded"}],"code":403}}`, true, true},
		{"Drive, the rate", "www.googleapis.com", nil, `{"error":{"errors":[{"reason":"userRateLimitExceeded"}],"code":403}}`, true, false},
		{"Google, resources", "compute.googleapis.com", nil, `{"error":{"code":403,"status":"PERMISSION_DENIED","message":"No."}}`, true, true},
		{"Gemini, a permission", "generativelanguage.googleapis.com", nil, `{"error":{"code":403,"status":"PERMISSION_DENIED"}}`, false, false},
		{"no body", "www.googleapis.com", nil, ``, true, true},
	}
	for _, test := range tests {
		r := response(test.host, http.StatusForbidden, test.header...)
		r.Request.URL.Path = "/things"
		api := provider.For(r.Request)
		if got := api.Refuses(r); got != test.may {
			t.Errorf("%s: Refuses returns %v, want %v", test.name, got, test.may)
		}
		if got := api.Refusal(r, []byte(test.body)); test.may && got.None != test.none {
			t.Errorf("%s: %+v, want None to be %v", test.name, got, test.none)
		}
	}
}

// What the marks of a refusal are, beside when to come back.
func TestMarks(t *testing.T) {
	tests := []struct {
		name, host string
		status     int
		body       string
		want       provider.Refusal
	}{
		{"unavailable", "api.example.com", 503, ``, provider.Refusal{Overload: true}},
		{"overloaded", "api.anthropic.com", 529, `{"type":"error","error":{"type":"overloaded_error"}}`, provider.Refusal{Overload: true}},
		{"a rate with 503", "api.example.com", 503, `{"error":{"code":"rate_limit_exceeded"}}`, provider.Refusal{}},
		{"slow down with 503", "api.openai.com", 503, `{"error":{"code":"slow_down"}}`, provider.Refusal{Slower: true}},
		{"slow down, in XML", "bucket.example.com", 503, `<Error><Code>SlowDown</Code></Error>`, provider.Refusal{Slower: true}},
		{"overloaded with 429", "api.moonshot.ai", 429, `{"error":{"type":"engine_overloaded_error","message":"Busy."}}`, provider.Refusal{Overload: true}},
		{"slow down", "api.openai.com", 429, `{"error":{"type":"requests","code":"slow_down"}}`, provider.Refusal{Slower: true}},
		{"the words alone ask for nothing", "api.openai.com", 429, `{"error":{"message":"Slow down.","code":"rate_limit_exceeded"}}`, provider.Refusal{}},
		{"acceleration", "api.anthropic.com", 429, `{"error":{"type":"rate_limit_error","message":"You are over the acceleration limit."}}`, provider.Refusal{Slower: true}},
		{"capacity", "api.groq.com", 498, `{"error":{"code":"capacity_exceeded"}}`, provider.Refusal{}},
		{"a usage limit that comes back", "api.example.com", 429, `{"error":{"type":"usage_limit_reached","resets_in_seconds":60}}`, provider.Refusal{Wait: time.Minute, Hinted: true}},
		{"a usage limit that does not", "api.example.com", 429, `{"error":{"type":"usage_limit_reached"}}`, provider.Refusal{Never: true}},
		{"a budget of complexity", "api.example.com", 429, `{"errors":[{"extensions":{"code":"COMPLEXITY_BUDGET_EXHAUSTED","retry_in_seconds":45}}]}`, provider.Refusal{Wait: 45 * time.Second, Hinted: true}},
	}
	for _, test := range tests {
		r := response(test.host, test.status)
		api := provider.For(r.Request)
		if !api.Refuses(r) {
			t.Errorf("%s: not taken for a refusal", test.name)
		}
		if got := api.Refusal(r, []byte(test.body)); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
	if provider.OpenAI.Refuses(response("api.openai.com", 498)) {
		t.Error("498 is a refusal at Groq alone")
	}
}

// Whatever comes with whatever name, what is read of it makes sense.
func FuzzEvent(f *testing.F) {
	f.Add("error", []byte(`{"type":"error","error":{"code":"rate_limit_exceeded","message":"try again in 3s","retry_after":"2s"}}`))
	f.Add("throttlingException", []byte(`{"message":"Too many tokens"}`))
	f.Add("", []byte(`{"errors":[{"extensions":{"code":"THROTTLED"}}],"extensions":{"cost":{"requestedQueryCost":1e300,"throttleStatus":{"currentlyAvailable":52,"restoreRate":1e-300}}}}`))
	f.Add("", []byte(`{"error":{"resets_at":"2026-03-26T16:00Z","message":"\u4f59\u989d\u4e0d\u8db3"}}`))
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		for _, api := range apis {
			r := response("api.example.com", 200)
			ref, ok := api.Event(r, kind, data)
			if check(t, ref); !ok && !reflect.DeepEqual(ref, provider.Refusal{}) {
				t.Errorf("%s: %+v of no refusal", api.Name(), ref)
			}
			if len(ref.Limits) > 16 {
				t.Errorf("%d limits", len(ref.Limits))
			}
		}
	})
}
