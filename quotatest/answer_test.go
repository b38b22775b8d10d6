package quotatest

import (
	"encoding/json"
	"io"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
)

func TestModelList(t *testing.T) {
	for _, tt := range []struct {
		s    *Server
		want []string
	}{
		{&Server{}, []string{}},
		{&Server{Models: []string{"z", "a"}, Limits: map[string][]Limit{"b": nil}}, []string{"z", "a"}},
		{&Server{Limits: map[string][]Limit{"b": nil, "*": nil, "a": nil}}, []string{"a", "b"}},
	} {
		list := decode[struct{ Models []listing }](t, do(tt.s, "GET", "/v1beta/models", "")).Models
		if list == nil {
			t.Error("the list is null")
		}
		got := []string{}
		for _, m := range list {
			got = append(got, m.DisplayName)
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("models %v, want %v", got, tt.want)
		}
	}
}

func TestStream(t *testing.T) {
	s := &Server{}
	whole := decode[response](t, do(s, "POST", flash+":generateContent", hello))

	resp := do(s, "POST", flash+":streamGenerateContent", hello)
	array := decode[[]response](t, resp)

	resp = do(s, "POST", flash+":streamGenerateContent?alt=sse", hello)
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type of events: %s", got)
	}
	body, _ := io.ReadAll(resp.Body)
	var events []response
	for event := range strings.SplitAfterSeq(string(body), "\r\n\r\n") {
		if event == "" {
			continue
		}
		data, ok := strings.CutPrefix(event, "data: ")
		if !ok || !strings.HasSuffix(event, "\r\n\r\n") || strings.Count(event, "\n") != 2 {
			t.Errorf("not an event: %q", event)
		}
		var r response
		if err := json.Unmarshal([]byte(data), &r); err != nil {
			t.Error(err)
		}
		events = append(events, r)
	}

	if !reflect.DeepEqual(array, events) {
		t.Errorf("an array of %+v, events of %+v", array, events)
	}
	if len(events) < 2 {
		t.Fatalf("%d events are no stream", len(events))
	}
	text, out := "", int64(0)
	for i, e := range events {
		text += e.Candidates[0].Content.Parts[0].Text
		if e.Usage.Prompt != 2 || e.Usage.Candidates <= out || e.Usage.Total != e.Usage.Prompt+e.Usage.Candidates {
			t.Errorf("event %d: usage %+v", i, e.Usage)
		}
		out = e.Usage.Candidates
		if last := i == len(events)-1; (e.Candidates[0].FinishReason == "STOP") != last {
			t.Errorf("event %d: finishReason %q", i, e.Candidates[0].FinishReason)
		}
	}
	if last := events[len(events)-1]; text != whole.Candidates[0].Content.Parts[0].Text || last.Usage != whole.Usage {
		t.Errorf("stream of %q, %+v; want %+v", text, last.Usage, whole)
	}
}

// A flusher writes down when it is written to and flushed.
type flusher struct {
	*httptest.ResponseRecorder
	log string
}

func (f *flusher) Write(b []byte) (int, error) { f.log += "w"; return f.ResponseRecorder.Write(b) }
func (f *flusher) Flush()                      { f.log += "f" }

func TestStreamIsFlushed(t *testing.T) {
	for target, want := range map[string]string{
		":streamGenerateContent?alt=sse": strings.Repeat("wf", len(speech)),
		":streamGenerateContent":         strings.Repeat("wf", len(speech)),
		":generateContent":               "w",
	} {
		w := &flusher{ResponseRecorder: httptest.NewRecorder()}
		(&Server{}).ServeHTTP(w, httptest.NewRequest("POST", flash+target, strings.NewReader(hello)))
		if w.log != want {
			t.Errorf("%s: %s, want %s", target, w.log, want)
		}
	}
}
