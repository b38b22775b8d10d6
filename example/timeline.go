package main

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"example.com/tollgate"
)

// A timeline records what becomes of the calls of a step. It is the round tripper
// that reaches the API. Times are since the step began.
type timeline struct {
	began time.Time

	mu     sync.Mutex
	calls  []call  // by number
	api    []level // of the API, in order
	bucket []level // of tollgate, in order
}

// A call is what became of one.
type call struct{ attempts []attempt }

// sent returns when it was first sent.
func (c call) sent() time.Duration {
	if len(c.attempts) == 0 {
		return 0
	}
	return c.attempts[0].sent
}

// An attempt is a request that was sent.
type attempt struct {
	sent, answered time.Duration
	status         int // 0: there was no response
}

// A level is how many requests a quota has left from a moment on.
type level struct {
	at   time.Duration
	left int64
}

func newTimeline(n int) *timeline {
	return &timeline{began: time.Now(), calls: make([]call, n)}
}

type numberKey struct{}

// call returns the context of the i-th call.
func (t *timeline) call(ctx context.Context, i int) context.Context {
	return context.WithValue(ctx, numberKey{}, i)
}

// end returns when the last answer came.
func (t *timeline) end() (last time.Duration) {
	for _, c := range t.calls {
		for _, a := range c.attempts {
			last = max(last, a.answered)
		}
	}
	return last
}

// RoundTrip sends a request of one of the calls.
func (t *timeline) RoundTrip(r *http.Request) (*http.Response, error) {
	a := attempt{sent: time.Since(t.began)}
	resp, err := http.DefaultTransport.RoundTrip(r)
	a.answered = time.Since(t.began)
	if err == nil {
		a.status = resp.StatusCode
	}
	if i, ok := r.Context().Value(numberKey{}).(int); ok {
		t.mu.Lock()
		t.calls[i].attempts = append(t.calls[i].attempts, a)
		t.mu.Unlock()
	}
	return resp, err
}

// watch records the level of the first bucket of a key until stop is called.
func (t *timeline) watch(tr *tollgate.Transport, key string, every time.Duration) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			for _, s := range tr.Status() {
				if s.Key == key && len(s.Limits) > 0 {
					t.bucket = append(t.bucket, level{time.Since(t.began), s.Limits[0].Left})
				}
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// count works out the levels of an API that allows n requests in a minute and
// counts those that it accepts. Its next minute begins left after the step did.
func (t *timeline) count(n int64, left, minute time.Duration) {
	const all = 0 // of the minute's quota are back
	changes := []level{{0, all}}
	for at := left; at <= t.end()+minute; at += minute {
		changes = append(changes, level{at, all})
	}
	for _, c := range t.calls {
		for _, a := range c.attempts {
			if a.status == http.StatusOK {
				changes = append(changes, level{a.sent, -1})
			}
		}
	}
	slices.SortStableFunc(changes, func(a, b level) int { return cmp.Compare(a.at, b.at) })
	now := n
	for _, c := range changes {
		if now += c.left; c.left == all {
			now = n
		}
		t.api = append(t.api, level{c.at, now})
	}
}
