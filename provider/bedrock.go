package provider

import (
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Bedrock is Amazon Bedrock's runtime. A quota is a model's, or an inference
// profile's: https://docs.aws.amazon.com/bedrock/latest/userguide/quotas-token-burndown.html.
var Bedrock API = bedrock{}

type bedrock struct{ plain }

func (bedrock) Name() string { return "bedrock" }

// bedrockModel returns the model of a path that ends in model/ID/METHOD. An ID
// may be an ARN, with a slash of its own.
func bedrockModel(u *url.URL) string {
	dir, method := cutLast(u.EscapedPath())
	dir, id := cutLast(dir)
	if _, dir = cutLast(dir); dir != "model" {
		return ""
	}
	switch method {
	case "converse", "converse-stream", "invoke", "invoke-with-response-stream":
		id, _ = url.PathUnescape(id)
		return id
	}
	return ""
}

// Its tokens a minute are those of prompts and of answers.
var bedrockUsage = []Usage{
	{"inputTokens", Tokens},
	{"outputTokens", Tokens},
	{"input_tokens", Tokens}, // as Anthropic's models have it
	{"output_tokens", Tokens},
}

func (bedrock) Call(r *http.Request) Call {
	c := HTTP.Call(r)
	if id := bedrockModel(r.URL); id != "" {
		c.Key, c.Usage = id, bedrockUsage
	} else {
		c.Aside = true
	}
	return c
}

func (bedrock) Read(c *Call, body io.Reader, tokens bool) {
	if tokens {
		p := readPrompt(body)
		c.Cost[Tokens] = p.tokens(3)
	}
}

// isBedrock reports whether a request is for Bedrock, or for a proxy before it.
func isBedrock(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Hostname(), "bedrock-runtime.") && strings.HasSuffix(r.URL.Hostname(), ".amazonaws.com") ||
		r.Method == http.MethodPost && bedrockModel(r.URL) != ""
}
