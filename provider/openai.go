package provider

import (
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
)

// OpenAI is the API of OpenAI and those made after it: Azure OpenAI, Groq, xAI
// and many a proxy. A quota is a model's, and refilled continuously:
// https://platform.openai.com/docs/guides/rate-limits.
var OpenAI API = openAI{}

type openAI struct{ plain }

func (openAI) Name() string { return "openai" }

// A dialect is what an API like OpenAI's does in its own way.
type dialect struct {
	refill   Refill        // Auto: Steady
	requests time.Duration // what x-ratelimit-limit-requests is for; 0: the headers tell
	full     int           // a status of refusals, beside those that all have
}

// dialectOf returns what the host of a request does in its own way.
func dialectOf(r *http.Request) (d dialect) {
	if r == nil || r.URL == nil {
		return d
	}
	switch r.URL.Hostname() {
	case "api.groq.com": // https://console.groq.com/docs/rate-limits, docs/errors
		d.requests, d.full = 24*time.Hour, 498
	case "api.mistral.ai":
		d.refill = Calendar // its minutes are the wall clock's
	}
	return d
}

// isOpenAIHost reports whether a host has an API like OpenAI's. Others are known by
// their paths.
func isOpenAIHost(host string) bool {
	switch host {
	case "api.cerebras.ai", "api.deepinfra.com", "api.deepseek.com", "api.fireworks.ai", "api.groq.com", "api.mistral.ai",
		"api.moonshot.ai", "api.moonshot.cn", "api.openai.com", "api.perplexity.ai", "api.sambanova.ai", "api.together.ai",
		"api.together.xyz", "api.x.ai", "api.z.ai", "inference.do-ai.run", "models.github.ai", "models.inference.ai.azure.com",
		"open.bigmodel.cn", "openrouter.ai", "router.huggingface.co":
		return true
	}
	return strings.HasSuffix(host, ".azure.com") &&
		(strings.HasSuffix(host, ".openai.azure.com") || strings.HasSuffix(host, ".services.ai.azure.com") || strings.HasSuffix(host, ".cognitiveservices.azure.com"))
}

func isOpenAI(r *http.Request, host string) bool { return isOpenAIHost(host) || isModelCall(r) }

// isModelCall reports whether a request is a call of a model, which its body
// names, of OpenAI, its like or Anthropic.
func isModelCall(r *http.Request) bool {
	if r.Method != http.MethodPost {
		return false
	}
	path := r.URL.Path
	dir, last := cutLast(path)
	up, dir := cutLast(dir)
	if strings.Contains(path, "/openai/deployments/") {
		return true
	}
	switch last {
	case "completions":
		return dir == "chat" || dir == "v1" || dir == "fim" || dir == "beta"
	case "responses":
		return dir == "v1" || dir == "openai"
	case "messages", "moderations", "rerank":
		return dir == "v1"
	case "embeddings":
		return dir == "v1" || dir == "inference" || dir == "models"
	case "generations", "edits", "variations":
		return dir == "images" && strings.HasSuffix(up, "/v1")
	case "speech", "transcriptions", "translations":
		return dir == "audio" && strings.HasSuffix(up, "/v1")
	}
	return false
}

// openAIUsage is read where the charge cannot be reckoned beforehand: where the
// server adds the history, and where others speak OpenAI's language.
var openAIUsage = []Usage{
	{[]string{"usage", "prompt_tokens"}, Tokens},
	{[]string{"usage", "input_tokens"}, Tokens},
	{[]string{"usage", "completion_tokens"}, OutputTokens},
	{[]string{"usage", "output_tokens"}, OutputTokens},
	{[]string{"response", "usage", "input_tokens"}, Tokens},
	{[]string{"response", "usage", "output_tokens"}, OutputTokens},
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
	c := hostCall(r)
	c.Open = isModelCall(r)
	if c.Aside = !c.Open; c.Open {
		c.Once = creates(r)
	} else {
		c.Once = onceAside(r)
	}
	if c.Refill = dialectOf(r).refill; c.Refill == Auto {
		c.Refill = Steady
	}
	if c.Open {
		c.Boundary = boundary(r)
	}
	return c
}

// boundary returns what stands between the parts of a request's body, as those of
// transcriptions and image edits, or "".
func boundary(r *http.Request) string {
	t := r.Header["Content-Type"]
	if len(t) == 0 || !strings.HasPrefix(t[0], "multipart/form-data") {
		return ""
	}
	_, params, err := mime.ParseMediaType(t[0])
	if err != nil {
		return ""
	}
	return params["boundary"]
}

// Read reckons as the server does, which charges what may be said as well. A
// service tier that has limits of its own makes a key of its own.
func (openAI) Read(c *Call, body io.Reader, tokens bool) {
	var p prompt
	if c.Boundary != "" {
		p = readForm(body, c.Boundary, tokens)
	} else {
		p = readPrompt(body)
	}
	if p.model != "" && c.Open {
		c.Key = p.name()
	}
	if p.continues {
		c.Continues, c.Exact, c.Usage = true, false, openAIUsage
	}
	if tokens {
		c.Cost[Tokens] = p.tokens(4) + p.messages + 2 + p.maxTokens
	}
}

func (openAI) Refuses(r *http.Response) bool {
	if r.StatusCode == http.StatusOK {
		return false
	}
	d := dialectOf(r.Request)
	return d.full != 0 && r.StatusCode == d.full || HTTP.Refuses(r)
}

func (a openAI) Refusal(r *http.Response, body []byte) Refusal {
	return refusal(r, body, a.Levels(r))
}

func (openAI) Levels(r *http.Response) []Level {
	list := levels(r)
	if per := dialectOf(r.Request).requests; per > 0 && list != nil {
		for i := range list {
			if list[i].Unit == Requests && list[i].N > 0 {
				list[i].Per = per
			}
		}
	}
	return list
}
