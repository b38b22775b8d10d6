package provider_test

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/tollgate/provider"
)

// readCall returns the call that a request is, once its body has been read.
func readCall(t testing.TB, url, contentType, body string) (provider.API, provider.Call) {
	t.Helper()
	r := httptest.NewRequest("POST", url, nil)
	r.Header.Set("Content-Type", contentType)
	api := provider.For(r)
	c := api.Call(r)
	api.Read(&c, strings.NewReader(body), true)
	return api, c
}

// form is a multipart body of a file and then fields, in pairs.
func form(t testing.TB, file int, fields ...string) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	f, err := w.CreateFormFile("file", "speech.mp3")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Repeat([]byte("\r\n--x"), file/5)); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		if err := w.WriteField(fields[i], fields[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), b.String()
}

func TestRead(t *testing.T) {
	const gen = "https://generativelanguage.googleapis.com/v1beta"
	multi, speech := form(t, 1<<20, "language", "en", "model", "whisper-1")
	tests := []struct {
		name, url, contentType, body string
		api, key                     string
		tokens                       int64
		continues, exact             bool
	}{
		{"interaction", gen + "/interactions", "", `{"model":"models/gemini-2.5-flash","input":"abcdef"}`, "gemini", "gemini-2.5-flash", 2, false, false},
		{"interaction, proxied", "http://localhost:8080/proxy/v1beta/interactions", "", `{"model":"gemini-2.5-pro","input":[{"type":"text","text":"abc"}]}`, "gemini", "gemini-2.5-pro", 1, false, false},
		{"interaction of Vertex", "https://x.example.com/v1beta1/projects/p/locations/global/interactions", "", `{"model":"m","input":""}`, "gemini", "m", 0, false, false},
		{"interaction of an agent", gen + "/interactions", "", `{"agent":"deep-research","background":true,"input":"abc"}`, "gemini", "deep-research", 1, false, false},
		{"interaction that goes on", gen + "/interactions", "", `{"model":"m","previous_interaction_id":"i123","input":"abc"}`, "gemini", "m", 1, true, false},
		{"interaction of a tier", gen + "/interactions", "", `{"service_tier":"flex","model":"m","input":"abc"}`, "gemini", "m:flex", 1, false, false},
		{"interaction of the standard tier", gen + "/interactions", "", `{"service_tier":"standard","model":"m","input":"abc"}`, "gemini", "m", 1, false, false},
		{"response", "https://api.openai.com/v1/responses", "", `{"model":"gpt-5","input":"abcd"}`, "openai", "gpt-5", 4, false, true},
		{"response that goes on", "https://api.openai.com/v1/responses", "", `{"model":"gpt-5","previous_response_id":"resp_1","input":"abcd"}`, "openai", "gpt-5", 4, true, false},
		{"response that does not", "https://api.openai.com/v1/responses", "", `{"model":"gpt-5","previous_response_id":null,"input":"abcd"}`, "openai", "gpt-5", 4, false, true},
		{"response of a conversation", "https://api.openai.com/v1/responses", "", `{"model":"gpt-5","conversation":{"id":"c"},"input":"abcd"}`, "openai", "gpt-5", 4, true, false},
		{"response of a tier", "https://api.openai.com/v1/responses", "", `{"model":"gpt-5","service_tier":"priority","input":"abcd"}`, "openai", "gpt-5:priority", 4, false, true},
		{"chat of any tier", "https://api.openai.com/v1/chat/completions", "", `{"service_tier":"auto","model":"gpt-5","messages":[]}`, "openai", "gpt-5", 2, false, true},
		{"flex at Groq", "https://api.groq.com/openai/v1/chat/completions", "", `{"model":"llama","service_tier":"flex","messages":[]}`, "openai", "llama:flex", 2, false, true},
		{"transcription", "https://api.openai.com/v1/audio/transcriptions", multi, speech, "openai", "whisper-1", 2, false, true},
		{"transcription at Groq", "https://api.groq.com/openai/v1/audio/transcriptions", multi, speech, "openai", "whisper-1", 2, false, true},
		{"transcription, no form", "https://api.openai.com/v1/audio/transcriptions", multi, "nonsense", "openai", "api.openai.com", 2, false, true},
		{"transcription at Azure", "https://m.openai.azure.com/openai/deployments/whisper/audio/transcriptions", multi, speech, "openai", "whisper", 2, false, true},
		{"Claude on Vertex", "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-sonnet-4@20250514:streamRawPredict", "", `{"messages":[{"content":"abc"}]}`, "gemini", "claude-sonnet-4@20250514", 1, false, false},
	}
	for _, test := range tests {
		api, c := readCall(t, test.url, test.contentType, test.body)
		if api.Name() != test.api || c.Key != test.key || c.Cost[provider.Tokens] != test.tokens || c.Continues != test.continues || c.Exact != test.exact || c.Aside {
			test.body = ""
			t.Errorf("%s: %s, %+v, want %+v", test.name, api.Name(), c, test)
		}
	}
}

// Where usage stands follows from the call.
func TestUsagePaths(t *testing.T) {
	tests := []struct{ method, url, want string }{
		{"POST", "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent", "usageMetadata.promptTokenCount"},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/interactions", "interaction.usage.total_input_tokens"},
		{"GET", "https://generativelanguage.googleapis.com/v1beta/interactions/abc", "usage.total_input_tokens"},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", "usage.prompt_tokens"},
		{"POST", "https://aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/anthropic/models/m:rawPredict", "message.usage.input_tokens"},
		{"POST", "https://api.anthropic.com/v1/messages", "message.usage.input_tokens"},
		{"POST", "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse-stream", "usage.inputTokens"},
		{"POST", "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/invoke-with-response-stream", "amazon-bedrock-invocationMetrics.inputTokenCount"},
		{"POST", "https://api.example.com/v1/things", ""},
		{"POST", "https://generativelanguage.googleapis.com/v1beta/interactions/abc/cancel", "usage.total_input_tokens"},
		{"DELETE", "https://generativelanguage.googleapis.com/v1beta/interactions/abc", "usageMetadata.promptTokenCount"},
	}
	for _, test := range tests {
		r := httptest.NewRequest(test.method, test.url, nil)
		var paths []string
		for _, u := range provider.For(r).Call(r).Usage {
			paths = append(paths, strings.Join(u.Path, "."))
		}
		if got := strings.Join(paths, " "); !strings.Contains(" "+got+" ", " "+test.want+" ") {
			t.Errorf("%s %s: %s, want %s", test.method, test.url, got, test.want)
		}
	}
}

func TestRecognised(t *testing.T) {
	for url, want := range map[string]string{
		"https://api.example.com/v1/interactions":                                  "gemini",
		"https://api.example.com/interactions":                                     "http",
		"https://api.example.com/v1/user-interactions":                             "http",
		"https://api.example.com/v1/interactionsx":                                 "http",
		"https://discord.com/api/v10/applications/1/interactions":                  "http",
		"https://www.googleapis.com/drive/v3/files":                                "google",
		"https://youtube.googleapis.com/youtube/v3/videos":                         "google",
		"https://api.github.com/repos/o/r":                                         "github",
		"https://git.example.com/api/v3/repos/o/r":                                 "github",
		"https://open.bigmodel.cn/api/paas/v4/chat/completions":                    "openai",
		"https://proxy.example.com/v1/images/edits":                                "openai",
		"https://proxy.example.com/gallery/images/edits":                           "http",
		"https://api.example.com/model/x/invoke":                                   "bedrock",
		"https://api.example.com/car/model/x/buy":                                  "http",
		"https://eu-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints": "gemini",
	} {
		r := httptest.NewRequest("POST", url, nil)
		if got := provider.For(r).Name(); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}

// An API of one's own that embeds another has the methods that it does not replace.
func TestEmbedded(t *testing.T) {
	type own struct{ provider.API }
	var api provider.API = own{provider.HTTP}
	if !api.Refuses(&http.Response{StatusCode: 429}) || api.Refuses(&http.Response{StatusCode: 403}) || api.Refuses(&http.Response{StatusCode: 200}) {
		t.Error("an embedded HTTP does not refuse as HTTP does")
	}
}

func FuzzForm(f *testing.F) {
	contentType, body := form(f, 100, "prompt", "Say it.", "model", "whisper-1")
	f.Add(contentType, body)
	f.Add("multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n--x--")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		r := httptest.NewRequest("POST", "https://api.openai.com/v1/audio/transcriptions", nil)
		r.Header.Set("Content-Type", contentType)
		c := provider.OpenAI.Call(r)
		provider.OpenAI.Read(&c, strings.NewReader(body), true)
		if c.Key == "" || len(c.Key) > 300 || c.Cost[provider.Tokens] < 0 {
			t.Errorf("%+v", c)
		}
	})
}

// Claimed: a form of 1 MiB costs less than its file takes to be sent.
func BenchmarkReadForm(b *testing.B) {
	contentType, body := form(b, 1<<20, "model", "whisper-1")
	r := httptest.NewRequest("POST", "https://api.openai.com/v1/audio/transcriptions", nil)
	r.Header.Set("Content-Type", contentType)
	c := provider.OpenAI.Call(r)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		provider.OpenAI.Read(&c, strings.NewReader(body), false)
	}
	if c.Key != "whisper-1" {
		b.Fatal(fmt.Sprint(c))
	}
}

// Calls of the Interactions API say which interaction they are about.
func TestRecords(t *testing.T) {
	const gen = "https://generativelanguage.googleapis.com/v1beta/interactions"
	tests := []struct {
		method, url, body      string
		record                 bool
		polls, follows, status string
	}{
		{"POST", gen, `{"model":"m","input":"a"}`, true, "", "", ""},
		{"POST", gen, `{"model":"m","input":"a","previous_interaction_id":"i1"}`, true, "", "i1", ""},
		{"POST", gen, `{"model":"m","input":{"previous_interaction_id":"i1"}}`, true, "", "", ""},
		{"GET", gen + "/i1", "", true, "i1", "", ""},
		{"GET", gen + "/i1?stream=true&last_event_id=e", "", true, "i1", "", ""},
		{"POST", gen + "/i1/cancel", "", true, "i1", "", ""},
		{"DELETE", gen + "/i1", "", false, "", "", ""},
		{"GET", gen, "", false, "", "", ""},
		{"POST", "https://api.openai.com/v1/responses", `{"model":"m","input":"a","previous_response_id":"r1"}`, false, "", "", ""},
	}
	for _, test := range tests {
		r := httptest.NewRequest(test.method, test.url, nil)
		api := provider.For(r)
		c := api.Call(r)
		if c.Open {
			api.Read(&c, strings.NewReader(test.body), true)
		}
		if (c.Record != nil) != test.record || c.Polls != test.polls || c.Follows != test.follows || c.Polls != "" && !c.Aside {
			t.Errorf("%s %s %s: %+v", test.method, test.url, test.body, c)
		}
	}
	for status, want := range map[string]bool{"in_progress": true, "queued": true, "completed": false, "failed": false, "cancelled": false, "requires_action": false, "incomplete": false, "": false} {
		if provider.Unfinished(status) != want {
			t.Errorf("status %q: %v, want %v", status, !want, want)
		}
	}
}
