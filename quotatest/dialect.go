package quotatest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// A dialect is how an API understands what it is asked, and words what it says.
type dialect interface {
	// read understands a call to a method, whose texts are as many tokens as
	// of says; nil: as the API estimates.
	read(method string, u *url.URL, body []byte, of func(string) int64) query

	// reply is what a call gets that is let through.
	reply(q *query) answer

	// refusal is what a call gets that is over some limits of its model.
	refusal(q *query, over []excess) answer

	// levels are the headers that tell what is left of a quota, if any do.
	levels(q quota, now time.Time) http.Header

	failure(status int, message string) answer
	badKey() answer
	noModel(model string) answer
}

// A query is a call as its dialect understands it.
type query struct {
	n      int       // as in Calls
	at     time.Time // when it was counted, by the server's clock
	model  string
	method string
	broken error // what is wrong with its body
	free   bool  // it draws on no quota
	cost   cost
	prompt int64 // tokens of its texts
	stream bool
	events bool // the stream is one of server-sent events
	usage  bool // OpenAI: the stream ends with the usage

	// Of the Interactions API.
	agent      bool   // the model is an agent
	background bool   // it goes on when it is answered
	store      bool   // it can be asked for later
	previous   string // it goes on from another one
	lost       bool   // of which there is nothing
}

// route finds the dialect and the method of a request, by its path. What calls
// no method of a model is left to the dialects of Gemini.
func route(r *http.Request) (d dialect, model, method string) {
	dir, last := path.Split(r.URL.Path)
	parent := path.Base(dir)
	switch {
	case r.Method != http.MethodPost:
		return gemini{}, "", ""
	case last == "completions" && parent == "chat":
		return openAI{}, "", chatCompletions
	case last == responses:
		return openAI{}, "", responses
	case last == messages && parent == "v1":
		return anthropic{}, "", messages
	case last == createInteraction:
		return interactions{}, "", createInteraction
	case parent != "models" && parent != "tunedModels" && parent != "endpoints":
		return gemini{}, "", ""
	}
	model, method, _ = strings.Cut(last, ":")
	switch method {
	case generateContent, streamGenerateContent, countTokens, embedContent, batchEmbedContents:
		if model != "" {
			return gemini{}, model, method
		}
	}
	return gemini{}, "", ""
}

// replay returns a copy of a request whose body was read.
func replay(r *http.Request, body []byte) *http.Request {
	r = r.WithContext(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	return r
}

// parse reads a body of JSON, which may be missing altogether.
func parse[T any](body []byte) (v T, err error) {
	if len(body) > 0 {
		err = json.Unmarshal(body, &v)
	}
	return v, err
}

// turns are the messages of OpenAI's and Anthropic's APIs. A string is one.
type turns []texts

func (t *turns) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		*t = make(turns, 1)
		return json.Unmarshal(b, &(*t)[0])
	}
	var list []struct {
		Text    string
		Content texts
	}
	err := json.Unmarshal(b, &list)
	for _, m := range list {
		*t = append(*t, append(texts{m.Text}, m.Content...))
	}
	return err
}

// texts are those of a message: it holds a string, or parts, which have a text
// or hold the like in turn.
type texts []string

func (t *texts) UnmarshalJSON(b []byte) error {
	switch b[0] {
	case '"':
		*t = make(texts, 1)
		return json.Unmarshal(b, &(*t)[0])
	case '[':
		var parts turns
		err := json.Unmarshal(b, &parts)
		*t = slices.Concat(parts...)
		return err
	}
	return nil // there are none in what it is
}

// tokens returns how many tokens some texts are in all.
func (t texts) tokens(of func(string) int64) int64 {
	if of == nil {
		return estimate(strings.Join(t, ""))
	}
	n := int64(0)
	for _, text := range t {
		if text != "" {
			n += max(of(text), 0)
		}
	}
	return n
}

// estimate is the rule of thumb of all of them: see for instance
// https://ai.google.dev/gemini-api/docs/tokens.
func estimate(text string) int64 {
	return int64(utf8.RuneCountInString(text)+3) / 4
}
