package stream

import (
	"strings"
	"testing"
)

// record are the fields of something that the server keeps.
var record = []Field{{"id", ID}, {"interaction.id", ID}, {"interaction_id", ID}, {"status", Status}, {"interaction.status", Status}, {"usage.total_input_tokens", 1}}

func TestText(t *testing.T) {
	long := strings.Repeat("x", maxText)
	tests := []struct {
		name, contentType, text string
		id, status              string
	}{
		{"nothing", asJSON, ``, "", ""},
		{"a document", asJSON, `{"id":"i1","status":"completed","usage":{"total_input_tokens":5}}`, "i1", "completed"},
		{"events", asEvents, "data: {\"interaction\":{\"id\":\"i1\",\"status\":\"in_progress\"}}\n\ndata: {\"interaction_id\":\"i2\",\"status\":\"in_progress\"}\n\ndata: {\"interaction\":{\"id\":\"i1\",\"status\":\"completed\"}}\n\ndata: [DONE]\n\n", "i1", "completed"},
		{"elsewhere", asJSON, `{"steps":[{"id":"s","status":"x"}],"input":{"interaction":{"id":"y"}},"id":"i1"}`, "i1", ""},
		{"in text", asJSON, `{"text":"{\"id\":\"no\"}","names":["id","status"]}`, "", ""},
		{"no text", asJSON, `{"id":5,"status":null,"interaction":{"id":{"id":"no"}}}`, "", ""},
		{"escapes", asJSON, `{"id":"a\"b","status":"\u0064one"}`, "", ""},
		{"as long as it may be", asJSON, `{"id":"` + long + `"}`, long, ""},
		{"too long", asJSON, `{"id":"` + long + `x","interaction_id":"i"}`, "i", ""},
		{"broken off", asJSON, `{"id":"i1","status":"compl`, "i1", ""},
		{"a name without a value", asEvents, "data: {\"id\"\n\ndata: {\"x\":\"y\"}\n\n", "", ""},
	}
	for _, tt := range tests {
		for _, piece := range []int{1, 2, 3, 7, 1 << 20} {
			s := NewScanner(Options{ContentType: tt.contentType, Fields: record})
			write(s, tt.text, piece)
			s.Close()
			if id, status := s.Text(ID), s.Text(Status); id != tt.id || status != tt.status {
				t.Errorf("%s in pieces of %d: %q, %q, want %q, %q", tt.name, piece, id, status, tt.id, tt.status)
			}
			if got := s.Usage()[0]; got != -1 {
				t.Errorf("%s: an id counts as %d", tt.name, got)
			}
		}
	}
}
