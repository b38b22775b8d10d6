package provider

import (
	"io"
	"net/http"
	"time"
)

// Cohere is the API of Cohere. Its limits are an endpoint's or a model's, in
// calls: https://docs.cohere.com/docs/rate-limits.
var Cohere API = cohere{}

type cohere struct{}

func (cohere) Name() string { return "cohere" }

func (cohere) Call(r *http.Request) Call {
	c := HTTP.Call(r)
	if r.Method == http.MethodPost {
		switch _, end := cutLast(r.URL.Path); end {
		case "chat", "embed", "rerank", "classify", "generate":
			c.Open = true
		}
	}
	c.Open = c.Open || model(r) // it speaks OpenAI's language as well
	c.Aside = !c.Open
	return c
}

func (cohere) Read(c *Call, body io.Reader, tokens bool) {
	p := readPrompt(body)
	if p.model != "" && c.Open {
		c.Key = p.model
	}
	if tokens {
		c.Cost[Tokens] = p.tokens(3)
	}
}

// Levels reads what trial keys are told, whose limits are a minute's. That of a
// month does not say what is left.
func (cohere) Levels(r *http.Response) []Level {
	n, ok := integer(header(r, "X-Trial-Endpoint-Call-Limit"))
	if !ok || n <= 0 {
		return fieldLevels(r)
	}
	l := Level{N: n, Per: time.Minute, Left: -1, Full: -1}
	if left, ok := integer(header(r, "X-Trial-Endpoint-Call-Remaining")); ok && left >= 0 && left <= n {
		l.Left = left
	}
	return []Level{l}
}

func (a cohere) Refusal(r *http.Response, body []byte) Refusal {
	return refusal(r, body, a.Levels(r))
}
