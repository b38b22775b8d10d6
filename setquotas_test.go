package tollgate_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
)

// Sendings note when requests were sent, in whole seconds since the beginning.
type sendings struct {
	began time.Time
	mu    sync.Mutex
	sent  map[string][]int // by host
	named []string         // the header Name and when
	wg    sync.WaitGroup
	errs  []error
	base  http.RoundTripper // nil: answering
}

func newSendings() *sendings { return &sendings{began: time.Now(), sent: make(map[string][]int)} }

func (y *sendings) RoundTrip(r *http.Request) (*http.Response, error) {
	y.mu.Lock()
	y.sent[r.URL.Host] = append(y.sent[r.URL.Host], int(time.Since(y.began)/time.Second))
	y.named = append(y.named, fmt.Sprintf("%s@%d", r.Header.Get("Name"), int(time.Since(y.began)/time.Second)))
	y.mu.Unlock()
	if y.base != nil {
		return y.base.RoundTrip(r)
	}
	return answering(r)
}

// ask makes n calls at once, which come one after the other.
func (y *sendings) ask(rt http.RoundTripper, n int, req func(i int) *http.Request) {
	for i := range n {
		y.wg.Go(func() {
			resp, err := rt.RoundTrip(req(i))
			if err != nil {
				y.mu.Lock()
				y.errs = append(y.errs, err)
				y.mu.Unlock()
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		})
		synctest.Wait()
	}
}

// when returns how many were sent when, as in "2@0 3@10".
func (y *sendings) when(host string) string {
	y.mu.Lock()
	defer y.mu.Unlock()
	var list []string
	at := y.sent[host]
	slices.Sort(at)
	for i := 0; i < len(at); {
		k := i
		for k < len(at) && at[k] == at[i] {
			k++
		}
		list = append(list, fmt.Sprintf("%d@%d", k-i, at[i]))
		i = k
	}
	return strings.Join(list, " ")
}

const apiHost = "api.example.com"

// What was spent stays spent, and those who wait are judged again at once.
func TestSetQuotas(t *testing.T) {
	window := func(n int64, per time.Duration) tollgate.Limit {
		return tollgate.Limit{N: n, Per: per, Refill: tollgate.Window}
	}
	steady := tollgate.Limit{N: 6, Per: time.Minute, Refill: tollgate.Steady, Burst: 1}
	rpm := func(n int64) tollgate.Quotas { return tollgate.Quotas{apiHost: {tollgate.RPM(n)}} }
	type set struct {
		at int // in seconds
		q  tollgate.Quotas
	}
	for _, test := range []struct {
		name  string
		first tollgate.Quotas
		sets  []set
		calls int
		want  string // how many are sent when
	}{
		{"more", rpm(2), []set{{10, rpm(5)}}, 9, "2@0 3@10 2@60 2@70"},
		{"fewer", rpm(5), []set{{10, rpm(3)}}, 9, "5@0 3@60 1@120"},
		{"the same", rpm(2), []set{{10, rpm(2)}, {20, rpm(2)}}, 4, "2@0 2@60"},
		{"none any more", rpm(2), []set{{10, nil}}, 9, "2@0 7@10"},
		{"none for a while", rpm(2), []set{{10, nil}, {10, rpm(4)}, {60, rpm(3)}}, 9, "2@0 7@10"},
		{"of everyone", rpm(2), []set{{10, tollgate.Quotas{"*": {tollgate.RPM(3)}}}}, 5, "2@0 1@10 2@60"},
		{"of a domain", tollgate.Quotas{"*.example.com": {tollgate.RPM(2)}}, []set{{10, tollgate.Quotas{"*": {tollgate.RPM(3)}}}}, 5, "2@0 1@10 2@60"},
		{"another span", rpm(3), []set{{10, tollgate.Quotas{apiHost: {window(4, 40*time.Second)}}}}, 8, "3@0 1@10 3@40 1@50"},
		{"a longer span", tollgate.Quotas{apiHost: {window(3, 20*time.Second)}}, []set{{10, tollgate.Quotas{apiHost: {window(4, 40*time.Second)}}}}, 8, "3@0 1@10 3@40 1@50"},
		{"one more limit", rpm(3), []set{{10, tollgate.Quotas{apiHost: {tollgate.RPM(6), window(5, 2*time.Minute)}}}}, 8, "3@0 2@10 3@120"},
		{"another rule", rpm(6), []set{{10, tollgate.Quotas{apiHost: {steady}}}}, 8, "6@0 1@10 1@20"},
		{"a first limit", tollgate.Quotas{apiHost: {tollgate.TPM(100)}}, []set{{10, rpm(9)}}, 9, "9@0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				y := newSendings()
				tr := &tollgate.Transport{Base: y, Quotas: test.first}
				y.ask(tr, test.calls, func(int) *http.Request { return posting(t.Context(), t, "https://"+apiHost, "") })
				for _, s := range test.sets {
					time.Sleep(time.Until(y.began.Add(time.Duration(s.at) * time.Second)))
					tr.SetQuotas(s.q)
				}
				y.wg.Wait()
				if got := y.when(apiHost); got != test.want || y.errs != nil {
					t.Errorf("sent %s, want %s; errors %v", got, test.want, y.errs)
				}
			})
		})
	}
}

// A limit that is left out for a while counts on.
func TestSetQuotasBack(t *testing.T) {
	for name, between := range map[string]tollgate.Quotas{"without limits": nil, "with another one": {apiHost: {tollgate.TPM(1000)}}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				y := newSendings()
				tr := &tollgate.Transport{Base: y, Quotas: tollgate.Quotas{apiHost: {tollgate.RPM(5)}}}
				req := func(int) *http.Request { return posting(t.Context(), t, "https://"+apiHost, "") }
				y.ask(tr, 2, req)
				time.Sleep(10 * time.Second)
				tr.SetQuotas(between)
				y.ask(tr, 2, req)
				time.Sleep(10 * time.Second)
				tr.SetQuotas(tollgate.Quotas{apiHost: {tollgate.RPM(5)}})
				y.ask(tr, 4, req)
				y.wg.Wait()
				if got, want := y.when(apiHost), "2@0 2@10 1@20 2@60 1@70"; got != want {
					t.Errorf("sent %s, want %s", got, want)
				}
			})
		})
	}
}

// Whose turn comes too late by now is rejected at once, and so is who will never have
// one.
func TestSetQuotasRejects(t *testing.T) {
	for _, test := range []struct {
		name   string
		quota  tollgate.Quota
		reason tollgate.Reason
		want   int // rejected of 8 that wait
	}{
		{"too late", tollgate.Quota{tollgate.RPM(2)}, tollgate.PastDeadline, 6},
		{"none at all", tollgate.Quota{tollgate.RPM(0)}, tollgate.TooLarge, 8},
		{"no slots", tollgate.Quota{tollgate.RPM(10), tollgate.Concurrency(0)}, tollgate.TooLarge, 8},
		{"of a day", tollgate.Quota{tollgate.RPM(10), tollgate.RPD(12)}, tollgate.DailySpent, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				y := newSendings()
				tr := &tollgate.Transport{Base: y, Quotas: tollgate.Quotas{apiHost: {tollgate.RPM(10)}}}
				ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
				defer cancel()
				y.ask(tr, 18, func(int) *http.Request { return posting(ctx, t, "https://"+apiHost, "") })
				time.Sleep(time.Second)
				tr.SetQuotas(tollgate.Quotas{apiHost: test.quota})
				synctest.Wait()
				if len(y.errs) != test.want {
					t.Errorf("%d rejected at once, want %d", len(y.errs), test.want)
				}
				for _, err := range y.errs {
					var e *tollgate.LimitError
					if !errors.As(err, &e) || e.Reason != test.reason {
						t.Errorf("%v, want %q", err, test.reason)
					}
				}
				y.wg.Wait()
			})
		})
	}
}

// Requests in flight hold slots of a limit that came after them.
func TestSetQuotasSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newSendings()
		y.base = roundTripFunc(func(r *http.Request) (*http.Response, error) {
			time.Sleep(20 * time.Second)
			return answering(r)
		})
		tr := &tollgate.Transport{Base: y}
		req := func(int) *http.Request { return posting(t.Context(), t, "https://"+apiHost, "") }
		y.ask(tr, 3, req)
		time.Sleep(10 * time.Second)
		tr.SetQuotas(tollgate.Quotas{apiHost: {tollgate.Concurrency(4)}})
		y.ask(tr, 6, req)
		time.Sleep(5 * time.Second)
		tr.SetQuotas(nil)
		tr.SetQuotas(tollgate.Quotas{apiHost: {tollgate.Concurrency(2)}})
		y.ask(tr, 4, req)
		y.wg.Wait()
		// At 10 s one slot of four is free. Those that went while there was no limit
		// hold slots as well: two are free at 35 s.
		if got, want := y.when(apiHost), "3@0 1@10 5@15 2@35 2@55"; got != want {
			t.Errorf("sent %s, want %s", got, want)
		}
		for _, s := range tr.Status() {
			if s.InFlight != 0 || s.Limits[0].Left != 2 {
				t.Errorf("%+v", s)
			}
		}
	})
}

// What the server has stated stays, and what it enforces less of as well, unless more
// is configured.
func TestSetQuotasLearned(t *testing.T) {
	for _, test := range []struct {
		name          string
		first, second tollgate.Quota
		want          string
	}{
		{"nobody configures it", nil, tollgate.Quota{tollgate.TPM(1000)}, "[5 requests per minute 1000 tokens per minute]"},
		{"configured as more", nil, tollgate.Quota{tollgate.RPM(9)}, "[5 requests per minute]"},
		{"configured as less", nil, tollgate.Quota{tollgate.RPM(3)}, "[3 requests per minute]"},
		{"unchanged", tollgate.Quota{tollgate.RPM(9)}, tollgate.Quota{tollgate.RPM(9)}, "[5 requests per minute]"},
		{"lowered", tollgate.Quota{tollgate.RPM(9)}, tollgate.Quota{tollgate.RPM(7)}, "[5 requests per minute]"},
		{"lowered further", tollgate.Quota{tollgate.RPM(9)}, tollgate.Quota{tollgate.RPM(4)}, "[4 requests per minute]"},
		{"raised", tollgate.Quota{tollgate.RPM(9)}, tollgate.Quota{tollgate.RPM(12)}, "[12 requests per minute]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				states := true
				tr := &tollgate.Transport{Quotas: tollgate.Quotas{apiHost: test.first}, Base: says(func(_ *http.Request, h http.Header) (int, string) {
					if states {
						h.Set("RateLimit-Policy", `"default";q=5;w=60`)
						h.Set("RateLimit", `"default";r=3;t=30`)
					}
					return 200, ""
				})}
				get(t, tr, "https://"+apiHost)
				states = false
				tr.SetQuotas(tollgate.Quotas{apiHost: test.second})
				var list []tollgate.Limit
				for _, l := range tr.Status()[0].Limits {
					list = append(list, l.Limit)
				}
				if got := fmt.Sprint(list); got != test.want {
					t.Errorf("limits %s, want %s", got, test.want)
				}
			})
		})
	}
}

// Requests that wait move to the quota that they draw on now, in their order, and are
// Quotas that cannot be are an error of every request until others are set. Those that
// wait keep to the ones before.
func TestSetQuotasInvalid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newSendings()
		tr := &tollgate.Transport{Base: y, Quotas: tollgate.Quotas{apiHost: {tollgate.RPM(2)}}}
		y.ask(tr, 4, func(int) *http.Request { return posting(t.Context(), t, "https://"+apiHost, "") })
		tr.SetQuotas(tollgate.Quotas{apiHost: {tollgate.RPM(-2)}})
		for range 2 {
			req, body := newRequest(t.Context(), t, flash)
			if _, err := tr.RoundTrip(req); err == nil || !strings.Contains(err.Error(), `quota of "api.example.com"`) || body.closed.Load() != 1 {
				t.Errorf("error %v, body closed %d times", err, body.closed.Load())
			}
		}
		time.Sleep(10 * time.Second)
		tr.SetQuotas(tollgate.Quotas{apiHost: {tollgate.RPM(3)}})
		get(t, tr, flash)
		y.wg.Wait()
		if got, want := y.when(apiHost), "2@0 1@10 1@60"; got != want || y.errs != nil {
			t.Errorf("sent %s, want %s; errors %v", got, want, y.errs)
		}
	})
}

// Quotas that are set all the while, by many, lose nothing and let through no more
// than the largest of them.
func TestSetQuotasUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, callers, each = 40, 64, 30
		var mu sync.Mutex
		sent := make(map[string][]time.Time)
		tr := &tollgate.Transport{Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			sent[r.URL.Host] = append(sent[r.URL.Host], time.Now())
			return answering(r)
		})}
		// Every one limits each host to no more than most a minute.
		sets := []tollgate.Quotas{
			{"*": {tollgate.RPM(most)}},
			{"*": {tollgate.RPM(most / 2)}, "other": nil},
			{"a.example.com": {tollgate.RPM(most), tollgate.TPM(1000)}, "*": {tollgate.RPM(most)}},
			{"*.example.com": {tollgate.RPM(most - 1), {N: most, Per: 2 * time.Minute}}},
			{"*.example.com": {tollgate.RPM(most), tollgate.Concurrency(3)}, "B.example.com:443": {tollgate.RPM(3)}},
		}
		tr.SetQuotas(sets[0])
		done := make(chan struct{})
		var setting, calling sync.WaitGroup
		for i := range 4 {
			setting.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), 0))
				for {
					select {
					case <-done:
						return
					case <-time.After(time.Duration(r.IntN(5000)) * time.Millisecond):
						tr.SetQuotas(sets[r.IntN(len(sets))])
						tr.Status()
					}
				}
			})
		}
		for i := range callers {
			calling.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), 1))
				for range each {
					host := "https://" + string("abc"[r.IntN(3)]) + ".example.com/"
					resp, err := tr.RoundTrip(posting(t.Context(), t, host, ""))
					if err != nil {
						t.Error(err)
						return
					}
					resp.Body.Close()
				}
			})
		}
		calling.Wait()
		close(done)
		setting.Wait()
		total := 0
		for host, at := range sent {
			total += len(at)
			for i := most; i < len(at); i++ {
				if d := at[i].Sub(at[i-most]); d < time.Minute {
					t.Errorf("%s: %d sent within %v", host, most+1, d)
				}
			}
		}
		if total != callers*each {
			t.Errorf("%d sent, want %d", total, callers*each)
		}
	})
}

// A request that is sent again keeps its place, also where it draws on another quota by
// What is remembered of a key that was forgotten does not undo what is set meanwhile.
func TestSetQuotasForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &tollgate.Transport{Quotas: tollgate.Quotas{"*": {tollgate.RPM(9), tollgate.TPM(50)}}, Base: says(func(_ *http.Request, h http.Header) (int, string) {
			h.Set("RateLimit-Policy", `"default";q=700;w=3600`)
			h.Set("RateLimit", `"default";r=600;t=1`)
			return 200, ""
		})}
		get(t, tr, "https://"+apiHost)
		time.Sleep(3 * time.Hour)
		if n := len(tr.Status()); n != 0 {
			t.Fatalf("%d keys are not forgotten", n)
		}
		tr.SetQuotas(tollgate.Quotas{"*": {tollgate.RPM(12), tollgate.OTPM(80)}})
		get(t, tr, "https://"+apiHost)
		var list []string
		for _, l := range tr.Status()[0].Limits {
			list = append(list, l.Limit.String())
		}
		slices.Sort(list)
		if got, want := strings.Join(list, ", "), "12 requests per minute, 700 requests per hour, 80 output tokens per minute"; got != want {
			t.Errorf("limits %s, want %s", got, want)
		}
	})
}
