package clients

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"

	"cloud.google.com/go/auth/httptransport"
	"github.com/tmc/langchaingo/llms"
	"github.com/tmc/langchaingo/llms/anthropic"
	"github.com/tmc/langchaingo/llms/googleai"
	"github.com/tmc/langchaingo/llms/openai"
	"google.golang.org/api/googleapi"

	"example.com/tollgate"
	"example.com/tollgate/internal/clienttest"
)

// Example_langchaingoGemini is langchaingo with the Gemini API. Google's client
// adds no key to the requests of an HTTP client that it is given: another one
// does, in a header, where no error message shows it.
func Example_langchaingoGemini() {
	ctx := context.Background()
	key := os.Getenv("GEMINI_API_KEY")
	limited := tollgate.NewClient(tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(10)}})
	withKey, err := httptransport.NewClient(&httptransport.Options{
		APIKey:           key,
		BaseRoundTripper: limited.Transport,
	})
	if err != nil {
		log.Fatal(err)
	}
	model, err := googleai.New(ctx,
		googleai.WithAPIKey(key),
		googleai.WithHTTPClient(withKey),
		googleai.WithDefaultModel("gemini-2.5-flash"),
	)
	if err != nil {
		log.Fatal(err)
	}
	answer, err := llms.GenerateFromSinglePrompt(ctx, model, "Say hello.")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
	// Output: One question at a time, please, and all will be answered.
}

func newChainGemini(ctx context.Context, rt http.RoundTripper) (clienttest.Ask, error) {
	withKey, err := httptransport.NewClient(&httptransport.Options{APIKey: clienttest.Key, BaseRoundTripper: rt})
	if err != nil {
		return nil, err
	}
	model, err := googleai.New(ctx,
		googleai.WithAPIKey(clienttest.Key),
		googleai.WithHTTPClient(withKey),
		googleai.WithDefaultModel("gemini-2.5-flash"), // calls that name another one race
	)
	return chain(model, "gemini-2.5-flash"), err
}

func isChainGemini(err error) bool {
	var e *googleapi.Error
	return errors.As(err, &e) && e.Code == http.StatusTooManyRequests
}

// Example_langchaingoOpenAI is langchaingo with the OpenAI API.
func Example_langchaingoOpenAI() {
	ctx := context.Background()
	model, err := openai.New(
		openai.WithHTTPClient(tollgate.NewClient(tollgate.Quotas{"gpt-5": {tollgate.RPM(500)}})),
		openai.WithModel("gpt-5"),
	)
	if err != nil {
		log.Fatal(err)
	}
	answer, err := llms.GenerateFromSinglePrompt(ctx, model, "Say hello.")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
	// Output: One question at a time, please, and all will be answered.
}

func newChainOpenAI(_ context.Context, rt http.RoundTripper) (clienttest.Ask, error) {
	model, err := openai.New(openai.WithHTTPClient(&http.Client{Transport: rt}))
	return chain(model, "gpt-5"), err
}

func isChainOpenAI(err error) bool { return llms.IsRateLimitError(openai.MapError(err)) }

// Example_langchaingoAnthropic is langchaingo with the Anthropic API.
func Example_langchaingoAnthropic() {
	ctx := context.Background()
	model, err := anthropic.New(
		anthropic.WithHTTPClient(tollgate.NewClient(tollgate.Quotas{"claude-sonnet-4-5": {tollgate.RPM(50)}})),
		anthropic.WithModel("claude-sonnet-4-5"),
	)
	if err != nil {
		log.Fatal(err)
	}
	answer, err := llms.GenerateFromSinglePrompt(ctx, model, "Say hello.")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
	// Output: One question at a time, please, and all will be answered.
}

func newChainAnthropic(_ context.Context, rt http.RoundTripper) (clienttest.Ask, error) {
	model, err := anthropic.New(anthropic.WithHTTPClient(&http.Client{Transport: rt}))
	return chain(model, "claude-sonnet-4-5"), err
}

func isChainAnthropic(err error) bool { return llms.IsRateLimitError(anthropic.MapError(err)) }

// chain returns calls that are in turn whole and streamed.
func chain(model llms.Model, name string) clienttest.Ask {
	return func(ctx context.Context, i int) (text string, err error) {
		if i%2 == 0 {
			return llms.GenerateFromSinglePrompt(ctx, model, "Say hello.", llms.WithModel(name))
		}
		_, err = llms.GenerateFromSinglePrompt(ctx, model, "Say hello.", llms.WithModel(name),
			llms.WithStreamingFunc(func(_ context.Context, chunk []byte) error {
				text += string(chunk)
				return nil
			}))
		return text, err
	}
}
