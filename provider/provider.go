// Package provider knows how each family of APIs names its models, counts what
// a request costs, and says that it has had enough. It depends on the standard
// library alone.
package provider

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// A Unit is what a limit counts.
type Unit uint8

// The units that limits are stated in.
const (
	Requests Unit = iota
	Tokens
	OutputTokens

	units = 3
)

func (u Unit) String() string {
	switch u {
	case Requests:
		return "requests"
	case Tokens:
		return "tokens"
	case OutputTokens:
		return "output tokens"
	}
	return fmt.Sprintf("Unit(%d)", uint8(u))
}

// A Cost is what a request draws on limits, by Unit.
type Cost [units]int64

// Add adds d to c.
func (c *Cost) Add(d Cost) {
	for u := range c {
		c[u] += d[u]
	}
}

// Sub takes d from c.
func (c *Cost) Sub(d Cost) {
	for u := range c {
		c[u] -= d[u]
	}
}

// An API is one family's way of doing things.
type API interface {
	// Name is the family's name in logs.
	Name() string

	// Call reads what a request is and what it draws on. It does not touch
	// the request's body.
	Call(r *http.Request) Call

	// Read completes a call by what its request's body says: the Key and the
	// number of requests where the call is Open, and what it costs in tokens
	// if that is asked for.
	Read(c *Call, body io.Reader, tokens bool)

	// Refusal reads why a request was refused. body is the beginning of the
	// response's body, up to 64 KiB.
	Refusal(r *http.Response, body []byte) Refusal

	// Levels reads what the headers of a response, accepted or refused, say of
	// the limits of its key.
	Levels(r *http.Response) []Level
}

// A Call is what a request asks for.
type Call struct {
	Key    string         // of the quota it draws on
	Aside  bool           // not one of the calls that a model's quota is for: only a quota of that very key limits it
	Open   bool           // its Key, or how many requests it counts for, stands in the body
	Cost   Cost           // as estimated
	Exact  bool           // the server charges Cost as it is, and not what Usage says
	Usage  []Usage        // where the response says what it has cost; shared, not to be changed
	Once   bool           // creates something: must not be sent again when its fate is unknown
	Refill Refill         // the rule by which the API's tokens come back; Auto: not known
	Zone   *time.Location // where the API's days begin; nil: UTC
}

// A Refusal is what a response with status 429 or 503 says.
type Refusal struct {
	Wait   time.Duration // from when the response arrived; meaningful if Hinted
	Hinted bool          // it says when to try again
	Never  bool          // no waiting helps
	Limits []Violation   // what was exceeded; none: it does not say
}

// A Violation is a limit that the server says was exceeded. Zero fields are
// unknown.
type Violation struct {
	Unit  Unit
	N     int64
	Per   time.Duration
	Model string // the quota's name for the model, where it has one
}

// A Level is what a response's headers say of a limit.
type Level struct {
	Unit Unit
	N    int64         // how many; 0: it does not say
	Per  time.Duration // in how long; 0: it does not say
	Left int64         // how many are left, this request taken off; -1: it does not say
	Full time.Duration // in which all of them are back, if none is taken; -1: it does not say
}

// Daily reports whether the refusal is for a quota of a day or longer: the
// wait it names is not the one until that is back.
func (r Refusal) Daily() bool {
	for _, v := range r.Limits {
		if v.Per >= 24*time.Hour {
			return true
		}
	}
	return false
}

// For returns the API that a request is for, by its host or its path, so that a
// proxy's base URL will do: Gemini, Bedrock, Anthropic, Cohere,
// OpenAI, else HTTP.
func For(r *http.Request) API {
	if _, method := call(r.URL.Path); method != "" {
		return Gemini
	}
	switch host := r.URL.Hostname(); {
	case host == "generativelanguage.googleapis.com",
		strings.HasSuffix(host, "aiplatform.googleapis.com"),
		strings.HasPrefix(host, "aiplatform.") && strings.HasSuffix(host, ".googleapis.com"):
		return Gemini
	case isBedrock(r):
		return Bedrock
	case host == "api.anthropic.com", r.Header.Get("Anthropic-Version") != "":
		return Anthropic
	case host == "api.cohere.com", host == "api.cohere.ai":
		return Cohere
	case like[host], model(r):
		return OpenAI
	}
	for _, zone := range []string{".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com"} {
		if strings.HasSuffix(r.URL.Hostname(), zone) {
			return OpenAI
		}
	}
	return HTTP
}

// like are the hosts of APIs like OpenAI's. Others are known by their paths.
var like = map[string]bool{
	"api.cerebras.ai":               true,
	"api.deepinfra.com":             true,
	"api.deepseek.com":              true,
	"api.fireworks.ai":              true,
	"api.groq.com":                  true,
	"api.mistral.ai":                true,
	"api.openai.com":                true,
	"api.perplexity.ai":             true,
	"api.sambanova.ai":              true,
	"api.together.ai":               true,
	"api.together.xyz":              true,
	"api.x.ai":                      true,
	"inference.do-ai.run":           true,
	"models.github.ai":              true,
	"models.inference.ai.azure.com": true,
	"openrouter.ai":                 true,
	"router.huggingface.co":         true,
}
