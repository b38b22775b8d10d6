package quotatest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// A body counts how often it is closed.
type body struct {
	io.Reader
	closed int
}

func (b *body) Close() error { b.closed++; return nil }

func newRequest(ctx context.Context, target string, body io.Reader) *http.Request {
	r, err := http.NewRequestWithContext(ctx, "POST", "https://generativelanguage.googleapis.com"+target, body)
	if err != nil {
		panic(err)
	}
	return r
}

func TestRoundTripTakesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var drawn int
		s := &Server{
			Limits:  map[string][]Limit{"*": {RPM(1)}},
			Latency: func() time.Duration { drawn++; return time.Duration(drawn) * time.Second },
			Think:   func(*http.Request) time.Duration { return 10 * time.Second },
			Skew:    -100 * time.Millisecond,
		}
		start := time.Now() // a full minute
		for i, want := range []struct {
			status       int
			at, sent, in time.Duration // since start: counted, Date, back
		}{
			{200, 1 * time.Second, 10 * time.Second, 13 * time.Second},
			{429, 16 * time.Second, 15 * time.Second, 20 * time.Second},
		} {
			resp, err := s.RoundTrip(newRequest(t.Context(), flash+":generateContent", strings.NewReader(hello)))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := time.Since(start); got != want.in || resp.StatusCode != want.status {
				t.Errorf("call %d: %d after %v, want %d after %v", i, resp.StatusCode, got, want.status, want.in)
			}
			if got := s.Calls()[i].At.Sub(start); got != want.at {
				t.Errorf("call %d: counted after %v, want %v", i, got, want.at)
			}
			date, err := http.ParseTime(resp.Header.Get("Date"))
			if got := date.Sub(start); err != nil || got != want.sent {
				t.Errorf("call %d: Date after %v, want %v; %v", i, got, want.sent, err)
			}
		}
	})
}

func TestSkewMovesWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Limits: map[string][]Limit{"*": {RPM(1)}}, Skew: 50 * time.Second}
		for _, want := range []struct {
			status int
			after  time.Duration
		}{{200, 0}, {429, 9 * time.Second}, {200, 1 * time.Second}, {429, 59 * time.Second}, {200, 1 * time.Second}} {
			time.Sleep(want.after)
			if got := do(s, "POST", flash+":generateContent", hello).StatusCode; got != want.status {
				t.Errorf("%d, want %d", got, want.status)
			}
		}
	})
}

func TestRoundTripResponse(t *testing.T) {
	s := &Server{APIKey: "secret"}
	b := &body{Reader: strings.NewReader(hello)}
	r := newRequest(t.Context(), flash+":generateContent", b)
	r.Header.Set("X-Goog-Api-Key", "secret")
	before := r.Clone(t.Context())
	resp, err := s.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if r.Body != b || !reflect.DeepEqual(r.Header, before.Header) || *r.URL != *before.URL {
		t.Error("the request was changed")
	}
	if b.closed != 1 {
		t.Errorf("its body was closed %d times", b.closed)
	}
	if resp.Request != r || resp.Status != "200 OK" || resp.Proto != "HTTP/1.1" {
		t.Errorf("response %+v", resp)
	}
	got, err := io.ReadAll(resp.Body)
	if err != nil || int64(len(got)) != resp.ContentLength {
		t.Errorf("read %d bytes of %d, %v", len(got), resp.ContentLength, err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("read %d bytes of a closed body, %v", n, err)
	}

	resp, err = s.RoundTrip(newRequest(t.Context(), "/v1beta/nothing", nil)) // no body
	if err != nil || resp.StatusCode != 404 {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestRoundTripStream(t *testing.T) {
	s := &Server{}
	resp, err := s.RoundTrip(newRequest(t.Context(), flash+":streamGenerateContent?alt=sse", strings.NewReader(hello)))
	if err != nil {
		t.Fatal(err)
	}
	if resp.ContentLength != -1 || resp.Header["Content-Length"] != nil {
		t.Errorf("a stream of length %d, %v", resp.ContentLength, resp.Header["Content-Length"])
	}
	buf := make([]byte, 64<<10)
	for i := range speech { // a read for each
		n, err := resp.Body.Read(buf)
		if got := string(buf[:n]); err != nil || !strings.HasPrefix(got, "data: {") || !strings.HasSuffix(got, "}\r\n\r\n") {
			t.Errorf("read %d: %q, %v", i, got, err)
		}
	}
	if n, err := resp.Body.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("at the end: %q, %v", buf[:n], err)
	}

	a := stream("m", 1, true)
	want := strings.Join([]string{string(a.parts[0]), string(a.parts[1]), string(a.parts[2])}, "")
	if err := iotest.TestReader(&reader{ctx: t.Context(), parts: a.parts}, []byte(want)); err != nil {
		t.Error(err)
	}
}

func TestRoundTripCanceled(t *testing.T) {
	tests := []struct {
		name    string
		timeout time.Duration // 0: canceled from the beginning
		calls   int
		err     error
	}{
		{"before", 0, 0, context.Canceled},
		{"on the way there", 1500 * time.Millisecond, 1, context.DeadlineExceeded},
		{"while the server thinks", 2500 * time.Millisecond, 1, context.DeadlineExceeded},
		{"on the way back", 3500 * time.Millisecond, 1, context.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{
					Limits:  map[string][]Limit{"*": {RPM(1)}},
					Latency: func() time.Duration { return 2 * time.Second },
					Think:   func(*http.Request) time.Duration { return time.Second },
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if tt.timeout == 0 {
					cancel(errors.New("cause"))
				} else {
					var stop context.CancelFunc
					ctx, stop = context.WithTimeout(ctx, tt.timeout)
					defer stop()
				}
				b := &body{Reader: strings.NewReader(hello)}
				start := time.Now()
				resp, err := s.RoundTrip(newRequest(ctx, flash+":generateContent", b))
				if resp != nil || err != tt.err {
					t.Errorf("%v, %v; want %v", resp, err, tt.err)
				}
				if got := time.Since(start); got != tt.timeout {
					t.Errorf("returned after %v, want %v", got, tt.timeout)
				}
				if b.closed != 1 {
					t.Errorf("the body was closed %d times", b.closed)
				}
				time.Sleep(time.Second) // until it is there
				if got := len(s.Calls()); got != tt.calls {
					t.Errorf("%d calls counted, want %d", got, tt.calls)
				}
			})
		})
	}
}

// TestRoundTripBrokenBody sends bodies that fail, and one that never comes.
func TestRoundTripBrokenBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{}
		broken := errors.New("broken")
		b := &body{Reader: iotest.ErrReader(broken)}
		if resp, err := s.RoundTrip(newRequest(t.Context(), flash+":generateContent", b)); resp != nil || err != broken || b.closed != 1 {
			t.Errorf("%v, %v, closed %d times", resp, err, b.closed)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		pr, pw := io.Pipe()
		if resp, err := s.RoundTrip(newRequest(ctx, flash+":generateContent", pr)); resp != nil || err != context.DeadlineExceeded {
			t.Errorf("%v, %v", resp, err)
		}
		if _, err := pw.Write([]byte("x")); err != io.ErrClosedPipe {
			t.Errorf("the body is not closed: %v", err)
		}
		if got := len(s.Calls()); got != 0 {
			t.Errorf("%d calls counted", got)
		}
	})
}

// TestResponseBodyCanceled cancels a request of which the headers have come.
func TestResponseBodyCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := (&Server{}).RoundTrip(newRequest(ctx, flash+":streamGenerateContent", strings.NewReader(hello)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := resp.Body.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
	cancel()
	if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || err != context.Canceled {
		t.Errorf("then read %d bytes, %v", n, err)
	}
}

// TestClients has many clients use up the same quota for hours.
func TestClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{
			Limits:  map[string][]Limit{"*": {RPM(10), RPD(100)}},
			Latency: func() time.Duration { return 20 * time.Millisecond },
			Think:   func(*http.Request) time.Duration { return time.Second },
		}
		client := &http.Client{Transport: s, Timeout: 10 * time.Second}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for range 60 { // a call every 5 minutes, 20 at once
					resp, err := client.Do(newRequest(t.Context(), flash+":streamGenerateContent?alt=sse", strings.NewReader(hello)))
					if err != nil {
						t.Error(i, err)
						return
					}
					if _, err := io.Copy(io.Discard, resp.Body); err != nil {
						t.Error(i, err)
					}
					resp.Body.Close()
					time.Sleep(5 * time.Minute)
				}
			})
		}
		wg.Wait()
		// Bubbles start at 2000-01-01T00:00Z, 8 hours before midnight in Los
		// Angeles, and the day's quota lasts for 10 of 60 rounds.
		if s.Accepted() != 100 || s.Refused() != 1100 {
			t.Errorf("%d accepted, %d refused, want 100, 1100", s.Accepted(), s.Refused())
		}
		calls := s.Calls()
		for i := 1; i < len(calls); i++ {
			if calls[i].At.Before(calls[i-1].At) {
				t.Errorf("call %d came before call %d", i, i-1)
			}
		}
	})
}
