package tollgate_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
)

// A desk is a server that answers the first request in one way and the others with
// 200, and notes when they came.
type desk struct {
	first func(*http.Request) *http.Response
	came  []time.Duration
	start time.Time
}

func (d *desk) RoundTrip(r *http.Request) (*http.Response, error) {
	d.came = append(d.came, time.Since(d.start))
	if len(d.came) == 1 {
		return d.first(r), nil
	}
	return of(200, "application/json", "{}")(r), nil
}

// post sends JSON, and reads the answer to its end.
func (d *desk) post(t *testing.T, tr *tollgate.Transport, url, contentType, body string) error {
	t.Helper()
	resp, err := (&http.Client{Transport: tr}).Post(url, contentType, strings.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

const (
	chatURL = "https://api.openai.com/v1/chat/completions"
	asJSON  = "application/json"
)

// chatWith is a request to a model.
func chatWith(model string) string {
	return `{"model":"` + model + `","messages":[{"role":"user","content":"Hello."}]}`
}

// What one response says holds for the keys that it is about, and for no others.
func TestWhoseQuota(t *testing.T) {
	const transcriptions = "https://api.openai.com/v1/audio/transcriptions"
	formType := "multipart/form-data; boundary=b"
	refuse := func(message string) func(*http.Request) *http.Response {
		return of(429, asJSON, `{"error":{"message":"`+message+`","code":"rate_limit_exceeded"}}`)
	}
	for _, tt := range []struct {
		name            string
		first           func(*http.Request) *http.Response
		url, kind, body string // of the first request
		same, other     string // bodies of two more
		otherURL        string
		want            string // when those come
	}{
		{"models that share a limit", refuse("Rate limit reached for gpt-5-codex (for limit gpt-5) in organization o on requests per min (RPM): Limit 1000, Used 1000, Requested 1. Please try again in 8s."),
			chatURL, asJSON, chatWith("gpt-5-codex"), chatWith("gpt-5"), chatWith("gpt-4"), chatURL, "8s 0s"},
		{"a tier of its own", refuse("Please try again in 8s."),
			chatURL, asJSON, withField(chatWith("gpt-5"), `"service_tier":"flex"`), withField(chatWith("gpt-5"), `"service_tier":"flex"`), chatWith("gpt-5"), chatURL, "8s 0s"},
		{"a tier that shares", refuse("Please try again in 8s."),
			chatURL, asJSON, withField(chatWith("gpt-5"), `"service_tier":"default"`), chatWith("gpt-5"), chatWith("gpt-4"), chatURL, "8s 0s"},
		{"a model in a form", refuse("Please try again in 8s."),
			transcriptions, formType, form("whisper-1"), form("whisper-1"), form("gpt-4o-transcribe"), transcriptions, "8s 0s"},
		{"an agent of the Interactions API", of(429, asJSON, `{"error":{"code":"rate_limit_exceeded","message":"Please retry in 8s."}}`),
			interactionsURL, asJSON, `{"agent":"deep-research","input":"a","background":true}`, `{"agent":"deep-research","input":"b"}`, `{"model":"models/gemini-2.5-pro","input":"a"}`, interactionsURL, "8s 0s"},
		{"a model by both APIs of Gemini", of(429, asJSON, `{"error":{"code":"rate_limit_exceeded","message":"Please retry in 8s."}}`),
			interactionsURL, asJSON, `{"model":"models/gemini-2.5-flash","input":"a"}`, `{"model":"gemini-2.5-flash","input":"a"}`, `{}`, pro, "8s 0s"},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &desk{first: tt.first, start: time.Now()}
			tr := &tollgate.Transport{Base: d, Quotas: tollgate.Quotas{"*": {tollgate.RPM(1000)}}}
			if err := d.post(t, tr, tt.url, tt.kind, tt.body); err != nil {
				t.Fatal(err)
			}
			if err := d.post(t, tr, tt.otherURL, tt.kind, tt.other); err != nil {
				t.Fatal(err)
			}
			if err := d.post(t, tr, tt.url, tt.kind, tt.same); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(d.came[2], d.came[1]); got != tt.want {
				t.Errorf("%s: the same key came after %v, another one after %v, want %s", tt.name, d.came[2], d.came[1], tt.want)
			}
		})
	}
}

// withField adds a field to JSON.
func withField(object, field string) string {
	return strings.TrimSuffix(object, "}") + "," + field + "}"
}

// A count of what remains is that of the configured limit that has its number, also
// where no span is stated: five more go at once, and the sixth has to wait.
func TestRemainingOfTheConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{first: of(200, asJSON, "{}", "X-RateLimit-Limit", "5000", "X-RateLimit-Remaining", "5"), start: time.Now()}
		tr := &tollgate.Transport{Base: d, Quotas: tollgate.Quotas{"api.example.com": {{N: 5000, Per: time.Hour}, tollgate.RPM(100)}}}
		for range 7 {
			if err := d.post(t, tr, "https://api.example.com/v1/things", asJSON, "{}"); err != nil {
				t.Fatal(err)
			}
		}
		if d.came[5] != 0 || d.came[6] == 0 {
			t.Errorf("they came after %v, want all at once but the last", d.came)
		}
	})
}

// A refusal for images lowers no limit of requests.
func TestUncountedLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{start: time.Now(), first: of(429, asJSON, `{"error":{"message":"Rate limit reached for gpt-image-1 on input-images per min: Limit 5, Used 5, Requested 1. Please try again in 12s.","code":"rate_limit_exceeded","type":"input-images"}}`,
			"X-Ratelimit-Limit-Input-Images", "5", "X-Ratelimit-Remaining-Input-Images", "0", "X-Ratelimit-Reset-Input-Images", "12s")}
		tr := &tollgate.Transport{Base: d, Quotas: tollgate.Quotas{"*": {tollgate.RPM(100)}}}
		for range 50 {
			if err := d.post(t, tr, "https://api.openai.com/v1/images/generations", asJSON, `{"model":"gpt-image-1","prompt":"a"}`); err != nil {
				t.Fatal(err)
			}
		}
		if l := tr.Status()[0].Limits; len(l) != 1 || l[0].N != 100 {
			t.Errorf("limits %v, want 100 a minute alone", l)
		}
	})
}

// A wait of hours that no limit explains is told at once, and waited for only where
// MaxWait allows it. Nothing is sent meanwhile.
func TestLongWait(t *testing.T) {
	const wait = 79892 * time.Second
	for _, maxWait := range []time.Duration{0, 12 * time.Hour, 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			d := &desk{first: of(429, asJSON, `{"error":{"status":429}}`, "Retry-After", "79892"), start: time.Now()}
			tr := &tollgate.Transport{Base: d, MaxWait: maxWait, Quotas: tollgate.Quotas{"*": {tollgate.RPM(100)}}}
			send := func() error { return d.post(t, tr, "https://api.spotify.com/v1/me", asJSON, "{}") }
			if err := send(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			err := send()
			var limit *tollgate.LimitError
			switch {
			case maxWait == 24*time.Hour:
				if err != nil || d.came[1] != wait {
					t.Errorf("MaxWait %v: %v, sent after %v, want %v", maxWait, err, d.came, wait)
				}
			case !errors.As(err, &limit) || limit.RetryAfter.Round(time.Second) != wait-time.Hour || time.Since(d.start) != time.Hour || len(d.came) != 1:
				t.Errorf("MaxWait %v: %v after %v, want to be told at once that it takes %v", maxWait, err, time.Since(d.start), wait-time.Hour)
			}
		})
	}
}

// The caller gets the bytes that the server sent, however they are compressed and
// whatever was read of them.
func TestCompressedBytes(t *testing.T) {
	for _, encoding := range []string{"gzip", "deflate", "br", "zstd"} {
		for _, status := range []int{200, 429} {
			synctest.Test(t, func(t *testing.T) {
				answer := packed(status, encoding, retryJSON+strings.Repeat(" ", 100_000))
				want, err := io.ReadAll(answer(nil).Body)
				if err != nil {
					t.Fatal(err)
				}
				d := &desk{first: answer, start: time.Now()}
				tr := &tollgate.Transport{Base: d, Quotas: tollgate.Quotas{"*": {tollgate.RPM(100), tollgate.TPM(1000)}}}
				resp, err := (&http.Client{Transport: tr}).Post(chatURL, asJSON, strings.NewReader(chatWith("m")))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if got, err := io.ReadAll(resp.Body); !bytes.Equal(got, want) || err != nil || resp.Header.Get("Content-Encoding") != encoding {
					t.Errorf("%s, %d: %d bytes, %v, want the %d that were sent", encoding, status, len(got), err, len(want))
				}
				if err := d.post(t, tr, chatURL, asJSON, chatWith("m")); err != nil {
					t.Fatal(err)
				}
				if d.came[1] < 1500*time.Millisecond || d.came[1] > 2*time.Second { // until there are tokens enough
					t.Errorf("%s, %d: the next one came after %v, want 1.5s and a little", encoding, status, d.came[1])
				}
			})
		}
	}
}

// Claude on Vertex AI says what it has cost in Anthropic's form, in a stream too.
func TestClaudeOnVertex(t *testing.T) {
	const url = "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-x:"
	for method, first := range map[string]func(*http.Request) *http.Response{
		"rawPredict": of(200, asJSON, `{"type":"message","usage":{"input_tokens":700,"cache_read_input_tokens":9000,"output_tokens":50}}`),
		"streamRawPredict": events(`{"type":"message_start","message":{"usage":{"input_tokens":700,"cache_read_input_tokens":9000,"output_tokens":1}}}`,
			`{"type":"message_delta","usage":{"output_tokens":50}}`, `{"type":"message_stop"}`),
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &desk{first: first, start: time.Now()}
			tr := &tollgate.Transport{Base: d, Quotas: tollgate.Quotas{"claude-x": {tollgate.TPM(10_000), tollgate.OTPM(1000)}}}
			if err := d.post(t, tr, url+method, asJSON, `{"anthropic_version":"vertex-2023-10-16","messages":[{"role":"user","content":"Hello."}]}`); err != nil {
				t.Fatal(err)
			}
			if l := tr.Status()[0].Limits; l[0].Left != 9300 || l[1].Left != 950 {
				t.Errorf("%s: %d and %d are left, want 9300 and 950", method, l[0].Left, l[1].Left)
			}
		})
	}
}
