package quotatest_test

import (
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
