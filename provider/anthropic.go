package provider

import (
	"io"
	"net/http"
	"strings"
	"time"
)

// Anthropic is the Claude API. A quota is a model's, and refilled continuously:
// https://docs.anthropic.com/en/api/rate-limits.
var Anthropic API = anthropic{}

type anthropic struct{ plain }

func (anthropic) Name() string { return "anthropic" }

func isAnthropic(r *http.Request, host string) bool {
	return host == "api.anthropic.com" || len(r.Header["Anthropic-Version"]) > 0
}

// Its usage: of the prompt, what was not read from a cache. A stream begins with
// it in a message, and ends with the event that corrects it.
var anthropicUsage = []Usage{
	{[]string{"usage", "input_tokens"}, Tokens},
	{[]string{"usage", "cache_creation_input_tokens"}, Tokens},
	{[]string{"usage", "output_tokens"}, OutputTokens},
	{[]string{"message", "usage", "input_tokens"}, Tokens},
	{[]string{"message", "usage", "cache_creation_input_tokens"}, Tokens},
	{[]string{"message", "usage", "output_tokens"}, OutputTokens},
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

func (a anthropic) Refusal(r *http.Response, body []byte) Refusal {
	return refusal(r, body, a.Levels(r))
}

// Levels reads the headers of https://docs.anthropic.com/en/api/rate-limits. The
// limit of tokens is the sum of those of input and output, which were one until
// 2024. All are a minute's.
func (anthropic) Levels(r *http.Response) []Level {
	h := r.Header
	if !states(h) && h["Anthropic-Ratelimit-Requests-Limit"] == nil && h["Anthropic-Ratelimit-Tokens-Limit"] == nil {
		return nil
	}
	var f fields
	f.read(h)
	two := false
	for i := range f.families[:f.n] {
		m := &f.families[i]
		if strings.HasPrefix(m.prefix, "Anthropic-") {
			m.per = time.Minute
			two = two || m.subject == "Input-Tokens" || m.subject == "Output-Tokens"
		}
	}
	for i := range f.families[:f.n] {
		if m := &f.families[i]; two && m.prefix == "Anthropic-Ratelimit" && m.subject == "Tokens" {
			m.counted = false
		}
	}
	return f.levels(r)
}
