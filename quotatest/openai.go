package quotatest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// openAI is the API of OpenAI: https://platform.openai.com/docs/api-reference.
type openAI struct{}

// Its methods.
const (
	chatCompletions = "chat/completions"
	responses       = "responses"
)

var errNoModel = errors.New("there is no model")

func (openAI) read(method string, _ *url.URL, body []byte, of func(string) int64) query {
	b, err := parse[struct {
		Model         string
		Messages      turns
		Input         turns // of responses, like Instructions
		Instructions  texts
		Stream        bool
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`

		// The most that the answer may be: of old, of chat/completions, of responses.
		MaxTokens           int64 `json:"max_tokens"`
		MaxCompletionTokens int64 `json:"max_completion_tokens"`
		MaxOutputTokens     int64 `json:"max_output_tokens"`
	}](body)
	if err == nil && b.Model == "" {
		err = errNoModel
	}
	said := append(b.Messages, b.Input...)
	q := query{model: b.Model, broken: err, prompt: slices.Concat(append(said, b.Instructions)...).tokens(of), stream: b.Stream, usage: b.StreamOptions.IncludeUsage}
	q.cost = cost{
		Requests:     1,
		Tokens:       q.prompt + int64(len(said)) + 2 + max(b.MaxTokens, b.MaxCompletionTokens, b.MaxOutputTokens, 0),
		OutputTokens: spoken,
	}
	return q
}

func (openAI) reply(q *query) answer {
	switch {
	case q.method == responses && q.stream:
		return streamResponse(q)
	case q.method == responses:
		return success(newResponse(q, "completed"))
	case q.stream:
		return streamCompletion(q)
	}
	return success(completion(q, "chat.completion", object{
		"index":         0,
		"message":       object{"role": "assistant", "content": wholeSpeech},
		"finish_reason": "stop",
	}, chatUsage(q)))
}

// refusal speaks of the limit that is in the way for longest.
func (openAI) refusal(q *query, over []excess) answer {
	e := longest(over)
	kind, letter := "requests", "R"
	if e.Unit != Requests {
		kind, letter = "tokens", "T"
	}
	per := ""
	switch span := e.span(); span {
	case "":
	case "minute":
		per = " per min (" + letter + "PM)"
	default:
		per = " per " + span + " (" + letter + "P" + strings.ToUpper(span[:1]) + ")"
	}
	message := fmt.Sprintf("Rate limit reached for %s in organization org-quotatest on %s%s: Limit %d, Used %d, Requested %d. Please try again in %v. "+
		"Visit https://platform.openai.com/account/rate-limits to learn more.",
		q.model, kind, per, e.N, e.used, e.requested, e.wait.Truncate(time.Millisecond))
	return openAIFailure(http.StatusTooManyRequests, message, kind, "rate_limit_exceeded").with(http.Header{
		"Retry-After":    {strconv.FormatInt(up(e.wait, time.Second), 10)},
		"Retry-After-Ms": {strconv.FormatInt(up(e.wait, time.Millisecond), 10)},
	})
}

// longest returns the excess that is in the way for longest.
func longest(over []excess) excess {
	e := over[0]
	for _, o := range over[1:] {
		if o.wait > e.wait {
			e = o
		}
	}
	return e
}

// up returns a duration in whole units, rounded up.
func up(d, unit time.Duration) int64 {
	n := int64(d / unit)
	if d%unit > 0 {
		n++
	}
	return n
}

// levels states the time until a limit is full again, cut off to milliseconds.
func (openAI) levels(q quota, now time.Time) http.Header {
	h := make(http.Header)
	for unit, name := range []string{Requests: "requests", Tokens: "tokens"} {
		if l, ok := q.level(Unit(unit), now); ok {
			h.Set("X-Ratelimit-Limit-"+name, strconv.FormatInt(l.N, 10))
			h.Set("X-Ratelimit-Remaining-"+name, strconv.FormatInt(l.left, 10))
			h.Set("X-Ratelimit-Reset-"+name, l.full.Truncate(time.Millisecond).String())
		}
	}
	return h
}

func openAIFailure(status int, message, kind string, code any) answer {
	a := success(object{"error": object{"message": message, "type": kind, "param": nil, "code": code}})
	a.status = status
	return a
}

func (openAI) failure(status int, message string) answer {
	switch {
	case status == http.StatusTooManyRequests:
		return openAIFailure(status, message, "requests", "rate_limit_exceeded")
	case status >= http.StatusInternalServerError:
		return openAIFailure(status, message, "server_error", nil)
	}
	return openAIFailure(status, message, "invalid_request_error", nil)
}

func (openAI) badKey() answer {
	return openAIFailure(http.StatusUnauthorized, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key")
}

func (openAI) noModel(model string) answer {
	return openAIFailure(http.StatusNotFound, "The model `"+model+"` does not exist or you do not have access to it.",
		"invalid_request_error", "model_not_found")
}

func chatUsage(q *query) object {
	return object{"prompt_tokens": q.prompt, "completion_tokens": spoken, "total_tokens": q.prompt + spoken}
}

// completion is a chat.completion or a chunk of one, with a choice or none and
// the usage or none.
func completion(q *query, kind string, choice, usage object) object {
	o := object{
		"id":      fmt.Sprintf("chatcmpl-%d", q.n),
		"object":  kind,
		"created": q.at.Unix(),
		"model":   q.model,
		"choices": []object{},
	}
	if choice != nil {
		o["choices"] = []object{choice}
	}
	if usage != nil {
		o["usage"] = usage
	}
	return o
}

// streamCompletion tells the usage in a chunk of its own, to those who ask.
func streamCompletion(q *query) answer {
	var parts [][]byte
	chunk := func(delta object, finish any) {
		choice := object{"index": 0, "delta": delta, "finish_reason": finish}
		parts = append(parts, event("", completion(q, "chat.completion.chunk", choice, nil)))
	}
	chunk(object{"role": "assistant", "content": ""}, nil)
	for _, text := range speech {
		chunk(object{"content": text}, nil)
	}
	chunk(object{}, "stop")
	if q.usage {
		parts = append(parts, event("", completion(q, "chat.completion.chunk", nil, chatUsage(q))))
	}
	return answer{status: http.StatusOK, events: true, parts: append(parts, []byte("data: [DONE]\n\n"))}
}

// event is a server-sent event, with a name or none.
func event(name string, data any) []byte {
	if name != "" {
		name = "event: " + name + "\n"
	}
	return fmt.Appendf(nil, "%sdata: %s\n\n", name, encode(data))
}
