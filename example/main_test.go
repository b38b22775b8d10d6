package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/quotatest"
)

// env is an environment with the given API key and nothing else.
func env(key string) func(string) string {
	return func(name string) string {
		if name == "GEMINI_API_KEY" {
			return key
		}
		return ""
	}
}

// line matches the one line that the program ends with when it fails.
var line = regexp.MustCompile(`^example: [^\n]+\n$`)

// A second and a half is more than 20 calls take, on a slow machine too: were
// it over before they are, those of step 1 would be in two of the API's minutes.
const minute = "-minute=1500ms"

func TestJSON(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"-json", "-fake", minute}, &stdout, &stderr, env("real"))
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	d := json.NewDecoder(&stdout)
	d.DisallowUnknownFields()
	var got summary
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if err := d.Decode(new(any)); err != io.EOF {
		t.Errorf("more than an object: %v", err)
	}
	if want := (counts{OK: 10, Refused: 10}); got.Without != want {
		t.Errorf("without: %+v, want %+v", got.Without, want)
	}
	if want := (counts{OK: 20}); got.With.counts != want {
		t.Errorf("with: %+v, want %+v", got.With.counts, want)
	}
	if got.With.Seconds <= 0 {
		t.Errorf("with: %v s", got.With.Seconds)
	}
	if !strings.Contains(stderr.String(), "10 succeeded, 10 refused") {
		t.Errorf("stderr: %s", &stderr)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"-n=5", "-rpm=3", "-model=models/any", minute}, &stdout, &stderr, env(""))
	if code != 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
	want := regexp.MustCompile(`(?s)\b5 calls.*\b3 requests` +
		`.*\n  3 succeeded, 2 refused\n.*\n    Error 429, [^\n]*\n    Please retry in [^\n]*\n` +
		`.*s  3 sent\n.*s  2 sent\n  5 succeeded, 0 refused, in [0-9.]+s\n$`)
	if !want.MatchString(stdout.String()) {
		t.Errorf("stdout: %s", &stdout)
	}
}

func TestFlags(t *testing.T) {
	tests := []struct {
		key  string
		args []string
		want string
	}{
		{"", []string{"-n=0"}, "-n 0"},
		{"", []string{"-n=-1"}, "-n -1"},
		{"", []string{"-n=many"}, "many"},
		{"", []string{"-rpm=0"}, "-rpm 0"},
		{"", []string{"-minute=0s"}, "-minute 0s"},
		{"", []string{"-minute=-1s"}, "-minute -1s"},
		{"", []string{"-minute=999ms"}, "-minute 999ms"},
		{"", []string{"-minute=24h"}, "-minute 24h"},
		{"", []string{"-model="}, "-model"},
		{"", []string{"-quota=3"}, "-quota"},
		{"", []string{"-plot=timeline.gif"}, "-plot"},
		{"", []string{"5"}, `"5"`},
		{"real", []string{"-minute=3s"}, "-fake"},
	}
	for _, tt := range tests {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), tt.args, &stdout, &stderr, env(tt.key))
		if code != 2 || stdout.Len() > 0 || !line.Match(stderr.Bytes()) || !strings.Contains(stderr.String(), tt.want) {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q", tt.args, code, &stdout, &stderr)
		}
	}
}

func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"-h"}, &stdout, &stderr, env(""))
	if code != 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d, stderr %q", code, &stderr)
	}
	for _, name := range []string{"-n", "-model", "-rpm", "-minute", "-fake", "-json", "-plot", "GEMINI_API_KEY"} {
		if !strings.Contains(stdout.String(), name+" ") && !strings.Contains(stdout.String(), name+"\n") {
			t.Errorf("no %s: %s", name, &stdout)
		}
	}
}

// TestProbe has the program find out that no call can succeed before it makes
// any.
func TestProbe(t *testing.T) {
	server := &quotatest.Server{APIKey: "right", Models: []string{"gemini-2.5-flash"}}
	good := httptest.NewServer(server)
	defer good.Close()
	odd := httptest.NewServer(http.NotFoundHandler())
	defer odd.Close()
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"error":{"code":503,"message":"Down\nfor now.","status":"UNAVAILABLE"}}`, 503)
	}))
	defer down.Close()
	away := httptest.NewServer(nil)
	away.Close()

	tests := []struct{ name, url, key, model, want string }{
		{"wrong key", good.URL, "wrong", "gemini-2.5-flash", "key in GEMINI_API_KEY"},
		{"unknown model", good.URL, "right", "gemini-0", `no model "gemini-0"`},
		{"no name of a model", good.URL, "right", "a?b", `"a?b"`},
		{"another server", odd.URL, "right", "gemini-2.5-flash", "404: 404 page not found"},
		{"outage", down.URL, "right", "gemini-2.5-flash", "try again later: 503 Down for now."},
		{"nobody there", away.URL, "right", "gemini-2.5-flash", "cannot reach 127.0.0.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("GOOGLE_GEMINI_BASE_URL", tt.url)
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), []string{"-model", tt.model}, &stdout, &stderr, env(tt.key))
			if code != 1 || stdout.Len() > 0 || !line.Match(stderr.Bytes()) || !strings.Contains(stderr.String(), tt.want) {
				t.Errorf("exit code %d, stdout %q, stderr %q", code, &stdout, &stderr)
			}
		})
	}
	if calls := server.Calls(); len(calls) > 0 {
		t.Errorf("calls were made: %v", calls)
	}
}

// script starts an API that answers the n-th call with the n-th status.
func script(t *testing.T, status ...int) {
	srv := httptest.NewServer(&quotatest.Server{Script: func(n int, _ *http.Request) int {
		if n < len(status) {
			return status[n]
		}
		return 0
	}})
	t.Cleanup(srv.Close)
	t.Setenv("GOOGLE_GEMINI_BASE_URL", srv.URL)
}

func TestFailures(t *testing.T) {
	script(t,
		200, 400, 200, 429, // step 1
		200, 400, 503, 429, // step 2: the latter two are sent again
	)
	c := config{n: 4, rpm: 10, model: "any", minute: 100 * time.Millisecond, key: "any"}
	var text bytes.Buffer
	got, err := challenge(t.Context(), c, &text, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var want summary
	want.Without = counts{OK: 2, Refused: 1, Failed: 1}
	want.With.counts = counts{OK: 3, Refused: 1, Failed: 1}
	want.With.Seconds = got.With.Seconds
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if n := strings.Count(text.String(), "1 failed:\n    Error 400, "); n != 2 {
		t.Errorf("shows %d of 2 failures: %s", n, &text)
	}
}

func TestNoneSucceeds(t *testing.T) {
	script(t, 429, 403, 429)
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"-n=3"}, &stdout, &stderr, env("any"))
	if code != 1 || !line.Match(stderr.Bytes()) || !strings.Contains(stderr.String(), "no call succeeded: Error 403") {
		t.Errorf("exit code %d, stderr %q", code, &stderr)
	}
}

// A tripwire is a writer that calls trip when it has been written to.
type tripwire struct {
	on   string
	trip func()
}

func (w tripwire) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(w.on)) {
		w.trip()
	}
	return len(p), nil
}

func TestInterrupted(t *testing.T) {
	for _, on := range []string{"", "Step 1", "Waiting"} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if on == "" {
			cancel()
		}
		var stderr bytes.Buffer
		code := run(ctx, []string{"-minute=1m"}, tripwire{on, cancel}, &stderr, env(""))
		if got := stderr.String(); code != 130 || got != "example: interrupted\n" {
			t.Errorf("at %q: exit code %d, stderr %q", on, code, got)
		}
	}
}

func TestWaves(t *testing.T) {
	const s = time.Second
	sent := []time.Duration{61 * s, 0, 2 * s, 3 * s, 60 * s, 10 * s}
	got := waves(sent, 5*s)
	if want := []wave{{0, 3}, {10 * s, 1}, {60 * s, 2}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := waves(nil, s); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}

func TestExcerpt(t *testing.T) {
	long := strings.Repeat("ä", 100)
	tests := []struct{ err, excerpt, line string }{
		{"one", "    one", "one"},
		{"Error 1, Message: a\nb\nc., Status: S, Details: [map[]]", "    Error 1, Message: a\n    c., Status: S", "Error 1, Message: a b c., Status: S"},
		{long, "    " + strings.Repeat("ä", 75) + "…", long},
		{long + long + long, "    " + strings.Repeat("ä", 75) + "…", strings.Repeat("ä", 227) + "…"},
		{"", "    ", ""},
	}
	for _, tt := range tests {
		if got := excerpt(errors.New(tt.err)); got != tt.excerpt {
			t.Errorf("excerpt of %q: %q, want %q", tt.err, got, tt.excerpt)
		}
		if got := oneLine(tt.err); got != tt.line {
			t.Errorf("line of %q: %q, want %q", tt.err, got, tt.line)
		}
	}
}

func TestRemaining(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:            "",
		0:                       "",
		1:                       "about 1s left",
		2500 * time.Millisecond: "about 3s left",
		time.Minute:             "about 1m0s left",
	} {
		if got := remaining(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// TestETA is told by the quota and by who waits, not by how fast it went so far.
func TestETA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const key = "api.example.com"
		tr := &tollgate.Transport{
			Base:   roundTrip(func(r *http.Request) (*http.Response, error) { return httptest.NewRecorder().Result(), nil }),
			Quotas: tollgate.Quotas{key: {{N: 2, Per: 3 * time.Second, Refill: tollgate.Window}}},
		}
		if got := eta(tr, key); got != "" {
			t.Errorf("at first: %q", got)
		}
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				req, _ := http.NewRequest(http.MethodGet, "https://"+key, nil)
				if resp, err := tr.RoundTrip(req); err != nil {
					t.Error(err)
				} else {
					resp.Body.Close()
				}
			})
		}
		time.Sleep(1500 * time.Millisecond)
		if got, want := eta(tr, key), "about 5s left"; got != want { // two rounds from the first one on
			t.Errorf("under way: %q, want %q", got, want)
		}
		wg.Wait()
		if got := eta(tr, key); got != "" {
			t.Errorf("in the end: %q", got)
		}
		tr.SetQuotas(tollgate.Quotas{key: {{N: -1}}})
		if got := eta(tr, key); got != "" {
			t.Errorf("where that is not known: %q", got)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestWatchFile draws nothing where there is no terminal.
func TestWatchFile(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	watch(f, 1, func() (int64, string) { return 0, "here" })()
	if info, err := f.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("%v bytes, %v", info.Size(), err)
	}
}
