package tollgate_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/quotatest"
)

// A quota whose span has no name in the refusals is not taken for one of a minute:
// 60 calls at 10 a span need five spans.
func TestUnnamedSpans(t *testing.T) {
	for _, per := range []time.Duration{5 * time.Second, 30 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			const calls, n = 60, 10
			s := &quotatest.Server{Limits: map[string][]quotatest.Limit{"*": {{N: n, Per: per, Count: quotatest.Fixed}}}}
			tr := &tollgate.Transport{Base: s} // which has to learn its quota
			client := &http.Client{Transport: &tollgate.Retry{Base: tr}}
			start := time.Now()
			var wg sync.WaitGroup
			for range calls {
				wg.Go(func() {
					if err := talk(t.Context(), client, "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent"); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			took := time.Since(start)
			t.Logf("10 in %v: %d calls took %v, %d refused", per, calls, took, s.Refused())
			if most := per * calls / n; took > most {
				t.Errorf("10 in %v: %d calls took %v, want %v at most", per, calls, took, most)
			}
			for _, l := range tr.Status()[0].Limits {
				if l.Per == time.Minute {
					t.Errorf("10 in %v: learned %v", per, l.Limit)
				}
			}
		})
	}
}

// talk makes a call that all model APIs understand.
func talk(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"Hello."}]}`))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
