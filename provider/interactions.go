package provider

import (
	"net/http"
	"strings"
)

// The Interactions API is the newer one of Gemini's models and agents
// (https://ai.google.dev/api/interactions-api). It keeps what was said, runs what
// takes long in the background, and names errors by words.

// Its usage, in the interaction or in the event that ends a stream.
var interactionUsage = []Usage{
	{[]string{"usage", "total_input_tokens"}, Tokens},
	{[]string{"usage", "total_tool_use_tokens"}, Tokens},
	{[]string{"usage", "total_output_tokens"}, OutputTokens},
	{[]string{"usage", "total_thought_tokens"}, OutputTokens},
	{[]string{"interaction", "usage", "total_input_tokens"}, Tokens},
	{[]string{"interaction", "usage", "total_tool_use_tokens"}, Tokens},
	{[]string{"interaction", "usage", "total_output_tokens"}, OutputTokens},
	{[]string{"interaction", "usage", "total_thought_tokens"}, OutputTokens},
}

// Where it says which interaction that is, and how far.
var interactionRecord = &Record{
	ID:     [][]string{{"id"}, {"interaction", "id"}, {"interaction_id"}},
	Status: [][]string{{"status"}, {"interaction", "status"}},
}

// interactions returns what a path is of the Interactions API: "create" if it ends in
// /interactions, "get" in /interactions/ID, "cancel" in /interactions/ID/cancel,
// "other" if it is any other. Where the host says nothing, a version or a location
// goes before.
func interactions(path string, known bool) string {
	i := strings.LastIndex(path, "/interactions")
	if i < 0 {
		return ""
	}
	before, after := path[:i], path[i+len("/interactions"):]
	if dir, last := cutLast(before); !known && !isVersion(last) {
		if _, dir = cutLast(dir); dir != "locations" {
			return ""
		}
	}
	switch {
	case after == "":
		return "create"
	case after[0] != '/':
		return ""
	case strings.IndexByte(after[1:], '/') < 0:
		return "get"
	case strings.HasSuffix(after, "/cancel") && strings.Count(after, "/") == 2:
		return "cancel"
	}
	return "other"
}

// interactionID returns the ID of such a path, "" if there is none.
func interactionID(path string) string {
	_, after, _ := strings.Cut(path[max(0, strings.LastIndex(path, "/interactions")):], "/interactions/")
	id, _, _ := strings.Cut(after, "/")
	return id
}

// Interactions reports whether a request is one of Gemini's Interactions API, behind
// any host and path prefix. The codes of its errors are words.
func Interactions(r *http.Request) bool {
	return r.URL != nil && interactions(r.URL.Path, isGeminiHost(r.URL.Hostname())) != ""
}

// isVersion reports whether a segment of a path is a version, such as v1beta2.
func isVersion(s string) bool {
	if len(s) < 2 || s[0] != 'v' || s[1] < '0' || s[1] > '9' {
		return false
	}
	s = strings.TrimLeft(s[1:], "0123456789")
	if !strings.HasPrefix(s, "alpha") && !strings.HasPrefix(s, "beta") {
		return s == ""
	}
	return strings.Trim(s, "abehlpt0123456789") == ""
}
