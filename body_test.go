package tollgate_test

import (
	"bytes"

	"context"
	"errors"

	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
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

// generated returns a body of so many bytes that names its model at its beginning
// or at its end, as does a JSON encoder that goes by the order of fields.
func generated(size int, model string, first bool) io.Reader {
	begin, end := `{"messages":[{"content":"`, `"}],"model":"`+model+`"}`
	if first {
		begin, end = `{"model":"`+model+`","messages":[{"content":"`, `"}]}`
	}
	text := io.LimitReader(letters{}, int64(size-len(begin)-len(end)))
	return io.MultiReader(strings.NewReader(begin), text, strings.NewReader(end))
}

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

// A held counts the bytes that were read of all bodies and have not been sent.
type held struct{ now, most atomic.Int64 }

func (h *held) add(n int) {
	now := h.now.Add(int64(n))
	for {
		most := h.most.Load()
		if now <= most || h.most.CompareAndSwap(most, now) {
			return
		}
	}
}

// Bodies of all requests that wait hold no more than MaxBuffered, and each request
// waits for its own model, whose quota is kept; every byte arrives.
func TestMaxBuffered(t *testing.T) {
	const (
		n    = 120
		size = 64 << 10
	)
	for _, test := range []struct {
		name          string
		max           int64
		first, length bool
		tokens        bool
		least         int64 // that is held: memory is made use of
	}{
		{"model first", 1 << 20, true, true, false, 512 << 10},
		{"model first, no length", 1 << 20, true, false, false, 200 << 10},
		{"model last", 1 << 20, false, true, false, 512 << 10},
		{"model last, no length", 16 << 20, false, false, false, 512 << 10},
		{"model last, tokens", 1 << 20, false, true, true, 512 << 10},
		{"model first, tokens", 1 << 20, true, true, true, 512 << 10},
		{"default", 0, true, true, false, (n - 20) * size},
		{"less than one", 64 << 10, true, true, true, 8 << 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var h held
				var mu sync.Mutex
				var sent []time.Time
				quota := tollgate.Quota{{N: 10, Per: time.Minute, Refill: tollgate.Window}}
				if test.tokens {
					quota = append(quota, tollgate.Limit{Unit: tollgate.Tokens, N: 1_000_000, Per: time.Minute, Refill: tollgate.Window})
				}
				tr := &tollgate.Transport{
					MaxBuffered: test.max,
					Quotas:      tollgate.Quotas{"gpt-5": quota},
					Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
						mu.Lock()
						sent = append(sent, time.Now())
						mu.Unlock()
						defer r.Body.Close()
						total, buf := 0, make([]byte, 16<<10)
						for {
							n, err := r.Body.Read(buf)
							h.add(-n)
							if total += n; err == io.EOF {
								break
							} else if err != nil {
								t.Error(err)
								break
							}
						}
						if total != size {
							t.Errorf("%d bytes arrived, want %d", total, size)
						}
						return ok(r)
					}),
				}
				var wg sync.WaitGroup
				for range n {
					body := readFunc(nil)
					src := generated(size, "gpt-5", test.first)
					body = func(p []byte) (int, error) {
						n, err := src.Read(p)
						h.add(n)
						return n, err
					}
					req, _ := oneShot(t.Context(), t, chat, body)
					if test.length {
						req.ContentLength = size
					}
					wg.Go(func() {
						resp, err := tr.RoundTrip(req)
						if err != nil {
							t.Error(err)
							return
						}
						resp.Body.Close()
					})
				}
				wg.Wait()
				most := test.max
				if most == 0 {
					most = 64 << 20
				}
				if got := h.most.Load(); got > most+16<<10 || got < test.least {
					t.Errorf("at most %d bytes were held, want %d to %d", got, test.least, most)
				}
				for i := range sent {
					if i >= 10 && sent[i].Sub(sent[i-10]) < time.Minute {
						t.Errorf("request %d was sent %v after the tenth before it", i, sent[i].Sub(sent[i-10]))
					}
				}
				t.Logf("%d bytes held at most, took %v", h.most.Load(), sent[n-1].Sub(sent[0]))
				if got := sent[n-1].Sub(sent[0]); got > 12*time.Minute {
					t.Errorf("took %v, want 11 minutes", got)
				}
			})
		})
	}
}

// Where nothing may be held, a request whose model only the body names draws on the
// quota of its host, and its tokens are charged by its length.
func TestMaxBufferedNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &tollgate.Transport{
			MaxBuffered: -1,
			Base:        says(func(*http.Request, http.Header) (int, string) { return 200, "{}" }),
			Quotas:      tollgate.Quotas{"api.openai.com": {tollgate.TPM(10_000_000)}},
		}
		for _, test := range []struct{ length, want int64 }{{3000, 1000 + 2}, {0, 1<<20 + 2}, {30 << 20, 1<<20 + 22<<20/256 + 2}} {
			before := int64(10_000_000)
			if s := tr.Status(); len(s) > 0 {
				before = s[0].Limits[0].Left
			}
			body := &metered{Reader: generated(3000, "gpt-5", true)}
			req, _ := oneShot(t.Context(), t, chat, body)
			req.ContentLength = test.length
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if n := body.n.Load(); n != 0 {
				t.Errorf("%d bytes were read", n)
			}
			if s := tr.Status(); len(s) != 1 || s[0].Key != "api.openai.com" || before-s[0].Limits[0].Left != test.want {
				t.Errorf("length %d: status %+v, want %d tokens less than %d", test.length, s, test.want, before)
			}
		}
	})
}

// A request for whose body there is no memory waits no longer than it may.
func TestMaxBufferedWaits(t *testing.T) {
	for name, test := range map[string]struct {
		maxWait time.Duration
		ctx     time.Duration
		after   time.Duration
		want    error
	}{
		"never":      {-1, time.Hour, 0, tollgate.ErrLimited},
		"MaxWait":    {3 * time.Second, time.Hour, 3 * time.Second, tollgate.ErrLimited},
		"a deadline": {0, 5 * time.Second, 5 * time.Second, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const size = 100 << 10
				tr := &tollgate.Transport{
					MaxBuffered: 160 << 10, // 120 KiB of which are for one body
					MaxWait:     test.maxWait,
					Base:        says(func(*http.Request, http.Header) (int, string) { return 200, "{}" }),
				}
				ctx, cancel := context.WithTimeout(t.Context(), test.ctx)
				defer cancel()
				pr, pw := io.Pipe()
				first := must(http.NewRequestWithContext(t.Context(), http.MethodPost, chat, pr))
				first.ContentLength = size
				var wg sync.WaitGroup
				wg.Go(func() {
					resp, err := tr.RoundTrip(first)
					if err != nil {
						t.Error(err)
						return
					}
					resp.Body.Close()
				})
				synctest.Wait()
				req, body := oneShot(ctx, t, chat, generated(size, "gpt-5", false))
				req.ContentLength = size
				began := time.Now()
				if _, err := tr.RoundTrip(req); !errors.Is(err, test.want) {
					t.Errorf("error %v, want %v", err, test.want)
				}
				if got := time.Since(began); got != test.after {
					t.Errorf("took %v, want %v", got, test.after)
				}
				if n := body.closed.Load(); n != 1 {
					t.Errorf("body closed %d times", n)
				}
				pw.Close()
				wg.Wait()
				req, _ = oneShot(t.Context(), t, chat, generated(size, "gpt-5", false))
				req.ContentLength = size
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatalf("once there is memory: %v", err)
				}
				resp.Body.Close()
			})
		})
	}
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
