package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// googleAPI is the older APIs of Google, such as those of Drive, Gmail and
// YouTube. They refuse with status 403 and give the reason in the body:
// https://developers.google.com/workspace/drive/api/guides/handle-errors. A quota
// is a host's.
var googleAPI API = google{}

type google struct{ plain }

func (google) Name() string { return "google" }

func isGoogle(host string) bool {
	return strings.HasSuffix(host, ".googleapis.com") || host == "googleapis.com"
}

func (google) Call(r *http.Request) Call {
	c := HTTP.Call(r)
	c.Zone = pacific() // where their days begin
	if c.Once && strings.Contains(r.URL.RawQuery, "requestId=") {
		c.Once = r.URL.Query().Get("requestId") == "" // Compute Engine's idempotency key: https://google.aip.dev/155
	}
	return c
}

// Refuses holds any 403 for a refusal until its body says more.
func (google) Refuses(r *http.Response) bool {
	return HTTP.Refuses(r) || r.StatusCode == http.StatusForbidden
}

func (google) Refusal(r *http.Response, body []byte) Refusal {
	ref := refusal(r, body, levels(r))
	e := readGoogle(body)
	if wait, ok := hint(r, e, new(problem), nil); ok {
		ref.Wait, ref.Hinted = wait, true
	}
	limits := e.violations()
	for _, reason := range e.Error.Errors {
		switch strings.TrimSuffix(reason.Reason, "Unreg") {
		case "dailyLimitExceeded", "quotaExceeded": // of a day
			limits = append(limits, Violation{Per: 24 * time.Hour})
		case "rateLimitExceeded", "userRateLimitExceeded", "concurrentLimitExceeded", "servingLimitExceeded":
		default:
			continue
		}
		ref.None = false
	}
	if len(limits) > 0 {
		ref.Limits = limits[:min(len(limits), maxFew)]
	}
	return ref
}

// A googleError is the body of an error (https://google.aip.dev/193), which older
// APIs have in another form. It comes as an object, or as an array of one.
type googleError struct {
	Error struct {
		Code    json.RawMessage // a number; a word from the Interactions API
		Message string
		Status  string
		Details few[detail]
		Errors  few[struct{ Reason string }]
	}
}

type detail struct {
	Violations few[struct {
		QuotaID         string
		QuotaValue      string
		QuotaDimensions struct{ Model string }
	}]
	RetryDelay string
	Metadata   struct { // of google.rpc.ErrorInfo
		QuotaLimit string `json:"quota_limit"`
		QuotaValue string `json:"quota_limit_value"`
	}
}

// few is the beginning of a JSON array. An element of another type than
// expected is zero where it is.
type few[T any] []T

// maxFew is how much of an array is of interest.
const maxFew = 16

func (f *few[T]) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '[' {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	_, _ = d.Token()
	for d.More() && len(*f) < maxFew {
		var v T
		if err := d.Decode(&v); err != nil && !errors.As(err, new(*json.UnmarshalTypeError)) {
			return err
		}
		*f = append(*f, v)
	}
	return nil
}

// readGoogle reads the body of an error, as much of it as is one.
func readGoogle(body []byte) *googleError {
	// A field of another type than expected is skipped, all others are read.
	e := new(googleError)
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
		var list few[googleError]
		_ = json.Unmarshal(body, &list)
		e = &append(list, googleError{})[0]
	} else {
		_ = json.Unmarshal(body, e)
	}
	e.Error.Message = e.Error.Message[:min(len(e.Error.Message), maxProse)]
	return e
}

var retryIn = regexp.MustCompile(`[Rr]etry in ([0-9][0-9a-zµ.]*[a-z])`)

// retryIn finds the hint in the message, the only place where it stands in full:
// "Please retry in 58.934s."
func (e *googleError) retryIn() (time.Duration, bool) {
	if e == nil {
		return 0, false
	}
	m := retryIn.FindStringSubmatch(e.Error.Message)
	if m == nil {
		return 0, false
	}
	d, err := time.ParseDuration(m[1])
	return d, err == nil
}

// retryDelay finds the hint in the details, where it is cut off to whole seconds.
func (e *googleError) retryDelay() (wait time.Duration, ok bool) {
	if e == nil {
		return 0, false
	}
	for _, d := range e.Error.Details {
		if d.RetryDelay == "" {
			continue
		}
		if delay, err := time.ParseDuration(d.RetryDelay); err == nil && delay >= 0 {
			wait, ok = delay+min(time.Second, never-delay), true
		}
	}
	return wait, ok
}

// violations returns which quotas were exceeded, by google.rpc.QuotaFailure, else
// by google.rpc.ErrorInfo.
func (e *googleError) violations() (list []Violation) {
	add := func(id, value, model string) {
		if len(list) < maxFew {
			n, _ := strconv.ParseInt(value, 10, 64)
			list = append(list, Violation{Unit: quotaIDUnit(id), Per: quotaIDSpan(id), N: max(n, 0), Model: model})
		}
	}
	for _, d := range e.Error.Details {
		for _, v := range d.Violations {
			add(v.QuotaID, v.QuotaValue, v.QuotaDimensions.Model)
		}
	}
	for _, d := range e.Error.Details {
		if d.Metadata.QuotaLimit != "" && len(list) == 0 {
			add(d.Metadata.QuotaLimit, d.Metadata.QuotaValue, "")
		}
	}
	return list
}

func quotaIDUnit(id string) Unit {
	switch {
	case strings.Contains(id, "OutputTokens"):
		return OutputTokens
	case strings.Contains(id, "Tokens"):
		return Tokens
	}
	return Requests
}

func quotaIDSpan(id string) time.Duration {
	switch {
	case strings.Contains(id, "PerDay"):
		return 24 * time.Hour
	case strings.Contains(id, "PerHour"):
		return time.Hour
	case strings.Contains(id, "PerMinute"):
		return time.Minute
	case strings.Contains(id, "PerSecond"):
		return time.Second
	}
	return 0
}
