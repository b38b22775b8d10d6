package tollgate_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
)

// estimated where tokens did not matter before.
func TestSetQuotasMoves(t *testing.T) {
	long := `{"model":"gpt-5","messages":[{"role":"user","content":"` + strings.Repeat("x", 394) + `"}]}`
	for _, test := range []struct {
		name          string
		first, second tollgate.Quotas
		want, each    string
	}{
		{"from the host to the model", tollgate.Quotas{"api.openai.com": {tollgate.RPM(1)}}, tollgate.Quotas{"gpt-5": {tollgate.Limit{N: 2, Per: 100 * time.Second, Refill: tollgate.Window}}}, "1@0 2@10 2@110 1@210", "0@0 1@10 2@10 3@110 4@110 5@210"},
		{"from the model to the host", tollgate.Quotas{"gpt-5": {tollgate.RPM(1)}}, tollgate.Quotas{"api.openai.com": {tollgate.Limit{N: 2, Per: 100 * time.Second, Refill: tollgate.Window}}}, "1@0 2@10 2@110 1@210", "0@0 1@10 2@10 3@110 4@110 5@210"},
		{"from everyone's to nobody's", tollgate.Quotas{"*": {tollgate.RPM(1)}}, tollgate.Quotas{"other": nil}, "1@0 5@10", "0@0 1@10 2@10 3@10 4@10 5@10"},
		{"to tokens", tollgate.Quotas{"gpt-5": {tollgate.RPM(1)}}, tollgate.Quotas{"gpt-5": {tollgate.Limit{Unit: tollgate.Tokens, N: 210, Per: 100 * time.Second, Refill: tollgate.Window}}}, "1@0 2@10 2@110 1@210", "0@0 1@10 2@10 3@110 4@110 5@210"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				y := newSendings()
				tr := &tollgate.Transport{Base: y, Quotas: test.first}
				y.ask(tr, 6, func(i int) *http.Request {
					req := posting(t.Context(), t, chat, long)
					req.Header.Set("Name", fmt.Sprint(i))
					if i%2 == 0 {
						req.GetBody = nil
					}
					return req
				})
				time.Sleep(10 * time.Second)
				tr.SetQuotas(test.second)
				y.wg.Wait()
				slices.Sort(y.named)
				if got, each := y.when("api.openai.com"), strings.Join(y.named, " "); got != test.want || each != test.each || y.errs != nil {
					t.Errorf("sent %s, want %s; each %s, want %s; errors %v", got, test.want, each, test.each, y.errs)
				}
			})
		})
	}
}

// Who moves from one quota to another while many give up is sent or gives up.
func TestSetQuotasMovesUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sets := []tollgate.Quotas{
			{"api.openai.com": {tollgate.RPM(20)}},
			{"gpt-5": {tollgate.RPM(20), tollgate.TPM(1000)}},
			{"*": {tollgate.RPM(20)}},
			{"GPT-5": {tollgate.Concurrency(1), tollgate.RPM(20)}, "api.openai.com": {tollgate.RPM(5)}},
		}
		tr := &tollgate.Transport{Base: answering, Quotas: sets[0], MaxWait: 20 * time.Minute}
		var sent, gaveUp, rejected atomic.Int32
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), 2))
				for range 20 {
					ctx, cancel := context.WithCancel(t.Context())
					time.AfterFunc(time.Duration(r.IntN(600_000))*time.Millisecond, cancel)
					resp, err := tr.RoundTrip(posting(ctx, t, chat, []string{gpt, mini}[r.IntN(2)]))
					switch {
					case err == nil:
						sent.Add(1)
						resp.Body.Close()
					case errors.Is(err, context.Canceled):
						gaveUp.Add(1)
					case errors.Is(err, tollgate.ErrLimited):
						rejected.Add(1)
					default:
						t.Error(err)
					}
					cancel()
				}
			})
		}
		done := make(chan struct{})
		var setting sync.WaitGroup
		setting.Go(func() {
			for i := 1; ; i++ {
				select {
				case <-done:
					return
				case <-time.After(700 * time.Millisecond):
					tr.SetQuotas(sets[i%len(sets)])
				}
			}
		})
		wg.Wait()
		close(done)
		setting.Wait()
		if sent.Load() == 0 || gaveUp.Load() == 0 || sent.Load()+gaveUp.Load()+rejected.Load() != 64*20 {
			t.Errorf("%d sent, %d gave up, %d rejected", sent.Load(), gaveUp.Load(), rejected.Load())
		}
		for _, s := range tr.Status() {
			if s.Waiting != 0 || s.InFlight != 0 {
				t.Errorf("%+v", s)
			}
		}
	})
}

// Those of a higher level go first when there is room at once, and when they move.
func TestSetQuotasPriorities(t *testing.T) {
	for name, second := range map[string]tollgate.Quotas{
		"more":     {"api.openai.com": {tollgate.RPM(4)}},
		"by model": {"gpt-5": {tollgate.RPM(3)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				y := newSendings()
				tr := &tollgate.Transport{Base: y, Quotas: tollgate.Quotas{"api.openai.com": {tollgate.RPM(1)}}}
				y.ask(tr, 9, func(i int) *http.Request {
					req := posting(tollgate.WithPriority(t.Context(), tollgate.Priority{Level: i % 2, Tenant: "x"}), t, chat, gpt)
					req.Header.Set("Name", fmt.Sprint(i))
					return req
				})
				time.Sleep(10 * time.Second)
				tr.SetQuotas(second)
				synctest.Wait()
				y.mu.Lock()
				slices.Sort(y.named)
				got := strings.Join(y.named, " ")
				y.mu.Unlock()
				if want := "0@0 1@10 3@10 5@10"; got != want {
					t.Errorf("sent %s, want %s", got, want)
				}
				y.wg.Wait()
				if len(y.named) != 9 {
					t.Errorf("%d sent, want 9", len(y.named))
				}
			})
		})
	}
}

// then.
func TestSetQuotasRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newSendings()
		refuse := true
		y.base = roundTripFunc(func(r *http.Request) (*http.Response, error) {
			resp, err := answering(r)
			if refuse {
				refuse = false
				time.Sleep(10 * time.Second)
				resp.StatusCode, resp.Header = 429, http.Header{"Retry-After": {"1"}}
			}
			return resp, err
		})
		tr := &tollgate.Transport{Base: y, Quotas: tollgate.Quotas{"api.openai.com": {tollgate.RPM(9)}}}
		rt := &tollgate.Retry{Base: tr}
		ask := func(name string) {
			y.ask(rt, 1, func(int) *http.Request {
				req := posting(t.Context(), t, chat, gpt)
				req.Header.Set("Name", name)
				return req
			})
		}
		ask("a")
		time.Sleep(5 * time.Second)
		tr.SetQuotas(tollgate.Quotas{"gpt-5": {{N: 1, Per: 20 * time.Second, Refill: tollgate.Window}}})
		time.Sleep(time.Second)
		ask("b")
		ask("c")
		y.wg.Wait()
		if got, want := strings.Join(y.named, " "), "a@0 b@6 a@26 c@46"; got != want || y.errs != nil {
			t.Errorf("sent %s, want %s; errors %v", got, want, y.errs)
		}
	})
}

// The quota of a host is that of the host, whichever model came first.
func TestSetQuotasHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newSendings()
		tr := &tollgate.Transport{Base: y, Quotas: tollgate.Quotas{"api.openai.com": {tollgate.RPM(1)}}}
		y.ask(tr, 6, func(i int) *http.Request {
			body := gpt
			if i < 2 {
				body = mini
			}
			req := posting(t.Context(), t, chat, body)
			req.Header.Set("Name", fmt.Sprint(i))
			return req
		})
		time.Sleep(10 * time.Second)
		tr.SetQuotas(tollgate.Quotas{"gpt-5-mini": {tollgate.RPM(1)}, "api.openai.com": {tollgate.RPM(3)}})
		y.wg.Wait()
		slices.Sort(y.named)
		if got, want := strings.Join(y.named, " "), "0@0 1@10 2@10 3@10 4@30 5@50"; got != want || y.errs != nil {
			t.Errorf("sent %s, want %s; errors %v", got, want, y.errs)
		}
	})
}
