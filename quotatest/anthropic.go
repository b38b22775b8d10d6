package quotatest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// anthropic is the API of Anthropic: https://docs.anthropic.com/en/api/messages.
type anthropic struct{}

// messages is its method.
const messages = "messages"

func (anthropic) read(_ string, _ *url.URL, body []byte, of func(string) int64) query {
	b, err := parse[struct {
		Model    string
		System   texts
		Messages turns
		Stream   bool
	}](body)
	if err == nil && b.Model == "" {
		err = errNoModel
	}
	q := query{model: b.Model, broken: err, prompt: slices.Concat(append(b.Messages, b.System)...).tokens(of), stream: b.Stream}
	q.cost = cost{Requests: 1, Tokens: q.prompt, OutputTokens: spoken}
	return q
}

func (anthropic) reply(q *query) answer {
	message := object{
		"id":            fmt.Sprintf("msg_%d", q.n),
		"type":          "message",
		"role":          "assistant",
		"model":         q.model,
		"content":       []object{},
		"stop_reason":   nil,
		"stop_sequence": nil,
		"usage":         anthropicUsage(q, 1), // as there, before it is known
	}
	if q.stream {
		return streamMessage(message)
	}
	message["content"] = []object{{"type": "text", "text": wholeSpeech}}
	message["stop_reason"] = "end_turn"
	message["usage"] = anthropicUsage(q, spoken)
	return success(message)
}

func anthropicUsage(q *query, output int64) object {
	return object{
		"input_tokens":                q.prompt,
		"cache_creation_input_tokens": 0,
		"cache_read_input_tokens":     0,
		"output_tokens":               output,
	}
}

// streamMessage has the events that make a message whole.
func streamMessage(message object) answer {
	a := answer{status: http.StatusOK, events: true}
	say := func(name string, data object) {
		data["type"] = name
		a.parts = append(a.parts, event(name, data))
	}
	say("message_start", object{"message": message})
	say("content_block_start", object{"index": 0, "content_block": object{"type": "text", "text": ""}})
	say("ping", object{})
	for _, text := range speech {
		say("content_block_delta", object{"index": 0, "delta": object{"type": "text_delta", "text": text}})
	}
	say("content_block_stop", object{"index": 0})
	say("message_delta", object{
		"delta": object{"stop_reason": "end_turn", "stop_sequence": nil},
		"usage": object{"output_tokens": spoken},
	})
	say("message_stop", object{})
	return a
}

// refusal speaks of the limit that is in the way for longest.
func (d anthropic) refusal(_ *query, over []excess) answer {
	e := longest(over)
	unit := []string{"requests", "input tokens", "output tokens"}[e.Unit]
	per := e.span()
	if per != "" {
		per = " per " + per
	}
	message := fmt.Sprintf("This request would exceed your organization's rate limit of %d %s%s. "+
		"For details, refer to: https://docs.anthropic.com/en/api/rate-limits.", e.N, unit, per)
	return d.failure(http.StatusTooManyRequests, message).with(http.Header{
		"Retry-After": {strconv.FormatInt(up(e.wait, time.Second), 10)},
	})
}

// levels states when a limit is full again, by the server's clock, cut off to
// seconds; and of tokens, about how many are left.
func (anthropic) levels(q quota, now time.Time) http.Header {
	h := make(http.Header)
	for unit, name := range []string{Requests: "Requests", Tokens: "Input-Tokens", OutputTokens: "Output-Tokens"} {
		l, ok := q.level(Unit(unit), now)
		if !ok {
			continue
		}
		if l.Unit != Requests && l.N >= 1000 {
			l.left = min((l.left+500)/1000*1000, l.N)
		}
		name = "Anthropic-Ratelimit-" + name
		h.Set(name+"-Limit", strconv.FormatInt(l.N, 10))
		h.Set(name+"-Remaining", strconv.FormatInt(l.left, 10))
		h.Set(name+"-Reset", now.Add(l.full).UTC().Format(time.RFC3339))
	}
	return h
}

const statusOverloaded = 529

// anthropicErrors are the types of errors, by HTTP status:
// https://docs.anthropic.com/en/api/errors.
var anthropicErrors = map[int]string{
	http.StatusBadRequest:            "invalid_request_error",
	http.StatusUnauthorized:          "authentication_error",
	http.StatusForbidden:             "permission_error",
	http.StatusNotFound:              "not_found_error",
	http.StatusRequestEntityTooLarge: "request_too_large",
	http.StatusTooManyRequests:       "rate_limit_error",
	http.StatusGatewayTimeout:        "timeout_error",
	statusOverloaded:                 "overloaded_error",
}

// failure tells the SDKs whether to try again.
func (anthropic) failure(status int, message string) answer {
	kind, ok := anthropicErrors[status]
	if !ok {
		kind = "api_error"
	}
	a := success(object{"type": "error", "error": object{"type": kind, "message": message}})
	a.status = status
	retry := status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
	return a.with(http.Header{"X-Should-Retry": {strconv.FormatBool(retry)}})
}

func (d anthropic) badKey() answer {
	return d.failure(http.StatusUnauthorized, "invalid x-api-key")
}

func (d anthropic) noModel(model string) answer {
	return d.failure(http.StatusNotFound, "model: "+model)
}
