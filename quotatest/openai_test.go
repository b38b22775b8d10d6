package quotatest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate/provider"
)

const (
	chat = "/v1/chat/completions"
	ask  = `{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}` // 2+1+2 tokens
)

// headers returns those whose names begin so, by the rest of their names.
func headers(resp *http.Response, prefix string) map[string]string {
	m := make(map[string]string)
	for name, values := range resp.Header {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			m[rest] = strings.Join(values, "|")
		}
	}
	return m
}

// events returns the events of a stream, of which each must be JSON.
func events(t *testing.T, resp *http.Response) (names []string, data []map[string]any) {
	t.Helper()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type: %s", got)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	for e := range strings.SplitAfterSeq(string(body), "\n\n") {
		if e == "" || e == "data: [DONE]\n\n" {
			names = append(names, strings.TrimSpace(e))
			continue
		}
		name, rest, _ := strings.Cut(e, "data: ")
		var v map[string]any
		if err := json.Unmarshal([]byte(rest), &v); err != nil || !strings.HasSuffix(rest, "}\n\n") {
			t.Errorf("event %q: %v", e, err)
		}
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(name, "event: "), "\n"))
		data = append(data, v)
	}
	if last := len(names) - 1; last < 0 || names[last] != "" {
		t.Fatalf("the stream breaks off: %q", body)
	}
	return names[:len(names)-1], data
}

// get returns what stands in JSON at a path of names and indexes.
func get(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func TestChatCompletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{}
		v := decode[any](t, do(s, "POST", chat, ask))
		want := map[string]any{
			"id": "chatcmpl-0", "object": "chat.completion", "created": 946684800.0, "model": "gpt-4o",
			"choices": []any{map[string]any{
				"index": 0.0, "finish_reason": "stop",
				"message": map[string]any{"role": "assistant", "content": wholeSpeech},
			}},
			"usage": map[string]any{"prompt_tokens": 2.0, "completion_tokens": 15.0, "total_tokens": 17.0},
		}
		if !reflect.DeepEqual(v, any(want)) {
			t.Errorf("got  %v\nwant %v", v, want)
		}
		if got, want := s.Calls(), []Call{{time.Now(), "gpt-4o", chatCompletions, 200, 5}}; !reflect.DeepEqual(got, want) {
			t.Errorf("calls %v, want %v", got, want)
		}
	})
}

func TestChatStream(t *testing.T) {
	for _, usage := range []bool{false, true} {
		body := strings.TrimSuffix(ask, "}") + `,"stream":true,"stream_options":{"include_usage":` + strconv.FormatBool(usage) + `}}`
		names, data := events(t, do(&Server{}, "POST", chat, body))
		if names[len(names)-1] != "data: [DONE]" {
			t.Errorf("ends with %s", names[len(names)-1])
		}
		text, finish := "", any(nil)
		for i, d := range data {
			if d["object"] != "chat.completion.chunk" {
				t.Errorf("event %d is %v", i, d)
			}
			delta, _ := get(d, "choices", 0, "delta", "content").(string)
			text += delta
			if f := get(d, "choices", 0, "finish_reason"); f != nil {
				finish = f
			}
		}
		if text != wholeSpeech || finish != "stop" {
			t.Errorf("said %q, %v", text, finish)
		}
		if got := get(data[len(data)-1], "usage", "total_tokens"); (got == 17.0) != usage {
			t.Errorf("usage %v: %v", usage, got)
		}
	}
}

func TestResponses(t *testing.T) {
	const body = `{"model":"gpt-4o","input":"hello"`
	whole := decode[map[string]any](t, do(&Server{}, "POST", "/v1/responses", body+"}"))
	if whole["object"] != "response" || whole["status"] != "completed" || get(whole, "output", 0, "content", 0, "text") != wholeSpeech ||
		get(whole, "usage", "input_tokens") != 2.0 || get(whole, "usage", "total_tokens") != 17.0 {
		t.Errorf("%v", whole)
	}
	names, data := events(t, do(&Server{}, "POST", "/v1/responses", body+`,"stream":true}`))
	text := ""
	for i, d := range data {
		if d["type"] != names[i] || d["sequence_number"] != float64(i) {
			t.Errorf("event %d, %s: %v", i, names[i], d)
		}
		if delta, ok := d["delta"].(string); ok {
			text += delta
		}
	}
	first, last := data[0], data[len(data)-1]
	if first["type"] != "response.created" || get(first, "response", "status") != "in_progress" || get(first, "response", "usage") != nil {
		t.Errorf("begins with %v", first)
	}
	delete(whole, "created_at")
	delete(last["response"].(map[string]any), "created_at")
	if last["type"] != "response.completed" || !reflect.DeepEqual(last["response"], any(whole)) {
		t.Errorf("ends with %v, want %v", last, whole)
	}
	if text != wholeSpeech {
		t.Errorf("said %q", text)
	}
}

// TestCharges compares what calls cost with what tollgate takes for it.
func TestCharges(t *testing.T) {
	length := func(text string) int64 { return int64(len(text)) }
	const openAI, anthropic = "https://api.openai.com", "https://api.anthropic.com"
	tests := []struct {
		url, body string
		of        func(string) int64
		want      int64
	}{
		{openAI + chat, ask, nil, 5},
		{openAI + chat, ask, length, 8},
		{openAI + chat, ask, func(string) int64 { return -1 }, 3},
		{openAI + chat, `{"model":"m","messages":[{"content":"123"},{"content":"45"},{"content":"äöü"}]}`, nil, 7}, // of all together
		{openAI + chat, `{"model":"m","messages":[{"content":[{"type":"text","text":"1234"},{"type":"text","text":"5"}]}]}`, nil, 5},
		{openAI + chat, `{"model":"m","messages":[{"content":null,"role":"assistant"}],"max_tokens":null}`, nil, 3},
		{openAI + chat, `{"model":"m","messages":null,"max_tokens":100}`, nil, 102},
		{openAI + chat, `{"model":"m","messages":[],"max_completion_tokens":100}`, nil, 102},
		{openAI + "/v1/responses", `{"model":"m","input":"12345","instructions":"678","max_output_tokens":100}`, nil, 105},
		{openAI + "/v1/responses", `{"model":"m","input":[{"role":"user","content":"1234"},{"content":[{"text":"1"},{"text":"2"}]}]}`, nil, 6},
		{anthropic + msgs, say1, nil, 2},
		{anthropic + msgs, say1, length, 5},
		{anthropic + msgs, `{"model":"m","max_tokens":100,"system":"123","messages":[{"content":"45"}]}`, nil, 2},
		{anthropic + msgs, `{"model":"m","system":[{"type":"text","text":"1234"}],"messages":[{"content":[{"type":"tool_result","content":[{"type":"text","text":"5"}]}]}]}`, nil, 2},
	}
	for _, tt := range tests {
		s := &Server{Tokens: tt.of}
		r := httptest.NewRequest("POST", tt.url, strings.NewReader(tt.body))
		api := provider.For(r)
		c := api.Call(r)
		api.Read(&c, strings.NewReader(tt.body), true)
		if resp := do(s, "POST", tt.url, tt.body); resp.StatusCode != 200 {
			t.Errorf("%s: %s", tt.body, resp.Status)
		}
		if got := s.Calls()[0].Tokens; got != tt.want {
			t.Errorf("%s: %d tokens, want %d", tt.body, got, tt.want)
		}
		if tt.of == nil && (c.Cost[provider.Tokens] < tt.want || c.Exact && c.Cost[provider.Tokens] != tt.want) {
			t.Errorf("%s: tollgate takes %d tokens, want %d", tt.body, c.Cost[provider.Tokens], tt.want)
		}
	}
}

func TestOpenAILevels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Limits: map[string][]Limit{"gpt-4o": {
			{N: 3, Per: time.Minute, Count: Bucket},
			{Unit: Tokens, N: 60_000, Per: time.Minute, Count: Bucket},
			{N: 100, Per: day, Count: Bucket}, // not told
		}}}
		for i, want := range []struct {
			after                            time.Duration
			status                           int
			requests, tokens, reset, tokens2 string
		}{
			{0, 200, "2", "59995", "20s", "5ms"},
			{time.Second, 200, "1", "59995", "39s", "5ms"},
			{3 * time.Millisecond, 200, "0", "59993", "58.997s", "7ms"},
			{1500 * time.Microsecond, 429, "0", "59994", "58.995s", "5ms"},
		} {
			time.Sleep(want.after)
			resp := do(s, "POST", chat, ask)
			got := headers(resp, "X-Ratelimit-")
			if want := map[string]string{
				"Limit-Requests": "3", "Remaining-Requests": want.requests, "Reset-Requests": want.reset,
				"Limit-Tokens": "60000", "Remaining-Tokens": want.tokens, "Reset-Tokens": want.tokens2,
			}; !reflect.DeepEqual(got, want) {
				t.Errorf("call %d: %v, want %v", i, got, want)
			}
			if resp.StatusCode != want.status {
				t.Errorf("call %d: %s", i, resp.Status)
			}
		}
		if got := headers(do(s, "POST", chat, strings.Replace(ask, "4o", "5", 1)), "X-Ratelimit-"); len(got) > 0 {
			t.Errorf("of a model without limits: %v", got)
		}
	})
}

func TestOpenAIRefusal(t *testing.T) {
	bucket := func(u Unit, n int64, per time.Duration) Limit { return Limit{Unit: u, N: n, Per: per, Count: Bucket} }
	tests := []struct {
		name      string
		limits    []Limit
		at        time.Duration // of the second call
		want      string        // in the message
		kind      string
		after, ms string
	}{
		{"requests", []Limit{bucket(Requests, 1, time.Minute)}, 19*time.Second + 1500*time.Microsecond,
			"on requests per min (RPM): Limit 1, Used 1, Requested 1. Please try again in 40.998s.", "requests", "41", "40999"},
		{"tokens", []Limit{bucket(Tokens, 6, time.Minute)}, 0,
			"on tokens per min (TPM): Limit 6, Used 5, Requested 5. Please try again in 40s.", "tokens", "40", "40000"},
		{"of a day", []Limit{bucket(Requests, 1, day)}, time.Second,
			"on requests per day (RPD): Limit 1, Used 1, Requested 1. Please try again in 23h59m59s.", "requests", "86399", "86399000"},
		{"of an hour", []Limit{bucket(Requests, 1, time.Hour)}, time.Second,
			"on requests per hour (RPH): Limit 1, Used 1, Requested 1. Please try again in 59m59s.", "requests", "3599", "3599000"},
		{"of a span without a name", []Limit{bucket(Requests, 1, 5*time.Second)}, time.Second,
			"on requests: Limit 1, Used 1, Requested 1. Please try again in 4s.", "requests", "4", "4000"},
		{"the longest of all", []Limit{bucket(Requests, 1, time.Minute), bucket(Tokens, 5, day), bucket(Requests, 1, time.Hour)}, 0,
			"on tokens per day (TPD): Limit 5, Used 5, Requested 5. Please try again in 24h0m0s.", "tokens", "86400", "86400000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{Limits: map[string][]Limit{"*": tt.limits}}
				do(s, "POST", chat, ask)
				time.Sleep(tt.at)
				resp := do(s, "POST", chat, strings.TrimSuffix(ask, "}")+`,"stream":true}`)
				if resp.StatusCode != 429 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
					t.Errorf("%s, %s", resp.Status, resp.Header.Get("Content-Type"))
				}
				if got := headers(resp, "Retry-After"); !reflect.DeepEqual(got, map[string]string{"": tt.after, "-Ms": tt.ms}) {
					t.Errorf("Retry-After: %v, want %s, %s", got, tt.after, tt.ms)
				}
				v := decode[map[string]any](t, resp)
				message, _ := get(v, "error", "message").(string)
				if !strings.HasPrefix(message, "Rate limit reached for gpt-4o in ") || !strings.Contains(message, tt.want) {
					t.Errorf("message %q, want %q", message, tt.want)
				}
				if get(v, "error", "type") != tt.kind || get(v, "error", "code") != "rate_limit_exceeded" {
					t.Errorf("%v", v)
				}
			})
		})
	}
}

func TestOpenAIFailures(t *testing.T) {
	tests := []struct {
		name   string
		s      *Server
		target string
		body   string
		status int
		kind   string
		code   any
	}{
		{"key", &Server{APIKey: "secret"}, chat, ask, 401, "invalid_request_error", "invalid_api_key"},
		{"model", &Server{Models: []string{"gpt-5"}}, chat, ask, 404, "invalid_request_error", "model_not_found"},
		{"no model", &Server{Models: []string{"gpt-5"}}, "/v1/responses", "{}", 400, "invalid_request_error", nil},
		{"no JSON", &Server{}, chat, `{"model":`, 400, "invalid_request_error", nil},
		{"other JSON", &Server{}, chat, `{"model":"m","messages":["hello"]}`, 400, "invalid_request_error", nil},
		{"429", &Server{Script: func(int, *http.Request) int { return 429 }}, chat, ask, 429, "requests", "rate_limit_exceeded"},
		{"500", &Server{Script: func(int, *http.Request) int { return 500 }}, chat, ask, 500, "server_error", nil},
	}
	for _, tt := range tests {
		resp := do(tt.s, "POST", tt.target, tt.body)
		if resp.Header["Retry-After"] != nil || resp.StatusCode != tt.status || tt.s.Calls()[0].Status != tt.status {
			t.Errorf("%s: %s, %v", tt.name, resp.Status, resp.Header)
		}
		v := decode[map[string]any](t, resp)
		if get(v, "error", "type") != tt.kind || get(v, "error", "code") != tt.code || get(v, "error", "message") == "" {
			t.Errorf("%s: %v", tt.name, v)
		}
	}
	s := &Server{APIKey: "secret"}
	r := httptest.NewRequest("POST", "/openai"+chat, strings.NewReader(ask))
	r.Header.Set("Authorization", "Bearer secret")
	w := httptest.NewRecorder()
	if s.ServeHTTP(w, r); w.Code != 200 {
		t.Errorf("with the key: %d", w.Code)
	}
	for _, target := range []string{"/v1/completions", "/chat", "/v1/threads/t/messages", "/v1/responses/r", "/completions"} {
		if got := do(s, "POST", target, ask).StatusCode; got != 404 {
			t.Errorf("%s: %d", target, got)
		}
	}
}
