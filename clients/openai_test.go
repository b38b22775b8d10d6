package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	goopenai "github.com/sashabaranov/go-openai"

	"example.com/tollgate"
	"example.com/tollgate/internal/clienttest"
)

// Example_openai is openai-go, the SDK of OpenAI. A key is a model.
func Example_openai() {
	ctx := context.Background()
	client := openai.NewClient(
		option.WithHTTPClient(tollgate.NewClient(tollgate.Quotas{
			"gpt-5": {tollgate.RPM(500), tollgate.TPM(200_000)},
		})),
		option.WithMaxRetries(0), // tollgate retries
	)
	answer, err := client.Responses.New(ctx, responses.ResponseNewParams{
		Model: "gpt-5",
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("Say hello.")},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.OutputText())
	// Output: One question at a time, please, and all will be answered.
}

// newOpenAI returns a client that calls both of the API's methods, whole and
// streamed.
func newOpenAI(_ context.Context, rt http.RoundTripper) (clienttest.Ask, error) {
	client := openai.NewClient(option.WithHTTPClient(&http.Client{Transport: rt}))
	chat := openai.ChatCompletionNewParams{
		Model:    "gpt-5",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Say hello.")},
	}
	response := responses.ResponseNewParams{
		Model: "gpt-5",
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("Say hello.")},
	}
	return func(ctx context.Context, i int) (text string, err error) {
		switch i % 4 {
		case 0:
			answer, err := client.Chat.Completions.New(ctx, chat)
			if err != nil {
				return "", err
			}
			return answer.Choices[0].Message.Content, nil
		case 1:
			stream := client.Chat.Completions.NewStreaming(ctx, chat)
			defer stream.Close()
			for stream.Next() {
				text += stream.Current().Choices[0].Delta.Content
			}
			return text, stream.Err()
		case 2:
			answer, err := client.Responses.New(ctx, response)
			if err != nil {
				return "", err
			}
			return answer.OutputText(), nil
		}
		stream := client.Responses.NewStreaming(ctx, response)
		defer stream.Close()
		for stream.Next() {
			if e := stream.Current(); e.Type == "response.output_text.delta" {
				text += e.Delta
			}
		}
		return text, stream.Err()
	}, nil
}

func isOpenAI(err error) bool {
	var e *openai.Error
	return errors.As(err, &e) && e.StatusCode == http.StatusTooManyRequests
}

// Example_goOpenAI is sashabaranov/go-openai. A key is a model.
func Example_goOpenAI() {
	ctx := context.Background()
	config := goopenai.DefaultConfig(os.Getenv("OPENAI_API_KEY"))
	config.HTTPClient = tollgate.NewClient(tollgate.Quotas{
		"gpt-5": {tollgate.RPM(500), tollgate.TPM(200_000)},
	})
	client := goopenai.NewClientWithConfig(config)
	answer, err := client.CreateChatCompletion(ctx, goopenai.ChatCompletionRequest{
		Model:    "gpt-5",
		Messages: []goopenai.ChatCompletionMessage{{Role: "user", Content: "Say hello."}},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Choices[0].Message.Content)
	// Output: One question at a time, please, and all will be answered.
}

// newGoOpenAI returns a client whose calls are in turn whole and streamed.
func newGoOpenAI(_ context.Context, rt http.RoundTripper) (clienttest.Ask, error) {
	config := goopenai.DefaultConfig(clienttest.Key)
	config.HTTPClient = &http.Client{Transport: rt}
	client := goopenai.NewClientWithConfig(config)
	req := goopenai.ChatCompletionRequest{
		Model:    "gpt-5",
		Messages: []goopenai.ChatCompletionMessage{{Role: "user", Content: "Say hello."}},
	}
	return func(ctx context.Context, i int) (text string, err error) {
		if i%2 == 0 {
			answer, err := client.CreateChatCompletion(ctx, req)
			if err != nil {
				return "", err
			}
			return answer.Choices[0].Message.Content, nil
		}
		stream, err := client.CreateChatCompletionStream(ctx, req)
		if err != nil {
			return "", err
		}
		defer stream.Close()
		for {
			part, err := stream.Recv()
			switch {
			case errors.Is(err, io.EOF):
				return text, nil
			case err != nil:
				return text, err
			}
			text += part.Choices[0].Delta.Content
		}
	}, nil
}

func isGoOpenAI(err error) bool {
	var e *goopenai.APIError
	return errors.As(err, &e) && e.HTTPStatusCode == http.StatusTooManyRequests
}
