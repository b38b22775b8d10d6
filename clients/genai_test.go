package clients

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"

	"google.golang.org/genai"
	"google.golang.org/genai/interactions/models/apierrors"
	models "google.golang.org/genai/interactions/models/interactions"
	"google.golang.org/genai/interactions/models/operations"

	"example.com/tollgate"
	"example.com/tollgate/internal/clienttest"
)

// Example_genai is genai, the SDK of Google. A key is a model.
func Example_genai() {
	ctx := context.Background()
	client, err := genai.NewClient(ctx, &genai.ClientConfig{
		APIKey: os.Getenv("GEMINI_API_KEY"),
		HTTPClient: tollgate.NewClient(tollgate.Quotas{
			"gemini-2.5-flash": {tollgate.RPM(10), tollgate.TPM(250_000), tollgate.RPD(250)},
		}),
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

func newGenAI(ctx context.Context, rt http.RoundTripper) (clienttest.Ask, error) {
	return openGenAI(ctx, rt, nil)
}

// newGenAIRetry returns a client that retries on its own, but no call that was
// refused.
func newGenAIRetry(ctx context.Context, rt http.RoundTripper) (clienttest.Ask, error) {
	return openGenAI(ctx, rt, &genai.HTTPRetryOptions{
		HTTPStatusCodes: []int32{500, 502, 503, 504},
		InitialDelay:    genai.Ptr(0.01),
	})
}

// openGenAI returns a client whose calls are in turn whole and streamed.
func openGenAI(ctx context.Context, rt http.RoundTripper, retry *genai.HTTPRetryOptions) (clienttest.Ask, error) {
	client, err := genai.NewClient(ctx, &genai.ClientConfig{
		Backend:     genai.BackendGeminiAPI,
		APIKey:      clienttest.Key,
		HTTPClient:  &http.Client{Transport: rt},
		HTTPOptions: genai.HTTPOptions{RetryOptions: retry},
	})
	return func(ctx context.Context, i int) (text string, err error) {
		if i%2 == 0 {
			answer, err := client.Models.GenerateContent(ctx, "gemini-2.5-flash", genai.Text("Say hello."), nil)
			if err != nil {
				return "", err
			}
			return answer.Text(), nil
		}
		for answer, err := range client.Models.GenerateContentStream(ctx, "gemini-2.5-flash", genai.Text("Say hello."), nil) {
			if err != nil {
				return text, err
			}
			text += answer.Text()
		}
		return text, nil
	}, err
}

func isGenAI(err error) bool {
	var e genai.APIError
	return errors.As(err, &e) && e.Code == http.StatusTooManyRequests
}

// Example_interactions is genai's client of the Interactions API.
func Example_interactions() {
	ctx := context.Background()
	client, err := genai.NewClient(ctx, &genai.ClientConfig{
		APIKey:     os.Getenv("GEMINI_API_KEY"),
		HTTPClient: tollgate.NewClient(tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(10)}}),
	})
	if err != nil {
		log.Fatal(err)
	}
	answer, err := client.Interactions.Create(ctx, operations.CreateInteractionRequest{
		Body: operations.NewCreateInteractionRequestBody(models.CreateModelInteraction{
			Model: "gemini-2.5-flash",
			Input: genai.Ptr(models.NewInteractionsInput("Say hello.")),
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(*answer.Interaction.OutputText)
	// Output: One question at a time, please, and all will be answered.
}

// newInteractions returns a client of the Interactions API, whose calls are in
// turn whole and streamed.
func newInteractions(ctx context.Context, rt http.RoundTripper) (clienttest.Ask, error) {
	client, err := genai.NewClient(ctx, &genai.ClientConfig{
		Backend:    genai.BackendGeminiAPI,
		APIKey:     clienttest.Key,
		HTTPClient: &http.Client{Transport: rt},
	})
	return func(ctx context.Context, i int) (text string, err error) {
		answer, err := client.Interactions.Create(ctx, operations.CreateInteractionRequest{
			Body: operations.NewCreateInteractionRequestBody(models.CreateModelInteraction{
				Model:  "gemini-2.5-flash",
				Input:  genai.Ptr(models.NewInteractionsInput("Say hello.")),
				Stream: genai.Ptr(i%2 == 1),
			}),
		})
		switch {
		case err != nil:
			return "", err
		case i%2 == 0:
			return *answer.Interaction.OutputText, nil
		}
		stream := answer.InteractionSSEStreamEvent
		defer stream.Close()
		for stream.Next() {
			if d := stream.Value().GetDataStepDelta(); d != nil && d.Delta.TextDelta != nil {
				text += d.Delta.TextDelta.Text
			}
		}
		return text, stream.Err()
	}, err
}

func isInteractions(err error) bool {
	var e *apierrors.CreateInteractionClientError
	return errors.As(err, &e) && e.HTTPMeta.Response.StatusCode == http.StatusTooManyRequests
}
