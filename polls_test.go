package tollgate_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
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

// create creates an interaction of a text, and returns it.
func create(ctx context.Context, c *interactions.Interactions, text, previous string, background bool) (*models.Interaction, error) {
	m := models.CreateModelInteraction{Model: flashModel, Input: genai.Ptr(models.NewInteractionsInput(text)), Background: &background}
	if previous != "" {
		m.PreviousInteractionID = &previous
	}
	resp, err := c.Create(ctx, operations.CreateInteractionRequest{Body: operations.NewCreateInteractionRequestBody(m)})
	if err != nil {
		return nil, err
	}
	return resp.Interaction, nil
}

// poll asks for an interaction until it is finished, in a stream or not.
func poll(ctx context.Context, c *interactions.Interactions, id string, stream bool) (string, error) {
	for {
		resp, err := c.Get(ctx, operations.GetInteractionByIDRequest{ID: id, Stream: &stream})
		if err != nil {
			return "", err
		}
		if s := resp.InteractionSSEStreamEvent; s != nil {
			status := ""
			for s.Next() {
				if e := s.Value().GetDataInteractionCompleted(); e != nil {
					status = string(e.Interaction.Status)
				}
			}
			return status, s.Close()
		}
		if status := string(resp.Interaction.Status); status != "in_progress" {
			return status, nil
		}
		time.Sleep(2 * time.Second)
	}
}

// tokensLeft returns what is left of flashModel's limit of tokens.
func tokensLeft(t *testing.T, tr *tollgate.Transport) int64 {
	t.Helper()
	for _, st := range tr.Status() {
		for _, l := range st.Limits {
			if st.Key == flashModel && l.Unit == tollgate.Tokens {
				return l.Left
			}
		}
	}
	t.Fatalf("%s has no limit of tokens", flashModel)
	return 0
}

// What runs in the background is charged to its model by what a poll says that it
// has cost, however it is polled, and once.
func TestBackgroundInteractions(t *testing.T) {
	const tpm = 10_000
	for name, finish := range map[string]func(ctx context.Context, c *interactions.Interactions, id string) (string, error){
		"polled": func(ctx context.Context, c *interactions.Interactions, id string) (string, error) {
			return poll(ctx, c, id, false)
		},
		"streamed": func(ctx context.Context, c *interactions.Interactions, id string) (string, error) {
			return poll(ctx, c, id, true)
		},
		"cancelled": func(ctx context.Context, c *interactions.Interactions, id string) (string, error) {
			resp, err := c.Cancel(ctx, operations.CancelInteractionByIDRequest{ID: id})
			if err != nil {
				return "", err
			}
			return string(resp.Interaction.Status), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &quotatest.Server{
					Limits: map[string][]quotatest.Limit{flashModel: {quotatest.RPM(10), quotatest.TPM(tpm)}},
					Think:  func(*http.Request) time.Duration { return 11 * time.Second },
					Tokens: func(text string) int64 { return 3 * int64(len(text)) }, // nine times the estimate
				}
				tr := &tollgate.Transport{Base: s, Quotas: tollgate.Quotas{flashModel: {tollgate.RPM(10), tollgate.TPM(tpm)}}}
				c := newInteractions(t, &tollgate.Retry{Base: tr})
				i, err := create(t.Context(), c, strings.Repeat("x", 300), "", true)
				if err != nil || i.Status != "in_progress" {
					t.Fatalf("%+v, %v", i, err)
				}
				if got := tokensLeft(t, tr); got != tpm-100 {
					t.Errorf("%d tokens are left at first, want the estimate of 100 taken", got)
				}
				for range 2 {
					status, err := finish(t.Context(), c, *i.ID)
					if want := map[bool]string{true: "cancelled", false: "completed"}[name == "cancelled"]; err != nil || status != want {
						t.Errorf("finished as %q, %v", status, err)
					}
					if got := tokensLeft(t, tr); got != tpm-900 {
						t.Errorf("%d tokens are left in the end, want the 900 taken that the server counted", got)
					}
				}
			})
		})
	}
}

// A stream that is broken off has not said what it costs. One that goes on with it does.
func TestResumedInteraction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tpm = 10_000
		s := &quotatest.Server{Tokens: func(text string) int64 { return 3 * int64(len(text)) }}
		tr := &tollgate.Transport{Base: s, Quotas: tollgate.Quotas{flashModel: {tollgate.RPM(10), tollgate.TPM(tpm)}}}
		c := newInteractions(t, &tollgate.Retry{Base: tr})
		resp, err := c.Create(t.Context(), operations.CreateInteractionRequest{Body: operations.NewCreateInteractionRequestBody(models.CreateModelInteraction{
			Model: flashModel, Input: genai.Ptr(models.NewInteractionsInput(strings.Repeat("x", 300))), Stream: genai.Ptr(true),
		})}, operations.WithAutomaticContinuation(false))
		if err != nil {
			t.Fatal(err)
		}
		stream := resp.InteractionSSEStreamEvent
		if !stream.Next() {
			t.Fatal(stream.Err())
		}
		created := stream.Value().GetDataInteractionCreated()
		stream.Close()
		if got := tokensLeft(t, tr); got != tpm-100 {
			t.Errorf("%d tokens are left, want the estimate of 100 taken", got)
		}
		more, err := c.Get(t.Context(), operations.GetInteractionByIDRequest{ID: created.Interaction.ID, Stream: genai.Ptr(true), LastEventID: created.EventID})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for more.InteractionSSEStreamEvent.Next() {
			n++
		}
		more.InteractionSSEStreamEvent.Close()
		if n != 7 {
			t.Errorf("%d more events, want 7", n)
		}
		if got := tokensLeft(t, tr); got != tpm-900 {
			t.Errorf("%d tokens are left in the end, want the 900 taken that the server counted", got)
		}
	})
}

// 50 of them keep to a limit of tokens, though the estimates are off: they get
// better with each poll, and none is refused once they are.
func TestManyBackgroundInteractions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls = 50
		s := &quotatest.Server{
			Limits: map[string][]quotatest.Limit{flashModel: {quotatest.RPM(10), quotatest.TPM(2000)}},
			Think:  func(*http.Request) time.Duration { return 5 * time.Second },
		}
		tr := &tollgate.Transport{Base: s, Quotas: tollgate.Quotas{flashModel: {tollgate.RPM(10), tollgate.TPM(2000)}}}
		c := newInteractions(t, &tollgate.Retry{Base: tr})
		var wg sync.WaitGroup
		for n := range calls {
			wg.Go(func() {
				i, err := create(t.Context(), c, strings.Repeat("x", 1000), "", true)
				if err != nil {
					t.Error(err)
					return
				}
				if status, err := poll(t.Context(), c, *i.ID, n%2 == 0); err != nil || status != "completed" {
					t.Errorf("%s, %v", status, err)
				}
			})
		}
		wg.Wait()
		if s.Accepted() != calls || s.Refused() != 0 {
			t.Errorf("%d accepted, %d refused, want %d, 0", s.Accepted(), s.Refused(), calls)
		}
		settled(t, s, tr, time.Minute)
	})
}

// A conversation of which the server keeps the history costs more with each turn.
// The estimate knows what the turn before has cost, so that none is refused, also
// where others go on at the same time.
func TestContinuedInteractions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const turns, conversations, tpm = 15, 4, 1500
		s := &quotatest.Server{Limits: map[string][]quotatest.Limit{flashModel: {quotatest.RPM(100), quotatest.TPM(tpm)}}}
		tr := &tollgate.Transport{Base: s, Quotas: tollgate.Quotas{flashModel: {tollgate.RPM(100), tollgate.TPM(tpm)}}}
		c := newInteractions(t, &tollgate.Retry{Base: tr})
		var wg sync.WaitGroup
		for n := range conversations {
			wg.Go(func() {
				previous := ""
				for turn := range turns {
					i, err := create(t.Context(), c, strings.Repeat("word ", 10+10*n), previous, turn%3 == 1)
					if err != nil {
						t.Errorf("turn %d: %v", turn, err)
						return
					}
					if _, err := poll(t.Context(), c, *i.ID, false); err != nil {
						t.Errorf("turn %d: %v", turn, err)
					}
					previous = *i.ID
				}
			})
		}
		wg.Wait()
		if got := s.Accepted(); got != turns*conversations || s.Refused() != 0 {
			t.Errorf("%d accepted, %d refused, want %d, 0", got, s.Refused(), turns*conversations)
		}
		settled(t, s, tr, time.Minute)
	})
}

// One that fails in the background for a limit's sake closes its model's key, once,
// and not that of the polls.
func TestFailedInBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refused []string
		tr := &tollgate.Transport{
			Quotas: tollgate.Quotas{flashModel: {tollgate.RPM(10)}},
			Trace:  &tollgate.Trace{Refused: func(_ *http.Request, i tollgate.RefusalInfo) { refused = append(refused, i.Key) }},
			Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				text := `{"id":"i1","status":"in_progress","model":"` + flashModel + `"}`
				if r.Method == http.MethodGet {
					text = `{"id":"i1","status":"failed","model":"` + flashModel + `","errors":[{"code":"rate_limit_exceeded","message":"Please retry in 30s."}],"steps":[]}`
				}
				return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
			}),
		}
		c := newInteractions(t, &tollgate.Retry{Base: tr})
		start := time.Now()
		i, err := create(t.Context(), c, "Hello.", "", true)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if status, err := poll(t.Context(), c, *i.ID, false); err != nil || status != "failed" {
				t.Errorf("%s, %v", status, err)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the polls took %v: they wait for nothing", took)
		}
		if got := fmt.Sprint(refused); got != "["+flashModel+"]" {
			t.Errorf("refused: %s, want the model's key once", got)
		}
		if _, err := create(t.Context(), c, "Hello.", "", true); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("the next one went after %v, want 30s", took)
		}
	})
}
