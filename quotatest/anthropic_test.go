package quotatest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	msgs = "/v1/messages"
	say1 = `{"model":"claude","max_tokens":100,"messages":[{"role":"user","content":"hello"}]}` // 2 tokens
)

func TestMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{}
		got := decode[any](t, do(s, "POST", msgs, say1))
		want := map[string]any{
			"id": "msg_0", "type": "message", "role": "assistant", "model": "claude",
			"content":     []any{map[string]any{"type": "text", "text": wholeSpeech}},
			"stop_reason": "end_turn", "stop_sequence": nil,
			"usage": map[string]any{"input_tokens": 2.0, "cache_creation_input_tokens": 0.0, "cache_read_input_tokens": 0.0, "output_tokens": 15.0},
		}
		if !reflect.DeepEqual(got, any(want)) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		if got, want := s.Calls(), []Call{{time.Now(), "claude", messages, 200, 2}}; !reflect.DeepEqual(got, want) {
			t.Errorf("calls %v, want %v", got, want)
		}
	})
}

func TestMessageStream(t *testing.T) {
	names, data := events(t, do(&Server{}, "POST", msgs, strings.TrimSuffix(say1, "}")+`,"stream":true}`))
	want := "message_start content_block_start ping content_block_delta content_block_delta content_block_delta content_block_stop message_delta message_stop"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	text := ""
	for i, d := range data {
		if d["type"] != names[i] {
			t.Errorf("event %s: %v", names[i], d)
		}
		delta, _ := get(d, "delta", "text").(string)
		text += delta
	}
	if text != wholeSpeech {
		t.Errorf("said %q", text)
	}
	start, end := data[0], data[len(data)-2]
	if get(start, "message", "usage", "input_tokens") != 2.0 || get(start, "message", "content", 0) != nil {
		t.Errorf("begins with %v", start)
	}
	if get(end, "usage", "output_tokens") != 15.0 || get(end, "delta", "stop_reason") != "end_turn" {
		t.Errorf("ends with %v", end)
	}
}

func TestAnthropicLevels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{
			Limits: map[string][]Limit{"claude": {
				{N: 2, Per: time.Minute, Count: Bucket},
				{Unit: Tokens, N: 450_000, Per: time.Minute, Count: Bucket},
				{Unit: OutputTokens, N: 30, Per: time.Minute, Count: Bucket},
			}},
			Skew: 1700 * time.Millisecond, // bubbles start at 2000-01-01T00:00Z
		}
		for i, want := range []struct {
			after                    time.Duration
			status                   int
			left, full               string
			outputLeft, outputIsFull string
		}{
			{0, 200, "1", "2000-01-01T00:00:31Z", "15", "2000-01-01T00:00:31Z"},
			{3 * time.Second, 200, "0", "2000-01-01T00:01:01Z", "1", "2000-01-01T00:01:01Z"},
			{10 * time.Second, 429, "0", "2000-01-01T00:01:01Z", "6", "2000-01-01T00:01:01Z"},
		} {
			time.Sleep(want.after)
			resp := do(s, "POST", msgs, say1)
			got := headers(resp, "Anthropic-Ratelimit-")
			delete(got, "Input-Tokens-Reset") // in the same second, or the next
			if want := map[string]string{
				"Requests-Limit": "2", "Requests-Remaining": want.left, "Requests-Reset": want.full,
				"Input-Tokens-Limit": "450000", "Input-Tokens-Remaining": "450000",
				"Output-Tokens-Limit": "30", "Output-Tokens-Remaining": want.outputLeft, "Output-Tokens-Reset": want.outputIsFull,
			}; !reflect.DeepEqual(got, want) {
				t.Errorf("call %d: %v, want %v", i, got, want)
			}
			if resp.StatusCode != want.status || (resp.Header.Get("Retry-After") == "17") != (want.status == 429) {
				t.Errorf("call %d: %s, Retry-After %s", i, resp.Status, resp.Header.Get("Retry-After"))
			}
		}
	})
}

func TestAnthropicFailures(t *testing.T) {
	script := func(status int) *Server {
		return &Server{Script: func(int, *http.Request) int { return status }}
	}
	none := func(u Unit, per time.Duration) *Server {
		return &Server{Limits: map[string][]Limit{"*": {{Unit: u, Per: per, Count: Bucket}}}}
	}
	tests := []struct {
		name    string
		s       *Server
		body    string
		status  int
		kind    string
		message string
		retry   string
	}{
		{"key", &Server{APIKey: "secret"}, say1, 401, "authentication_error", "invalid x-api-key", "false"},
		{"model", &Server{Models: []string{"claude 2"}}, say1, 404, "not_found_error", "model: claude", "false"},
		{"no model", &Server{}, "{}", 400, "invalid_request_error", "no model", "false"},
		{"no JSON", &Server{}, "{", 400, "invalid_request_error", "JSON", "false"},
		{"requests", none(Requests, time.Minute), say1, 429, "rate_limit_error", "rate limit of 0 requests per minute", "true"},
		{"tokens", none(Tokens, day), say1, 429, "rate_limit_error", "rate limit of 0 input tokens per day", "true"},
		{"output", none(OutputTokens, time.Minute), say1, 429, "rate_limit_error", "rate limit of 0 output tokens per minute", "true"},
		{"an hour", none(Requests, time.Hour), say1, 429, "rate_limit_error", "rate limit of 0 requests per hour.", "true"},
		{"a span without a name", none(Requests, 5*time.Second), say1, 429, "rate_limit_error", "rate limit of 0 requests. ", "true"},
		{"500", script(500), say1, 500, "api_error", "internal", "true"},
		{"529", script(529), say1, 529, "overloaded_error", "Overloaded", "true"},
	}
	for _, tt := range tests {
		resp := do(tt.s, "POST", msgs, tt.body)
		if resp.StatusCode != tt.status || resp.Header.Get("X-Should-Retry") != tt.retry {
			t.Errorf("%s: %s, %v", tt.name, resp.Status, resp.Header)
		}
		v := decode[map[string]any](t, resp)
		message, _ := get(v, "error", "message").(string)
		if v["type"] != "error" || get(v, "error", "type") != tt.kind || !strings.Contains(message, tt.message) {
			t.Errorf("%s: %v", tt.name, v)
		}
	}
}

// TestAnthropicSockets has a stream come through a real connection.
func TestAnthropicSockets(t *testing.T) {
	s := &Server{APIKey: "secret"}
	api := httptest.NewServer(s)
	defer api.Close()
	r, err := http.NewRequest("POST", api.URL+"/proxy"+msgs, strings.NewReader(strings.TrimSuffix(say1, "}")+`,"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Api-Key", "secret")
	resp, err := api.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || !strings.HasSuffix(string(body), "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n") {
		t.Errorf("%s: %s, %v", resp.Status, body, err)
	}
}
