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

// interactions is the Interactions API of Gemini:
// https://ai.google.dev/api/interactions-api.
type interactions struct{}

// createInteraction is its method.
const createInteraction = "interactions"

func (interactions) read(_ string, _ *url.URL, body []byte, of func(string) int64) query {
	b, err := parse[struct {
		Model      string
		Agent      string
		Input      turns
		System     texts  `json:"system_instruction"`
		Previous   string `json:"previous_interaction_id"`
		Stream     bool
		Background bool
		Store      *bool
	}](body)
	q := query{
		model:      strings.TrimPrefix(b.Model, "models/"),
		agent:      b.Model == "" && b.Agent != "",
		prompt:     slices.Concat(append(b.Input, b.System)...).tokens(of),
		stream:     b.Stream,
		background: b.Background,
		previous:   b.Previous,
		store:      b.Store == nil || *b.Store,
		broken:     err,
	}
	if q.agent {
		q.model = b.Agent
	}
	switch {
	case err != nil:
	case q.model == "":
		q.broken = errNoModel
	case b.Background && !q.store:
		q.broken = errors.New("what runs in the background is stored")
	}
	q.cost = cost{Requests: 1, Tokens: q.prompt, OutputTokens: spoken}
	return q
}

// The statuses of an interaction.
const (
	inProgress = "in_progress"
	completed  = "completed"
	cancelled  = "cancelled"
)

// reply returns the interaction, or the events of one. In the background it has
// only begun, and GET tells how it goes on.
func (interactions) reply(q *query) answer {
	switch {
	case q.stream:
		return streamInteraction(q, "")
	case q.background:
		return success(newInteraction(q, inProgress))
	}
	return success(newInteraction(q, completed))
}

// levels are not told: there are no such headers.
func (interactions) levels(quota, time.Time) http.Header { return nil }

func interactionID(n int) string { return "interaction-" + strconv.Itoa(n) }

// newInteraction is an Interaction, or what there is of it so far.
func newInteraction(q *query, status string) object {
	i := object{
		"id":      interactionID(q.n),
		"object":  "interaction",
		"status":  status,
		"created": q.at.UTC().Format(time.RFC3339),
		"updated": q.at.UTC().Format(time.RFC3339),
	}
	if q.agent {
		i["agent"] = q.model
	} else {
		i["model"] = q.model
	}
	if q.previous != "" {
		i["previous_interaction_id"] = q.previous
	}
	switch status {
	case completed:
		i["steps"] = []object{{"type": "model_output", "content": []object{{"type": "text", "text": wholeSpeech}}}}
		i["usage"] = interactionUsage(q.prompt, spoken)
	case cancelled:
		i["usage"] = interactionUsage(q.prompt, 0)
	}
	return i
}

func interactionUsage(input, output int64) object {
	return object{
		"total_input_tokens":    input,
		"total_cached_tokens":   0,
		"total_output_tokens":   output,
		"total_tool_use_tokens": 0,
		"total_thought_tokens":  0,
		"total_tokens":          input + output,
	}
}

// streamInteraction has the events of an interaction that come after the one with
// the given id: all of them if that is empty.
func streamInteraction(q *query, after string) answer {
	a := answer{status: http.StatusOK, events: true}
	n := 0
	last, err := strconv.Atoi(strings.TrimPrefix(after, "event-"))
	if err != nil {
		last = 0
	}
	say := func(kind string, data object) {
		n++
		data["event_type"], data["event_id"] = kind, fmt.Sprintf("event-%d", n)
		if n > last {
			a.parts = append(a.parts, event(kind, data))
		}
	}
	short := func(status string) object { // as there: without the steps
		i := newInteraction(q, status)
		delete(i, "steps")
		return i
	}
	say("interaction.created", object{"interaction": short(inProgress)})
	say("interaction.status_update", object{"interaction_id": interactionID(q.n), "status": inProgress})
	say("step.start", object{"index": 0, "step": object{"type": "model_output", "content": []object{}}})
	for _, text := range speech {
		say("step.delta", object{"index": 0, "delta": object{"type": "text", "text": text}})
	}
	say("step.stop", object{"index": 0})
	say("interaction.completed", object{"interaction": short(completed)})
	a.parts = append(a.parts, []byte(doneEvent))
	return a
}

// doneEvent is what streams of events end with.
const doneEvent = "data: [DONE]\n\n"

// interactionCodes are the words of errors, by HTTP status. There are no numbers.
var interactionCodes = map[int]string{
	http.StatusBadRequest:          "invalid_request",
	http.StatusUnauthorized:        "unauthenticated",
	http.StatusForbidden:           "permission_denied",
	http.StatusNotFound:            "not_found",
	http.StatusConflict:            "aborted",
	http.StatusTooManyRequests:     "too_many_requests",
	statusCanceled:                 "cancelled",
	http.StatusServiceUnavailable:  "service_unavailable",
	http.StatusGatewayTimeout:      "deadline_exceeded",
	http.StatusInternalServerError: "internal_error",
}

func interactionFailure(status int, code, message string) answer {
	return answer{status: status, parts: [][]byte{encode(object{"error": object{"code": code, "message": message}})}}
}

func (interactions) failure(status int, message string) answer {
	code, ok := interactionCodes[status]
	if !ok {
		code = "unknown"
	}
	return interactionFailure(status, code, message)
}

// refusal tells no more than whether it is a day's quota.
func (interactions) refusal(_ *query, over []excess) answer {
	for _, e := range over {
		if e.Per >= day {
			return interactionFailure(http.StatusTooManyRequests, "quota_exceeded", "You exceeded your quota of the day. See "+docs+".")
		}
	}
	return interactionFailure(http.StatusTooManyRequests, "rate_limit_exceeded", "You exceeded your rate limit. See "+docs+".")
}

func (d interactions) badKey() answer {
	return d.failure(http.StatusBadRequest, "API key not valid. Please pass a valid API key.")
}

func (d interactions) noModel(model string) answer {
	return d.failure(http.StatusNotFound, "Model "+model+" is not found.")
}

func (d interactions) noInteraction(id string) answer {
	return d.failure(http.StatusNotFound, "Interaction "+id+" is not found.")
}

// inStream returns a failure as an event in a stream that has begun.
func (interactions) inStream(q *query, failed answer) answer {
	a := streamInteraction(q, "")
	a.parts = a.parts[:2]
	var body map[string]any
	body, _ = parse[map[string]any](failed.parts[0])
	a.parts = append(a.parts, event("error", object{"event_type": "error", "event_id": "event-3", "error": body["error"]}), []byte(doneEvent))
	return a
}
