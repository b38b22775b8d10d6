package tollgate

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate/provider"
)

var refusedToday = provider.Refusal{Limits: []provider.Violation{{N: 10, Per: day}}}

const flashURL = "/v1beta/models/gemini-2.5-flash:generateContent"

// counted is an API that answers everything and counts.
type counted struct{ n atomic.Int64 }

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

// restart does what the end of a process does.
func restart() {
	synctest.Wait() // until all is written
	stateFiles.Lock()
	defer stateFiles.Unlock()
	stateFiles.byPath = nil
}

// send makes n requests at once and returns how many were let through.
func send(t *testing.T, tr *Transport, n int) int {
	t.Helper()
	var ok atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://api.example.com"+flashURL, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if resp, err := tr.RoundTrip(req); err == nil {
				resp.Body.Close()
				ok.Add(1)
			}
		})
	}
	wg.Wait()
	return int(ok.Load())
}

// flashCall is what a request of send's is.
func flashCall(tb testing.TB) provider.Call {
	tb.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://api.example.com"+flashURL, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return provider.For(req).Call(req)
}

// A script that is run ten times spends no more than a day's worth.
func TestStateFile(t *testing.T) {
	for name, limit := range map[string]Limit{"calendar": RPD(50), "window": {N: 50, Per: day, Refill: Window}, "steady": {N: 50, Per: day, Refill: Steady}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.json")
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(10 * time.Hour)
				run := func(n int, keep bool) int {
					tr := &Transport{Base: &counted{}, Quotas: Quotas{"*": {limit}}, StateFile: path}
					if !keep {
						defer restart()
					}
					return send(t, tr, n)
				}
				var got []int
				for i := range 10 {
					got = append(got, run(7, i == 3)) // one of them within the same process
				}
				if want := "[7 7 7 7 7 7 7 1 0 0]"; fmt.Sprint(got) != want {
					t.Errorf("let through %v, want %v", got, want)
				}
				time.Sleep(26 * time.Hour)
				if n := run(60, false); n != 50 {
					t.Errorf("the next day %d, want 50", n)
				}
			})
		})
	}
}

// What never reached the server does not count, what its refusal names does.
func TestStateFileCorrected(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	synctest.Test(t, func(t *testing.T) {
		tr := &Transport{Quotas: Quotas{"*": {RPD(10)}}, StateFile: path}
		g, err := tr.gate("h", flashCall(t))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			w := mustAcquire(t, g, uint64(i))
			synctest.Wait()
			w.Failed(false)
		}
		mustAcquire(t, g, 9).Answered(200, time.Time{}, nil)
		restart()
		if g, err = (&Transport{Quotas: Quotas{"*": {RPD(10)}}, StateFile: path}).gate("h", flashCall(t)); err != nil {
			t.Fatal(err)
		}
		w := mustAcquire(t, g, 1)
		if left := g.Status().Limits[0].Left; left != 8 {
			t.Errorf("%d left after 1 and 1, want 8", left)
		}
		w.Answered(429, time.Time{}, nil)
		w.Refused(429, refusedToday)
		restart()
		tr = &Transport{Base: &counted{}, Quotas: Quotas{"*": {RPD(10)}}, StateFile: path}
		if g, err = tr.gate("h", flashCall(t)); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Acquire(t.Context(), Ask{Cost: one}); err == nil {
			t.Error("let through on a day that the server has said is spent")
		}
	})
}

// A file that makes no sense is replaced, and one that cannot be written does
// not keep anyone.
func TestStateFileBroken(t *testing.T) {
	var good string
	dir := t.TempDir()
	for _, test := range []struct{ name, text, warning string }{
		{"good", "", ""},
		{"empty", "", "not understood"},
		{"truncated", "half", "not understood"},
		{"binary", "\x00\xff", "not understood"},
		{"of the future", `{"version":2}`, "version 2"},
		{"of other types", `{"version":1,"spent":{"a":{"b":"c"}}}`, "not understood"},
		{"negative", `{"version":1,"spent":{"a":{"99999999999":-5}}}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(dir, test.name)
			if test.text == "half" {
				test.text = good[:len(good)/2]
			}
			if test.name != "good" {
				if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Test(t, func(t *testing.T) {
				var warnings []string
				tr := &Transport{Base: &counted{}, Quotas: Quotas{"*": {RPD(5)}}, StateFile: path,
					Trace: &Trace{StateError: func(err error) { warnings = append(warnings, err.Error()) }}}
				if n := send(t, tr, 3); n != 3 {
					t.Errorf("%d of 3 let through", n)
				}
				restart()
				if all := strings.Join(warnings, "; "); len(warnings) > 1 || test.warning == "" != (all == "") || !strings.Contains(all, test.warning) {
					t.Errorf("warnings %q, want one of %q", warnings, test.warning)
				}
				if n := send(t, &Transport{Base: &counted{}, Quotas: Quotas{"*": {RPD(5)}}, StateFile: path}, 5); n != 2 {
					t.Errorf("then %d let through, want 2", n)
				}
				restart()
			})
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			good = string(text)
		})
	}
	t.Run("no folder", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			warnings := 0
			tr := &Transport{Base: &counted{}, Quotas: Quotas{"*": {RPD(5)}}, StateFile: filepath.Join(dir, "none", "state"),
				Trace: &Trace{StateError: func(error) { warnings++ }}}
			if n := send(t, tr, 7); n != 5 {
				t.Errorf("%d let through, want 5", n)
			}
			synctest.Wait()
			if warnings == 0 {
				t.Error("no warning")
			}
		})
	})
	if left, err := filepath.Glob(filepath.Join(dir, "*.[0-9]*")); err != nil || left != nil {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// A process that ends in the middle leaves a journal behind.
func TestStateFileJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	const id = "api.example.com gemini-2.5-flash requests per 24h0m0s"
	file := `{"version":1,"seq":5,"spent":{"` + id + `":{"946800000":5}}}`
	journal := fmt.Sprintf("5 946800000 1 %q\n6 946800000 2 %q\n7 946800000 -1 %q\nnonsense\n8 9468000", id, id, id)
	for name, text := range map[string]string{path: file, path + ".journal": journal} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(10 * time.Hour) // the day ends in 22 hours, at 946800000
		tr := func() *Transport {
			return &Transport{Base: &counted{}, Quotas: Quotas{"*": {RPD(10)}}, StateFile: path}
		}
		if n := send(t, tr(), 1); n != 1 {
			t.Errorf("let %d through, want 1", n)
		}
		restart()
		if n := send(t, tr(), 10); n != 3 {
			t.Errorf("after 5 and 2, less 1, and 1, %d of 10 were let through, want 3", n)
		}
		restart()
	})
	if info, err := os.Stat(path + ".journal"); err != nil || info.Size() != 0 {
		t.Errorf("the journal is not empty in the end: %v, %v", info, err)
	}
}

// Several processes at once spend no more than one.
func TestStateFileProcesses(t *testing.T) {
	const env = "TOLLGATE_TEST_STATE"
	if args := os.Getenv(env); args != "" {
		url, path, _ := strings.Cut(args, " ")
		client := &http.Client{Transport: &Transport{Quotas: Quotas{"*": {RPD(50)}}, StateFile: path}}
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() {
				if resp, err := client.Post(url+flashURL, "", nil); err == nil {
					resp.Body.Close()
				}
			})
		}
		wg.Wait()
		return
	}
	var api counted
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { api.n.Add(1) }))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	path := filepath.Join(t.TempDir(), "state.json")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestStateFileProcesses$")
			cmd.Env = append(os.Environ(), env+"="+srv.URL+" "+path)
			if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "WARN") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	if n := api.n.Load(); n != 50 {
		text, _ := os.ReadFile(path)
		t.Errorf("4 processes sent %d requests, want 50: %s", n, text)
	}
}
