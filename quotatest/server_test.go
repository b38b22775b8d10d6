package quotatest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

const (
	flash = "/v1beta/models/gemini-2.5-flash"
	hello = `{"contents":[{"role":"user","parts":[{"text":"hello"}]}]}` // 2 tokens
)

// do has a server answer a request through its handler.
func do(s *Server, method, target, body string) *http.Response {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
	return w.Result()
}

// decode reads a body of JSON, of which it must know every field.
func decode[T any](t *testing.T, resp *http.Response) T {
	t.Helper()
	defer resp.Body.Close()
	var v T
	d := json.NewDecoder(resp.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Errorf("%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Errorf("more than one value")
	}
	return v
}

func TestRoutes(t *testing.T) {
	s := &Server{Models: []string{"a", "b"}, APIKey: "secret"}
	const key = "?key=secret"
	tests := []struct {
		method, target, body string
		status               int
		want                 string // in the body
	}{
		{"POST", "/v1beta/models/a:generateContent" + key, hello, 200, `"modelVersion":"a"`},
		{"POST", "/models/a:generateContent" + key, hello, 200, `"STOP"`},
		{"POST", "/v1/projects/p/locations/l/publishers/google/models/a:generateContent" + key, hello, 200, `"STOP"`},
		{"POST", "/some/prefix/v1beta/tunedModels/b:generateContent" + key, hello, 200, `"modelVersion":"b"`},
		{"POST", "/v1/projects/p/locations/l/endpoints/b:streamGenerateContent" + key, hello, 200, `"STOP"`},
		{"POST", "/v1beta/models/a:countTokens" + key, hello, 200, `{"totalTokens":2}`},
		{"POST", "/v1beta/models/a:generateContent" + key, "", 200, `"promptTokenCount":0`},
		{"POST", "/v1beta/models/a:generateContent" + key, "{", 400, `"INVALID_ARGUMENT"`},
		{"GET", "/v1beta/models" + key, "", 200, `"name":"models/b"`},
		{"GET", "/v1beta/models/b" + key, "", 200, `"name":"models/b"`},

		{"POST", "/v1beta/models/c:generateContent" + key, hello, 404, "models/c is not found"},
		{"GET", "/v1beta/models/c" + key, "", 404, "models/c is not found"},
		{"POST", "/v1beta/models/a:generateContent", hello, 400, `"API_KEY_INVALID"`},
		{"POST", "/v1beta/models/a:generateContent?key=guess", hello, 400, `"API_KEY_INVALID"`},
		{"POST", "/v1beta/models/c:countTokens?key=guess", hello, 400, `"API_KEY_INVALID"`},
		{"GET", "/v1beta/models", "", 400, `"API_KEY_INVALID"`},
		{"GET", "/v1beta/models/a", "", 400, `"API_KEY_INVALID"`},

		{"GET", "/v1beta/models/a:generateContent" + key, "", 404, `"NOT_FOUND"`},
		{"POST", "/v1beta/models/a:predict" + key, hello, 404, `"NOT_FOUND"`},
		{"POST", "/v1beta/models/:generateContent" + key, hello, 404, `"NOT_FOUND"`},
		{"POST", "/v1beta/caches/a:generateContent" + key, hello, 404, `"NOT_FOUND"`},
		{"POST", "/a:generateContent" + key, hello, 404, `"NOT_FOUND"`},
		{"POST", "/v1beta/models" + key, "", 404, `"NOT_FOUND"`},
		{"GET", "/v1beta/models/" + key, "", 404, `"NOT_FOUND"`},
		{"GET", "/", "", 404, `"NOT_FOUND"`},
	}
	for _, tt := range tests {
		resp := do(s, tt.method, tt.target, tt.body)
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != tt.status || !strings.Contains(string(body), tt.want) {
			t.Errorf("%s %s: %d %s, want %d %s", tt.method, tt.target, resp.StatusCode, body, tt.status, tt.want)
		}
		if !json.Valid(body) || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
			t.Errorf("%s %s: not JSON: %s, %s", tt.method, tt.target, resp.Header.Get("Content-Type"), body)
		}
	}
	if got := len(s.Calls()); got != 12 {
		t.Errorf("%d calls to model methods, want 12", got)
	}

	r := httptest.NewRequest("POST", "/v1beta/models/a:countTokens", strings.NewReader(hello))
	r.Header.Set("x-goog-api-key", "secret")
	w := httptest.NewRecorder()
	if s.ServeHTTP(w, r); w.Code != 200 {
		t.Errorf("key in the header: %d", w.Code)
	}
}

func TestQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Limits: map[string][]Limit{
			"named": {RPM(1), TPM(3)},
			"*":     {RPM(2)},
			"free":  nil,
		}}
		calls := []struct {
			target string
			status int
		}{
			{"/models/named:countTokens", 200}, // draws on nothing
			{"/models/named:generateContent", 200},
			{"/models/named:generateContent", 429},
			{"/models/named:countTokens", 200},
			{"/models/x:generateContent", 200},
			{"/models/x:streamGenerateContent", 200},
			{"/models/x:streamGenerateContent", 429},
			{"/models/y:generateContent", 200}, // on its own
			{"/models/free:generateContent", 200},
			{"/models/free:generateContent", 200},
			{"/models/free:generateContent", 200},
			{"/models/x:generateContent", 429},
		}
		var want []Call
		accepted, refused := 0, 0
		for _, c := range calls {
			if resp := do(s, "POST", c.target, hello); resp.StatusCode != c.status {
				t.Errorf("%s: %d, want %d", c.target, resp.StatusCode, c.status)
			}
			model, method, _ := strings.Cut(strings.TrimPrefix(c.target, "/models/"), ":")
			want = append(want, Call{time.Now(), model, method, c.status, 2})
			if c.status == 200 {
				accepted++
			} else {
				refused++
			}
			time.Sleep(time.Second)
		}
		if got := s.Calls(); !reflect.DeepEqual(got, want) {
			t.Errorf("calls %v, want %v", got, want)
		}
		if s.Accepted() != accepted || s.Refused() != refused {
			t.Errorf("%d accepted, %d refused; want %d, %d", s.Accepted(), s.Refused(), accepted, refused)
		}
		s.Calls()[0].Model = "changed"
		if s.Calls()[0].Model != "named" {
			t.Error("Calls returns what the server itself uses")
		}
	})
}

func TestCountRefused(t *testing.T) {
	for regardless, want := range map[bool]int{false: 200, true: 429} {
		synctest.Test(t, func(t *testing.T) {
			s := &Server{
				Limits:       map[string][]Limit{"*": {{N: 1, Per: time.Minute, Count: Sliding}}},
				CountRefused: regardless,
			}
			do(s, "POST", flash+":generateContent", hello)
			time.Sleep(30 * time.Second)
			do(s, "POST", flash+":generateContent", hello) // refused
			time.Sleep(30 * time.Second)
			if got := do(s, "POST", flash+":generateContent", hello).StatusCode; got != want {
				t.Errorf("CountRefused %v: then %d, want %d", regardless, got, want)
			}
		})
	}
}

func TestScript(t *testing.T) {
	var asked []int
	s := &Server{
		Limits: map[string][]Limit{"*": {{N: 4, Per: time.Hour, Count: Sliding}}},
		Models: []string{"gemini-2.5-flash"},
		Script: func(n int, r *http.Request) int {
			asked = append(asked, n)
			if body, err := io.ReadAll(r.Body); err != nil || string(body) != hello {
				t.Errorf("call %d has body %q, %v", n, body, err)
			}
			return []int{503, 0, 200, 0, 500, 429, 503}[n]
		},
	}
	for n, c := range []struct {
		target string
		status int
	}{
		{flash + ":generateContent", 503},
		{flash + ":countTokens", 200},
		{flash + ":generateContent", 200},
		{"/models/gone:generateContent", 404},
		{flash + ":generateContent", 500},
		{flash + ":streamGenerateContent?alt=sse", 429},
		{flash + ":generateContent", 429}, // the quota is spent
	} {
		if got := do(s, "POST", c.target, hello).StatusCode; got != c.status {
			t.Errorf("call %d: %d, want %d", n, got, c.status)
		}
	}
	if want := []int{0, 1, 2, 4, 5}; !reflect.DeepEqual(asked, want) {
		t.Errorf("asked about calls %v, want %v", asked, want)
	}
	if s.Accepted() != 2 || s.Refused() != 2 {
		t.Errorf("%d accepted, %d refused; want 2, 2", s.Accepted(), s.Refused())
	}
}

func TestHandlerThinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{
			Limits:  map[string][]Limit{"*": {RPM(1)}},
			Skew:    -90*time.Second + 700*time.Millisecond,
			Latency: func() time.Duration { t.Error("Latency is RoundTrip's"); return 0 },
			Think: func(r *http.Request) time.Duration {
				if body, err := io.ReadAll(r.Body); err != nil || string(body) != hello {
					t.Errorf("body %q, %v", body, err)
				}
				return 5 * time.Second
			},
		}
		start := time.Now() // midnight, 2000-01-01
		resp := do(s, "POST", flash+":generateContent", hello)
		if got := time.Since(start); got != 5*time.Second {
			t.Errorf("took %v", got)
		}
		if got, want := resp.Header.Get("Date"), "Fri, 31 Dec 1999 23:58:35 GMT"; got != want {
			t.Errorf("Date: %s, want %s", got, want)
		}
		if got := s.Calls()[0].At; !got.Equal(start) {
			t.Errorf("counted at %v, want %v", got, start)
		}
		resp = do(s, "POST", flash+":generateContent", hello)
		if got := time.Since(start); got != 5*time.Second || resp.StatusCode != 429 {
			t.Errorf("%d after %v, want a refusal at once", resp.StatusCode, got)
		}
		resp = do(s, "GET", "/nothing", "")
		if got, want := resp.Header.Get("Date"), "Fri, 31 Dec 1999 23:58:35 GMT"; got != want {
			t.Errorf("Date of a 404: %s, want %s", got, want)
		}
	})
}

func TestHandlerCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Think: func(*http.Request) time.Duration { return time.Hour }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", flash+":generateContent", strings.NewReader(hello)))
		if w.Code != 499 {
			t.Errorf("answered %d %s", w.Code, w.Body)
		}
	})
}

func TestHandlerBrokenBody(t *testing.T) {
	s := &Server{}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("POST", flash+":generateContent", iotest.ErrReader(io.ErrUnexpectedEOF)))
	if w.Code != 400 || len(s.Calls()) != 0 {
		t.Errorf("answered %d %s, %d calls counted", w.Code, w.Body, len(s.Calls()))
	}
}

// TestSockets uses the handler as a server on a real connection.
func TestSockets(t *testing.T) {
	s := &Server{Limits: map[string][]Limit{"*": {{N: 2, Per: time.Hour, Count: Sliding}}}, Skew: -time.Hour}
	api := httptest.NewServer(s)
	defer api.Close()
	for i, want := range []int{200, 200, 429} {
		resp, err := api.Client().Post(api.URL+flash+":streamGenerateContent?alt=sse", "application/json", strings.NewReader(hello))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want || len(body) == 0 {
			t.Errorf("call %d: %d %s, %v; want %d", i, resp.StatusCode, body, err, want)
		}
		date, err := http.ParseTime(resp.Header.Get("Date"))
		if off := time.Since(date) - time.Hour; err != nil || len(resp.Header["Date"]) != 1 || off < 0 || off > 10*time.Second {
			t.Errorf("Date: %v, off by %v, %v", resp.Header["Date"], off, err)
		}
	}
}
