// Package clienttest tries tollgate under the libraries that call the APIs it
// knows. The libraries are in modules of their own. The APIs are fake ones, which
// are reached through sockets and under their real names.
package clienttest

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/quotatest"
)

const (
	// Key is the key that every API asks for.
	Key = "secret"
	// Speech is what every API answers.
	Speech = "One question at a time, please, and all will be answered."

	calls  = 50
	n      = 10 // requests that the quota of a test allows
	minute = 2 * time.Second
)

// An Ask makes the i-th call with a client and returns what was answered. Where
// a library has several ways to call an API, i selects one of them.
type Ask func(ctx context.Context, i int) (string, error)

// A Library is one that calls an API through an http.Client.
type Library struct {
	Name string
	// API returns the API that the library calls, with limits or without.
	API func(limits ...quotatest.Limit) API
	// Open returns a client that sends its requests through a round tripper, with
	// the retries that the library has by default.
	Open func(ctx context.Context, rt http.RoundTripper) (Ask, error)
	// Limited reports whether an error is the one by which users of the library
	// recognise a 429.
	Limited func(error) bool
	// Tries is how often the library by itself makes a call that fails for want of
	// a response: 0 means once.
	Tries int64
	// Hides reports that such an error does not wrap the round tripper's.
	Hides bool
}

// An API is a fake one. It counts the requests that its limits let through and
// those that they refuse.
type API interface {
	http.Handler
	Accepted() int
	Refused() int
}

// Run tests all libraries at once. They spend their time waiting, and t.Parallel
// would run no more of them at once than there are processors.
func Run(t *testing.T, libraries []Library) {
	for name, test := range map[string]func(*testing.T, Library){"wait": wait, "reject": reject, "fail": fail} {
		t.Run(name, func(t *testing.T) {
			var wg sync.WaitGroup
			for _, lib := range libraries {
				wg.Go(func() { t.Run(lib.Name, func(t *testing.T) { test(t, lib) }) })
			}
			wg.Wait()
		})
	}
}

// wait has 50 calls at once share 10 a minute, a short one. The API refuses none
// of them, and each is one request.
func wait(t *testing.T, lib Library) {
	api := lib.API(quotatest.Limit{N: n, Per: minute})
	ask, sent := open(t, lib, api, &tollgate.Transport{
		Quotas: tollgate.Quotas{"*": {{N: n, Per: minute}}},
	})
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			if text, err := ask(t.Context(), i); err != nil || text != Speech {
				t.Errorf("call %d: %q, %v", i, text, err)
			}
		})
	}
	wg.Wait()
	if api.Accepted() != calls || api.Refused() != 0 {
		t.Errorf("%d accepted, %d refused, want %d, 0", api.Accepted(), api.Refused(), calls)
	}
	if got := sent.Load(); got != calls {
		t.Errorf("the library sent %d requests, want %d", got, calls)
	}
}

// reject has calls meet a quota that is back long after MaxWait. With Reject429,
// each fails with the library's own error after one try.
func reject(t *testing.T, lib Library) {
	ask, sent := spent(t, lib, tollgate.Reject429)
	for i := range 4 {
		if text, err := ask(t.Context(), i); !lib.Limited(err) {
			t.Errorf("call %d: %q, %T: %v", i, text, err, err)
		}
		if got := sent.Swap(0); got != 1 {
			t.Errorf("call %d: the library sent %d requests, want 1", i, got)
		}
	}
}

// fail is reject with an error in place of a response. The library's users find
// it, unless the library hides it.
func fail(t *testing.T, lib Library) {
	ask, sent := spent(t, lib, nil)
	text, err := ask(t.Context(), 0)
	if lib.Limited(err) || errors.As(err, new(*tollgate.LimitError)) == lib.Hides {
		t.Errorf("%q, %T: %v", text, err, err)
	}
	if got, want := sent.Load(), max(lib.Tries, 1); got != want {
		t.Errorf("the library sent %d requests, want %d", got, want)
	}
}

// spent returns a client of a library which is out of quota for an hour, and what
// counts its requests from now on.
func spent(t *testing.T, lib Library, answer func(*http.Request, *tollgate.LimitError) (*http.Response, error)) (Ask, *atomic.Int64) {
	api := lib.API()
	ask, sent := open(t, lib, api, &tollgate.Transport{
		Quotas:  tollgate.Quotas{"*": {{N: 1, Per: time.Hour, Refill: tollgate.Window}}},
		MaxWait: time.Minute,
		Reject:  answer,
	})
	if text, err := ask(t.Context(), 0); err != nil || text != Speech {
		t.Fatalf("%q, %v", text, err)
	}
	sent.Store(0)
	t.Cleanup(func() {
		if api.Accepted() != 1 || api.Refused() != 0 {
			t.Errorf("%d accepted, %d refused, want 1, 0", api.Accepted(), api.Refused())
		}
	})
	return ask, sent
}

// open returns a client of a library whose requests go through t to the API, and
// the number of its requests.
func open(t *testing.T, lib Library, api API, transport *tollgate.Transport) (Ask, *atomic.Int64) {
	base, stop := Serve(api)
	t.Cleanup(stop)
	transport.Base = base
	above := &counter{base: &tollgate.Retry{Base: transport}}
	ask, err := lib.Open(t.Context(), above)
	if err != nil {
		t.Fatal(err)
	}
	return ask, &above.requests
}

// A counter counts the requests that pass.
type counter struct {
	base     http.RoundTripper
	requests atomic.Int64
}

func (c *counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.requests.Add(1)
	return c.base.RoundTrip(r)
}
