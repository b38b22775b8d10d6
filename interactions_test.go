package tollgate_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genai"
	"google.golang.org/genai/interactions"
	models "google.golang.org/genai/interactions/models/interactions"
	"google.golang.org/genai/interactions/models/operations"

	"example.com/tollgate"
	"example.com/tollgate/quotatest"
)

// newInteractions returns genai's client of the Interactions API, with the retries
// that it has by default.
func newInteractions(t *testing.T, rt http.RoundTripper) *interactions.Interactions {
	client, err := genai.NewClient(t.Context(), &genai.ClientConfig{
		APIKey:     "any",
		Backend:    genai.BackendGeminiAPI,
		HTTPClient: &http.Client{Transport: rt},
	})
	if err != nil {
		t.Fatal(err)
	}
	return client.Interactions
}

// interact creates an interaction, and returns what was said.
func interact(ctx context.Context, c *interactions.Interactions, m models.CreateModelInteraction) (text string, err error) {
	m.Model = flashModel
	if m.Input == nil {
		m.Input = genai.Ptr(models.NewInteractionsInput("Hello, how are you today?"))
	}
	resp, err := c.Create(ctx, operations.CreateInteractionRequest{Body: operations.NewCreateInteractionRequestBody(m)})
	switch {
	case err != nil:
		return "", err
	case resp.InteractionSSEStreamEvent == nil:
		if resp.Interaction.OutputText != nil {
			text = *resp.Interaction.OutputText
		}
		return text, nil
	}
	stream := resp.InteractionSSEStreamEvent
	defer stream.Close()
	for stream.Next() {
		if d := stream.Value().GetDataStepDelta(); d != nil && d.Delta.TextDelta != nil {
			text += d.Delta.TextDelta.Text
		}
		if e := stream.Value().GetDataError(); e != nil {
			return text, fmt.Errorf("an error event: %v", *e.Error.Code)
		}
	}
	return text, stream.Err()
}

const flashModel = "gemini-2.5-flash"

const speech = "One question at a time, please, and all will be answered."

// genai's client gets 50 interactions done, streaming and not, where 10 a minute
// are allowed and tokens for as many: none is refused, and what is left afterwards
// is what the server has counted.
func TestInteractions(t *testing.T) {
	const calls, rpm = 50, 10
	for _, minute := range []time.Duration{time.Minute, 15 * time.Second} {
		for _, tpm := range []int64{1 << 20, 61} {
			t.Run(fmt.Sprint(minute, tpm), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &quotatest.Server{
						Limits: map[string][]quotatest.Limit{flashModel: {
							{N: rpm, Per: minute}, {Unit: quotatest.Tokens, N: tpm, Per: minute}, quotatest.RPD(250),
						}},
						Latency: func() time.Duration { return 30 * time.Millisecond },
						Think:   func(*http.Request) time.Duration { return 700 * time.Millisecond },
					}
					tr := &tollgate.Transport{Base: s, Quotas: tollgate.Quotas{flashModel: {
						{N: rpm, Per: minute}, {Unit: tollgate.Tokens, N: tpm, Per: minute}, tollgate.RPD(250),
					}}}
					c := newInteractions(t, &tollgate.Retry{Base: tr})
					start := time.Now()
					var wg sync.WaitGroup
					for i := range calls {
						wg.Go(func() {
							text, err := interact(t.Context(), c, models.CreateModelInteraction{Stream: genai.Ptr(i%2 == 0)})
							if err != nil || text != speech {
								t.Errorf("call %d: %q, %v", i, text, err)
							}
						})
					}
					wg.Wait()
					t.Logf("%d accepted, %d refused, in %v", s.Accepted(), s.Refused(), time.Since(start))
					if s.Accepted() != calls || s.Refused() != 0 {
						t.Errorf("%d accepted, %d refused, want %d, 0", s.Accepted(), s.Refused(), calls)
					}
					settled(t, s, tr, minute)
				})
			})
		}
	}
}

// settled checks that the levels of the one key in use are what the server counted
// in the current window.
func settled(t *testing.T, s *quotatest.Server, tr *tollgate.Transport, window time.Duration) {
	t.Helper()
	var requests, tokens int64
	for _, c := range s.Calls() {
		if c.At.Truncate(window).Equal(time.Now().Truncate(window)) {
			requests++
			tokens += c.Tokens
		}
	}
	for _, st := range tr.Status() {
		if st.Key != flashModel {
			continue
		}
		for _, l := range st.Limits {
			used := map[tollgate.Unit]int64{tollgate.Requests: requests, tollgate.Tokens: tokens}[l.Unit]
			if l.Per == window && l.Left != l.N-used {
				t.Errorf("%d of %v are left, want %d", l.Left, l.Limit, l.N-used)
			}
		}
		return
	}
	t.Errorf("no status of %s", flashModel)
}
