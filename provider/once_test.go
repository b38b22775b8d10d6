package provider_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"example.com/tollgate/provider"
)

// A call that may have created something must not be made again while its fate is
// unknown, unless it has an idempotency key or only generates.
func TestOnce(t *testing.T) {
	const (
		pay    = "https://api.example.com/payments"
		gemini = "https://generativelanguage.googleapis.com/v1beta/"
		vertex = "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/"
		openAI = "https://api.openai.com/v1/"
		aws    = "https://bedrock-runtime.us-east-1.amazonaws.com/"
	)
	tests := []struct {
		method, url string
		header      string // name of a field, which has a value
		want        bool
	}{
		{"POST", pay, "", true},
		{"PATCH", pay, "", true},
		{"LOCK", pay, "", true},
		{"FROBNICATE", pay, "", true},
		{"CONNECT", pay, "", true},
		{"", pay, "", false},
		{"GET", pay, "", false},
		{"HEAD", pay, "", false},
		{"PUT", pay, "", false},
		{"DELETE", pay, "", false},
		{"OPTIONS", pay, "", false},
		{"TRACE", pay, "", false},
		{"QUERY", pay, "", false},
		{"POST", pay, "Idempotency-Key", false},
		{"PATCH", pay, "X-Idempotency-Key", false},
		{"POST", pay, "idempotency-key", false},
		{"POST", pay, "Idempotence-Key", false},
		{"POST", pay, "Cko-Idempotency-Key", false},
		{"POST", pay, "X-Amz-Pay-Idempotency-Key", false},
		{"POST", pay, "X-Idempotence-Uuid", false},
		{"POST", pay, "Paypal-Request-Id", false},
		{"POST", pay, "Repeatability-Request-Id", false},
		{"POST", pay, "X-Request-Id", true},
		{"POST", pay, "Idempotent", false},
		{"POST", "https://api.github.com/repos/o/r/issues", "", true},
		{"POST", "https://compute.googleapis.com/compute/v1/projects/p/zones/z/instances", "", true},
		{"POST", "https://compute.googleapis.com/compute/v1/projects/p/zones/z/instances?requestId=1", "", false},
		{"POST", "https://compute.googleapis.com/compute/v1/projects/p/zones/z/instances?requestId=", "", true},

		{"POST", gemini + "models/gemini-2.5-flash:generateContent", "", false},
		{"POST", gemini + "models/gemini-2.5-flash:streamGenerateContent", "", false},
		{"POST", gemini + "models/gemini-2.5-flash:countTokens", "", false},
		{"POST", gemini + "models/gemini-embedding-001:batchEmbedContents", "", false},
		{"POST", gemini + "models/gemini-2.5-flash:batchGenerateContent", "", true},
		{"POST", gemini + "models/gemini-2.5-flash:batchGenerateContent", "Idempotency-Key", false},
		{"POST", gemini + "models/veo:predictLongRunning", "", true},
		{"POST", gemini + "interactions", "", false},
		{"POST", gemini + "openai/chat/completions", "", false},
		{"POST", gemini + "cachedContents", "", true},
		{"PATCH", gemini + "cachedContents/x", "", true},
		{"POST", gemini + "tunedModels/x:transferOwnership", "", true},
		{"POST", vertex + "endpoints/1:predict", "", false},
		{"POST", vertex + "endpoints/1:serverStreamingPredict", "", false},
		{"POST", vertex + "endpoints/1:deployModel", "", true},
		{"POST", vertex + "publishers/anthropic/models/claude:rawPredict", "", false},

		{"POST", openAI + "chat/completions", "", false},
		{"POST", openAI + "responses", "", false},
		{"POST", openAI + "embeddings", "", false},
		{"POST", openAI + "images/generations", "", false},
		{"POST", openAI + "responses/input_tokens", "", false},
		{"POST", openAI + "files", "", true},
		{"POST", openAI + "threads", "", true},
		{"POST", openAI + "threads/t/messages", "", true},
		{"POST", "https://api.mistral.ai/v1/agents/completions", "", false},
		{"POST", "https://mine.openai.azure.com/openai/deployments/gpt/chat/completions", "", false},
		{"POST", "https://proxy.example.com/v1/chat/completions", "", false},
		{"POST", "https://api.anthropic.com/v1/messages", "", false},
		{"POST", "https://api.anthropic.com/v1/messages/count_tokens", "", false},
		{"POST", "https://api.anthropic.com/v1/messages/batches", "", true},
		{"POST", "https://api.anthropic.com/v1/organizations/invites", "", true},
		{"POST", "https://api.cohere.com/v2/chat", "", false},
		{"POST", "https://api.cohere.com/v1/tokenize", "", false},
		{"POST", "https://api.cohere.com/v1/datasets", "", true},
		{"POST", aws + "model/m/converse", "", false},
		{"POST", aws + "model/m/count-tokens", "", false},
		{"POST", aws + "guardrail/g/version/1/apply", "", false},
		{"POST", aws + "async-invoke", "", true},
	}
	for _, test := range tests {
		r := httptest.NewRequest(http.MethodGet, test.url, nil)
		r.Method = test.method
		if test.header != "" {
			r.Header[test.header] = []string{"k"}
		}
		if got := provider.For(r).Call(r).Once; got != test.want {
			t.Errorf("%s %s with %q: Once is %t, want %t", test.method, test.url, test.header, got, test.want)
		}
	}
	r := httptest.NewRequest("POST", pay, nil)
	if r.Header["Idempotency-Key"] = nil; provider.For(r).Call(r).Once {
		t.Error("a key without a value is one, as in net/http, and is not sent")
	}
	if r.Header["Idempotency-Key"] = []string{""}; !provider.For(r).Call(r).Once {
		t.Error("an empty key is none")
	}
}
