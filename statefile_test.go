package tollgate_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
)

// refusedToday is what Gemini says when a day's quota is spent.
const refusedToday = `{"error":{"code":429,"details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel","quotaValue":"10"}]}]}}`

const flashPath = "/v1beta/models/gemini-2.5-flash:generateContent"

// counted is an API that answers everything and counts.
type counted struct{ n atomic.Int64 }

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

// A folder has a state file that one process after another uses. A process knows a
// file by its path: the next one gets there by another.
type folder struct {
	*testing.T
	dir   string
	links int
}

func newFolder(t *testing.T) *folder {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "folder")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f := &folder{T: t, dir: dir}
	f.link()
	return f
}

func (f *folder) link() {
	f.links++
	if err := os.Symlink(f.dir, f.dir+fmt.Sprint(f.links)); err != nil {
		f.Fatal(err)
	}
}

// path is that of a file, to the process that runs.
func (f *folder) path(name string) string { return filepath.Join(f.dir+fmt.Sprint(f.links), name) }

// restart does what the end of a process does, in a bubble.
func (f *folder) restart() {
	f.Helper()
	time.Sleep(100 * time.Millisecond) // until all is written
	synctest.Wait()
	f.link()
}

func (f *folder) write(name, text string) {
	f.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
}

func (f *folder) read(name string) string {
	f.Helper()
	text, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		f.Fatal(err)
	}
	return string(text)
}

// daily is a transport with limits of a day.
func daily(base http.RoundTripper, path string, l ...tollgate.Limit) *tollgate.Transport {
	return &tollgate.Transport{Base: base, Quotas: tollgate.Quotas{"*": l}, StateFile: path}
}

// send makes n requests at once and returns how many were answered with 200.
func send(t *testing.T, tr *tollgate.Transport, n int) int {
	t.Helper()
	var ok atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://api.example.com"+flashPath, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if resp, err := tr.RoundTrip(req); err == nil {
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					ok.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return int(ok.Load())
}

// A script that is run ten times spends no more than a day's worth.
func TestStateFile(t *testing.T) {
	const day = 24 * time.Hour
	for name, limit := range map[string]tollgate.Limit{
		"calendar": tollgate.RPD(50),
		"window":   {N: 50, Per: day, Refill: tollgate.Window},
		"steady":   {N: 50, Per: day, Refill: tollgate.Steady},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFolder(t)
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(10 * time.Hour)
				run := func(n int, keep bool) int {
					tr := daily(&counted{}, f.path("state.json"), limit)
					if !keep {
						defer f.restart()
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
	f := newFolder(t)
	synctest.Test(t, func(t *testing.T) {
		unreached := errors.New("no connection")
		var tr *tollgate.Transport
		open := func(base roundTripFunc) {
			tr = daily(base, f.path("state.json"), tollgate.RPD(10))
		}
		fails := true
		open(func(r *http.Request) (*http.Response, error) {
			if fails {
				httptrace.ContextClientTrace(r.Context()).GetConn("api.example.com:80")
				return nil, unreached
			}
			return (&counted{}).RoundTrip(r)
		})
		for range 3 {
			if n := send(t, tr, 1); n != 0 {
				t.Error("it was answered")
			}
			synctest.Wait()
		}
		fails = false
		if n := send(t, tr, 1); n != 1 {
			t.Error("it was not answered")
		}
		f.restart()

		open(func(r *http.Request) (*http.Response, error) {
			if left := tr.Status()[0].Limits[0].Left; left != 8 {
				t.Errorf("%d left after 1 and 1, want 8", left)
			}
			return &http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(refusedToday)), Request: r}, nil
		})
		if n := send(t, tr, 1); n != 0 {
			t.Error("it was not refused")
		}
		f.restart()

		api := &counted{}
		tr = daily(api, f.path("state.json"), tollgate.RPD(10))
		if n := send(t, tr, 1); n != 0 || api.n.Load() != 0 {
			t.Error("let through on a day that the server has said is spent")
		}
		time.Sleep(25 * time.Hour)
		if n := send(t, tr, 11); n != 10 {
			t.Errorf("the next day %d, want 10", n)
		}
	})
}

// A file that makes no sense is replaced, and one that cannot be written does
// not keep anyone.
func TestStateFileBroken(t *testing.T) {
	f := newFolder(t)
	var good string
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
			if test.text == "half" {
				test.text = good[:len(good)/2]
			}
			if test.name != "good" {
				f.write(test.name, test.text)
			}
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var warnings []string
				open := func() *tollgate.Transport {
					tr := daily(&counted{}, f.path(test.name), tollgate.RPD(5))
					tr.Trace = &tollgate.Trace{StateError: func(err error) {
						mu.Lock()
						defer mu.Unlock()
						warnings = append(warnings, err.Error())
					}}
					return tr
				}
				if n := send(t, open(), 3); n != 3 {
					t.Errorf("%d of 3 let through", n)
				}
				f.restart()
				if all := strings.Join(warnings, "; "); len(warnings) > 1 || test.warning == "" != (all == "") || !strings.Contains(all, test.warning) {
					t.Errorf("warnings %q, want one of %q", warnings, test.warning)
				}
				warnings = nil
				if n := send(t, open(), 5); n != 2 {
					t.Errorf("then %d let through, want 2", n)
				}
				f.restart()
				if warnings != nil {
					t.Errorf("then warnings %q", warnings)
				}
			})
			good = f.read(test.name)
		})
	}
	t.Run("no folder", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var warnings atomic.Int64
			tr := daily(&counted{}, f.path(filepath.Join("none", "state")), tollgate.RPD(5))
			tr.Trace = &tollgate.Trace{StateError: func(error) { warnings.Add(1) }}
			if n := send(t, tr, 7); n != 5 {
				t.Errorf("%d let through, want 5", n)
			}
			synctest.Wait()
			if warnings.Load() == 0 {
				t.Error("no warning")
			}
		})
	})
	if left, err := filepath.Glob(filepath.Join(f.dir, "*.tmp*")); err != nil || left != nil {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// A process that ends in the middle leaves a journal behind.
func TestStateFileJournal(t *testing.T) {
	f := newFolder(t)
	const id = "api.example.com gemini-2.5-flash requests per 24h0m0s"
	f.write("state.json", `{"version":1,"seq":5,"spent":{"`+id+`":{"946800000":5}}}`)
	f.write("state.json.journal", fmt.Sprintf("5 946800000 1 %q\n6 946800000 2 %q\n7 946800000 -1 %q\nnonsense\n8 9468000", id, id, id))
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(10 * time.Hour) // the day ends in 22 hours, at 946800000
		tr := func() *tollgate.Transport { return daily(&counted{}, f.path("state.json"), tollgate.RPD(10)) }
		if n := send(t, tr(), 1); n != 1 {
			t.Errorf("let %d through, want 1", n)
		}
		f.restart()
		if n := send(t, tr(), 10); n != 3 {
			t.Errorf("after 5 and 2, less 1, and 1, %d of 10 were let through, want 3", n)
		}
		f.restart()
	})
	if info, err := os.Stat(filepath.Join(f.dir, "state.json.journal")); err != nil || info.Size() != 0 {
		t.Errorf("the journal is not empty in the end: %v, %v", info, err)
	}
}

// Several processes at once spend no more than one.
func TestStateFileProcesses(t *testing.T) {
	const env = "TOLLGATE_TEST_STATE"
	if args := os.Getenv(env); args != "" {
		url, path, _ := strings.Cut(args, " ")
		client := &http.Client{Transport: daily(nil, path, tollgate.RPD(50))}
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() {
				if resp, err := client.Post(url+flashPath, "", nil); err == nil {
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
			// Else the race detector has each process sleep for a second at its end.
			cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", env+"="+srv.URL+" "+path)
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

// What is set while the process runs keeps to what the file says, and what was spent
// while there was no limit is in the file once there is one.
func TestStateFileSetQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state")
		quotas := func(n int64) tollgate.Quotas { return tollgate.Quotas{"*": {tollgate.RPD(n)}} }
		a := daily(answering, path, tollgate.RPD(5))
		if n := send(t, a, 9); n != 5 {
			t.Errorf("%d let through, want 5", n)
		}
		a.SetQuotas(quotas(7))
		if n := send(t, a, 9); n != 2 {
			t.Errorf("%d more, want 2", n)
		}
		a.SetQuotas(nil)
		a.SetQuotas(quotas(8))
		if n := send(t, a, 9); n != 1 {
			t.Errorf("%d more once it is back, want 1", n)
		}
		a.SetQuotas(nil)
		send(t, a, 2)
		a.SetQuotas(quotas(12))
		if n := send(t, a, 9); n != 2 {
			t.Errorf("%d more after two without a limit, want 2", n)
		}
		b := daily(answering, path, tollgate.RPD(15))
		if n := send(t, b, 9); n != 3 {
			t.Errorf("%d after a restart, want 3", n)
		}
	})
}
