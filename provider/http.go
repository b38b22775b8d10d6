package provider

import (
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// HTTP is any API that refuses as RFC 6585 and RFC 9110 have it: status 429,
// with a Retry-After or without. A quota is a host's.
var HTTP API = plain{}

type plain struct{}

func (plain) Name() string { return "http" }

func (plain) Call(r *http.Request) Call {
	return Call{Key: Host(r), Cost: Cost{Requests: 1}, Once: creates(r)}
}

func (plain) Read(*Call, io.Reader, bool) {}

func (plain) Levels(*http.Response) []Level { return nil }

func (plain) Refusal(r *http.Response, body []byte) Refusal {
	ref := prose(body)
	if wait, ok := retryAfter(r); ok {
		ref.Wait, ref.Hinted = wait, true
	}
	return ref
}

// Host returns the host of a request as quotas have it: in lower case, and
// without the port that its scheme has anyway.
func Host(r *http.Request) string {
	host := strings.ToLower(r.URL.Host)
	switch r.URL.Scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}

// creates reports whether a call makes something that a second one would make
// again: uploads, files, batches, caches, fine-tuning jobs and tuned models, at
// every API that has them under these names.
func creates(r *http.Request) bool {
	return (r.Method == http.MethodPost || r.Method == http.MethodPatch) && creating(r.URL.Path) &&
		r.Header.Get("Idempotency-Key") == "" && r.Header.Get("X-Idempotency-Key") == ""
}

func creating(path string) bool {
	switch last := path[strings.LastIndexByte(path, '/')+1:]; last {
	case "files", "batches", "cachedContents", "tunedModels", "tuningJobs", "jobs", "uploads", "batchPredictionJobs":
		return true
	default:
		_, method, _ := strings.Cut(last, ":")
		return strings.HasPrefix(method, "batchGenerate") || strings.HasPrefix(method, "asyncBatch") ||
			method == "predictLongRunning" || strings.Contains(path, "/upload/") || strings.Contains(path, "/uploads/")
	}
}

// retryAfter reads when to try again from the header: retry-after-ms where it
// is more than 0 (Azure), else Retry-After in seconds, whole (RFC 9110, section
// 10.2.3) or not, or as a date by the server's own clock.
func retryAfter(r *http.Response) (time.Duration, bool) {
	if ms, ok := number(r.Header.Get("Retry-After-Ms")); ok && ms > 0 {
		return duration(ms, time.Millisecond), true
	}
	v := strings.TrimSpace(r.Header.Get("Retry-After"))
	if s, ok := number(v); ok {
		return duration(s, time.Second), true
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0, false
	}
	server, err := http.ParseTime(r.Header.Get("Date"))
	if err != nil {
		server = time.Now()
	}
	return max(0, at.Sub(server)), true
}

// number reads a finite number that is not less than 0.
func number(s string) (float64, bool) {
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil && n >= 0 && !math.IsInf(n, 0)
}

// duration returns n units, rounded up, saturating.
func duration(n float64, unit time.Duration) time.Duration {
	if d := math.Ceil(n * float64(unit)); d < math.MaxInt64 {
		return time.Duration(d)
	}
	return math.MaxInt64
}
