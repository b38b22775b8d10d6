// Package genkit_test tries tollgate under Genkit, as docs/clients.md shows it.
package genkit_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"sync"
	"testing"

	"github.com/firebase/genkit/go/ai"
	"github.com/firebase/genkit/go/genkit"
	"github.com/firebase/genkit/go/plugins/compat_oai"
	"github.com/firebase/genkit/go/plugins/googlegenai"
	"github.com/openai/openai-go"
	"github.com/openai/openai-go/option"
	"google.golang.org/genai"

	"example.com/tollgate"
	"example.com/tollgate/internal/clienttest"
)

func TestMain(m *testing.M) {
	clienttest.Main(m, map[string]http.Handler{
		"generativelanguage.googleapis.com": clienttest.Gemini(),
		"api.openai.com":                    clienttest.OpenAI(),
	})
}

// TestLibraries has each plugin share a quota and meet a request that is not
// sent.
func TestLibraries(t *testing.T) {
	clienttest.Run(t, []clienttest.Library{
		{Name: "Gemini", API: clienttest.Gemini, Open: newGenkitGemini, Limited: isGenAI},
		{Name: "OpenAI", Tries: 3, API: clienttest.OpenAI, Open: newGenkitOpenAI, Limited: isGenkitOpenAI},
	})
}

// Example_genkit is Genkit with the Gemini API. Its plugin takes no HTTP client:
// it keeps what is http.DefaultTransport when Genkit is initialized.
func Example_genkit() {
	ctx := context.Background()
	plain := http.DefaultTransport
	http.DefaultTransport = &tollgate.Retry{Base: &tollgate.Transport{
		Base:   plain,
		Quotas: tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(10)}},
	}}
	g := genkit.Init(ctx, genkit.WithPlugins(&googlegenai.GoogleAI{APIKey: os.Getenv("GEMINI_API_KEY")}))
	http.DefaultTransport = plain

	answer, err := genkit.GenerateText(ctx, g, ai.WithModelName("googleai/gemini-2.5-flash"), ai.WithPrompt("Say hello."))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
	// Output: One question at a time, please, and all will be answered.
}

// initializing is held while http.DefaultTransport is another one.
var initializing sync.Mutex

func newGenkitGemini(ctx context.Context, rt http.RoundTripper) (clienttest.Ask, error) {
	initializing.Lock()
	defer initializing.Unlock()
	plain := http.DefaultTransport
	defer func() { http.DefaultTransport = plain }()
	http.DefaultTransport = rt
	g := genkit.Init(ctx, genkit.WithPlugins(&googlegenai.GoogleAI{APIKey: clienttest.Key}))
	return generate(g, "googleai/gemini-2.5-flash"), nil
}

func isGenAI(err error) bool {
	var e genai.APIError
	return errors.As(err, &e) && e.Code == http.StatusTooManyRequests
}

// Example_genkitOpenAI is Genkit with the OpenAI API, by the plugin that takes
// options of openai-go.
func Example_genkitOpenAI() {
	ctx := context.Background()
	plugin := &compat_oai.OpenAICompatible{
		Provider: "openai",
		APIKey:   os.Getenv("OPENAI_API_KEY"),
		Opts: []option.RequestOption{
			option.WithHTTPClient(tollgate.NewClient(tollgate.Quotas{"gpt-5": {tollgate.RPM(500)}})),
			option.WithMaxRetries(0), // tollgate retries
		},
	}
	g := genkit.Init(ctx, genkit.WithPlugins(plugin))
	model := plugin.DefineModel("openai", "gpt-5", ai.ModelOptions{Supports: &compat_oai.Multimodal})

	answer, err := genkit.GenerateText(ctx, g, ai.WithModel(model), ai.WithPrompt("Say hello."))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
	// Output: One question at a time, please, and all will be answered.
}

func newGenkitOpenAI(ctx context.Context, rt http.RoundTripper) (clienttest.Ask, error) {
	plugin := &compat_oai.OpenAICompatible{
		Provider: "openai",
		APIKey:   clienttest.Key,
		Opts:     []option.RequestOption{option.WithHTTPClient(&http.Client{Transport: rt})},
	}
	g := genkit.Init(ctx, genkit.WithPlugins(plugin))
	plugin.DefineModel("openai", "gpt-5", ai.ModelOptions{Supports: &compat_oai.Multimodal})
	return generate(g, "openai/gpt-5"), nil
}

func isGenkitOpenAI(err error) bool {
	var e *openai.Error
	return errors.As(err, &e) && e.StatusCode == http.StatusTooManyRequests
}

// generate returns calls that are in turn whole and streamed.
func generate(g *genkit.Genkit, model string) clienttest.Ask {
	return func(ctx context.Context, i int) (text string, err error) {
		options := []ai.GenerateOption{ai.WithModelName(model), ai.WithPrompt("Say hello.")}
		if i%2 == 0 {
			return genkit.GenerateText(ctx, g, options...)
		}
		_, err = genkit.Generate(ctx, g, append(options, ai.WithStreaming(func(_ context.Context, c *ai.ModelResponseChunk) error {
			text += c.Text()
			return nil
		}))...)
		return text, err
	}
}

// TestDocs has the documentation show what is tested here.
func TestDocs(t *testing.T) {
	clienttest.Snippets(t, "clients/genkit", "../../docs/clients.md")
}
