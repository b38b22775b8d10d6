package quotatest

import (
	"encoding/json"
	"io"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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

func TestEmbeddings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Limits: map[string][]Limit{"*": {{N: 3, Per: time.Minute, Count: Sliding}}}}
		one := decode[struct{ Embedding embedding }](t, do(s, "POST", "/models/e:embedContent", `{"content":{"parts":[{"text":"12345"}]}}`))
		if len(one.Embedding.Values) == 0 {
			t.Error("no embedding")
		}
		const text = `{"model":"models/e","content":{"parts":[{"text":"hello"}]}}`
		for _, want := range []struct {
			n, status int
		}{{3, 429}, {2, 200}, {1, 429}, {0, 429}} { // a batch of none is still a request
			body := `{"requests":[` + strings.Join(slices.Repeat([]string{text}, want.n), ",") + `]}`
			resp := do(s, "POST", "/models/e:batchEmbedContents", body)
			if resp.StatusCode != want.status {
				t.Errorf("batch of %d: %s, want %d", want.n, resp.Status, want.status)
			}
			if resp.StatusCode == 200 {
				if list := decode[struct{ Embeddings []embedding }](t, resp).Embeddings; len(list) != want.n {
					t.Errorf("%d embeddings, want %d", len(list), want.n)
				}
				continue
			}
			v := decode[refused](t, resp).Error.Details[0].Violations[0]
			if v.QuotaID != "EmbedContentRequestsPerMinutePerUserPerProjectPerModel-FreeTier" ||
				v.QuotaMetric != "generativelanguage.googleapis.com/embed_content_free_tier_requests" {
				t.Errorf("violation %+v", v)
			}
		}
		var tokens []int64
		for _, c := range s.Calls() {
			tokens = append(tokens, c.Tokens)
		}
		if want := []int64{2, 6, 4, 2, 0}; !reflect.DeepEqual(tokens, want) {
			t.Errorf("%v tokens, want %v", tokens, want)
		}
	})
}

func TestOutputTokens(t *testing.T) {
	s := &Server{Limits: map[string][]Limit{"*": {{Unit: OutputTokens, N: 2*spoken - 1, Per: day, Count: Sliding}}}}
	for i, want := range []int{200, 429} {
		resp := do(s, "POST", flash+":generateContent", hello)
		if resp.StatusCode != want {
			t.Errorf("call %d: %s", i, resp.Status)
		}
		if want == 429 {
			if v := decode[refused](t, resp).Error.Details[0].Violations[0]; v.QuotaID != "GenerateContentOutputTokensPerModelPerDay-FreeTier" {
				t.Errorf("violation %+v", v)
			}
		}
	}
	if got := do(s, "POST", flash+":embedContent", `{}`).StatusCode; got != 200 {
		t.Errorf("what says nothing: %d", got)
	}
}
