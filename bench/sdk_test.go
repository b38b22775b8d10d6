package bench

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/httptransport"
	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"google.golang.org/genai"
	"google.golang.org/genai/interactions/models/apierrors"
	"google.golang.org/genai/interactions/models/interactions"
	"google.golang.org/genai/interactions/models/operations"
	"google.golang.org/genai/interactions/retry"

	"example.com/tollgate"
	"example.com/tollgate/quotatest"
)

// The SDKs run for real, through sockets, against quotatest.

const (
	minute = 1500 * time.Millisecond
	secret = "secret"
	speech = "One question at a time, please, and all will be answered."
)

// An ask makes one of the calls of an SDK, by number, and returns what was said.
type ask func(ctx context.Context, n int) (string, error)

// An sdk is one way to use one of them.
type sdk struct {
	name   string
	count  quotatest.Counting
	client func(t *testing.T, c *http.Client, url string, noRetry bool) ask
	code   func(error) int // of the SDK's own error
}

var sdks = []sdk{
	{"genai", quotatest.Fixed, newGenAI, genaiCode},
	{"genai, interactions", quotatest.Fixed, newInteractions, func(err error) int {
		var e *apierrors.CreateInteractionClientError
		if errors.As(err, &e) {
			return e.HTTPMeta.Response.StatusCode
		}
		return 0
	}},
	{"openai", quotatest.Bucket, newOpenAI, func(err error) int {
		var e *openai.Error
		if errors.As(err, &e) {
			return e.StatusCode
		}
		return 0
	}},
	{"anthropic", quotatest.Bucket, newAnthropic, func(err error) int {
		var e *anthropic.Error
		if errors.As(err, &e) {
			return e.StatusCode
		}
		return 0
	}},
	{"vertex, token below", quotatest.Fixed, newVertex, genaiCode},
	{"vertex, token above", quotatest.Fixed, newVertex, genaiCode},
}

func genaiCode(err error) int {
	var e genai.APIError
	errors.As(err, &e)
	return e.Code
}

// newGenAI returns genai, which does not retry unless it is told to.
func newGenAI(t *testing.T, c *http.Client, url string, _ bool) ask {
	return newAsk(t, &genai.ClientConfig{
		APIKey:      secret,
		Backend:     genai.BackendGeminiAPI,
		HTTPClient:  c,
		HTTPOptions: genai.HTTPOptions{BaseURL: url},
	})
}

// newInteractions returns genai's client of the Interactions API, which retries
// unless each call says that it must not.
func newInteractions(t *testing.T, c *http.Client, url string, noRetry bool) ask {
	client, err := genai.NewClient(t.Context(), &genai.ClientConfig{
		APIKey:      secret,
		Backend:     genai.BackendGeminiAPI,
		HTTPClient:  c,
		HTTPOptions: genai.HTTPOptions{BaseURL: url},
	})
	if err != nil {
		t.Fatal(err)
	}
	var options []operations.Option
	if noRetry {
		options = append(options, operations.WithRetries(retry.Config{Strategy: "none"}))
	}
	return func(ctx context.Context, n int) (text string, err error) {
		resp, err := client.Interactions.Create(ctx, operations.CreateInteractionRequest{
			Body: operations.NewCreateInteractionRequestBody(interactions.CreateModelInteraction{
				Model:  "gemini-2.5-flash",
				Input:  genai.Ptr(interactions.NewInteractionsInput("hello")),
				Stream: genai.Ptr(n%2 == 1),
			}),
		}, options...)
		if err != nil {
			return "", err
		}
		stream := resp.InteractionSSEStreamEvent
		if stream == nil {
			return *resp.Interaction.OutputText, nil
		}
		defer stream.Close()
		for stream.Next() {
			if d := stream.Value().GetDataStepDelta(); d != nil && d.Delta.TextDelta != nil {
				text += d.Delta.TextDelta.Text
			}
		}
		return text, stream.Err()
	}
}

// newVertex returns genai for Vertex AI, with no credentials of its own.
func newVertex(t *testing.T, c *http.Client, url string, _ bool) ask {
	return newAsk(t, &genai.ClientConfig{
		Backend:     genai.BackendVertexAI,
		Project:     "p",
		Location:    "us-central1",
		HTTPClient:  c,
		HTTPOptions: genai.HTTPOptions{BaseURL: url},
	})
}

func newAsk(t *testing.T, config *genai.ClientConfig) ask {
	client, err := genai.NewClient(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context, n int) (text string, err error) {
		if n%2 == 0 {
			resp, err := client.Models.GenerateContent(ctx, "gemini-2.5-flash", genai.Text("hello"), nil)
			if err != nil {
				return "", err
			}
			return resp.Text(), nil
		}
		for resp, err := range client.Models.GenerateContentStream(ctx, "gemini-2.5-flash", genai.Text("hello"), nil) {
			if err != nil {
				return text, err
			}
			text += resp.Text()
		}
		return text, nil
	}
}

func newOpenAI(_ *testing.T, c *http.Client, url string, noRetry bool) ask {
	options := []option.RequestOption{option.WithHTTPClient(c), option.WithBaseURL(url + "/v1"), option.WithAPIKey(secret)}
	if noRetry {
		options = append(options, option.WithMaxRetries(0))
	}
	client := openai.NewClient(options...)
	chat := openai.ChatCompletionNewParams{
		Model:    "gpt-5",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hello")},
	}
	response := responses.ResponseNewParams{
		Model: "gpt-5",
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hello")},
	}
	return func(ctx context.Context, n int) (text string, err error) {
		switch n % 4 {
		case 0:
			resp, err := client.Chat.Completions.New(ctx, chat)
			if err != nil {
				return "", err
			}
			return resp.Choices[0].Message.Content, nil
		case 1:
			stream := client.Chat.Completions.NewStreaming(ctx, chat)
			defer stream.Close()
			for stream.Next() {
				text += stream.Current().Choices[0].Delta.Content
			}
			return text, stream.Err()
		case 2:
			resp, err := client.Responses.New(ctx, response)
			if err != nil {
				return "", err
			}
			return resp.OutputText(), nil
		}
		stream := client.Responses.NewStreaming(ctx, response)
		defer stream.Close()
		for stream.Next() {
			if e := stream.Current(); e.Type == "response.output_text.delta" {
				text += e.Delta
			}
		}
		return text, stream.Err()
	}
}

func newAnthropic(_ *testing.T, c *http.Client, url string, noRetry bool) ask {
	options := []anthropicoption.RequestOption{
		anthropicoption.WithoutEnvironmentDefaults(),
		anthropicoption.WithHTTPClient(c), anthropicoption.WithBaseURL(url), anthropicoption.WithAPIKey(secret),
	}
	if noRetry {
		options = append(options, anthropicoption.WithMaxRetries(0))
	}
	client := anthropic.NewClient(options...)
	params := anthropic.MessageNewParams{
		Model:     "claude",
		MaxTokens: 100,
		Messages:  []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("hello"))},
	}
	return func(ctx context.Context, n int) (string, error) {
		if n%2 == 0 {
			m, err := client.Messages.New(ctx, params)
			if err != nil {
				return "", err
			}
			return m.Content[0].Text, nil
		}
		stream := client.Messages.NewStreaming(ctx, params)
		defer stream.Close()
		var m anthropic.Message
		for stream.Next() {
			if err := m.Accumulate(stream.Current()); err != nil {
				return "", err
			}
		}
		if err := stream.Err(); err != nil {
			return "", err
		}
		return m.Content[0].Text, nil
	}
}

// A tokenSource gives away the one token that quotatest takes.
type tokenSource struct{}

func (tokenSource) Token(context.Context) (*auth.Token, error) {
	return &auth.Token{Value: secret, Type: "Bearer", Expiry: time.Now().Add(time.Hour)}, nil
}

// authenticated returns a round tripper that adds Google's credentials, as an
// SDK does that was given no HTTP client.
func authenticated(t *testing.T, base http.RoundTripper) http.RoundTripper {
	client, err := httptransport.NewClient(&httptransport.Options{
		Credentials:      auth.NewCredentials(&auth.CredentialsOptions{TokenProvider: tokenSource{}}),
		BaseRoundTripper: base,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client.Transport
}

// A tally counts the calls that pass.
type tally struct {
	base  http.RoundTripper
	calls atomic.Int64
}

func (c *tally) RoundTrip(r *http.Request) (*http.Response, error) {
	c.calls.Add(1)
	return c.base.RoundTrip(r)
}

// compose puts a Retry over a transport, with counters above both of them, and
// the credentials of Vertex AI where they belong.
func compose(t *testing.T, name string, transport *tollgate.Transport) (c *http.Client, above, between *tally) {
	direct := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(direct.CloseIdleConnections)
	transport.Base = direct
	if name == "vertex, token below" {
		transport.Base = authenticated(t, direct)
	}
	between = &tally{base: transport}
	above = &tally{base: &tollgate.Retry{Base: between}}
	c = &http.Client{Transport: above}
	if name == "vertex, token above" {
		c.Transport = authenticated(t, above)
	}
	return c, above, between
}

// each tests all ways at once, which waste their time waiting: t.Parallel would
// have no more of them at once than there are processors.
func each(t *testing.T, test func(t *testing.T, sdk sdk)) {
	var wg sync.WaitGroup
	for _, sdk := range sdks {
		wg.Go(func() { t.Run(sdk.name, func(t *testing.T) { test(t, sdk) }) })
	}
	wg.Wait()
}

// TestSDKs has 50 calls at once share 10 a minute, with nothing refused.
func TestSDKs(t *testing.T) {
	each(t, func(t *testing.T, sdk sdk) {
		const n, calls = 10, 50
		s := &quotatest.Server{
			Limits: map[string][]quotatest.Limit{"*": {{N: n, Per: minute, Count: sdk.count}}},
			APIKey: secret,
		}
		api := httptest.NewServer(s)
		defer api.Close()
		client, above, _ := compose(t, sdk.name, &tollgate.Transport{
			Quotas: tollgate.Quotas{"*": {{N: n, Per: minute, Refill: tollgate.Window}}},
		})
		ask := sdk.client(t, client, api.URL, true)
		var wg sync.WaitGroup
		for i := range calls {
			wg.Go(func() {
				if text, err := ask(t.Context(), i); err != nil || text != speech {
					t.Errorf("call %d: %q, %v", i, text, err)
				}
			})
		}
		wg.Wait()
		if s.Accepted() != calls || s.Refused() != 0 {
			t.Errorf("%d accepted, %d refused, want %d, 0", s.Accepted(), s.Refused(), calls)
		}
		if got := above.calls.Load(); got != calls {
			t.Errorf("the SDK sent %d calls, want %d", got, calls)
		}
		methods := map[string]bool{}
		for _, c := range s.Calls() {
			methods[c.Method] = true
		}
		one := sdk.name == "anthropic" || sdk.name == "genai, interactions"
		if len(methods) == 0 || !one && len(methods) != 2 {
			t.Errorf("methods %v", methods)
		}
	})
}

// TestSDKsReject has the SDKs, with the retries that they have by default, meet
// a request that is not sent: they fail at once, with the error of their own.
func TestSDKsReject(t *testing.T) {
	each(t, func(t *testing.T, sdk sdk) {
		s := &quotatest.Server{APIKey: secret}
		api := httptest.NewServer(s)
		defer api.Close()
		client, above, between := compose(t, sdk.name, &tollgate.Transport{
			Quotas:  tollgate.Quotas{"*": {{N: 1, Per: time.Hour, Refill: tollgate.Window}}},
			MaxWait: -1,
			Reject:  tollgate.Reject429,
		})
		ask := sdk.client(t, client, api.URL, false)
		if text, err := ask(t.Context(), 0); err != nil || text != speech {
			t.Fatalf("%q, %v", text, err)
		}
		for i := range 4 {
			above.calls.Store(0)
			between.calls.Store(0)
			_, err := ask(t.Context(), i)
			if got := sdk.code(err); got != http.StatusTooManyRequests {
				t.Errorf("call %d: code %d of %T: %v", i, got, err, err)
			}
			if a, b := above.calls.Load(), between.calls.Load(); a != 1 || b != 1 {
				t.Errorf("call %d: %d calls to Retry, %d to Transport, want 1", i, a, b)
			}
		}
		if got := len(s.Calls()); got != 1 {
			t.Errorf("the server saw %d calls, want 1", got)
		}
	})
}
