package quotatest

import (
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	inters = "/v1beta/interactions"
	say2   = `{"model":"models/flash","input":"hello"}` // 2 tokens
)

// sayWith is say2 with more fields.
func sayWith(fields string) string { return strings.TrimSuffix(say2, "}") + "," + fields + "}" }

func TestInteraction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{}
		got := decode[any](t, do(s, "POST", "/proxy/v1/projects/p/locations/l/interactions", say2))
		want := map[string]any{
			"id": "interaction-0", "object": "interaction", "status": "completed", "model": "flash",
			"created": "2000-01-01T00:00:00Z", "updated": "2000-01-01T00:00:00Z",
			"steps": []any{map[string]any{"type": "model_output", "content": []any{map[string]any{"type": "text", "text": wholeSpeech}}}},
			"usage": map[string]any{"total_input_tokens": 2.0, "total_cached_tokens": 0.0, "total_output_tokens": 15.0,
				"total_tool_use_tokens": 0.0, "total_thought_tokens": 0.0, "total_tokens": 17.0},
		}
		if !reflect.DeepEqual(got, any(want)) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		if got, want := s.Calls(), []Call{{time.Now(), "flash", "interactions", 200, 2}}; !reflect.DeepEqual(got, want) {
			t.Errorf("calls %v, want %v", got, want)
		}
		if again := decode[any](t, do(s, "GET", inters+"/interaction-0", "")); !reflect.DeepEqual(again, any(want)) {
			t.Errorf("asked for again: %v", again)
		}
		agent := decode[any](t, do(s, "POST", inters, `{"agent":"researcher","input":[{"type":"user_input","content":[{"type":"text","text":"hello"}]}]}`))
		if get(agent, "agent") != "researcher" || get(agent, "model") != nil || get(agent, "usage", "total_input_tokens") != 2.0 {
			t.Errorf("of an agent: %v", agent)
		}
		if got := len(s.Calls()); got != 2 {
			t.Errorf("%d calls, want 2: GET is none", got)
		}
	})
}

func TestInteractionStream(t *testing.T) {
	s := &Server{}
	const all = "interaction.created interaction.status_update step.start step.delta step.delta step.delta step.stop interaction.completed data: [DONE]"
	names, data := events(t, do(s, "POST", inters, sayWith(`"stream":true`)))
	if got := strings.Join(names, " "); got != all {
		t.Errorf("events %s, want %s", got, all)
	}
	text := ""
	for i, d := range data {
		if d["event_type"] != names[i] || d["event_id"] != fmt.Sprintf("event-%d", i+1) {
			t.Errorf("event %s: %v", names[i], d)
		}
		delta, _ := get(d, "delta", "text").(string)
		text += delta
	}
	if text != wholeSpeech {
		t.Errorf("said %q", text)
	}
	if usage := get(data[0], "interaction", "usage"); usage != nil {
		t.Errorf("begins with the usage %v", usage)
	}
	if last := data[len(data)-1]; get(last, "interaction", "usage", "total_tokens") != 17.0 || get(last, "interaction", "status") != "completed" {
		t.Errorf("ends with %v", last)
	}
	names, _ = events(t, do(s, "GET", inters+"/interaction-0?stream=true&last_event_id=event-6", ""))
	if got, want := strings.Join(names, " "), "step.stop interaction.completed data: [DONE]"; got != want {
		t.Errorf("resumed: %s, want %s", got, want)
	}
}

// What runs in the background takes its time, which is not the caller's.
func TestInteractionInBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Think: func(*http.Request) time.Duration { return time.Minute }}
		status := func(method, target, body string) (got any) {
			t.Helper()
			resp, err := s.RoundTrip(newRequest(t.Context(), target, strings.NewReader(body)))
			if method != "POST" {
				r := newRequest(t.Context(), target, nil)
				r.Method = method
				resp, err = s.RoundTrip(r)
			}
			if err != nil {
				t.Fatal(err)
			}
			v := decode[any](t, resp)
			if tokens := get(v, "usage", "total_output_tokens"); (tokens == 15.0) != (get(v, "status") == "completed") {
				t.Errorf("%s %s: %v", method, target, v)
			}
			return get(v, "status")
		}
		start := time.Now()
		if got := status("POST", inters, sayWith(`"background":true`)); got != "in_progress" || time.Since(start) != 0 {
			t.Errorf("begins as %v after %v", got, time.Since(start))
		}
		time.Sleep(59 * time.Second)
		if got := status("GET", inters+"/interaction-0", ""); got != "in_progress" {
			t.Errorf("after 59 s: %v", got)
		}
		time.Sleep(time.Second)
		if got := status("GET", inters+"/interaction-0", ""); got != "completed" {
			t.Errorf("after a minute: %v", got)
		}
		status("POST", inters, sayWith(`"background":true`))
		n := len(s.Calls()) - 1
		if got := status("POST", fmt.Sprintf("%s/interaction-%d/cancel", inters, n), ""); got != "cancelled" {
			t.Errorf("cancelled: %v", got)
		}
		time.Sleep(time.Minute)
		if got := status("GET", fmt.Sprintf("%s/interaction-%d", inters, n), ""); got != "cancelled" {
			t.Errorf("later: %v", got)
		}
		// Its events come as they happen.
		status("POST", inters, sayWith(`"background":true`))
		r := newRequest(t.Context(), fmt.Sprintf("%s/interaction-%d?stream=true", inters, len(s.Calls())-1), nil)
		r.Method, start = "GET", time.Now()
		resp, err := s.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if names, _ := events(t, resp); len(names) != 9 || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", names, time.Since(start))
		}
	})
}

// The server reads again what came before.
func TestInteractionGoesOn(t *testing.T) {
	s := &Server{}
	for i, want := range []float64{2, 2 + 17, 2 + 17 + 17} {
		body := say2
		if i > 0 {
			body = sayWith(fmt.Sprintf(`"previous_interaction_id":"interaction-%d"`, i-1))
		}
		v := decode[any](t, do(s, "POST", inters, body))
		if got := get(v, "usage", "total_input_tokens"); got != want {
			t.Errorf("interaction %d: %v tokens, want %v", i, got, want)
		}
		if got := s.Calls()[i].Tokens; got != int64(want) {
			t.Errorf("interaction %d: counted as %d tokens, want %v", i, got, want)
		}
	}
	if resp := do(s, "DELETE", inters+"/interaction-2", ""); resp.StatusCode != 200 {
		t.Errorf("deleted: %s", resp.Status)
	}
	do(s, "POST", inters, sayWith(`"store":false`))
	for _, id := range []string{"interaction-2", "interaction-3", "none"} {
		if resp := do(s, "POST", inters, sayWith(`"previous_interaction_id":"`+id+`"`)); resp.StatusCode != 404 {
			t.Errorf("goes on from %s: %s", id, resp.Status)
		}
		if resp := do(s, "GET", inters+"/"+id, ""); resp.StatusCode != 404 {
			t.Errorf("asked for %s: %s", id, resp.Status)
		}
	}
}

// The codes of its errors are words.
func TestInteractionFailures(t *testing.T) {
	script := func(status int) *Server {
		return &Server{Script: func(int, *http.Request) int { return status }}
	}
	none := func(l Limit) *Server { return &Server{Limits: map[string][]Limit{"flash": {l}}} }
	tests := []struct {
		name   string
		s      *Server
		method string
		target string
		body   string
		status int
		code   string
	}{
		{"key", &Server{APIKey: "secret"}, "POST", inters, say2, 400, "invalid_request"},
		{"key of a poll", &Server{APIKey: "secret"}, "GET", inters + "/interaction-0", "", 400, "invalid_request"},
		{"model", &Server{Models: []string{"pro"}}, "POST", inters, say2, 404, "not_found"},
		{"no model", &Server{}, "POST", inters, `{}`, 400, "invalid_request"},
		{"no JSON", &Server{}, "POST", inters, `{`, 400, "invalid_request"},
		{"not stored", &Server{}, "POST", inters, sayWith(`"background":true,"store":false`), 400, "invalid_request"},
		{"none to cancel", &Server{}, "POST", inters + "/interaction-0/cancel", "", 404, "not_found"},
		{"a minute", none(RPM(0)), "POST", inters, say2, 429, "rate_limit_exceeded"},
		{"tokens", none(TPM(1)), "POST", inters, say2, 429, "rate_limit_exceeded"},
		{"a day", none(RPD(0)), "POST", inters, say2, 429, "quota_exceeded"},
		{"a pool", script(429), "POST", inters, say2, 429, "too_many_requests"},
		{"busy", script(503), "POST", inters, say2, 503, "service_unavailable"},
		{"teapot", script(418), "POST", inters, say2, 418, "unknown"},
	}
	for _, tt := range tests {
		resp := do(tt.s, tt.method, tt.target, tt.body)
		if v := decode[any](t, resp); resp.StatusCode != tt.status || get(v, "error", "code") != tt.code || get(v, "error", "message") == nil {
			t.Errorf("%s: %s %v, want %d %s", tt.name, resp.Status, v, tt.status, tt.code)
		}
	}
	s := &Server{}
	do(s, "POST", inters, say2)
	if resp := do(s, "POST", inters+"/interaction-0/cancel", ""); resp.StatusCode != 400 {
		t.Errorf("cancelled what is complete: %s", resp.Status)
	}
}

// A stream that is refused may begin all the same.
func TestInteractionErrorEvents(t *testing.T) {
	s := &Server{Limits: map[string][]Limit{"flash": {RPM(1)}}, ErrorEvents: true}
	do(s, "POST", inters, say2)
	resp := do(s, "POST", inters, sayWith(`"stream":true`))
	if resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	names, data := events(t, resp)
	if got, want := strings.Join(names, " "), "interaction.created interaction.status_update error data: [DONE]"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	if got := get(data[2], "error", "code"); got != "rate_limit_exceeded" || data[2]["event_type"] != "error" {
		t.Errorf("%v", data[2])
	}
	if resp = do(s, "POST", inters, say2); resp.StatusCode != 429 || s.Refused() != 2 {
		body, _ := io.ReadAll(resp.Body)
		t.Errorf("without a stream: %s %s; %d refused, want 2", resp.Status, body, s.Refused())
	}
}
