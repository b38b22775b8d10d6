package provider

import (
	"io"
	"net/http"
	"strings"
)

// HTTP is any API that refuses as RFC 6585 and RFC 9110 have it: status 429,
// with a Retry-After or without. A quota is a host's.
var HTTP API = plain{}

// The statuses of refusals that net/http has no name for.
const statusOverloaded = 529

type plain struct{}

func (plain) Name() string { return "http" }

func (plain) Call(r *http.Request) Call {
	c := hostCall(r)
	c.Once = once(r)
	return c
}

// hostCall returns a call that draws one request on the quota of its host.
func hostCall(r *http.Request) Call { return Call{Key: Host(r), Cost: Cost{Requests: 1}} }

func (plain) Read(*Call, io.Reader, bool) {}

func (plain) Levels(r *http.Response) []Level { return levels(r) }

// Refuses holds a 403 for a refusal if it says when to come back or that nothing
// is left, as GitHub's do.
func (plain) Refuses(r *http.Response) bool {
	switch r.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, statusOverloaded:
		return true
	case http.StatusForbidden:
		return waits(r) || exhausted(r)
	}
	return false
}

func (plain) Refusal(r *http.Response, body []byte) Refusal {
	return refusal(r, body, levels(r))
}

func (plain) Event(r *http.Response, kind string, data []byte) (Refusal, bool) {
	return event(r, kind, data)
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

// cutLast cuts a path before its last segment.
func cutLast(s string) (before, after string) {
	i := strings.LastIndexByte(s, '/')
	return s[:max(i, 0)], s[i+1:]
}
