package tollgate_test

import (
	"bytes"

	"context"
	"errors"

	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"example.com/tollgate"
)

// oneShot returns a request whose body cannot be had twice.
func oneShot(ctx context.Context, t *testing.T, url string, body io.Reader) (*http.Request, *readCloser) {
	t.Helper()
	b := &readCloser{Reader: body}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, b)
	if err != nil {
		t.Fatal(err)
	}
	return req, b
}

// A pipe counts how often its reading end is closed.
type pipe struct {
	*io.PipeReader
	closed atomic.Int32
}

func (p *pipe) Close() error {
	p.closed.Add(1)
	return p.PipeReader.Close()
}

// A body that nothing comes of holds up its request until the context is done, and
// no longer; its Cancel ends it too.
func TestIdleBody(t *testing.T) {
	for _, test := range []struct {
		name, url string
		quota     tollgate.Quota
		cancel    bool
	}{
		{"names the model", chat, tollgate.Quota{tollgate.RPM(10)}, false},
		{"names the model, Cancel", chat, tollgate.Quota{tollgate.RPM(10)}, true},
		{"costs tokens", flash, tollgate.Quota{tollgate.TPM(1000)}, false},
		{"costs tokens, Cancel", flash, tollgate.Quota{tollgate.TPM(1000)}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, retry := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					pr, pw := io.Pipe()
					body := &pipe{PipeReader: pr}
					defer pw.Close()
					ctx, want := t.Context(), context.Canceled
					ended := make(chan struct{})
					if test.cancel {
						time.AfterFunc(5*time.Second, func() { close(ended) })
					} else {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, 5*time.Second)
						defer cancel()
						want = context.DeadlineExceeded
					}
					var rt http.RoundTripper = &tollgate.Transport{
						Quotas: tollgate.Quotas{"*": test.quota},
						Base: roundTripFunc(func(*http.Request) (*http.Response, error) {
							t.Error("the request was sent")
							return nil, errors.New("sent")
						}),
					}
					if retry {
						rt = &tollgate.Retry{Base: rt}
					}
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, test.url, body)
					if err != nil {
						t.Fatal(err)
					}
					req.Cancel = ended //nolint:staticcheck // old clients set it, and http.Client does
					began := time.Now()
					if _, err := rt.RoundTrip(req); !errors.Is(err, want) {
						t.Errorf("error %v, want %v", err, want)
					} else if test.cancel != strings.Contains(err.Error(), "Request.Cancel") {
						t.Errorf("error %v, want it to tell of Cancel: %v", err, test.cancel)
					}
					if got := time.Since(began); got != 5*time.Second {
						t.Errorf("took %v, want 5s", got)
					}
					if n := body.closed.Load(); n != 1 {
						t.Errorf("body closed %d times", n)
					}
				})
			}
		})
	}
}

// Cancel ends the wait in the queue, and the one for another attempt.
func TestCancel(t *testing.T) {
	for name, test := range map[string]struct {
		quota tollgate.Quota
		base  roundTripFunc
	}{
		"in the queue":      {tollgate.Quota{tollgate.RPM(0), tollgate.Concurrency(1)}, ok},
		"between two tries": {nil, func(*http.Request) (*http.Response, error) { return nil, errors.New("refused") }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if test.quota != nil {
					test.quota = tollgate.Quota{{N: 1, Per: time.Hour}}
				}
				tr := &tollgate.Transport{Base: test.base, Quotas: tollgate.Quotas{"*": test.quota}}
				rt := &tollgate.Retry{Base: tr}
				if test.quota != nil {
					resp, err := rt.RoundTrip(must(http.NewRequest(http.MethodGet, "http://example.com/", nil)))
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
				}
				req := must(http.NewRequest(http.MethodGet, "http://example.com/", nil))
				cancel := make(chan struct{})
				req.Cancel = cancel //nolint:staticcheck // old clients set it, and http.Client does
				began := time.Now()
				time.AfterFunc(400*time.Millisecond, func() { close(cancel) })
				if _, err := rt.RoundTrip(req); !errors.Is(err, context.Canceled) {
					t.Errorf("error %v, want the context's", err)
				}
				if got := time.Since(began); got != 400*time.Millisecond {
					t.Errorf("took %v, want 400ms", got)
				}
				synctest.Wait()
				if s := tr.Status(); len(s) != 1 || s[0].Waiting != 0 {
					t.Errorf("status %+v, want an empty queue", s)
				}
			})
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A body that only the server's answer makes its caller write is sent, after ten
// seconds where it was to name the model or its cost counts, at once elsewhere.
func TestFullDuplex(t *testing.T) {
	for _, test := range []struct {
		name, url, first string
		after            time.Duration
	}{
		{"plain", "http://example.com/", "", 0},
		{"names the model", chat, "", 10 * time.Second},
		{"has named the model", chat, `{"model":"gpt-5","messages":[`, 10 * time.Second},
		{"costs tokens", flash, "", 10 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const rest = "one, two"
				echoed := make(chan string, 1)
				tr := &tollgate.Transport{
					Quotas: tollgate.Quotas{"*": {tollgate.RPM(10), tollgate.TPM(1000)}},
					Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
						go func() {
							b, err := io.ReadAll(r.Body)
							if err != nil {
								t.Error(err)
							}
							r.Body.Close()
							echoed <- string(b)
						}()
						return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("go on")), Request: r}, nil
					}),
				}
				pr, pw := io.Pipe()
				body := &pipe{PipeReader: pr}
				go func() { _, _ = io.WriteString(pw, test.first) }()
				began := time.Now()
				resp, err := tr.RoundTrip(must(http.NewRequestWithContext(t.Context(), http.MethodPost, test.url, body)))
				if err != nil {
					t.Fatal(err)
				}
				if got := time.Since(began); got != test.after {
					t.Errorf("sent after %v, want %v", got, test.after)
				}
				for _, s := range strings.SplitAfter(rest, ",") {
					if _, err := io.WriteString(pw, s); err != nil {
						t.Error(err)
					}
				}
				pw.Close()
				if got, want := <-echoed, test.first+rest; got != want {
					t.Errorf("the server got %q, want %q", got, want)
				}
				resp.Body.Close()
				if n := body.closed.Load(); n != 1 {
					t.Errorf("body closed %d times", n)
				}
			})
		})
	}
}

// What is not needed of a body is not read before its turn has come.
func TestBodyUnread(t *testing.T) {
	for _, test := range []struct {
		name, url string
		quota     tollgate.Quota
		tokens    int64
		read      bool
	}{
		{"plain API, tokens", "http://example.com/", tollgate.Quota{tollgate.RPM(1), tollgate.TPM(1000)}, -1, false},
		{"model in the URL", flash, tollgate.Quota{tollgate.RPM(1)}, -1, false},
		{"cost given", flash, tollgate.Quota{tollgate.RPM(1), tollgate.TPM(1000)}, 1, false},
		{"model in the URL, tokens", flash, tollgate.Quota{tollgate.RPM(1), tollgate.TPM(1000)}, -1, true},
		{"model in the body", chat, tollgate.Quota{tollgate.RPM(1)}, -1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := &tollgate.Transport{Base: says(func(*http.Request, http.Header) (int, string) { return 200, "{}" }), Quotas: tollgate.Quotas{"*": test.quota}}
				ctx := t.Context()
				if test.tokens > 0 {
					ctx = tollgate.WithTokens(ctx, test.tokens)
				}
				send := func() *metered {
					body := &metered{Reader: strings.NewReader(`{"model":"x"}`)}
					req, _ := oneShot(ctx, t, test.url, body)
					go func() {
						if resp, err := tr.RoundTrip(req); err != nil {
							t.Error(err)
						} else {
							resp.Body.Close()
						}
					}()
					synctest.Wait()
					return body
				}
				send()
				if n := send().n.Load(); (n > 0) != test.read {
					t.Errorf("%d bytes were read before the turn had come", n)
				}
				time.Sleep(2 * time.Minute)
			})
		})
	}
}

// A metered body counts the bytes that are read.
type metered struct {
	io.Reader
	n atomic.Int64
}

func (c *metered) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// No Read of a body is begun after RoundTrip has returned, and none is under way
// whose source does not block: its caller may use the buffer for something else.
func TestBodyNotReadAfterwards(t *testing.T) {
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		buf := bytes.Repeat([]byte("a"), 1<<20)
		r := bytes.NewReader(buf)
		req, _ := oneShot(ctx, t, chat, readFunc(func(p []byte) (int, error) {
			n, err := r.Read(p[:min(len(p), 100)])
			if r.Len() < len(buf)/2 {
				cancel()
			}
			return n, err
		}))
		tr := &tollgate.Transport{Base: roundTripFunc(ok)}
		_, err := tr.RoundTrip(req)
		if err != nil && err != context.Canceled {
			t.Fatal(err)
		}
		clear(buf) // which the race detector sees if it is read
		cancel()
	}
}

// A request is not kept alive once its response has been read, though nothing else
// may come for its key.
func TestRequestFreed(t *testing.T) {
	for name, rt := range map[string]http.RoundTripper{
		"Transport": &tollgate.Transport{Base: roundTripFunc(ok)},
		"limited":   &tollgate.Transport{Base: roundTripFunc(ok), Quotas: tollgate.Quotas{"*": {tollgate.RPM(10), tollgate.TPM(1000)}}},
		"Retry":     &tollgate.Retry{Base: &tollgate.Transport{Base: roundTripFunc(ok)}},
	} {
		request := func() weak.Pointer[http.Request] {
			req, _ := oneShot(t.Context(), t, flash, strings.NewReader("{}"))
			resp, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return weak.Make(req)
		}()
		for range 3 {
			runtime.GC()
		}
		if request.Value() != nil {
			t.Errorf("%s: the request is still alive", name)
		}
		runtime.KeepAlive(rt)
	}
}
