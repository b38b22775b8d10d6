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

// isBedrock reports whether a request is for Bedrock, or for a proxy before it.
func isBedrock(r *http.Request, host string) bool {
	if strings.HasPrefix(host, "bedrock-runtime.") && strings.HasSuffix(host, ".amazonaws.com") {
		return true
	}
	if r.Method != http.MethodPost || !strings.Contains(r.URL.Path, "/model/") {
		return false
	}
	id, _ := bedrockMethod(r.URL)
	return id != ""
}

// bedrockMethod returns the model and the method of a path that ends in
// model/ID/METHOD. An ID may be an ARN, with a slash of its own.
func bedrockMethod(u *url.URL) (id, method string) {
	switch _, method = cutLast(u.Path); method {
	case "converse", "converse-stream", "invoke", "invoke-with-response-stream":
	default:
		return "", ""
	}
	dir, _ := cutLast(u.EscapedPath())
	dir, id = cutLast(dir)
	if _, dir = cutLast(dir); dir != "model" {
		return "", ""
	}
	id, _ = url.PathUnescape(id)
	return id, method
}

// Its tokens a minute are those of prompts and of answers. Streams of a model's
// own form end with what Bedrock has counted.
var (
	converseUsage = []Usage{
		{[]string{"usage", "inputTokens"}, Tokens},
		{[]string{"usage", "outputTokens"}, Tokens},
	}
	invokeUsage = []Usage{
		{[]string{"usage", "inputTokens"}, Tokens}, // Nova
		{[]string{"usage", "outputTokens"}, Tokens},
		{[]string{"usage", "input_tokens"}, Tokens}, // Anthropic
		{[]string{"usage", "output_tokens"}, Tokens},
		{[]string{"usage", "prompt_tokens"}, Tokens}, // Mistral
		{[]string{"usage", "completion_tokens"}, Tokens},
		{[]string{"prompt_token_count"}, Tokens}, // Llama
		{[]string{"generation_token_count"}, Tokens},
		{[]string{"inputTextTokenCount"}, Tokens}, // Titan
		{[]string{"results", "tokenCount"}, Tokens},
	}
	invokeStreamUsage = []Usage{
		{[]string{"amazon-bedrock-invocationMetrics", "inputTokenCount"}, Tokens},
		{[]string{"amazon-bedrock-invocationMetrics", "outputTokenCount"}, Tokens},
	}
)

func (bedrock) Call(r *http.Request) Call {
	c := HTTP.Call(r)
	id, method := bedrockMethod(r.URL)
	switch method {
	case "":
		c.Aside, c.Once = true, onceAside(r)
		return c
	case "invoke":
		c.Usage = invokeUsage
	case "invoke-with-response-stream":
		c.Usage = invokeStreamUsage
	default:
		c.Usage = converseUsage
	}
	c.Key, c.Once = id, creates(r)
	return c
}

func (bedrock) Read(c *Call, body io.Reader, tokens bool) {
	if tokens {
		p := readPrompt(body)
		c.Cost[Tokens] = p.tokens(3)
	}
}
