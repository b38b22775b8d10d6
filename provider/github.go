package provider

import (
	"bytes"
	"net/http"
	"strings"
	"time"
)

// gitHub is the API of GitHub and of its Enterprise Server. A quota is a host's.
// It refuses with status 403 or 429, and says why in the body:
// https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api.
var gitHub API = github{}

type github struct{ plain }

func (github) Name() string { return "github" }

func isGitHub(r *http.Request, host string) bool {
	return host == "api.github.com" || strings.HasPrefix(r.URL.Path, "/api/v3/") || r.URL.Path == "/api/graphql"
}

// Refuses holds any 403 for a refusal until its body says more: where something is
// left, secondary limits do not show in the header.
func (github) Refuses(r *http.Response) bool {
	return HTTP.Refuses(r) || r.StatusCode == http.StatusForbidden
}

// Refusal waits for a minute where a secondary limit does not say how long, as
// GitHub asks for.
func (github) Refusal(r *http.Response, body []byte) Refusal {
	ref := refusal(r, body, levels(r))
	text := lower(body[:min(len(body), maxProse)])
	secondary := bytes.Contains(text, []byte("secondary rate limit")) || bytes.Contains(text, []byte("abuse detection"))
	if secondary || bytes.Contains(text, []byte("rate limit exceeded")) {
		ref.None = false
	}
	if secondary && !ref.Hinted {
		ref.Wait, ref.Hinted = time.Minute, true
	}
	return ref
}
