package clients

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"golang.org/x/oauth2"
	"google.golang.org/genai"

	"example.com/tollgate"
	"example.com/tollgate/quotatest"
)

func Example_composition() {
	ctx := context.Background()
	source := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: os.Getenv("ACCESS_TOKEN")})

	below := otelhttp.NewTransport(&oauth2.Transport{Source: source, Base: http.DefaultTransport})
	limited := &tollgate.Retry{Base: &tollgate.Transport{
		Base:   below,
		Quotas: tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(10)}},
	}}
	above := otelhttp.NewTransport(limited)

	client, err := genai.NewClient(ctx, &genai.ClientConfig{
		Backend:    genai.BackendVertexAI,
		Project:    "my-project",
		Location:   "global",
		HTTPClient: &http.Client{Transport: above},
	})
	if err != nil {
		log.Fatal(err)
	}
	answer, err := client.Models.GenerateContent(ctx, "gemini-2.5-flash", genai.Text("Say hello."), nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Text())
	// Output: One question at a time, please, and all will be answered.
}

const (
	life = 30 * time.Second // of a token, half as long as a wait
	trip = 50 * time.Millisecond
)

// A mint issues tokens and is the API that they are for.
type mint struct {
	api    *quotatest.Server
	issued sync.Map // token to time
	count  int
}

func (m *mint) Token() (*oauth2.Token, error) {
	m.count++
	name := fmt.Sprint("token ", m.count)
	m.issued.Store("Bearer "+name, time.Now())
	return &oauth2.Token{AccessToken: name, Expiry: time.Now().Add(life)}, nil
}

func (m *mint) RoundTrip(r *http.Request) (*http.Response, error) {
	at, ok := m.issued.Load(r.Header.Get("Authorization"))
	if !ok || time.Since(at.(time.Time)) > life {
		r.Body.Close()
		return &http.Response{StatusCode: http.StatusUnauthorized, Body: http.NoBody, Request: r}, nil
	}
	return m.api.RoundTrip(r)
}

// TestComposition has three calls share one request a minute, with tokens that
// live for half as long. They are valid when they are asked for below tollgate,
// and old when they are asked for above it. A span above it contains the wait,
// and one below it nothing but the request.
func TestComposition(t *testing.T) {
	for _, tt := range []struct {
		name     string
		above    bool
		accepted int
	}{{"oauth2 below", false, 3}, {"oauth2 above", true, 1}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &mint{api: &quotatest.Server{
					Limits:  map[string][]quotatest.Limit{"*": {{N: 1, Per: time.Minute}}},
					Latency: func() time.Duration { return trip },
				}}
				spans := tracetest.NewSpanRecorder()
				otel := otelhttp.WithTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans)))
				named := func(name string) otelhttp.Option {
					return otelhttp.WithSpanNameFormatter(func(string, *http.Request) string { return name })
				}
				source := oauth2.ReuseTokenSource(nil, m)
				auth := func(base http.RoundTripper, here bool) http.RoundTripper {
					if !here {
						return base
					}
					return &oauth2.Transport{Source: source, Base: base}
				}
				below := otelhttp.NewTransport(auth(m, !tt.above), otel, named("below"))
				limited := &tollgate.Retry{Base: &tollgate.Transport{
					Base:   below,
					Quotas: tollgate.Quotas{"*": {{N: 1, Per: time.Minute, Refill: tollgate.Window}}},
				}}
				above := otelhttp.NewTransport(auth(limited, tt.above), otel, named("above"))
				client := newClient(t, &http.Client{Transport: above})

				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						_, err := client.Models.GenerateContent(t.Context(), "gemini-2.5-flash", genai.Text("Say hello."), nil)
						if err != nil && !tt.above {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if got := m.api.Accepted(); got != tt.accepted || m.api.Refused() != 0 {
					t.Errorf("%d accepted, %d refused, want %d, 0", got, m.api.Refused(), tt.accepted)
				}
				longest := make(map[string]time.Duration)
				count := make(map[string]int)
				for _, s := range spans.Ended() {
					count[s.Name()]++
					longest[s.Name()] = max(longest[s.Name()], s.EndTime().Sub(s.StartTime()))
				}
				if count["above"] != 3 || count["below"] != 3 {
					t.Errorf("spans: %v, want 3 of each", count)
				}
				if longest["above"] < 2*time.Minute || longest["below"] > time.Second {
					t.Errorf("longest spans: %v", longest)
				}
			})
		})
	}
}

// newClient returns a client of Vertex AI that leaves credentials to an HTTP
// client.
func newClient(t *testing.T, c *http.Client) *genai.Client {
	client, err := genai.NewClient(t.Context(), &genai.ClientConfig{
		Backend:    genai.BackendVertexAI,
		Project:    "p",
		Location:   "global",
		HTTPClient: c,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}
