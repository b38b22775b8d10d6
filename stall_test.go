package tollgate_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
)

// drips returns a body that begins with text and then has a byte of rest every
// tenth of a second.
func drips(text, rest []byte) *pipe {
	pr, pw := io.Pipe()
	go func() {
		_, err := pw.Write(text)
		for i := 0; i < len(rest) && err == nil; i++ {
			time.Sleep(100 * time.Millisecond)
			_, err = pw.Write(rest[i : i+1])
		}
		pw.Close()
	}()
	return &pipe{PipeReader: pr}
}

// zipped compresses the parts of a text, each of which can be read without what
// comes after it.
func zipped(parts ...string) (list [][]byte) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for i, p := range parts {
		_, err := io.WriteString(w, p)
		if i < len(parts)-1 {
			err = errors.Join(err, w.Flush())
		} else {
			err = errors.Join(err, w.Close())
		}
		if err != nil {
			panic(err)
		}
		list = append(list, bytes.Clone(b.Bytes()))
		b.Reset()
	}
	return list
}

const (
	refusedBegin = `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"Please retry in 20s.","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"20s"}],"padding":"`
	refusedRest  = `................................................................................................"}}`
)

// A refusal whose body stalls is acted on within a second of its headers, by what
// has come of it; its caller gets every byte as it comes.
func TestStall(t *testing.T) {
	packed := zipped(refusedBegin, refusedRest)
	for _, test := range []struct {
		name        string
		status      int
		header      http.Header
		begin, rest []byte
		pause       time.Duration // from when the refusal is acted on until the next request is sent; 0: at once
	}{
		{"429", 429, nil, []byte(refusedBegin), []byte(refusedRest), 20 * time.Second},
		{"429 in gzip", 429, http.Header{"Content-Encoding": {"gzip"}}, packed[0], packed[1], 20 * time.Second},
		{"429 without a body so far", 429, http.Header{"Retry-After": {"30"}}, nil, []byte(refusedBegin), 30 * time.Second},
		{"429 in gzip without a body so far", 429, http.Header{"Content-Encoding": {"gzip"}, "Retry-After": {"30"}}, nil, packed[0], 30 * time.Second},
		{"503", 503, http.Header{"Retry-After": {"40"}}, []byte("busy"), []byte(refusedRest), 40 * time.Second},
		{"503 without a hint", 503, nil, []byte("busy"), []byte(refusedRest), 0},
		{"403 of GitHub's kind", 403, http.Header{"Retry-After": {"30"}}, nil, []byte("secondary rate limit"), 30 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int32
				var body *pipe
				var acted time.Duration
				began := time.Now()
				tr := &tollgate.Transport{
					Quotas: tollgate.Quotas{"*": {tollgate.RPM(100), tollgate.Concurrency(5)}},
					Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
						if n.Add(1) > 1 {
							return ok(r)
						}
						body = drips(test.begin, test.rest)
						h := http.Header{"Content-Type": {"application/json"}}
						for k, v := range test.header {
							h[k] = v
						}
						return &http.Response{StatusCode: test.status, Header: h, Body: body, Request: r}, nil
					}),
					Trace: &tollgate.Trace{Refused: func(*http.Request, tollgate.RefusalInfo) { acted = time.Since(began) }},
				}
				resp, err := tr.RoundTrip(must(http.NewRequestWithContext(t.Context(), http.MethodGet, "http://example.com/", nil)))
				if err != nil {
					t.Fatal(err)
				}
				if got := time.Since(began); got != time.Second || acted != time.Second {
					t.Errorf("acted on after %v, handed to the caller after %v; want 1s", acted, got)
				}
				next := make(chan time.Duration, 1)
				go func() {
					call(t, tr, http.MethodGet, "http://example.com/", "")
					next <- time.Since(began)
				}()
				want := append(bytes.Clone(test.begin), test.rest...)
				first := make([]byte, len(test.begin)+5)
				if _, err := io.ReadFull(resp.Body, first); err != nil || !bytes.Equal(first, want[:len(first)]) {
					t.Errorf("read %q, %v", first, err)
				}
				if got := time.Since(began); got > time.Second {
					t.Errorf("what had come was read after %v", got)
				}
				one := make([]byte, 100)
				for i := len(first); i < len(want); {
					k, err := resp.Body.Read(one)
					if i < len(want) && err != nil || !bytes.Equal(one[:k], want[i:i+k]) {
						t.Fatalf("read %q, %v at %d", one[:k], err, i)
					}
					i += k
					if at := time.Duration(i-len(test.begin)) * 100 * time.Millisecond; time.Since(began) != max(at, time.Second) {
						t.Fatalf("byte %d was read after %v, want %v", i, time.Since(began), at)
					}
				}
				if k, err := resp.Body.Read(one); k != 0 || err != io.EOF {
					t.Errorf("read %d, %v at the end", k, err)
				}
				resp.Body.Close()
				if n := body.closed.Load(); n != 1 {
					t.Errorf("body closed %d times", n)
				}
				if got := <-next; got < time.Second+test.pause || got > time.Second+test.pause+2*time.Second {
					t.Errorf("the next request ended after %v, want %v", got, time.Second+test.pause)
				}
			})
		})
	}
}

// Who closes a body that stalls, or whose context is done, is not held up by it.
func TestStallGivenUp(t *testing.T) {
	for _, how := range []string{"closed", "context before", "context after", "Timeout"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				tr := &tollgate.Transport{
					Quotas: tollgate.Quotas{"example.com": {tollgate.Concurrency(1)}},
					Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
						body := drips([]byte("x"), bytes.Repeat([]byte("y"), 6000))
						context.AfterFunc(r.Context(), func() { body.CloseWithError(r.Context().Err()) })
						return &http.Response{StatusCode: 503, Header: http.Header{}, Body: body, Request: r}, nil
					}),
				}
				if how == "Timeout" {
					tr.Timeout = 5 * time.Second
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				want := time.Second
				if how == "context before" {
					want = 500 * time.Millisecond
					time.AfterFunc(want, cancel)
				}
				resp, err := tr.RoundTrip(must(http.NewRequestWithContext(ctx, http.MethodGet, "http://example.com/", nil)))
				if err != nil {
					t.Fatal(err)
				}
				if got := time.Since(began); got != want {
					t.Errorf("handed to the caller after %v, want %v", got, want)
				}
				if how == "context after" {
					cancel()
				}
				if how == "closed" {
					resp.Body.Close()
				}
				_, err = io.ReadAll(resp.Body)
				var timeout net.Error
				if err == nil || how == "Timeout" && (!errors.As(err, &timeout) || !timeout.Timeout()) {
					t.Errorf("reading on: %v", err)
				}
				if how != "Timeout" && time.Since(began) != want {
					t.Errorf("took %v, want %v", time.Since(began), want)
				}
				resp.Body.Close()
				time.Sleep(time.Second) // until the server notices
				if s := tr.Status(); s[0].InFlight != 0 || s[0].Limits[0].Left != 1 {
					t.Errorf("status %+v, want the slot back", s)
				}
			})
		})
	}
}

// A context that is done when the response arrives ends the attempt once.
func TestDoneOnArrival(t *testing.T) {
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		tr := &tollgate.Transport{
			Quotas: tollgate.Quotas{"example.com": {tollgate.Concurrency(1)}},
			Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				cancel()
				return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("x")), Request: r}, nil
			}),
		}
		resp, err := tr.RoundTrip(must(http.NewRequestWithContext(ctx, http.MethodGet, "http://example.com/", nil)))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if s := tr.Status(); s[0].InFlight != 0 || s[0].Limits[0].Left != 1 {
			t.Fatalf("status %+v, want the slot back", s)
		}
	}
}

// A body of which only the beginning is of interest does not delay its caller where
// it stalls.
func TestStallAccepted(t *testing.T) {
	const begin, rest = `{"choices":[`, `{"message":{"content":"and so on, and so on, and so on"}}]}`
	packed := zipped(begin, rest)
	for name, test := range map[string]struct {
		url         string
		header      http.Header
		begin, rest []byte
	}{
		"no limit of tokens": {"http://example.com/", http.Header{}, []byte(begin), []byte(rest)},
		"usage is read":      {flash, http.Header{}, []byte(begin), []byte(rest)},
		"in gzip":            {flash, http.Header{"Content-Encoding": {"gzip"}}, packed[0], packed[1]},
		"no body so far":     {"http://example.com/", http.Header{}, nil, []byte(begin)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.header.Set("Content-Type", "application/json")
				tr := &tollgate.Transport{
					Quotas: tollgate.Quotas{"gemini-2.5-flash": {tollgate.TPM(1000)}},
					Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
						return &http.Response{StatusCode: 200, Header: test.header, Body: drips(test.begin, test.rest), Request: r}, nil
					}),
				}
				began := time.Now()
				req, _ := oneShot(t.Context(), t, test.url, strings.NewReader("{}"))
				resp, err := (&tollgate.Retry{Base: tr}).RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				want := append(bytes.Clone(test.begin), test.rest...)
				buf := make([]byte, 4<<10)
				for i := 0; i < len(want); {
					n, err := resp.Body.Read(buf)
					if err != nil || !bytes.Equal(buf[:n], want[i:i+n]) {
						t.Fatalf("read %q, %v at %d", buf[:n], err, i)
					}
					i += n
					if at := time.Duration(i-len(test.begin)) * 100 * time.Millisecond; time.Since(began) != max(at, 0) {
						t.Fatalf("byte %d was read after %v, want %v", i, time.Since(began), at)
					}
				}
				resp.Body.Close()
			})
		})
	}
}

// Retry does not wait for the end of a body that it gives up.
func TestStallRetried(t *testing.T) {
	for _, limited := range []bool{true, false} {
		for _, status := range []int{429, 500, 503} {
			t.Run(fmt.Sprint(status, limited), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := 0
					var base http.RoundTripper = roundTripFunc(func(r *http.Request) (*http.Response, error) {
						if n++; n > 1 {
							return ok(r)
						}
						body := drips([]byte("x"), bytes.Repeat([]byte("y"), 6000)) // for ten minutes
						return &http.Response{StatusCode: status, Header: http.Header{}, Body: body, Request: r}, nil
					})
					if limited {
						base = &tollgate.Transport{Base: base, Quotas: tollgate.Quotas{"*": {tollgate.Concurrency(1)}}}
					}
					began := time.Now()
					if got := call(t, &tollgate.Retry{Base: base}, http.MethodGet, "http://example.com/", ""); got != 200 || n != 2 {
						t.Errorf("status %d after %d attempts", got, n)
					}
					if got := time.Since(began); got > 5*time.Second {
						t.Errorf("took %v", got)
					}
					time.Sleep(time.Second) // until the server notices
				})
			})
		}
	}
}

// A connection's compressed body that stalls at its very beginning does not hold up
// the one who closes it: net/http's does until its header has come.
func TestStallRealConnection(t *testing.T) {
	release := make(chan struct{})
	var n atomic.Int32
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) > 1 {
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = http.NewResponseController(w).Flush()
		<-release
	})}
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }()
	base := &http.Transport{}
	rt := &tollgate.Retry{Base: &tollgate.Transport{Base: base, Quotas: tollgate.Quotas{"*": {tollgate.Concurrency(1)}}}}
	if got := call(t, rt, http.MethodGet, "http://"+l.Addr().String()+"/", ""); got != 200 || n.Load() != 2 {
		t.Errorf("status %d after %d attempts", got, n.Load())
	}
	close(release)
	base.CloseIdleConnections()
	s.Close()
	<-served
}
