package provider

import (
	"io"
	"net/http"
	"strings"
	"time"
)

// OpenAI is the API of OpenAI and those made after it: Azure OpenAI, Groq, xAI
// and many a proxy. A quota is a model's, and refilled continuously:
// https://platform.openai.com/docs/guides/rate-limits.
var OpenAI API = openAI{}

// Anthropic is the Claude API. A quota is a model's, and refilled continuously:
// https://docs.anthropic.com/en/api/rate-limits.
var Anthropic API = anthropic{}

type (
	openAI    struct{}
	anthropic struct{}
)

func (openAI) Name() string    { return "openai" }
func (anthropic) Name() string { return "anthropic" }

// ends are how the paths of such calls end: of OpenAI, its like and Anthropic.
var ends = []string{
	"/chat/completions", "/v1/completions", "/fim/completions", "/beta/completions",
	"/v1/responses", "/openai/responses", "/v1/messages",
	"/v1/embeddings", "/inference/embeddings", "/models/embeddings",
	"/v1/images/generations", "/v1/audio/speech", "/v1/moderations", "/v1/rerank",
}

// model reports whether a request is a call of a model, which its body names.
func model(r *http.Request) bool {
	if r.Method != http.MethodPost {
		return false
	}
	for _, end := range ends {
		if strings.HasSuffix(r.URL.Path, end) {
			return true
		}
	}
	return strings.Contains(r.URL.Path, "/openai/deployments/")
}

func (openAI) Call(r *http.Request) Call {
	c := modelCall(r)
	c.Exact = true
	// Azure's path names the deployment, which has the quota.
	if _, name, ok := strings.Cut(r.URL.Path, "/openai/deployments/"); ok {
		name, _, _ = strings.Cut(name, "/")
		if name != "" {
			c.Key, c.Open = name, false
		}
	}
	return c
}

func modelCall(r *http.Request) Call {
	c := HTTP.Call(r)
	c.Open = model(r)
	c.Aside = !c.Open
	c.Refill = Steady
	if r.URL.Hostname() == "api.mistral.ai" {
		c.Refill = Calendar // its minutes are the wall clock's
	}
	return c
}

// Read reckons as the server does, which charges what may be said as well.
func (openAI) Read(c *Call, body io.Reader, tokens bool) {
	p := readPrompt(body)
	if p.model != "" && c.Open {
		c.Key = p.model
	}
	if tokens {
		c.Cost[Tokens] = p.tokens(4) + p.messages + 2 + p.maxTokens
	}
}

func (a openAI) Refusal(r *http.Response, body []byte) Refusal {
	return refusal(r, body, a.Levels(r))
}

func (openAI) Levels(r *http.Response) []Level {
	list := levels(r)
	if r.Request != nil && r.Request.URL.Hostname() == "api.groq.com" {
		for i := range list {
			if list[i].Unit == Requests {
				list[i].Per = 24 * time.Hour // https://console.groq.com/docs/rate-limits
			}
		}
	}
	if list == nil {
		return fieldLevels(r)
	}
	return list
}

func (anthropic) Refusal(r *http.Response, body []byte) Refusal {
	return refusal(r, body, anthropicLevels(r))
}

func (anthropic) Levels(r *http.Response) []Level { return anthropicLevels(r) }

// Its usage: of the prompt, what was not read from a cache.
var anthropicUsage = []Usage{
	{"input_tokens", Tokens},
	{"cache_creation_input_tokens", Tokens},
	{"output_tokens", OutputTokens},
}

func (anthropic) Call(r *http.Request) Call {
	c := modelCall(r)
	c.Usage = anthropicUsage
	return c
}

func (anthropic) Read(c *Call, body io.Reader, tokens bool) {
	p := readPrompt(body)
	if p.model != "" && c.Open {
		c.Key = p.model
	}
	if tokens {
		c.Cost[Tokens] = p.tokens(3)
	}
}
