package tollgate_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/share"
)

// unreachable is a store that does not answer.
type unreachable struct{}

func (unreachable) Exchange(context.Context, share.Batch) (share.Reply, error) {
	return share.Reply{}, errors.New("dial tcp 127.0.0.1:6379: connection refused")
}

// Every error that a request may meet here, as people read it: -v prints the table.
func TestErrorTexts(t *testing.T) {
	window := func(n int64, per time.Duration) tollgate.Limit {
		return tollgate.Limit{N: n, Per: per, Refill: tollgate.Window}
	}
	// answers is a server that answers in a minute with a status and a hint.
	answers := func(status int, retryAfter string) http.RoundTripper {
		return says(func(_ *http.Request, h http.Header) (int, string) {
			h.Set("Retry-After", retryAfter)
			return status, "{}"
		})
	}
	accepts := answers(200, "")
	within := func(d time.Duration) func(*testing.T, *tollgate.Transport) error {
		return func(t *testing.T, tr *tollgate.Transport) error {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			return fail(ctx, t, tr, "gemini-2.5-flash")
		}
	}
	whenever := func(t *testing.T, tr *tollgate.Transport) error { return fail(t.Context(), t, tr, "gemini-2.5-flash") }
	after := func(first int, then func(*testing.T, *tollgate.Transport) error) func(*testing.T, *tollgate.Transport) error {
		return func(t *testing.T, tr *tollgate.Transport) error {
			for range first {
				if err := fail(t.Context(), t, tr, "gemini-2.5-flash"); err != nil {
					t.Fatal(err)
				}
			}
			return then(t, tr)
		}
	}
	behind := func(waiting int, then func(*testing.T, *tollgate.Transport) error) func(*testing.T, *tollgate.Transport) error {
		return func(t *testing.T, tr *tollgate.Transport) error {
			ctx, cancel := context.WithCancel(t.Context())
			defer func() { cancel(); synctest.Wait() }()
			for range waiting {
				go func() { _ = fail(ctx, t, tr, "gemini-2.5-flash") }()
				synctest.Wait()
			}
			return then(t, tr)
		}
	}
	named := func(key string) func(*testing.T, *tollgate.Transport) error {
		return func(t *testing.T, tr *tollgate.Transport) error { return fail(t.Context(), t, tr, key) }
	}
	held := roundTripFunc(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("."))}, nil
	})
	quota := func(l ...tollgate.Limit) tollgate.Quotas { return tollgate.Quotas{"*": l} }
	for _, test := range []struct {
		name string
		tr   *tollgate.Transport
		make func(*testing.T, *tollgate.Transport) error
		want string
		is   error
	}{
		{"deadline", &tollgate.Transport{Quotas: quota(window(10, 21*time.Second))}, after(10, within(5*time.Second)),
			"tollgate: gemini-2.5-flash: 10 requests per 21s are used up, free again in 22s, after the request's deadline", context.DeadlineExceeded},
		{"deadline, one a minute", &tollgate.Transport{Quotas: quota(window(1, time.Minute))}, after(1, within(5*time.Second)),
			"tollgate: gemini-2.5-flash: 1 request per minute is used up, free again in 1m1s, after the request's deadline", context.DeadlineExceeded},
		{"MaxWait", &tollgate.Transport{Quotas: quota(window(10, time.Minute)), MaxWait: 5 * time.Second}, after(10, whenever),
			"tollgate: gemini-2.5-flash: 10 requests per minute are used up, free again in 1m1s, later than MaxWait of 5s allows", tollgate.ErrLimited},
		{"negative MaxWait", &tollgate.Transport{Quotas: quota(window(10, time.Second)), MaxWait: -1}, after(10, whenever),
			"tollgate: gemini-2.5-flash: 10 requests per second are used up, free again in 1.1s, later than a negative MaxWait allows", tollgate.ErrLimited},
		{"MaxQueue", &tollgate.Transport{Quotas: quota(window(2, time.Minute)), MaxQueue: 3}, behind(5, whenever),
			"tollgate: gemini-2.5-flash: 2 requests per minute are used up, free again in 2m1s, and the queue is full (MaxQueue of 3)", tollgate.ErrLimited},
		{"the day's quota", &tollgate.Transport{Quotas: quota(tollgate.Limit{N: 2, Per: 24 * time.Hour, Refill: tollgate.Window})}, after(2, whenever),
			"tollgate: gemini-2.5-flash: 2 requests per day are used up, free again in 24h1m, and without a MaxWait nobody waits for that", tollgate.ErrLimited},
		{"the day's quota, MaxWait", &tollgate.Transport{Quotas: quota(tollgate.Limit{N: 2, Per: 24 * time.Hour, Refill: tollgate.Window}), MaxWait: time.Hour}, after(2, whenever),
			"tollgate: gemini-2.5-flash: 2 requests per day are used up, free again in 24h1m, later than MaxWait of 1h allows", tollgate.ErrLimited},
		{"the day's quota, deadline", &tollgate.Transport{Quotas: quota(tollgate.Limit{N: 2, Per: 24 * time.Hour, Refill: tollgate.Window}), MaxWait: 48 * time.Hour}, after(2, within(time.Hour)),
			"tollgate: gemini-2.5-flash: 2 requests per day are used up, free again in 24h1m, later than the request's deadline allows", tollgate.ErrLimited},
		{"a limit of 0", &tollgate.Transport{Quotas: quota(tollgate.RPM(0))}, whenever,
			"tollgate: gemini-2.5-flash: no request is ever sent under a limit of 0 requests per minute", tollgate.ErrLimited},
		{"concurrency, MaxQueue", &tollgate.Transport{Quotas: quota(tollgate.Concurrency(4)), Base: held, MaxQueue: 2}, occupied(4, behind(2, whenever)),
			"tollgate: gemini-2.5-flash: 4 requests at once are under way, free again when one of them ends, and the queue is full (MaxQueue of 2)", tollgate.ErrLimited},
		{"concurrency, context", &tollgate.Transport{Quotas: quota(tollgate.Concurrency(4)), Base: held}, occupied(4, within(30*time.Second)),
			"tollgate: gemini-2.5-flash: 4 requests at once are under way, waited 30s for one of them to end: context deadline exceeded", context.DeadlineExceeded},
		{"server overloaded, deadline", &tollgate.Transport{Base: answers(503, "40"), Quotas: quota(window(10, time.Minute))}, after(1, within(5*time.Second)),
			"tollgate: gemini-2.5-flash: the server is overloaded, may be sent again in 40s, after the request's deadline", context.DeadlineExceeded},
		{"server refuses, MaxWait", &tollgate.Transport{Base: answers(429, "40"), MaxWait: time.Second}, after(1, whenever),
			"tollgate: gemini-2.5-flash: the server refuses requests, may be sent again in 40s, later than MaxWait of 1s allows", tollgate.ErrLimited},
		{"server refuses for hours", &tollgate.Transport{Base: answers(429, "79892")}, after(1, whenever),
			"tollgate: gemini-2.5-flash: the server asks for a pause of hours, may be sent again in 22h12m, and without a MaxWait nobody waits for that", tollgate.ErrLimited},
		{"a key from outside", &tollgate.Transport{Quotas: quota(tollgate.RPM(0))}, named("a\r\nb \x1b[31m"),
			`tollgate: "a\r\nb \x1b[31m": no request is ever sent under a limit of 0 requests per minute`, tollgate.ErrLimited},
		{"a long key from outside", &tollgate.Transport{Quotas: quota(tollgate.RPM(0))}, named(strings.Repeat("é", 1000)),
			`tollgate: "` + strings.Repeat("é", 64) + `…": no request is ever sent under a limit of 0 requests per minute`, tollgate.ErrLimited},
		{"Timeout", &tollgate.Transport{Timeout: 90 * time.Second, Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}, whenever, "tollgate: gemini-2.5-flash: no answer within 1m30s, which is Transport.Timeout", context.DeadlineExceeded},
		{"a store that does not answer", &tollgate.Transport{Quotas: quota(tollgate.RPM(5)), Limiter: &limiter.Shared{
			Store: func(string) limiter.Store { return unreachable{} }, OnError: share.FailClosed,
		}}, whenever, "tollgate: gemini-2.5-flash: its quota is out of reach: store of shared tokens does not answer: dial tcp 127.0.0.1:6379: connection refused", nil},
		{"a base that returns nothing", &tollgate.Transport{Base: roundTripFunc(func(*http.Request) (*http.Response, error) { return nil, nil })}, whenever,
			"tollgate: Base returned neither a response nor an error", nil},
		{"a request without a URL", &tollgate.Transport{}, func(_ *testing.T, tr *tollgate.Transport) error {
			_, err := tr.RoundTrip(&http.Request{})
			return err
		}, "tollgate: nil Request.URL", nil},
		{"GetBody that returns nothing", &tollgate.Transport{Quotas: quota(tollgate.TPM(5))}, func(t *testing.T, tr *tollgate.Transport) error {
			req := order(t.Context(), t, flash)
			req.GetBody = func() (io.ReadCloser, error) { return nil, nil }
			_, err := tr.RoundTrip(req)
			return err
		}, "tollgate: Request.GetBody returned neither a body nor an error", nil},
		{"Request.Cancel", &tollgate.Transport{}, func(t *testing.T, tr *tollgate.Transport) error {
			req := order(t.Context(), t, flash)
			cancel := make(chan struct{})
			close(cancel)
			req.Cancel = cancel //nolint:staticcheck // deprecated, and heeded by http.Transport
			_, err := tr.RoundTrip(req)
			return err
		}, "tollgate: Request.Cancel was closed: context canceled", context.Canceled},
		{"context, in the queue", &tollgate.Transport{Quotas: quota(window(1, time.Minute))}, after(1, func(t *testing.T, tr *tollgate.Transport) error {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			return fail(ctx, t, tr, "gemini-2.5-flash")
		}), "context canceled", context.Canceled},
		{"Bucket, deadline", nil, bucket(window(1, time.Minute), 1), "tollgate: 1 request per minute is used up, free again in 1m, after the request's deadline", tollgate.ErrLimited},
		{"Bucket, too large", nil, bucket(window(1, time.Minute), 2), "tollgate: the request is larger than the limit of 1 request per minute, and can never be sent", tollgate.ErrLimited},
		{"Bucket, less than nothing", nil, bucket(window(1, time.Minute), -1), "tollgate: negative number of tokens", nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			if test.tr != nil && test.tr.Base == nil {
				test.tr.Base = accepts
			}
			err := test.make(t, test.tr)
			if err == nil {
				t.Fatalf("%s: no error", test.name)
			}
			t.Logf("%-30s %s", test.name, err)
			if err.Error() != test.want {
				t.Errorf("%s:\n got %s\nwant %s", test.name, err, test.want)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%s: it is not %v", test.name, test.is)
			}
		})
	}
	for _, test := range []struct {
		limit tollgate.Limit
		want  string
	}{
		{tollgate.Limit{Unit: 7, N: 1}, "tollgate: limit of 1 Unit(7): unknown Unit"},
		{tollgate.RPM(-1), "tollgate: limit of -1 requests: N is negative"},
		{tollgate.Limit{N: 1, Per: -time.Second}, "tollgate: limit of 1 request per -1s: Per is negative"},
		{tollgate.Limit{N: 1, Per: time.Second, Burst: 2}, "tollgate: limit of 1 request per second: Burst 2 is not between 0 and N"},
		{tollgate.Limit{N: 1, Per: time.Second, Refill: 9}, "tollgate: limit of 1 request per second: unknown Refill 9"},
	} {
		func() {
			defer func() {
				err := recover()
				t.Logf("%-30s %v", "a limit that cannot be", err)
				if fmt.Sprint(err) != test.want {
					t.Errorf("NewBucket panics with\n%v, want\n%s", err, test.want)
				}
			}()
			tollgate.NewBucket(test.limit)
		}()
	}
}

// fail makes a call of a model and returns its error; nil: it was answered.
func fail(ctx context.Context, t *testing.T, tr *tollgate.Transport, model string) error {
	req := order(ctx, t, "https://generativelanguage.googleapis.com/")
	req.URL.Path = "/v1beta/models/" + model + ":generateContent"
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// occupied has n requests under way while another one is made.
func occupied(n int, then func(*testing.T, *tollgate.Transport) error) func(*testing.T, *tollgate.Transport) error {
	return func(t *testing.T, tr *tollgate.Transport) error {
		for range n {
			resp, err := tr.RoundTrip(order(t.Context(), t, flash))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
		}
		return then(t, tr)
	}
}

// bucket takes n tokens of an empty bucket, with five seconds to wait.
func bucket(l tollgate.Limit, n int64) func(*testing.T, *tollgate.Transport) error {
	return func(t *testing.T, _ *tollgate.Transport) error {
		b := tollgate.NewBucket(l)
		b.TryTake(l.N)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return b.Take(ctx, n)
	}
}

// An error that a user has made, or one of an earlier version, has a text as well.
func TestLimitErrorLiterals(t *testing.T) {
	for _, test := range []struct {
		err  *tollgate.LimitError
		want string
	}{
		{&tollgate.LimitError{}, "tollgate: the rate limit is used up, free again at once"},
		{&tollgate.LimitError{Key: "gemini-2.5-flash", Limit: tollgate.RPM(10), Reason: tollgate.PastDeadline, RetryAfter: 20500 * time.Millisecond},
			"tollgate: gemini-2.5-flash: 10 requests per minute are used up, free again in 21s, after the request's deadline"},
		{&tollgate.LimitError{Key: "m", Limit: tollgate.TPM(1), Reason: tollgate.PastMaxWait, RetryAfter: 12 * time.Millisecond},
			"tollgate: m: 1 token per minute is used up, free again in 12ms, later than MaxWait allows"},
		{&tollgate.LimitError{Key: "m", Limit: tollgate.OTPM(5), Reason: tollgate.PastMaxQueue, RetryAfter: 1<<63 - 1},
			"tollgate: m: 5 output tokens per minute are used up, and it is not known when that ends, and the queue is full (MaxQueue)"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

// Reject429 answers in words that name no host: who calls a proxy need not know what
// stands behind it.
func TestReject429NamesNoHost(t *testing.T) {
	for key, named := range map[string]bool{
		"internal.corp.example":      false,
		"internal.corp.example:8443": false,
		"gemini-2.5-flash":           true,
	} {
		req := httptest.NewRequest("GET", "https://internal.corp.example:8443/", nil)
		resp, err := tollgate.Reject429(req, &tollgate.LimitError{Key: key, Limit: tollgate.RPM(10), Reason: tollgate.PastMaxWait, RetryAfter: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(body), "corp") || strings.Contains(string(body), key) != named || !strings.Contains(string(body), "10 requests per minute are used up, free again in 1s") {
			t.Errorf("key %s: %s", key, body)
		}
		for name, v := range resp.Header {
			if strings.Contains(fmt.Sprint(v), "corp") {
				t.Errorf("header %s: %v", name, v)
			}
		}
	}
}
