package tollgate_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/internal/workload"
	"example.com/tollgate/quotatest"
)

// slow answers after some time, unless the request is given up before.
func slow(headers, body time.Duration) roundTripFunc {
	return func(r *http.Request) (*http.Response, error) {
		select {
		case <-time.After(headers):
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
		pr, pw := io.Pipe()
		go func() {
			select {
			case <-time.After(body):
				pw.Close()
			case <-r.Context().Done():
				pw.CloseWithError(r.Context().Err())
			}
		}()
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: pr, Request: r}, nil
	}
}

// Timeout is for each attempt from when it is sent, until its body has ended.
func TestTimeout(t *testing.T) {
	const s = time.Second
	for _, test := range []struct {
		name          string
		headers, body time.Duration
		sent, read    bool // without an error
	}{
		{"in time", 4 * s, 5 * s, true, true},
		{"no headers", 11 * s, 0, false, false},
		{"body takes too long", 4 * s, 7 * s, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := &tollgate.Transport{
					Base:    slow(test.headers, test.body),
					Quotas:  tollgate.Quotas{"*": {tollgate.Concurrency(1)}},
					Timeout: 10 * s,
				}
				for range 2 { // the second waits for the first
					req, _ := newRequest(t.Context(), t, flash)
					resp, err := tr.RoundTrip(req)
					if err == nil != test.sent {
						t.Fatalf("error %v", err)
					}
					if err == nil {
						_, err = io.ReadAll(resp.Body)
						resp.Body.Close()
					}
					if err == nil != test.read {
						t.Fatalf("error %v", err)
					}
					var timeout interface{ Timeout() bool }
					if err != nil && (!errors.As(err, &timeout) || !timeout.Timeout() || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "10s")) {
						t.Errorf("error %v is no timeout", err)
					}
				}
				if n := tr.Status()[0].Limits[0].Left; n != 1 {
					t.Errorf("%d tokens in the end, want 1", n)
				}
			})
		})
	}
}

// An attempt that timed out is worth another one; the context's end is not.
func TestTimeoutRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		base := roundTripFunc(func(r *http.Request) (*http.Response, error) {
			if n.Add(1) < 3 {
				return slow(time.Hour, 0)(r)
			}
			return slow(time.Second, 0)(r)
		})
		rt := &tollgate.Retry{Base: &tollgate.Transport{Base: base, Timeout: 10 * time.Second}}
		client := &http.Client{Transport: rt}
		post := func(ctx context.Context) (*http.Response, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, flash, strings.NewReader(workload.Prompt))
			if err != nil {
				t.Fatal(err)
			}
			return client.Do(req)
		}
		resp, err := post(t.Context())
		if err != nil || n.Load() != 3 {
			t.Fatalf("%v after %d attempts, want success after 3", err, n.Load())
		}
		resp.Body.Close()

		n.Store(0)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := post(ctx); !errors.Is(err, context.DeadlineExceeded) || n.Load() != 1 {
			t.Errorf("%v after %d attempts, want the deadline after 1", err, n.Load())
		}
	})
}

// X-Server-Timeout is what is left when the request is sent.
func TestServerTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		tr := &tollgate.Transport{
			Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				got = append(got, strings.Join(r.Header["X-Server-Timeout"], ","))
				return slow(0, 0)(r)
			}),
			Quotas:  tollgate.Quotas{"*": {{N: 1, Per: 20 * time.Second, Refill: tollgate.Window}}},
			Timeout: 50 * time.Second,
		}
		ctx, cancel := context.WithTimeout(t.Context(), 70*time.Second)
		defer cancel()
		for _, was := range []string{"70", "70", "5", "", "nonsense"} {
			c := ctx
			if len(got) > 2 {
				c = t.Context()
			}
			req, _ := newRequest(c, t, flash)
			if was != "" {
				req.Header.Set("X-Server-Timeout", was)
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if now := req.Header.Get("X-Server-Timeout"); now != was {
				t.Errorf("the caller's header became %q", now)
			}
		}
		if want := "50 50 5  nonsense"; strings.Join(got, " ") != want {
			t.Errorf("sent %q, want %q", strings.Join(got, " "), want)
		}
	})
}

// An ending calls end when a body has been read to its end, or is closed.
type ending struct {
	io.ReadCloser
	end func()
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.ReadCloser.Read(p)
	if err != nil {
		e.end()
	}
	return n, err
}

func (e *ending) Close() error {
	e.end()
	return e.ReadCloser.Close()
}

// Four at once: a token is back when a body is closed, read or not.
func TestConcurrency(t *testing.T) {
	for _, read := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var now, peak atomic.Int64
			tr := &tollgate.Transport{
				Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
					peak.Store(max(peak.Load(), now.Add(1)))
					resp, err := slow(0, time.Second)(r)
					if err == nil {
						resp.Body = &ending{ReadCloser: resp.Body, end: sync.OnceFunc(func() { now.Add(-1) })}
					}
					return resp, err
				}),
				Quotas: tollgate.Quotas{"*": {tollgate.Concurrency(4)}},
			}
			client := &http.Client{Transport: tr}
			began := time.Now()
			var wg sync.WaitGroup
			for range 40 {
				wg.Go(func() {
					resp, err := client.Post(flash, "application/json", strings.NewReader(workload.Prompt))
					if err != nil {
						t.Error(err)
						return
					}
					if read {
						_, err = io.ReadAll(resp.Body)
					} else {
						time.Sleep(time.Second)
					}
					if err := errors.Join(err, resp.Body.Close()); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			t.Logf("40 calls of a second, four at once: %v, peak %d", time.Since(began), peak.Load())
			if time.Since(began) != 10*time.Second || peak.Load() != 4 {
				t.Errorf("took %v with a peak of %d; want 10s and 4", time.Since(began), peak.Load())
			}
		})
	}
}

// The Date of a response from a cache is not the server's time.
func TestCalendarIgnoresCaches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		startAt(20 * time.Second)
		server := &quotatest.Server{Limits: map[string][]quotatest.Limit{"*": {quotatest.RPM(1)}}, Skew: 3 * time.Second}
		cached := true
		base := roundTripFunc(func(r *http.Request) (*http.Response, error) {
			resp, err := server.RoundTrip(r)
			if err == nil && cached {
				resp.Header.Set("Date", time.Now().Add(-35*time.Minute).UTC().Format(http.TimeFormat))
				resp.Header.Set("Age", "2100")
			}
			return resp, err
		})
		client := &http.Client{Transport: auto(tollgate.RPM(1))(base)}
		began := time.Now()
		outcome(client, 2)
		if got := time.Since(began); got < time.Minute || got > time.Minute+time.Second {
			t.Errorf("by a cache's clock the second one went after %v, want a minute", got)
		}
		cached = false
		outcome(client, 1)
		outcome(client, 1)
		if at := time.Now().Add(server.Skew).Second(); at > 1 || server.Refused() != 0 {
			t.Errorf("by the server's clock it went at second %d, want a full minute; %d refused", at, server.Refused())
		}
	})
}
