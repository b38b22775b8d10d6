package provider

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // days end at midnight Pacific also where there is no database of zones
)

// Gemini is the Gemini API and Vertex AI, behind any host and path prefix. A
// quota is a model's: https://ai.google.dev/gemini-api/docs/rate-limits.
var Gemini API = gemini{}

type gemini struct{ plain }

func (gemini) Name() string { return "gemini" }

func isGemini(r *http.Request, host string) bool {
	if _, method := geminiMethod(r.URL.Path); method != "" {
		return true
	}
	return isGeminiHost(host) || interactions(r.URL.Path, false) != ""
}

func isGeminiHost(host string) bool {
	if !strings.HasSuffix(host, ".googleapis.com") {
		return false
	}
	return host == "generativelanguage.googleapis.com" || strings.HasSuffix(host, "aiplatform.googleapis.com") || strings.HasPrefix(host, "aiplatform.")
}

// geminiMethod returns the NAME and METHOD of a path that ends in
// models/NAME:METHOD, tunedModels/NAME:METHOD or endpoints/NAME:METHOD, whatever
// stands before.
func geminiMethod(path string) (name, method string) {
	dir, last := cutLast(path)
	if _, dir = cutLast(dir); dir != "models" && dir != "tunedModels" && dir != "endpoints" {
		return "", ""
	}
	name, method, ok := strings.Cut(last, ":")
	if !ok || name == "" || method == "" {
		return "", ""
	}
	return name, method
}

// pacific is where Gemini's days begin.
var pacific = sync.OnceValue(func() *time.Location {
	l, err := time.LoadLocation("America/Los_Angeles")
	if err != nil { // a program without zone data has no summer time
		l = time.FixedZone("PST", -8*60*60)
	}
	return l
})

// Its usage, where the prompt includes what was cached:
// https://ai.google.dev/api/generate-content#UsageMetadata.
var geminiUsage = []Usage{
	{[]string{"usageMetadata", "promptTokenCount"}, Tokens},
	{[]string{"usageMetadata", "candidatesTokenCount"}, OutputTokens},
	{[]string{"usageMetadata", "thoughtsTokenCount"}, OutputTokens},
}

func (gemini) Call(r *http.Request) Call {
	name, method := geminiMethod(r.URL.Path)
	c := Call{Key: name, Cost: Cost{Requests: 1}, Usage: geminiUsage, Once: creates(r), Refill: Calendar, Zone: pacific()}
	switch method {
	case "rawPredict", "streamRawPredict": // of models by others, in their makers' forms
		switch {
		case strings.Contains(r.URL.Path, "/publishers/anthropic/"):
			c.Usage = anthropicUsage
		default:
			c.Usage = openAIUsage
		}
	case "generateContent", "streamGenerateContent", "embedContent",
		"predict", "predictLongRunning", "generateMessage", "generateText", "embedText":
	case "batchEmbedContents":
		c.Open = true // counts every text as a request
	case "":
		// Files, caches, operations, listings: limits of their own, or none.
		c.Key, c.Aside, c.Once = Host(r), true, onceAside(r)
		switch kind := interactions(r.URL.Path, isGeminiHost(r.URL.Hostname())); {
		case kind == "create" && r.Method == http.MethodPost:
			c.Aside, c.Open, c.Usage, c.Record, c.Once = false, true, interactionUsage, interactionRecord, creates(r)
		case (kind == "get" || kind == "cancel") && r.Method != http.MethodDelete:
			c.Polls, c.Usage, c.Record, c.Once = interactionID(r.URL.Path), interactionUsage, interactionRecord, false
		case isModelCall(r): // where it poses as OpenAI
			c.Aside, c.Open, c.Usage, c.Once = false, true, openAIUsage, creates(r)
		}
	default:
		c.Key, c.Aside = name+":"+method, true // countTokens has 3000 a minute to itself
		c.Once = c.Once || !leavesNothing.MatchString(method) && once(r)
	}
	return c
}

// leavesNothing is for the methods of models and endpoints that only reckon or
// generate.
var leavesNothing = regexp.MustCompile(`^count|^compute|^explain|[gG]enerate|[pP]redict|[eE]mbed`)

func (gemini) Read(c *Call, body io.Reader, tokens bool) {
	p := readPrompt(body)
	if c.Open {
		if model := strings.TrimPrefix(p.name(), "models/"); model != "" {
			c.Key = model
		}
		c.Cost[Requests] = max(p.requests, 1)
		c.Continues = p.continues
		if c.Record != nil {
			c.Follows = p.previous
		}
	}
	if tokens {
		c.Cost[Tokens] = p.tokens(3)
	}
}

func (gemini) Levels(*http.Response) []Level { return nil } // it has no such headers

func (gemini) Refusal(r *http.Response, body []byte) (ref Refusal) {
	return readGoogle(body).refusal(r, readProblem(r, body))
}

func (e *googleError) refusal(r *http.Response, p *problem) (ref Refusal) {
	ref.Wait, ref.Hinted = hint(r, e, p, nil)
	ref.Limits = e.violations()
	ref.Never = hopeless.MatchString(e.Error.Message) || p.sign&unpaid != 0
	ref.Slower = p.sign&gradual != 0
	ref.Overload = p.overload(r)
	if string(e.Error.Code) == `"quota_exceeded"` && len(ref.Limits) == 0 {
		ref.Limits = []Violation{{Per: 24 * time.Hour}} // the Interactions API's word for a day's quota
	}
	if r.StatusCode == http.StatusForbidden {
		ref.None = p.sign&^busy == 0 && !waits(r)
	}
	return ref
}

// Event reads Google's errors, and those of models by others.
func (g gemini) Event(r *http.Response, kind string, data []byte) (Refusal, bool) {
	ref, ok := event(r, kind, data)
	if !ok {
		return ref, false
	}
	status, p := misfortune(r, kind, data)
	own := readGoogle(data).refusal(inBody(r, status), p)
	own.Never = own.Never || ref.Never
	if !own.Hinted {
		own.Wait, own.Hinted = ref.Wait, ref.Hinted
	}
	if len(own.Limits) == 0 {
		own.Limits = ref.Limits
	}
	return own, true
}

// hopeless finds what no waiting cures: a limit of nothing at all, and bills.
var hopeless = regexp.MustCompile(`limit: 0\b[^.]|limit: 0$|credits are depleted|exceeded its (monthly )?spending cap`)
