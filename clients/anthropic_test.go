package clients

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"example.com/tollgate"
	"example.com/tollgate/internal/clienttest"
)

// Example_anthropic is anthropic-sdk-go, the SDK of Anthropic. A key is a model.
func Example_anthropic() {
	ctx := context.Background()
	client := anthropic.NewClient(
		option.WithHTTPClient(tollgate.NewClient(tollgate.Quotas{
			"claude-sonnet-4-5": {tollgate.RPM(50), tollgate.TPM(30_000), tollgate.OTPM(8_000)},
		})),
		option.WithMaxRetries(0), // tollgate retries
	)
	answer, err := client.Messages.New(ctx, anthropic.MessageNewParams{
		Model:     "claude-sonnet-4-5",
		MaxTokens: 100,
		Messages:  []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Say hello."))},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Content[0].Text)
	// Output: One question at a time, please, and all will be answered.
}

// newAnthropic returns a client whose calls are in turn whole and streamed.
func newAnthropic(_ context.Context, rt http.RoundTripper) (clienttest.Ask, error) {
	client := anthropic.NewClient(option.WithHTTPClient(&http.Client{Transport: rt}))
	params := anthropic.MessageNewParams{
		Model:     "claude-sonnet-4-5",
		MaxTokens: 100,
		Messages:  []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Say hello."))},
	}
	return func(ctx context.Context, i int) (string, error) {
		if i%2 == 0 {
			answer, err := client.Messages.New(ctx, params)
			if err != nil {
				return "", err
			}
			return answer.Content[0].Text, nil
		}
		stream := client.Messages.NewStreaming(ctx, params)
		defer stream.Close()
		var answer anthropic.Message
		for stream.Next() {
			if err := answer.Accumulate(stream.Current()); err != nil {
				return "", err
			}
		}
		if err := stream.Err(); err != nil {
			return "", err
		}
		return answer.Content[0].Text, nil
	}, nil
}

func isAnthropic(err error) bool {
	var e *anthropic.Error
	return errors.As(err, &e) && e.StatusCode == http.StatusTooManyRequests
}
