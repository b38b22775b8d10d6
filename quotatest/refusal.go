package quotatest

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// rpcError is an error of any Google API: https://google.aip.dev/193.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Status  string `json:"status"`
	Details []any  `json:"details,omitempty"`
}

// failure returns an error with the given HTTP status.
func failure(status int, message string, details ...any) answer {
	name, ok := codes[status]
	if !ok {
		name = "UNKNOWN"
	}
	return answer{status: status, parts: [][]byte{encode(struct {
		Error rpcError `json:"error"`
	}{rpcError{status, message, name, details}})}}
}

// statusCanceled is the status of calls whose caller has left.
const statusCanceled = 499

// codes has the google.rpc.Code of HTTP statuses.
var codes = map[int]string{
	http.StatusBadRequest:          "INVALID_ARGUMENT",
	http.StatusUnauthorized:        "UNAUTHENTICATED",
	http.StatusForbidden:           "PERMISSION_DENIED",
	http.StatusNotFound:            "NOT_FOUND",
	http.StatusConflict:            "ABORTED",
	http.StatusTooManyRequests:     "RESOURCE_EXHAUSTED",
	statusCanceled:                 "CANCELLED",
	http.StatusInternalServerError: "INTERNAL",
	http.StatusNotImplemented:      "UNIMPLEMENTED",
	http.StatusServiceUnavailable:  "UNAVAILABLE",
	http.StatusGatewayTimeout:      "DEADLINE_EXCEEDED",
}

// blame returns what the API says when it fails for no reason of the caller's.
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
	}
	return cmp.Or(http.StatusText(status), "Unknown error.")
}

func noModel(model string) answer {
	return failure(http.StatusNotFound,
		"models/"+model+" is not found. Call ListModels to see which models there are.")
}

func badKey() answer {
	return failure(http.StatusBadRequest, "API key not valid. Please pass a valid API key.", errorInfo{
		Type:     typeURL + "ErrorInfo",
		Reason:   "API_KEY_INVALID",
		Domain:   "googleapis.com",
		Metadata: map[string]string{"service": service},
	})
}

const (
	typeURL = "type.googleapis.com/google.rpc."
	service = "generativelanguage.googleapis.com"
	docs    = "https://ai.google.dev/gemini-api/docs/rate-limits"
)

type errorInfo struct {
	Type     string            `json:"@type"`
	Reason   string            `json:"reason"`
	Domain   string            `json:"domain"`
	Metadata map[string]string `json:"metadata"`
}

type quotaFailure struct {
	Type       string      `json:"@type"`
	Violations []violation `json:"violations"`
}

type violation struct {
	Metric     string            `json:"quotaMetric"`
	ID         string            `json:"quotaId"`
	Dimensions map[string]string `json:"quotaDimensions"`
	Value      string            `json:"quotaValue,omitempty"`
}

type help struct {
	Type  string `json:"@type"`
	Links []link `json:"links"`
}

type link struct {
	Description string `json:"description"`
	URL         string `json:"url"`
}

type retryInfo struct {
	Type  string `json:"@type"`
	Delay string `json:"retryDelay"`
}

// refusal is the answer to a call that is over some limits of its model, as the
// API words it: the message alone has the whole delay, the details have it cut
// off to seconds, and no header has it.
func refusal(model string, over []Limit, wait time.Duration) answer {
	var message strings.Builder
	message.WriteString("You exceeded your current quota. To learn about quotas, head to: " + docs + ".")
	var violations []violation
	for _, l := range over {
		metric, id := l.names()
		fmt.Fprintf(&message, "\n* Quota exceeded for metric: %s, limit: %d, model: %s", metric, l.N, model)
		v := violation{Metric: metric, ID: id, Dimensions: map[string]string{"location": "global", "model": model}}
		if l.N > 0 {
			v.Value = strconv.FormatInt(l.N, 10)
		}
		violations = append(violations, v)
	}
	fmt.Fprintf(&message, "\nPlease retry in %v.", wait)
	return failure(http.StatusTooManyRequests, message.String(),
		quotaFailure{typeURL + "QuotaFailure", violations},
		help{typeURL + "Help", []link{{"Learn more about Gemini API quotas", docs}}},
		retryInfo{typeURL + "RetryInfo", strconv.FormatInt(int64(wait/time.Second), 10) + "s"},
	)
}

// names returns the quotaMetric and the quotaId of a limit. There are no others
// than for minutes and days.
func (l Limit) names() (metric, id string) {
	per := "PerMinute"
	if l.Per == day {
		per = "PerDay"
	}
	metric = service + "/generate_content_free_tier_"
	if l.Unit == Tokens {
		return metric + "input_token_count", "GenerateContentInputTokensPerModel" + per + "-FreeTier"
	}
	return metric + "requests", "GenerateRequests" + per + "PerProjectPerModel-FreeTier"
}
