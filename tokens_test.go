package tollgate_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"example.com/tollgate"
	"example.com/tollgate/internal/workload"
	"example.com/tollgate/quotatest"
)

const stream = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"

// say returns the body of a call with the given prompt.
func say(prompt string) string {
	b, err := json.Marshal(map[string]any{"contents": []any{map[string]any{"role": "user", "parts": []any{map[string]any{"text": prompt}}}}})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// A server counts tokens in another way than we do. What responses report sets
// that right.
func TestTokensPerMinute(t *testing.T) {
	const tpm = 250_000
	tests := []struct {
		name    string
		chars   func() float64 // a token
		refused int
		ratio   float64
	}{
		{"3.2 characters a token", func() float64 { return 3.2 }, 10, 1.15},
		{"2.6 to 4.2 characters a token", func() float64 { return 2.6 + 1.6*rand.Float64() }, 12, 1.25},
		// 400 wanted at once: of the first 45 or so there is no telling.
		{"1.1 characters a token", func() float64 { return 1.1 }, 45, 1.15},
	}
	for _, test := range tests {
		for _, url := range []string{flash, stream} {
			for _, start := range []time.Duration{0, 20 * time.Second, 50 * time.Second} {
				t.Run(fmt.Sprintf("%s/%v/%v", test.name, url == stream, start), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						startAt(start)
						var mu sync.Mutex
						cost := map[string]int64{}
						server := &quotatest.Server{
							Limits:  map[string][]quotatest.Limit{"*": {quotatest.TPM(tpm)}},
							Latency: workload.Jitter,
							Tokens: func(text string) int64 {
								mu.Lock()
								defer mu.Unlock()
								if cost[text] == 0 { // a prompt costs the same each time
									cost[text] = int64(float64(utf8.RuneCountInString(text)) / test.chars())
								}
								return cost[text]
							},
						}
						client := &http.Client{Transport: auto(tollgate.TPM(tpm))(server)}
						began := time.Now()
						var wg sync.WaitGroup
						size := rand.New(rand.NewPCG(1, 2)) // the same each time: a total just over a minute's worth more is another minute
						for i := range 400 {
							prompt := fmt.Sprintf("%04d", i) + strings.Repeat("x", 1996+size.IntN(30_001))
							wg.Go(func() {
								resp, err := client.Post(url, "application/json", strings.NewReader(say(prompt)))
								if err != nil {
									t.Error(err)
									return
								}
								defer resp.Body.Close()
								if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
									t.Errorf("%d %s, %v", resp.StatusCode, b, err)
								}
							})
						}
						wg.Wait()
						var total, last int64
						for _, c := range server.Calls() {
							if c.Status == http.StatusOK {
								total += c.Tokens
								last = int64(c.At.Sub(began))
							}
						}
						ideal := time.Duration(float64(total-tpm) / tpm * float64(time.Minute))
						ratio := float64(last) / float64(ideal)
						t.Logf("%d tokens, %d refused, %v, %.3f of ideal", total, server.Refused(), time.Duration(last).Round(time.Millisecond), ratio)
						if server.Refused() > test.refused || ratio > test.ratio {
							t.Errorf("%d refused, %.3f of ideal; want at most %d and %.2f", server.Refused(), ratio, test.refused, test.ratio)
						}
					})
				})
			}
		}
	}
}
