package quotatest

import (
	"encoding/json"
	"net/http"
	"strings"
)

// An answer is what the server has to say: in one part, or as a stream of them.
type answer struct {
	status int
	events bool // for a caller who wants server-sent events
	parts  [][]byte
}

// contentType is that of the stream even for an error, whose body is JSON.
func (a answer) contentType() string {
	if a.events {
		return "text/event-stream"
	}
	return "application/json; charset=UTF-8"
}

// length returns the length of the body, -1 if it is a stream.
func (a answer) length() int64 {
	if len(a.parts) != 1 {
		return -1
	}
	return int64(len(a.parts[0]))
}

func success(v any) answer {
	return answer{status: http.StatusOK, parts: [][]byte{encode(v)}}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // all are structs of strings and numbers
	}
	return b
}

// speech is the answer to everything, in the parts of a stream.
var speech = []string{"One question ", "at a time, please, ", "and all will be answered."}

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

func generation(model string, prompt int64) answer {
	all := strings.Join(speech, "")
	return success(say(model, prompt, all, all, true))
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
	return success(struct {
		TotalTokens int64 `json:"totalTokens"`
	}{n})
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
		Methods:     []string{generateContent, countTokens},
	}
}

func modelInfo(model string) answer { return success(newListing(model)) }

func modelList(models []string) answer {
	list := make([]listing, len(models))
	for i, m := range models {
		list[i] = newListing(m)
	}
	return success(struct {
		Models []listing `json:"models"`
	}{list})
}
