package main

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genai"

	"example.com/tollgate"
	"example.com/tollgate/quotatest"
)

// An api is the Gemini API, real or fake.
type api struct {
	config
	url   string        // of the fake one; empty: the SDK's
	phase time.Duration // since the Unix epoch, when one of its minutes began
	plain *genai.Client
	close func()
}

// connect starts the fake API, if that is to be used, and makes sure that there
// are the API and its model.
func connect(ctx context.Context, c config) (*api, error) {
	a := &api{config: c, close: func() {}}
	if c.key == "" {
		if err := a.serve(); err != nil {
			return nil, err
		}
	}
	var err error
	if a.plain, err = a.client(ctx, nil); err == nil {
		err = probe(ctx, a.plain, c.model)
	}
	if err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// serve starts the fake API on a port of its own, with the first of its minutes
// beginning now.
func (a *api) serve() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	a.key, a.url = "any", "http://"+l.Addr().String()
	a.phase = sinceEpoch()
	limit := quotatest.Limit{N: int64(a.rpm), Per: a.minute, Phase: a.phase % a.minute}
	fake := &quotatest.Server{Limits: map[string][]quotatest.Limit{"*": {limit}}}
	if a.plot != "" { // else the time at the API is too short to be seen
		fake.Think = func(*http.Request) time.Duration { return a.minute / 30 }
	}
	srv := &http.Server{Handler: fake}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) }) // until Close
	a.close = func() {
		srv.Close()
		wg.Wait()
	}
	return nil
}

func sinceEpoch() time.Duration { return time.Duration(time.Now().UnixNano()) }

// client returns a client of the SDK, with an HTTP client of its own if hc is
// nil.
func (a *api) client(ctx context.Context, hc *http.Client) (*genai.Client, error) {
	return genai.NewClient(ctx, &genai.ClientConfig{
		APIKey:      a.key,
		Backend:     genai.BackendGeminiAPI,
		HTTPClient:  hc,
		HTTPOptions: genai.HTTPOptions{BaseURL: a.url},
	})
}

// left is the time until the API's next minute begins: the real one has the
// wall clock's.
func (a *api) left() time.Duration { return a.minute - (sinceEpoch()-a.phase)%a.minute }

// ideal is how long the calls must take in all, apart from the API's thinking.
func (c config) ideal() time.Duration { return time.Duration((c.n-1)/c.rpm) * c.minute }

// A step is what became of the calls of one step.
type step struct {
	counts
	refusal error           // one of those without tollgate
	failure error           // one of the others
	took    time.Duration   // until all were answered
	sent    []time.Duration // when tollgate sent calls, since the start
	times   *timeline
}

// anyError returns the error of a call, unless all succeeded.
func (s step) anyError() error {
	if s.failure != nil {
		return s.failure
	}
	return s.refusal
}

// without makes the calls as one does who knows of no limit.
func (a *api) without(ctx context.Context, live io.Writer) (s step, err error) {
	left := a.left()
	s.times = newTimeline(a.n)
	client, err := a.client(ctx, &http.Client{Transport: s.times})
	if err != nil {
		return s, err
	}
	errs, took := a.calls(ctx, client, s.times, live, func() string { return "" })
	s.took = took
	s.times.count(int64(a.rpm), left, a.minute)
	for _, err := range errs {
		var e genai.APIError
		switch {
		case err == nil:
			s.OK++
		case errors.As(err, &e) && e.Code == http.StatusTooManyRequests:
			s.Refused++
			s.refusal = err
		default:
			s.Failed++
			s.failure = err
		}
	}
	return s, ctx.Err()
}

// with makes the calls through tollgate.
func (a *api) with(ctx context.Context, live io.Writer) (s step, err error) {
	limit := tollgate.RPM(int64(a.rpm))
	limit.Per = a.minute // at the real API it is one anyway
	key := path.Base(a.model)
	quotas := tollgate.Quotas{key: {limit}}

	var mu sync.Mutex
	s.times = newTimeline(a.n)
	began := s.times.began
	trace := &tollgate.Trace{
		Sending: func(*http.Request, tollgate.SendInfo) {
			mu.Lock()
			defer mu.Unlock()
			s.sent = append(s.sent, time.Since(began))
		},
		Refused: func(_ *http.Request, i tollgate.RefusalInfo) {
			mu.Lock()
			defer mu.Unlock()
			if i.Status == http.StatusTooManyRequests {
				s.Refused++
			}
		},
	}
	// Without what is watched here, this is tollgate.NewClient(quotas).
	t := &tollgate.Transport{Base: s.times, Quotas: quotas, Trace: trace}
	hc := &http.Client{Transport: &tollgate.Retry{Base: t}}
	client, err := a.client(ctx, hc)
	if err != nil {
		return s, err
	}
	left := a.left()
	stop := func() {}
	if a.plot != "" {
		stop = s.times.watch(t, key, a.minute/500)
	}
	errs, took := a.calls(ctx, client, s.times, live, func() string { return eta(t, key) })
	stop()
	s.times.count(int64(a.rpm), left, a.minute)
	s.took = took
	for _, err := range errs {
		if err == nil {
			s.OK++
		} else {
			s.Failed++
			s.failure = err
		}
	}
	return s, ctx.Err()
}

// calls makes all calls at once and returns their errors when the last one has
// ended. While they go on, it shows how many have, and the remark.
func (a *api) calls(ctx context.Context, client *genai.Client, times *timeline, live io.Writer, remark func() string) ([]error, time.Duration) {
	var ended atomic.Int64
	began := time.Now()
	stop := watch(live, int64(a.n), func() (int64, string) {
		return ended.Load(), remark()
	})
	defer stop()
	errs := make([]error, a.n)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = client.Models.GenerateContent(times.call(ctx, i), a.model, genai.Text("Say hello in one word."), nil)
			ended.Add(1)
		})
	}
	wg.Wait()
	return errs, time.Since(began)
}

// eta says in how long the last of the calls that wait will be sent; nothing if none
// waits, or if that is not known.
func eta(t *tollgate.Transport, key string) string {
	if d := t.Forecast(key, 0, tollgate.Cost{}); d < math.MaxInt64 {
		return remaining(d)
	}
	return ""
}

// A wave is calls that went out together.
type wave struct {
	at time.Duration // when the first one did
	n  int
}

// waves sorts out when calls went out. Those of a wave are less than gap apart.
func waves(sent []time.Duration, gap time.Duration) []wave {
	slices.Sort(sent)
	var list []wave
	for i, at := range sent {
		if i == 0 || at-sent[i-1] >= gap {
			list = append(list, wave{at: at})
		}
		list[len(list)-1].n++
	}
	return list
}
