package quotatest

import (
	"net/http"
	"net/url"
	"time"
)

// gemini is the Gemini API: https://ai.google.dev/api.
type gemini struct{}

// The methods of a model.
const (
	generateContent       = "generateContent"
	streamGenerateContent = "streamGenerateContent"
	countTokens           = "countTokens"
	embedContent          = "embedContent"
	batchEmbedContents    = "batchEmbedContents"
)

// A prompt is what counts of a call's body. Google reads a field's name in
// camel case or in snake case.
type prompt struct {
	Contents          []content
	Content           content // of embedContent
	SystemInstruction content
	SystemSnake       content  `json:"system_instruction"`
	Generate          *prompt  `json:"generateContentRequest"` // of countTokens, in place of the others
	Requests          []prompt // of batchEmbedContents
}

type content struct {
	Parts []struct{ Text string }
}

// tokens returns how many tokens the texts of a prompt are.
func (p *prompt) tokens(of func(string) int64) int64 {
	if p == nil {
		return 0
	}
	n := p.Generate.tokens(of)
	for i := range p.Requests {
		n += p.Requests[i].tokens(of)
	}
	for _, c := range append(p.Contents, p.Content, p.SystemInstruction, p.SystemSnake) {
		for _, part := range c.Parts {
			n += texts{part.Text}.tokens(of)
		}
	}
	return n
}

func (gemini) read(method string, u *url.URL, body []byte, of func(string) int64) query {
	p, err := parse[prompt](body)
	q := query{
		broken: err,
		free:   method == countTokens,
		prompt: p.tokens(of),
		stream: method == streamGenerateContent,
		events: method == streamGenerateContent && u.Query().Get("alt") == "sse",
	}
	q.cost = cost{Requests: 1, Tokens: q.prompt}
	switch method {
	case generateContent, streamGenerateContent:
		q.cost[OutputTokens] = spoken
	case batchEmbedContents: // each is one: https://ai.google.dev/gemini-api/docs/rate-limits
		q.cost[Requests] = max(int64(len(p.Requests)), 1)
	}
	return q
}

func (gemini) reply(q *query) answer {
	switch q.method {
	case countTokens:
		return tokenCount(q.prompt)
	case embedContent:
		return success(object{"embedding": nowhere})
	case batchEmbedContents:
		list := make([]embedding, q.cost[Requests])
		for i := range list {
			list[i] = nowhere
		}
		return success(object{"embeddings": list})
	case streamGenerateContent:
		return stream(q.model, q.prompt, q.events)
	}
	return success(say(q.model, q.prompt, wholeSpeech, wholeSpeech, true))
}

// levels are not told: there are no such headers.
func (gemini) levels(quota, time.Time) http.Header { return nil }

// An embedding is a ContentEmbedding. All texts have the same.
type embedding struct {
	Values []float32 `json:"values"`
}

var nowhere = embedding{[]float32{0.6, 0, 0.8}}

// A response is a GenerateContentResponse.
type response struct {
	Candidates   []candidate `json:"candidates"`
	Usage        usage       `json:"usageMetadata"`
	ModelVersion string      `json:"modelVersion"`
}

type candidate struct {
	Content struct {
		Parts []part `json:"parts"`
		Role  string `json:"role"`
	} `json:"content"`
	FinishReason string `json:"finishReason,omitempty"`
	Index        int    `json:"index"`
}

type part struct {
	Text string `json:"text"`
}

type usage struct {
	Prompt     int64 `json:"promptTokenCount"`
	Candidates int64 `json:"candidatesTokenCount"`
	Total      int64 `json:"totalTokenCount"`
}

// say returns a response with a text, after which all has been said so far.
func say(model string, prompt int64, text, all string, last bool) response {
	out := estimate(all)
	var c candidate
	c.Content.Parts = []part{{text}}
	c.Content.Role = "model"
	if last {
		c.FinishReason = "STOP"
	}
	return response{
		Candidates:   []candidate{c},
		Usage:        usage{Prompt: prompt, Candidates: out, Total: prompt + out},
		ModelVersion: model,
	}
}

// stream is a generation in parts, the elements of a JSON array unless events
// are wanted.
func stream(model string, prompt int64, events bool) answer {
	a := answer{status: http.StatusOK}
	all := ""
	for i, text := range speech {
		all += text
		last := i == len(speech)-1
		b := string(encode(say(model, prompt, text, all, last)))
		switch {
		case events:
			b = "data: " + b + "\r\n\r\n"
		case i == 0:
			b = "[" + b
		default:
			b = ",\r\n" + b
		}
		if last && !events {
			b += "]"
		}
		a.parts = append(a.parts, []byte(b))
	}
	return a
}

func tokenCount(n int64) answer {
	return success(object{"totalTokens": n})
}

// A listing is a Model as models.get and models.list return it.
type listing struct {
	Name        string   `json:"name"`
	Version     string   `json:"version"`
	DisplayName string   `json:"displayName"`
	InputLimit  int32    `json:"inputTokenLimit"`
	OutputLimit int32    `json:"outputTokenLimit"`
	Methods     []string `json:"supportedGenerationMethods"` // without streamGenerateContent, as there
}

func newListing(model string) listing {
	return listing{
		Name:        "models/" + model,
		Version:     "001",
		DisplayName: model,
		InputLimit:  1 << 20,
		OutputLimit: 1 << 16,
		Methods:     []string{generateContent, countTokens, embedContent},
	}
}

func modelInfo(model string) answer { return success(newListing(model)) }

func modelList(models []string) answer {
	list := make([]listing, len(models))
	for i, m := range models {
		list[i] = newListing(m)
	}
	return success(object{"models": list})
}
