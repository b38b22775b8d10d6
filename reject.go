package tollgate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"
)

// Reject429 is for Transport.Reject: it answers a request that was not sent as
// the server would have, with a 429. SDKs turn that into the error that their
// users know (genai, openai-go and anthropic-sdk-go all read the body), and do
// not try again, as they would after a Go error.
func Reject429(req *http.Request, e *LimitError) (*http.Response, error) {
	type details struct {
		Type       string `json:"@type"`
		RetryDelay string `json:"retryDelay"`
	}
	var body struct {
		Type  string `json:"type"` // Anthropic's
		Error struct {
			Code    int       `json:"code"`
			Status  string    `json:"status"` // Google's
			Type    string    `json:"type"`   // Anthropic's and OpenAI's
			Message string    `json:"message"`
			Details []details `json:"details,omitempty"`
		} `json:"error"`
	}
	body.Type = "error"
	body.Error.Code = http.StatusTooManyRequests
	body.Error.Status = "RESOURCE_EXHAUSTED"
	body.Error.Type = "rate_limit_error"
	body.Error.Message = e.Error()
	header := http.Header{
		"Content-Type":   {"application/json; charset=utf-8"},
		"Date":           {time.Now().UTC().Format(http.TimeFormat)},
		"X-Should-Retry": {"false"},
	}
	if e.RetryAfter < never {
		seconds := int64(math.Ceil(e.RetryAfter.Seconds()))
		header.Set("Retry-After", strconv.FormatInt(seconds, 10))
		body.Error.Details = []details{{"type.googleapis.com/google.rpc.RetryInfo", fmt.Sprintf("%ds", seconds)}}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		Status:        "429 Too Many Requests",
		StatusCode:    http.StatusTooManyRequests,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          io.NopCloser(bytes.NewReader(text)),
		ContentLength: int64(len(text)),
		Request:       req,
	}, nil
}
