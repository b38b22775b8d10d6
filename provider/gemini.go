package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Gemini is the Gemini API and Vertex AI, behind any host and path prefix. A
// quota is a model's: https://ai.google.dev/gemini-api/docs/rate-limits.
var Gemini API = gemini{}

type gemini struct{}

func (gemini) Name() string { return "gemini" }

// call returns the NAME and METHOD of a path that ends in models/NAME:METHOD,
// tunedModels/NAME:METHOD or endpoints/NAME:METHOD, whatever stands before.
func call(path string) (name, method string) {
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

func cutLast(s string) (before, after string) {
	i := strings.LastIndexByte(s, '/')
	return s[:max(i, 0)], s[i+1:]
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
	{"promptTokenCount", Tokens},
	{"candidatesTokenCount", OutputTokens},
	{"thoughtsTokenCount", OutputTokens},
	{"prompt_tokens", Tokens}, // where it poses as OpenAI
}

func (gemini) Call(r *http.Request) Call {
	name, method := call(r.URL.Path)
	c := Call{Key: name, Cost: Cost{Requests: 1}, Usage: geminiUsage, Once: creates(r), Refill: Calendar, Zone: pacific()}
	switch method {
	case "generateContent", "streamGenerateContent", "embedContent",
		"predict", "rawPredict", "predictLongRunning", "streamRawPredict", "generateMessage", "generateText", "embedText":
	case "batchEmbedContents":
		c.Open = true // counts every text as a request
	case "":
		// Files, caches, operations, listings: limits of their own, or none.
		c.Key, c.Aside = Host(r), true
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/interactions") || model(r) {
			c.Aside, c.Open = false, true // names its model in the body
		}
	default:
		c.Key, c.Aside = name+":"+method, true // countTokens has 3000 a minute to itself
	}
	return c
}

func (gemini) Read(c *Call, body io.Reader, tokens bool) {
	p := readPrompt(body)
	if p.model != "" && c.Open {
		c.Key = strings.TrimPrefix(p.model, "models/")
	}
	if c.Open {
		c.Cost[Requests] = max(p.requests, 1)
	}
	if tokens {
		c.Cost[Tokens] = p.tokens(3)
	}
}

// google is the body of an error: https://google.aip.dev/193. It comes as an
// object, or as an array of one.
type google struct {
	Error struct {
		Message string
		Details few[detail]
	}
}

type detail struct {
	Violations few[struct {
		QuotaID         string
		QuotaValue      string
		QuotaDimensions struct{ Model string }
	}]
	RetryDelay string
}

// few is the beginning of a JSON array. An element of another type than
// expected is zero where it is.
type few[T any] []T

// maxFew is how much of an array is of interest.
const maxFew = 16

func (f *few[T]) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '[' {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	_, _ = d.Token()
	for d.More() && len(*f) < maxFew {
		var v T
		if err := d.Decode(&v); err != nil && !errors.As(err, new(*json.UnmarshalTypeError)) {
			return err
		}
		*f = append(*f, v)
	}
	return nil
}

// readGoogle reads the body of an error, as much of it as is one.
func readGoogle(body []byte) *google {
	// A field of another type than expected is skipped, all others are read.
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
		var list few[google]
		_ = json.Unmarshal(body, &list)
		return &append(list, google{})[0]
	}
	e := new(google)
	_ = json.Unmarshal(body, e)
	return e
}

// retryIn finds the hint in the message, the only place where it stands in full:
// "Please retry in 58.934s."
func (e *google) retryIn() (time.Duration, bool) {
	if e == nil {
		return 0, false
	}
	m := retryIn.FindStringSubmatch(e.Error.Message)
	if m == nil {
		return 0, false
	}
	d, err := time.ParseDuration(m[1])
	return d, err == nil
}

var retryIn = regexp.MustCompile(`[Rr]etry in ([0-9][0-9a-zµ.]*[a-z])`)

// retryDelay finds the hint in the details, where it is cut off to whole seconds.
func (e *google) retryDelay() (wait time.Duration, ok bool) {
	if e == nil {
		return 0, false
	}
	for _, d := range e.Error.Details {
		if delay, err := time.ParseDuration(d.RetryDelay); err == nil && delay >= 0 {
			wait, ok = delay+min(time.Second, never-delay), true
		}
	}
	return wait, ok
}

func (gemini) Levels(*http.Response) []Level { return nil } // it has no such headers

func (gemini) Refusal(r *http.Response, body []byte) (ref Refusal) {
	e := readGoogle(body)
	e.Error.Message = e.Error.Message[:min(len(e.Error.Message), maxProse)]
	ref.Wait, ref.Hinted = hint(r, e, nil)
	for _, d := range e.Error.Details {
		for _, v := range d.Violations {
			if len(ref.Limits) == maxFew {
				break
			}
			n, _ := strconv.ParseInt(v.QuotaValue, 10, 64)
			ref.Limits = append(ref.Limits, Violation{
				Unit:  unit(v.QuotaID),
				Per:   per(v.QuotaID),
				N:     max(n, 0),
				Model: v.QuotaDimensions.Model,
			})
		}
	}
	ref.Never = hopeless.MatchString(e.Error.Message)
	return ref
}

// hopeless finds what no waiting cures: a limit of nothing at all, and bills.
var hopeless = regexp.MustCompile(`limit: 0\b[^.]|limit: 0$|credits are depleted|exceeded its (monthly )?spending cap`)

const never = time.Duration(1<<63 - 1)

func unit(quotaID string) Unit {
	switch {
	case strings.Contains(quotaID, "OutputTokens"):
		return OutputTokens
	case strings.Contains(quotaID, "Tokens"):
		return Tokens
	}
	return Requests
}

func per(quotaID string) time.Duration {
	switch {
	case strings.Contains(quotaID, "PerDay"):
		return 24 * time.Hour
	case strings.Contains(quotaID, "PerHour"):
		return time.Hour
	case strings.Contains(quotaID, "PerMinute"):
		return time.Minute
	case strings.Contains(quotaID, "PerSecond"):
		return time.Second
	}
	return 0
}
