// Package clients tries tollgate under the libraries that call the APIs it
// knows, as docs/clients.md shows them.
package clients

import (
	"net/http"
	"testing"

	"example.com/tollgate/internal/clienttest"
)

func TestMain(m *testing.M) {
	clienttest.Main(m, map[string]http.Handler{
		"generativelanguage.googleapis.com": clienttest.Gemini(),
		"aiplatform.googleapis.com":         clienttest.Gemini(),
		"api.openai.com":                    clienttest.OpenAI(),
		"api.anthropic.com":                 clienttest.OpenAI(),
		"api.github.com":                    newGitHubAPI(),
		"api.example.com":                   http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
	})
}

// TestLibraries has each library share a quota and meet a request that is not
// sent.
func TestLibraries(t *testing.T) {
	clienttest.Run(t, []clienttest.Library{
		{Name: "genai", API: clienttest.Gemini, Open: newGenAI, Limited: isGenAI},
		{Name: "genai with RetryOptions, without 429", Tries: 5, API: clienttest.Gemini, Open: newGenAIRetry, Limited: isGenAI},
		{Name: "genai, Interactions", API: clienttest.Gemini, Open: newInteractions, Limited: isInteractions},
		{Name: "openai-go", Tries: 3, API: clienttest.OpenAI, Open: newOpenAI, Limited: isOpenAI},
		{Name: "anthropic-sdk-go", Tries: 3, API: clienttest.OpenAI, Open: newAnthropic, Limited: isAnthropic},
		{Name: "go-openai", API: clienttest.OpenAI, Open: newGoOpenAI, Limited: isGoOpenAI},
		{Name: "langchaingo, Gemini", API: clienttest.Gemini, Open: newChainGemini, Limited: isChainGemini},
		{Name: "langchaingo, OpenAI", Hides: true, API: clienttest.OpenAI, Open: newChainOpenAI, Limited: isChainOpenAI},
		{Name: "langchaingo, Anthropic", API: clienttest.OpenAI, Open: newChainAnthropic, Limited: isChainAnthropic},
		{Name: "go-github", API: newGitHubAPI, Open: newGitHub, Limited: isGitHub},
	})
}

// TestDocs has the documentation show what is tested here.
func TestDocs(t *testing.T) {
	clienttest.Snippets(t, "clients", "../docs/clients.md", "../docs/migrating.md", "../docs/composition.md")
}
