package provider_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"example.com/tollgate/provider"
)

// ordinary are nine headers of a response that says nothing of limits.
var ordinary = []string{
	"Date", "Wed, 05 Mar 2025 10:00:00 GMT", "Content-Type", "application/json; charset=UTF-8", "Server", "nginx", "Vary", "Accept-Encoding",
	"Content-Length", "5127", "Cache-Control", "no-cache", "Strict-Transport-Security", "max-age=31536000", "X-Request-Id", "7f9c2ba4e88f827d", "Via", "1.1 proxy",
}

var stating = append(ordinary[:len(ordinary):len(ordinary)],
	"X-Ratelimit-Limit-Requests", "5000", "X-Ratelimit-Remaining-Requests", "4999", "X-Ratelimit-Reset-Requests", "12ms",
	"X-Ratelimit-Limit-Tokens", "2000000", "X-Ratelimit-Remaining-Tokens", "1999235", "X-Ratelimit-Reset-Tokens", "22ms")

var speeds = []struct {
	name   string
	api    provider.API
	r      *http.Response
	allocs float64 // most
}{
	{"HTTP", provider.HTTP, response("api.example.com", 200, ordinary...), 0},
	{"Gemini", provider.Gemini, response("generativelanguage.googleapis.com", 200, ordinary...), 0},
	{"Anthropic", provider.Anthropic, response("api.anthropic.com", 200, ordinary...), 0},
	{"OpenAI, nothing stated", provider.OpenAI, response("api.openai.com", 200, ordinary...), 0},
	{"OpenAI, six fields", provider.OpenAI, response("api.openai.com", 200, stating...), 1},
}

// Every response is read for levels, and most state none.
func TestLevelsAllocations(t *testing.T) {
	for _, s := range speeds {
		if got := testing.AllocsPerRun(100, func() { s.api.Levels(s.r) }); got > s.allocs {
			t.Errorf("%s: %v allocations, want at most %v", s.name, got, s.allocs)
		}
		if got := testing.AllocsPerRun(100, func() { s.api.Refuses(s.r) }); got > 0 {
			t.Errorf("%s: Refuses makes %v allocations", s.name, got)
		}
	}
}

func TestForAllocations(t *testing.T) {
	for _, r := range requests() {
		if got := testing.AllocsPerRun(100, func() { provider.For(r) }); got > 0 {
			t.Errorf("%s: %v allocations, want none", r.URL, got)
		}
	}
}

func requests() (list []*http.Request) {
	for _, url := range []string{
		"https://api.example.com/v2/things?page=3",
		"https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent",
		"https://api.openai.com/v1/chat/completions",
		"https://api.anthropic.com/v1/messages",
		"https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse",
		"https://www.googleapis.com/drive/v3/files",
	} {
		list = append(list, httptest.NewRequest("POST", url, nil))
	}
	return list
}

// Claimed: less than 150 ns where nothing is stated.
func BenchmarkLevels(b *testing.B) {
	for _, s := range speeds {
		b.Run(s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.api.Levels(s.r)
			}
		})
	}
}

func BenchmarkFor(b *testing.B) {
	for _, r := range requests() {
		b.Run(r.URL.Host, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				provider.For(r)
			}
		})
	}
}
