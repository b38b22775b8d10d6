package quotatest

import (
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

func (gemini) failure(status int, message string) answer { return rpcFailure(status, message) }

// rpcFailure returns an error with the given HTTP status.
func rpcFailure(status int, message string, details ...any) answer {
	name, ok := codes[status]
	if !ok {
		name = "UNKNOWN"
	}
	return answer{status: status, parts: [][]byte{encode(object{"error": rpcError{status, message, name, details}})}}
}

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

func (gemini) noModel(model string) answer {
	return rpcFailure(http.StatusNotFound,
		"models/"+model+" is not found. Call ListModels to see which models there are.")
}

func (gemini) badKey() answer {
	return rpcFailure(http.StatusBadRequest, "API key not valid. Please pass a valid API key.", errorInfo{
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

// refusal has the whole delay in the message alone: the details have it cut off
// to seconds, and no header has it.
func (gemini) refusal(q *query, over []excess) answer {
	var message strings.Builder
	message.WriteString("You exceeded your current quota. To learn about quotas, head to: " + docs + ".")
	var violations []violation
	wait := time.Duration(0)
	for _, e := range over {
		metric, id := e.names(q.method)
		fmt.Fprintf(&message, "\n* Quota exceeded for metric: %s, limit: %d, model: %s", metric, e.N, q.model)
		v := violation{Metric: metric, ID: id, Dimensions: map[string]string{"location": "global", "model": q.model}}
		if e.N > 0 {
			v.Value = strconv.FormatInt(e.N, 10)
		}
		violations = append(violations, v)
		if e.Per == day { // the real one's hint is the same as for its limits a minute
			now := time.Duration(q.at.UnixNano())
			e.wait = next(now, time.Minute, 0) - now
		}
		wait = max(wait, e.wait)
	}
	fmt.Fprintf(&message, "\nPlease retry in %v.", wait)
	return rpcFailure(http.StatusTooManyRequests, message.String(),
		quotaFailure{typeURL + "QuotaFailure", violations},
		help{typeURL + "Help", []link{{"Learn more about Gemini API quotas", docs}}},
		retryInfo{typeURL + "RetryInfo", strconv.FormatInt(int64(wait/time.Second), 10) + "s"},
	)
}

// names returns the quotaMetric and the quotaId of a limit. The id says the span of
// the limit where there is a word for it, and else says none.
func (l Limit) names(method string) (metric, id string) {
	per := ""
	if span := l.span(); span != "" {
		per = "Per" + strings.ToUpper(span[:1]) + span[1:]
	}
	id, metric = "GenerateContent", service+"/generate_content_free_tier_"
	if method == embedContent || method == batchEmbedContents {
		id, metric = "EmbedContent", service+"/embed_content_free_tier_"
	}
	switch {
	case l.Unit == Tokens:
		return metric + "input_token_count", id + "InputTokensPerModel" + per + "-FreeTier"
	case l.Unit == OutputTokens:
		return metric + "output_token_count", id + "OutputTokensPerModel" + per + "-FreeTier"
	case id == "EmbedContent":
		return metric + "requests", id + "Requests" + per + "PerUserPerProjectPerModel-FreeTier"
	}
	return metric + "requests", "GenerateRequests" + per + "PerProjectPerModel-FreeTier"
}
