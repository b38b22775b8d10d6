package quotatest

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
)

// An answer is what the server has to say: in one part, or as a stream of them.
type answer struct {
	status int
	header http.Header // beside those that are the same for all
	events bool        // for a caller who wants server-sent events
	parts  [][]byte
}

// contentType is that of the stream for Gemini's errors too, whose body is JSON.
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

// with returns the answer with more headers.
func (a answer) with(h http.Header) answer {
	if a.header == nil {
		a.header = make(http.Header)
	}
	maps.Copy(a.header, h)
	return a
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

// object is a JSON object whose shape is needed in one place.
type object = map[string]any

// speech is the answer to everything, in the parts of a stream.
var speech = []string{"One question ", "at a time, please, ", "and all will be answered."}

var wholeSpeech = strings.Join(speech, "")

// spoken is how many tokens the speech is.
var spoken = estimate(wholeSpeech)

// statusCanceled is the status of calls whose caller has left.
const statusCanceled = 499

// blame returns what an API says when it fails for no reason of the caller's.
func blame(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "Request contains an invalid argument."
	case http.StatusTooManyRequests:
		return "Resource exhausted. Please try again later." // as where a pool is shared, and nobody knows when
	case statusCanceled:
		return "The operation was cancelled."
	case http.StatusInternalServerError:
		return "An internal error has occurred."
	case http.StatusServiceUnavailable:
		return "The model is overloaded. Please try again later."
	case statusOverloaded:
		return "Overloaded"
	}
	return cmp.Or(http.StatusText(status), "Unknown error.")
}
