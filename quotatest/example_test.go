package quotatest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"example.com/tollgate/quotatest"
)

// program is what is tested: it makes 12 calls and heeds no limit.
func program(client *http.Client, url string) {
	for range 12 {
		resp, err := client.Post(url+"/v1beta/models/gemini-2.5-flash:generateContent", "application/json",
			strings.NewReader(`{"contents":[{"parts":[{"text":"Why is the sky blue?"}]}]}`))
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
	}
}

func Example() {
	api := &quotatest.Server{Limits: map[string][]quotatest.Limit{
		// Not RPM(10): the next minute could begin in the middle.
		"gemini-2.5-flash": {{N: 10, Per: time.Minute, Count: quotatest.Sliding}},
	}}
	program(&http.Client{Transport: api}, "https://generativelanguage.googleapis.com")
	fmt.Println(api.Accepted(), "accepted,", api.Refused(), "refused")
	// Output: 10 accepted, 2 refused
}

func ExampleServer_ServeHTTP() {
	api := &quotatest.Server{
		Script: func(n int, _ *http.Request) int {
			if n%4 == 3 {
				return http.StatusServiceUnavailable
			}
			return 0
		},
	}
	srv := httptest.NewServer(api)
	defer srv.Close()
	program(srv.Client(), srv.URL)
	for _, call := range api.Calls()[:4] {
		fmt.Println(call.Model, call.Tokens, call.Status)
	}
	// Output:
	// gemini-2.5-flash 5 200
	// gemini-2.5-flash 5 200
	// gemini-2.5-flash 5 200
	// gemini-2.5-flash 5 503
}

// The API is told from the path: this one is OpenAI's.
func ExampleServer_openAI() {
	api := &quotatest.Server{Limits: map[string][]quotatest.Limit{
		"gpt-5": {{N: 3, Per: 24 * time.Hour, Count: quotatest.Bucket}},
	}}
	client := &http.Client{Transport: api}
	for range 4 {
		resp, err := client.Post("https://api.openai.com/v1/chat/completions", "application/json",
			strings.NewReader(`{"model":"gpt-5","messages":[{"role":"user","content":"Why is the sky blue?"}]}`))
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Println(resp.StatusCode, resp.Header.Get("x-ratelimit-remaining-requests"), "of", resp.Header.Get("x-ratelimit-limit-requests"))
	}
	// Output:
	// 200 2 of 3
	// 200 1 of 3
	// 200 0 of 3
	// 429 0 of 3
}

// In the Interactions API, what runs in the background can be asked for and cancelled.
func ExampleServer_interactions() {
	api := &quotatest.Server{Think: func(*http.Request) time.Duration { return time.Minute }}
	client := &http.Client{Transport: api}
	status := func(resp *http.Response, err error) string {
		var interaction struct{ Status string }
		if err == nil {
			defer resp.Body.Close()
			err = json.NewDecoder(resp.Body).Decode(&interaction)
		}
		if err != nil {
			return err.Error()
		}
		return interaction.Status
	}
	const url = "https://generativelanguage.googleapis.com/v1beta/interactions"
	fmt.Println(status(client.Post(url, "application/json", strings.NewReader(`{"model":"gemini-2.5-flash","input":"Why is the sky blue?","background":true}`))))
	fmt.Println(status(client.Get(url + "/interaction-0")))
	fmt.Println(status(client.Post(url+"/interaction-0/cancel", "", nil)))
	// Output:
	// in_progress
	// in_progress
	// cancelled
}
