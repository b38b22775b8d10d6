package tollgate_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
)

// ok is an answer of 200 without a body.
func ok(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

// A layer between Retry and Transport fetches its token through the same Transport,
// with the request's context: either request has its own quota, and its own fate.
func TestComposedCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var calls []time.Duration
		began := time.Now()
		tr := &tollgate.Transport{
			Quotas: tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(3)}},
			Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				if r.URL.Host == "auth.example.com" {
					return ok(r)
				}
				mu.Lock()
				defer mu.Unlock()
				calls = append(calls, time.Since(began))
				return ok(r)
			}),
		}
		authenticated := roundTripFunc(func(r *http.Request) (*http.Response, error) {
			side, err := http.NewRequestWithContext(r.Context(), http.MethodPost, "https://auth.example.com/token", nil)
			if err != nil {
				return nil, err
			}
			resp, err := tr.RoundTrip(side)
			if err != nil {
				return nil, err
			}
			resp.Body.Close()
			return tr.RoundTrip(r)
		})
		client := &http.Client{Transport: &tollgate.Retry{Base: authenticated}}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				resp, err := client.Post(flash, "application/json", strings.NewReader("{}"))
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			})
		}
		wg.Wait()
		for i, at := range calls {
			if want := time.Duration(i/3) * time.Minute; at < want || at > want+2*time.Second {
				t.Errorf("call %d was sent after %v, want three a minute", i, at)
			}
		}
	})
}

// What becomes of a request on the side says nothing of the one that it was made
// for, whichever comes last.
func TestComposedSideFate(t *testing.T) {
	for name, after := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				tr := &tollgate.Transport{Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
					if r.URL.Path == "/side" {
						return nil, errors.New("no side")
					}
					if tries++; tries < 3 {
						return &http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"1"}}, Body: http.NoBody, Request: r}, nil
					}
					return ok(r)
				})}
				layer := roundTripFunc(func(r *http.Request) (*http.Response, error) {
					side := func() {
						s, _ := http.NewRequestWithContext(tollgate.WithTokens(r.Context(), 1), http.MethodGet, "http://other.example.com/side", nil)
						if _, err := tr.RoundTrip(s); err == nil {
							t.Error("the side request had an answer")
						}
					}
					if !after {
						side()
					}
					resp, err := tr.RoundTrip(r)
					if after {
						side()
					}
					return resp, err
				})
				resp, err := (&http.Client{Transport: &tollgate.Retry{Base: layer}}).Get("http://example.com/")
				if err != nil || resp.StatusCode != http.StatusOK || tries != 3 {
					t.Errorf("%v, %v after %d tries, want 200 after 3", resp, err, tries)
				}
			})
		})
	}
}

// A layer falls back to another model: that is charged to the other's quota, and
// judged as the other.
func TestComposedFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := map[string]int{}
		tr := &tollgate.Transport{
			MaxWait: -1,
			Quotas:  tollgate.Quotas{"first": {tollgate.RPM(2)}, "second": {tollgate.RPM(3)}},
			Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				b, _ := io.ReadAll(r.Body)
				sent[map[bool]string{true: "first", false: "second"}[strings.Contains(string(b), "first")]]++
				return ok(r)
			}),
		}
		layer := roundTripFunc(func(r *http.Request) (*http.Response, error) {
			resp, err := tr.RoundTrip(r)
			if !errors.Is(err, tollgate.ErrLimited) {
				return resp, err
			}
			other, err := http.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), strings.NewReader(`{"model":"second"}`))
			if err != nil {
				return nil, err
			}
			return tr.RoundTrip(other)
		})
		client := &http.Client{Transport: &tollgate.Retry{Base: layer}}
		rejected := 0
		for range 7 {
			resp, err := client.Post(openai, "application/json", strings.NewReader(`{"model":"first"}`))
			if err != nil {
				var limit *tollgate.LimitError
				if rejected++; !errors.As(err, &limit) || limit.Key != "second" {
					t.Errorf("error %v, want that of the second model's quota", err)
				}
				continue
			}
			resp.Body.Close()
		}
		if sent["first"] != 2 || sent["second"] != 3 || rejected != 2 {
			t.Errorf("sent %v, %d rejected, want 2 and 3 and 2", sent, rejected)
		}
	})
}

// A Transport below a Transport: each has its own buckets, and a refusal goes back
// to the front of both queues.
func TestComposedTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		n, refused := 0, false
		below := &tollgate.Transport{
			Quotas: tollgate.Quotas{"*": {{N: 2, Per: 10 * time.Second}}},
			Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				if !refused {
					refused = true
					return &http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"3"}}, Body: http.NoBody, Request: r}, nil
				}
				n++
				return ok(r)
			}),
		}
		above := &tollgate.Transport{Base: below, Quotas: tollgate.Quotas{"*": {{N: 5, Per: time.Minute}}}}
		client := &http.Client{Transport: &tollgate.Retry{Base: above}}
		for range 4 {
			resp, err := client.Get("http://example.com/")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		if got := time.Since(began); n != 4 || got < 13*time.Second || got > 40*time.Second {
			t.Errorf("%d done after %v, want 4 by what the one below allows", n, got)
		}
		if left := above.Status()[0].Limits[0].Left; left > 1 {
			t.Errorf("%d left above, want each attempt charged there as well", left)
		}
	})
}

// bodyFunc is a body whose Close does what it says.
type bodyFunc struct {
	io.Reader
	close func() error
}

func (b bodyFunc) Close() error { return b.close() }

// Slots come back, whatever happens to who holds them.
func TestSlotsComeBack(t *testing.T) {
	trace := func(f func()) *tollgate.Trace {
		return &tollgate.Trace{Sending: func(*http.Request, tollgate.SendInfo) { f() }}
	}
	boom := func() { panic("boom") }
	for name, test := range map[string]struct {
		base  func(*http.Request) (*http.Response, error)
		trace *tollgate.Trace
	}{
		"a panic in Base":              {base: func(*http.Request) (*http.Response, error) { panic("boom") }},
		"a Goexit in Base":             {base: func(*http.Request) (*http.Response, error) { runtime.Goexit(); return nil, nil }},
		"a panic in Trace":             {base: ok, trace: trace(boom)},
		"a Goexit in Trace":            {base: ok, trace: trace(runtime.Goexit)},
		"a panic in a body's Close":    {base: closing(boom)},
		"a Goexit in a body's Close":   {base: closing(runtime.Goexit)},
		"a body that is never closed":  {base: closing(func() {})},
		"a refusal that panics midway": {base: refusing(boom)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				faulty := true
				tr := &tollgate.Transport{
					Quotas: tollgate.Quotas{"*": {tollgate.Concurrency(1)}},
					Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
						if faulty {
							return test.base(r)
						}
						return ok(r)
					}),
					Trace: test.trace,
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() { _ = recover() }()
					req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://example.com/", nil)
					resp, err := tr.RoundTrip(req)
					if err == nil && !strings.Contains(name, "never") {
						resp.Body.Close()
					}
				}()
				<-done
				cancel()
				synctest.Wait()
				faulty = false
				if st := tr.Status(); len(st) != 1 || st[0].InFlight != 0 || st[0].Limits[0].Left != 1 {
					t.Errorf("status %+v, want the slot back", st)
				}
			})
		})
	}
}

func closing(f func()) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		resp, err := ok(r)
		resp.Body = bodyFunc{strings.NewReader("x"), func() error { f(); return nil }}
		return resp, err
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func refusing(f func()) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		resp, err := ok(r)
		resp.StatusCode = http.StatusTooManyRequests
		resp.Body = bodyFunc{readFunc(func([]byte) (int, error) { f(); return 0, io.EOF }), func() error { return nil }}
		return resp, err
	}
}

// GetBody that returns nothing at all is an error, and no panic.
func TestGetBodyNothing(t *testing.T) {
	tr := &tollgate.Transport{Base: roundTripFunc(ok), Quotas: tollgate.Quotas{"*": {tollgate.TPM(1000)}}}
	req, err := http.NewRequest(http.MethodPost, flash, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.GetBody = func() (io.ReadCloser, error) { return nil, nil }
	for name, rt := range map[string]http.RoundTripper{"Transport": tr, "Retry": &tollgate.Retry{Base: tr}} {
		if resp, err := rt.RoundTrip(req); err == nil || !strings.Contains(err.Error(), "GetBody") {
			t.Errorf("%s: %v, %v; want an error that names GetBody", name, resp, err)
		}
	}
}

// Numbers at their ends do not overflow.
func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &tollgate.Transport{Base: roundTripFunc(ok), Quotas: tollgate.Quotas{
			"gemini-2.5-flash": {tollgate.TPM(1000)},
			"example.com":      {{N: 1, Per: math.MaxInt64}},
		}}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(tollgate.WithTokens(t.Context(), math.MaxInt64), time.Hour)
				defer cancel()
				req, _ := http.NewRequestWithContext(ctx, http.MethodPost, flash, strings.NewReader("{}"))
				if resp, err := tr.RoundTrip(req); err != nil {
					t.Error(err)
				} else {
					resp.Body.Close()
				}
			})
		}
		wg.Wait()
		get(t, tr, "http://example.com/")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://example.com/", nil)
		var limit *tollgate.LimitError
		if _, err := tr.RoundTrip(req); !errors.As(err, &limit) || limit.RetryAfter < 24*time.Hour {
			t.Errorf("a second one in 292 years: %v", err)
		}
	})
}

// http.DefaultTransport may be replaced by a Transport, wrapped or not.
func TestDefaultTransport(t *testing.T) {
	was := http.DefaultTransport
	defer func() { http.DefaultTransport = was }()
	for name, wrap := range map[string]func(http.RoundTripper) http.RoundTripper{
		"itself":    func(rt http.RoundTripper) http.RoundTripper { return rt },
		"a wrapper": func(rt http.RoundTripper) http.RoundTripper { return roundTripFunc(rt.RoundTrip) },
		"a Retry":   func(rt http.RoundTripper) http.RoundTripper { return &tollgate.Retry{Base: rt, Max: -1} },
	} {
		http.DefaultTransport = wrap(&tollgate.Transport{})
		resp, err := http.Get("http://127.0.0.1:1/") // nobody listens there
		if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
			t.Errorf("%s: %v, %v; want that the connection is refused", name, resp, err)
		}
	}
}
