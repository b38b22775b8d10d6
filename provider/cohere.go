package provider

import (
	"io"
	"net/http"
	"time"
)

// Cohere is the API of Cohere. Its limits are an endpoint's or a model's, in
// calls: https://docs.cohere.com/docs/rate-limits.
var Cohere API = cohere{}

type cohere struct{ plain }

func (cohere) Name() string { return "cohere" }

func isCohere(host string) bool { return host == "api.cohere.com" || host == "api.cohere.ai" }

func (cohere) Call(r *http.Request) Call {
	c := HTTP.Call(r)
	if r.Method == http.MethodPost {
		switch _, end := cutLast(r.URL.Path); end {
		case "chat", "embed", "rerank", "classify", "generate":
			c.Open = true
		}
	}
	c.Open = c.Open || isModelCall(r) // it speaks OpenAI's language as well
	if c.Aside = !c.Open; c.Open {
		c.Once, c.Boundary = creates(r), boundary(r)
	} else {
		c.Once = onceAside(r)
	}
	return c
}

func (cohere) Read(c *Call, body io.Reader, tokens bool) {
	var p prompt
	if c.Boundary != "" {
		p = readForm(body, c.Boundary, tokens)
	} else {
		p = readPrompt(body)
	}
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
	n, ok := integer(first(r.Header, "X-Trial-Endpoint-Call-Limit"))
	if !ok || n <= 0 {
		return levels(r)
	}
	l := Level{N: n, Per: time.Minute, Left: -1, Full: -1}
	if left, ok := integer(first(r.Header, "X-Trial-Endpoint-Call-Remaining")); ok && left <= n {
		l.Left = left
	}
	return []Level{l}
}

func (a cohere) Refusal(r *http.Response, body []byte) Refusal {
	return refusal(r, body, a.Levels(r))
}
