package tollgate_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genai"
	"google.golang.org/genai/interactions"
	"google.golang.org/genai/interactions/models/apierrors"
	models "google.golang.org/genai/interactions/models/interactions"
	"google.golang.org/genai/interactions/models/operations"

	"example.com/tollgate"
	"example.com/tollgate/quotatest"
)

// newInteractions returns genai's client of the Interactions API, with the retries
// that it has by default.
func newInteractions(t *testing.T, rt http.RoundTripper) *interactions.Interactions {
	return newInteractionsOf(t, &http.Client{Transport: rt})
}

func newInteractionsOf(t *testing.T, c *http.Client) *interactions.Interactions {
	client, err := genai.NewClient(t.Context(), &genai.ClientConfig{
		APIKey:     "any",
		Backend:    genai.BackendGeminiAPI,
		HTTPClient: c,
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

// A tally counts the requests that pass.
type tally struct {
	base http.RoundTripper
	n    int
}

func (c *tally) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n++
	return c.base.RoundTrip(r)
}

// What is rejected is tried once, although the client tries any 429 again, and
// becomes the client's own error.
func TestInteractionsReject429(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, want := range map[string]struct {
			limit   tollgate.Limit
			timeout time.Duration // of the http.Client
			retry   bool          // there is a Retry on top
			code    string
		}{
			"a minute":               {tollgate.RPM(1), 0, true, "rate_limit_exceeded"},
			"a minute, a timeout":    {tollgate.RPM(1), time.Hour, true, "rate_limit_exceeded"},
			"a minute, no Retry":     {tollgate.RPM(1), 0, false, "rate_limit_exceeded"},
			"a day":                  {tollgate.RPD(1), 0, true, "quota_exceeded"},
			"hours, which hung once": {tollgate.Limit{N: 1, Per: 5 * time.Hour}, 0, true, "rate_limit_exceeded"},
		} {
			s := &quotatest.Server{}
			rejected := 0
			between := &tally{base: &tollgate.Transport{
				Base: s, Quotas: tollgate.Quotas{"*": {want.limit}}, MaxWait: -1, Reject: tollgate.Reject429,
				Trace: &tollgate.Trace{Rejected: func(*http.Request, *tollgate.LimitError) { rejected++ }},
			}}
			above := &tally{base: between}
			if want.retry {
				above.base = &tollgate.Retry{Base: between}
			}
			c := newInteractions(t, above)
			if want.timeout > 0 {
				c = newInteractionsOf(t, &http.Client{Transport: above, Timeout: want.timeout})
			}
			if text, err := interact(t.Context(), c, models.CreateModelInteraction{}); err != nil || text != speech {
				t.Fatalf("%s: %q, %v", name, text, err)
			}
			for _, stream := range []bool{false, true} {
				above.n, between.n, rejected = 0, 0, 0
				start := time.Now()
				_, err := interact(t.Context(), c, models.CreateModelInteraction{Stream: &stream})
				if above.n != 1 || between.n != 1 || rejected != 1 || time.Since(start) != 0 {
					t.Errorf("%s: %d calls of the client, %d of Transport, %d rejected, in %v: want 1 of each, at once", name, above.n, between.n, rejected, time.Since(start))
				}
				var own *apierrors.CreateInteractionClientError
				switch {
				case !errors.As(err, &own):
					t.Errorf("%s: %T: %v, want the client's own error", name, err, err)
				case own.Error_.Code == nil || *own.Error_.Code != want.code || own.HTTPMeta.Response.StatusCode != 429 || own.HTTPMeta.Response.Status != "429 Too Many Requests":
					t.Errorf("%s: %v, status %s, want 429 with code %s", name, err, own.HTTPMeta.Response.Status, want.code)
				case own.Error_.Message == nil || !strings.Contains(*own.Error_.Message, want.limit.String()):
					t.Errorf("%s: %v, want a message that names the limit", name, err)
				}
			}
			if n := len(s.Calls()); n != 1 {
				t.Errorf("%s: the server saw %d calls, want 1", name, n)
			}
		}
	})
}

// Polls that are rejected become the client's error for those, after one try.
func TestPollsReject429(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &quotatest.Server{}
		above := &tally{base: &tollgate.Retry{Base: &tollgate.Transport{
			Base: s, MaxWait: -1, Reject: tollgate.Reject429,
			Quotas: tollgate.Quotas{"generativelanguage.googleapis.com": {tollgate.RPM(2)}},
		}}}
		c := newInteractions(t, above)
		if _, err := interact(t.Context(), c, models.CreateModelInteraction{}); err != nil {
			t.Fatal(err)
		}
		get := operations.GetInteractionByIDRequest{ID: "interaction-0"}
		if _, err := c.Get(t.Context(), get); err != nil {
			t.Fatal(err)
		}
		above.n = 0
		_, err := c.Get(t.Context(), get)
		var own *apierrors.GetInteractionByIDClientError
		if !errors.As(err, &own) || own.HTTPMeta.Response.StatusCode != 429 || *own.Error_.Code != "rate_limit_exceeded" || above.n != 1 {
			t.Errorf("%T after %d calls: %v", err, above.n, err)
		}
	})
}

// A client of another kind, which may heed what it is told, sees a 429 from the
// beginning.
func TestReject429Interactions(t *testing.T) {
	for agent, want := range map[string]int{"google-genai-sdk/1.2.3 gl-python/3.14": 429, "": 429, "google-genai-sdk/1.77.0 gl-go/go1.26": 424} {
		req := httptest.NewRequest("POST", "https://example.com/proxy/v1beta/interactions", nil)
		req.Header.Set("User-Agent", agent)
		req.Header.Set("Api-Revision", "2026-05-20")
		resp, err := tollgate.Reject429(req, &tollgate.LimitError{Key: "m", Limit: tollgate.RPM(1), Reason: tollgate.PastMaxWait, RetryAfter: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", agent, resp.StatusCode, want)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || !strings.Contains(string(body), `"code":"rate_limit_exceeded"`) || resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "60" {
			t.Errorf("%s: %s, %s, %v", agent, resp.Status, body, err)
		}
	}
}

// Without Reject the error is a LimitError all the same, after one try: also where
// the deadline is the reason, which the client takes for a timeout that may pass.
func TestInteractionsLimitError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, retry := range []bool{false, true} {
			tr := &tollgate.Transport{Base: &quotatest.Server{}, Quotas: tollgate.Quotas{flashModel: {tollgate.RPM(1)}}}
			above := &tally{base: tr}
			if retry {
				above.base = &tollgate.Retry{Base: tr}
			}
			c := newInteractions(t, above)
			if _, err := interact(t.Context(), c, models.CreateModelInteraction{}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			above.n = 0
			start := time.Now()
			_, err := interact(ctx, c, models.CreateModelInteraction{})
			var limit *tollgate.LimitError
			if !errors.As(err, &limit) || limit.Reason != tollgate.PastDeadline || !errors.Is(err, context.DeadlineExceeded) || above.n != 1 || time.Since(start) != 0 {
				t.Errorf("Retry %v: %v after %d calls and %v, want a LimitError after 1, at once", retry, err, above.n, time.Since(start))
			}
		}
	})
}

// The client's retries do not multiply those of Retry: once that has given up, it
// says the same again and sends nothing.
func TestInteractionsRetries(t *testing.T) {
	refusal := `{"error":{"code":"rate_limit_exceeded","message":"Your prepayment credits are depleted."}}`
	busy := `{"error":{"code":"service_unavailable","message":"The model is overloaded."}}`
	tests := []struct {
		name    string
		status  int
		body    string
		max     int // of Retry
		want    int // requests sent
		broken  error
		timeout time.Duration // of the client
	}{
		{"unavailable", 503, busy, 2, 3, nil, 0},
		{"unavailable, a timeout", 503, busy, 2, 3, nil, time.Hour},
		{"unavailable, a long body", 503, busy + strings.Repeat(" ", 16<<10-len(busy)), 2, 3, nil, 0},
		{"unavailable, Retry is switched off", 503, busy, -1, 5, nil, 0},
		{"what no waiting cures", 429, refusal, 2, 1, nil, 0},
		{"no connection", 0, "", 2, 3, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, 0},
		{"a bad request", 400, `{"error":{"code":"invalid_request","message":"No."}}`, 2, 1, nil, 0},
	}
	for _, tt := range tests {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, stream), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					sent := 0
					base := roundTripFunc(func(r *http.Request) (*http.Response, error) {
						sent++
						if tt.broken != nil {
							return nil, tt.broken
						}
						header := http.Header{"Content-Type": {"application/json"}}
						if tt.status == 429 {
							header.Set("Retry-After", "40000")
						}
						return &http.Response{
							StatusCode: tt.status, Header: header,
							Body: io.NopCloser(strings.NewReader(tt.body)), Request: r,
						}, nil
					})
					c := newInteractionsOf(t, &http.Client{
						Transport: &tollgate.Retry{Base: &tollgate.Transport{Base: base}, Max: tt.max}, Timeout: 100 * tt.timeout,
					})
					start := time.Now()
					_, err := interact(t.Context(), c, models.CreateModelInteraction{Stream: &stream})
					if took := time.Since(start); sent != tt.want || took > 10*time.Second {
						t.Errorf("%d requests sent in %v, want %d in 10 s", sent, took, tt.want)
					}
					var server *apierrors.CreateInteractionServerError
					var client *apierrors.CreateInteractionClientError
					switch {
					case tt.broken != nil && !errors.Is(err, tt.broken),
						tt.status >= 500 && !errors.As(err, &server),
						tt.status >= 400 && tt.status < 500 && !errors.As(err, &client):
						t.Errorf("%T: %v", err, err)
					case server != nil && server.HTTPMeta.Response.StatusCode != tt.status,
						client != nil && client.HTTPMeta.Response.StatusCode != tt.status:
						t.Errorf("%v has another status than %d", err, tt.status)
					}
					// Another call is tried anew.
					sent = 0
					_, _ = interact(t.Context(), c, models.CreateModelInteraction{Stream: &stream})
					if sent == 0 {
						t.Error("nothing sent for another call")
					}
				})
			})
		}
	}
}
