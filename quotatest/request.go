package quotatest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"strings"
	"unicode/utf8"
)

// The methods of a model.
const (
	generateContent       = "generateContent"
	streamGenerateContent = "streamGenerateContent"
	countTokens           = "countTokens"
)

// target returns the model and the method that a request calls: its path ends
// in models/NAME:METHOD, tunedModels/NAME:METHOD or endpoints/NAME:METHOD. For
// any other request the method is empty.
func target(r *http.Request) (model, method string) {
	dir, last := path.Split(r.URL.Path)
	switch path.Base(dir) {
	case "models", "tunedModels", "endpoints":
	default:
		return "", ""
	}
	model, method, _ = strings.Cut(last, ":")
	switch method {
	case generateContent, streamGenerateContent, countTokens:
		if r.Method == http.MethodPost && model != "" {
			return model, method
		}
	}
	return "", ""
}

// events reports whether a call wants server-sent events for an answer.
func events(r *http.Request, method string) bool {
	return method == streamGenerateContent && r.URL.Query().Get("alt") == "sse"
}

// replay returns a copy of a request whose body was read.
func replay(r *http.Request, body []byte) *http.Request {
	r = r.WithContext(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	return r
}

// A prompt is what counts of a call's body. Google reads a field's name in
// camel case or in snake case.
type prompt struct {
	Contents          []content
	SystemInstruction content
	SystemSnake       content `json:"system_instruction"`
	Generate          *prompt `json:"generateContentRequest"` // of countTokens, in place of the others
}

type content struct {
	Parts []struct{ Text string }
}

func parse(body []byte) (p prompt, err error) {
	if len(body) > 0 {
		err = json.Unmarshal(body, &p)
	}
	return p, err
}

// tokens returns how many tokens the texts of a prompt are.
func (p *prompt) tokens(of func(string) int64) int64 {
	if p == nil {
		return 0
	}
	if of == nil {
		of = estimate
	}
	n := p.Generate.tokens(of)
	for _, c := range append(p.Contents, p.SystemInstruction, p.SystemSnake) {
		for _, part := range c.Parts {
			if part.Text != "" {
				n += max(of(part.Text), 0)
			}
		}
	}
	return n
}

// estimate is Google's rule of thumb: https://ai.google.dev/gemini-api/docs/tokens.
func estimate(text string) int64 {
	return int64(utf8.RuneCountInString(text)+3) / 4
}
