package quotatest

import (
	"fmt"
	"net/http"
)

// newResponse is what OpenAI's method responses returns, or has of it so far.
func newResponse(q *query, status string) object {
	r := object{
		"id":         fmt.Sprintf("resp_%d", q.n),
		"object":     "response",
		"created_at": q.at.Unix(),
		"model":      q.model,
		"status":     status,
		"error":      nil,
		"output":     []object{},
		"usage":      nil,
	}
	if status == "completed" {
		r["output"] = []object{newMessage(q, status, outputText(wholeSpeech))}
		r["usage"] = object{
			"input_tokens":          q.prompt,
			"input_tokens_details":  object{"cached_tokens": 0},
			"output_tokens":         spoken,
			"output_tokens_details": object{"reasoning_tokens": 0},
			"total_tokens":          q.prompt + spoken,
		}
	}
	return r
}

func newMessage(q *query, status string, content ...object) object {
	if content == nil {
		content = []object{}
	}
	return object{"id": fmt.Sprintf("msg_%d", q.n), "type": "message", "status": status, "role": "assistant", "content": content}
}

func outputText(text string) object {
	return object{"type": "output_text", "text": text, "annotations": []object{}}
}

// streamResponse has the events of a response, each of which has its name in
// itself too, and a number.
func streamResponse(q *query) answer {
	a := answer{status: http.StatusOK, events: true}
	say := func(name string, data object) {
		data["type"], data["sequence_number"] = name, len(a.parts)
		a.parts = append(a.parts, event(name, data))
	}
	part := func(name string, more object) {
		o := object{"item_id": fmt.Sprintf("msg_%d", q.n), "output_index": 0, "content_index": 0}
		for k, v := range more {
			o[k] = v
		}
		say(name, o)
	}
	say("response.created", object{"response": newResponse(q, "in_progress")})
	say("response.output_item.added", object{"output_index": 0, "item": newMessage(q, "in_progress")})
	part("response.content_part.added", object{"part": outputText("")})
	for _, text := range speech {
		part("response.output_text.delta", object{"delta": text})
	}
	part("response.output_text.done", object{"text": wholeSpeech})
	part("response.content_part.done", object{"part": outputText(wholeSpeech)})
	say("response.output_item.done", object{"output_index": 0, "item": newMessage(q, "completed", outputText(wholeSpeech))})
	say("response.completed", object{"response": newResponse(q, "completed")})
	return a
}
