package tollgate_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
)

// A recorder is a server that accepts everything, and notes in which order requests
// come, by their header Name.
type recorder struct {
	mu    sync.Mutex
	names []string
	at    []time.Time
	takes time.Duration // how long an answer takes
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.names, r.at = append(r.names, req.Header.Get("Name")), append(r.at, time.Now())
	r.mu.Unlock()
	time.Sleep(r.takes)
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("done")), Header: http.Header{}, ContentLength: 4, ProtoMajor: 1, ProtoMinor: 1}, nil
}

// ask makes one call, and reports its error.
func ask(ctx context.Context, rt http.RoundTripper, name string, p tollgate.Priority) error {
	req, err := http.NewRequestWithContext(tollgate.WithPriority(ctx, p), http.MethodGet, "http://api.example/"+name, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Name", name)
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// An interactive request goes with the next token, behind 10,000 calls without a
// priority.
func TestPriorityInteractive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server recorder
		tr := &tollgate.Transport{Base: &server, Quotas: tollgate.Quotas{"*": {{N: 100, Per: time.Second, Refill: tollgate.Steady, Burst: 1}}}}
		var wg sync.WaitGroup
		for range 10_000 {
			wg.Go(func() {
				if err := ask(t.Context(), tr, "batch", tollgate.Priority{}); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(75 * time.Second)
		for range 10 {
			began := time.Now()
			if err := ask(t.Context(), tr, "interactive", tollgate.Priority{Level: 1}); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 11*time.Millisecond {
				t.Errorf("it takes %v, want the next token, every 10 ms", took)
			}
			time.Sleep(123456 * time.Microsecond)
		}
		wg.Wait()
	})
}

// Tenants share in proportion to their weights. Transport.Priority says whose a
// request is, whatever its context says.
func TestPriorityTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server recorder
		tr := &tollgate.Transport{
			Base:   &server,
			Quotas: tollgate.Quotas{"*": {tollgate.RPS(10)}},
			Priority: func(r *http.Request) tollgate.Priority {
				name := r.Header.Get("Name")
				return tollgate.Priority{Tenant: name, Weight: map[string]float64{"b": 2.5}[name]}
			},
		}
		var wg sync.WaitGroup
		for i := range 210 {
			for _, name := range []string{"a", "b"} {
				wg.Go(func() {
					if err := ask(t.Context(), tr, name, tollgate.Priority{Level: i}); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		n := map[string]int{}
		for _, name := range server.names[10:150] { // the first ten found tokens
			n[name]++
		}
		if n["a"] != 40 || n["b"] != 100 {
			t.Errorf("of 140 %v were sent, want 2.5 of b for each of a", n)
		}
	})
}

func TestPriorityInvalid(t *testing.T) {
	for _, weight := range []float64{-1, -math.SmallestNonzeroFloat64, math.NaN(), math.Inf(1), math.Inf(-1)} {
		p := tollgate.Priority{Tenant: "acme", Weight: weight}
		for name, tr := range map[string]*tollgate.Transport{
			"context": {},
			"func":    {Priority: func(*http.Request) tollgate.Priority { return p }},
		} {
			tr.Base = &recorder{}
			for _, rt := range []http.RoundTripper{tr, &tollgate.Retry{Base: tr}} {
				ctx := t.Context()
				if name == "context" {
					ctx = tollgate.WithPriority(ctx, p)
				}
				req, body := newRequest(ctx, t, flash)
				resp, err := rt.RoundTrip(req)
				if resp != nil || err == nil || !strings.HasPrefix(err.Error(), "tollgate: ") || !strings.Contains(err.Error(), `"acme"`) || !strings.Contains(err.Error(), fmt.Sprint(weight)) {
					t.Errorf("%s, %T, weight %v: response %v, error %v", name, rt, weight, resp, err)
				}
				if n := body.closed.Load(); n != 1 {
					t.Errorf("%s, %T, weight %v: the body was closed %d times, want once", name, rt, weight, n)
				}
				if n := len(tr.Base.(*recorder).names); n > 0 {
					t.Errorf("%s, %T, weight %v: the request was sent", name, rt, weight)
				}
			}
		}
	}
	for _, weight := range []float64{0, math.Copysign(0, -1), math.SmallestNonzeroFloat64, math.MaxFloat64} {
		if err := ask(t.Context(), &tollgate.Transport{Base: &recorder{}}, "x", tollgate.Priority{Weight: weight}); err != nil {
			t.Errorf("weight %v: %v", weight, err)
		}
	}
}

// One that was refused is sent again before those of its tenant that came later,
// and while it waits it is not behind the other tenant's either.
func TestPriorityRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server recorder
		refused := false
		base := roundTripFunc(func(req *http.Request) (*http.Response, error) {
			resp, err := server.RoundTrip(req)
			if req.Header.Get("Name") == "a1" && !refused {
				refused = true
				resp.StatusCode = http.StatusTooManyRequests
				resp.Header.Set("Retry-After", "3")
			}
			return resp, err
		})
		tr := &tollgate.Transport{Base: base, Quotas: tollgate.Quotas{"*": {tollgate.RPS(1)}}}
		rt := &tollgate.Retry{Base: tr}
		var wg sync.WaitGroup
		for _, name := range []string{"x0", "a1", "b1", "a2", "b2", "a3", "b3"} {
			wg.Go(func() {
				if err := ask(t.Context(), rt, name, tollgate.Priority{Tenant: name[:1]}); err != nil {
					t.Error(name, err)
				}
			})
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		if got, want := fmt.Sprint(server.names), "[x0 a1 b1 a1 b2 a2 b3 a3]"; got != want {
			t.Errorf("sent %s, want %s", got, want)
		}
	})
}

// MaxQueue is each tenant's own.
func TestPriorityMaxQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server recorder
		tr := &tollgate.Transport{Base: &server, MaxQueue: 3, Quotas: tollgate.Quotas{"*": {tollgate.RPS(1)}}}
		var wg sync.WaitGroup
		var mu sync.Mutex
		full := map[tollgate.Priority]int{}
		for _, p := range []tollgate.Priority{{}, {Tenant: "a"}, {Tenant: "b"}, {Level: 1, Tenant: "a"}, {Level: 1}} {
			for range 6 {
				wg.Go(func() {
					var limit *tollgate.LimitError
					if err := ask(t.Context(), tr, "r", p); errors.As(err, &limit) && limit.Reason == tollgate.PastMaxQueue {
						mu.Lock()
						full[p]++
						mu.Unlock()
					} else if err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
		}
		wg.Wait()
		// The first of all goes at once.
		if want := (map[tollgate.Priority]int{{}: 2, {Tenant: "a"}: 3, {Tenant: "b"}: 3, {Level: 1, Tenant: "a"}: 3, {Level: 1}: 3}); fmt.Sprint(full) != fmt.Sprint(want) {
			t.Errorf("turned away: %v, want %v", full, want)
		}
	})
}

// A request that can no longer make it because others have come that go before it is
// rejected then, and not when its time is over; and one is accepted that makes it
// because it goes before others.
func TestPriorityRejection(t *testing.T) {
	for name, test := range map[string]struct {
		maxWait  time.Duration // of the Transport
		deadline time.Duration // of the request
		own      tollgate.Priority
		others   tollgate.Priority
		want     tollgate.Reason
	}{
		"deadline, level": {0, 10 * time.Second, tollgate.Priority{}, tollgate.Priority{Level: 1}, tollgate.PastDeadline},
		"MaxWait, level":  {10 * time.Second, 0, tollgate.Priority{Tenant: "a"}, tollgate.Priority{Level: 1}, tollgate.PastMaxWait},
		"tenant":          {0, 10 * time.Second, tollgate.Priority{Tenant: "a"}, tollgate.Priority{Tenant: "b", Weight: 5}, tollgate.PastDeadline},
		"behind":          {0, 10 * time.Second, tollgate.Priority{Level: 1}, tollgate.Priority{}, ""},
		"tenant, behind":  {0, 12 * time.Second, tollgate.Priority{Tenant: "a", Weight: 5}, tollgate.Priority{Tenant: "b"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var server recorder
				tr := &tollgate.Transport{Base: &server, MaxWait: test.maxWait, Quotas: tollgate.Quotas{"*": {tollgate.RPS(1)}}}
				var wg sync.WaitGroup
				send := func(p tollgate.Priority) {
					wg.Go(func() { _ = ask(t.Context(), tr, "r", p) })
					synctest.Wait()
				}
				for range 8 {
					send(test.own) // seven of them go before it
				}
				began := time.Now()
				var took time.Duration
				err := errors.New("it waits")
				wg.Go(func() {
					ctx := t.Context()
					if test.deadline > 0 {
						c, cancel := context.WithTimeout(ctx, test.deadline)
						defer cancel()
						ctx = c
					}
					err = ask(ctx, tr, "r", test.own)
					took = time.Since(began)
				})
				time.Sleep(500 * time.Millisecond)
				for range 20 {
					send(test.others)
				}
				wg.Wait()
				var limit *tollgate.LimitError
				switch {
				case test.want == "":
					if err != nil || took > 10100*time.Millisecond {
						t.Errorf("it goes after %v, error %v", took, err)
					}
				case !errors.As(err, &limit) || limit.Reason != test.want:
					t.Errorf("error %v, want that %s", err, test.want)
				case took > 510*time.Millisecond:
					t.Errorf("it is rejected after %v, want at once when others have come", took)
				case limit.RetryAfter < 9*time.Second || limit.RetryAfter > 30*time.Second:
					t.Errorf("its turn would come in %v", limit.RetryAfter)
				}
			})
		})
	}
}

// A memory is a listener without a network.
type memory chan net.Conn

func (p memory) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

// Close is called once by a server.
func (p memory) Close() error   { close(p); return nil }
func (p memory) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

func (p memory) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p <- server
	return client, nil
}

// A reverse proxy for 2,000 clients at once, tenants by a header, of which a third
// hang up while they wait: each tenant's requests go in the order in which they
// came, tenants share by their weights, and nothing is left behind.
func TestPriorityReverseProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		weights := map[string]float64{"a": 1, "b": 2, "c": 0.5, "": 0}
		tenants := []string{"a", "b", "c", ""}
		server := recorder{takes: 30 * time.Millisecond}
		tr := &tollgate.Transport{
			Base:   &server,
			Quotas: tollgate.Quotas{"*": {tollgate.RPS(20), tollgate.Concurrency(5)}},
			Priority: func(r *http.Request) tollgate.Priority {
				tenant := r.Header.Get("Tenant")
				return tollgate.Priority{Tenant: tenant, Weight: weights[tenant]}
			},
		}
		proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "api.example"})
		proxy.Transport = tr
		proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			w.WriteHeader(http.StatusBadGateway)
		}
		listener := make(memory)
		front := &http.Server{Handler: proxy, ErrorLog: log.New(io.Discard, "", 0)}
		served := make(chan error)
		go func() { served <- front.Serve(listener) }()
		client := &http.Client{Transport: &http.Transport{DialContext: listener.dial, DisableKeepAlives: true}}

		const clients = 2000
		var wg sync.WaitGroup
		var mu sync.Mutex
		hung, done := 0, 0
		for i := range clients {
			name := fmt.Sprintf("%s/%04d", tenants[i%4], i)
			ctx, cancel := context.WithCancel(t.Context())
			if i%3 == 1 {
				time.AfterFunc(time.Duration(2+i%17)*time.Second, cancel)
			}
			wg.Go(func() {
				defer cancel()
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://proxy.example/", nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Name", name)
				req.Header.Set("Tenant", tenants[i%4])
				resp, err := client.Do(req)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					done++
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				case errors.Is(err, context.Canceled):
					hung++
				default:
					t.Error(err)
				}
			})
			time.Sleep(100 * time.Microsecond)
		}
		wg.Wait()
		time.Sleep(time.Second)
		if hung < clients/4 || done+hung != clients {
			t.Errorf("%d hung up and %d were answered", hung, done)
		}
		for _, s := range tr.Status() {
			if s.Waiting != 0 || s.InFlight != 0 || s.Limits[1].Left != 5 {
				t.Errorf("left behind: %+v", s)
			}
		}
		if n := len(server.names); n < done || n > done+30 { // some hang up while they are answered
			t.Errorf("%d were sent, and %d answered", n, done)
		}
		checkShares(t, server.names, weights)
		if err := front.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// checkShares sees that requests of each tenant go in order, and that what tenants get
// is in proportion to their weights for as long as all have requests waiting.
func checkShares(t *testing.T, names []string, weights map[string]float64) {
	t.Helper()
	last, left := map[string]string{}, map[string]int{}
	for _, name := range names {
		tenant, _, _ := strings.Cut(name, "/")
		left[tenant]++
	}
	got := map[string]float64{}
	for i, name := range names {
		tenant, _, _ := strings.Cut(name, "/")
		if name < last[tenant] {
			t.Fatalf("%s is sent after %s", name, last[tenant])
		}
		last[tenant] = name
		if left[tenant]--; i < 100 { // until all have come
			continue
		}
		got[tenant] += 1 / max(weights[tenant], 0.5)
		if weights[tenant] == 0 {
			got[tenant] += 1 - 1/0.5
		}
		if slices.Contains([]int{left["a"], left["b"], left["c"], left[""]}, 0) {
			return
		}
		for x := range left {
			for y := range left {
				if d := got[x] - got[y]; d > 3.01 { // the largest sum of two requests over their weights
					t.Fatalf("after %d, tenant %q is ahead of %q by %v", i, x, y, d)
				}
			}
		}
	}
	t.Error("never was there a tenant without requests")
}
