package tollgate_test

import (
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"google.golang.org/genai"

	"example.com/tollgate"
)

// A client for any API: the key is its host, and "*" stands for all others.
func ExampleNewClient() {
	client := tollgate.NewClient(tollgate.Quotas{
		"api.example.com": {tollgate.RPS(5), tollgate.RPM(100)},
		"*":               {tollgate.RPM(60)},
	})
	resp, err := client.Get("https://api.example.com/things")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
}

// What NewClient makes is a Retry over a Transport, whose fields may be set before the
// client is used.
func ExampleNewClient_timeout() {
	client := tollgate.NewClient(tollgate.Quotas{"*": {tollgate.RPM(60)}})
	t := client.Transport.(*tollgate.Retry).Base.(*tollgate.Transport)
	t.Timeout = 30 * time.Second // leave client.Timeout zero: it includes the time in the queue
	t.MaxWait = 5 * time.Minute
	fmt.Println(t.Base == nil, client.Timeout)
	// Output: true 0s
}

// Each tenant has a quota of its own, whatever it calls.
func ExampleWithKey() {
	client := tollgate.NewClient(tollgate.Quotas{
		"acme": {tollgate.RPM(100)},
		"*":    {tollgate.RPM(10)}, // every other tenant
	})
	ctx := tollgate.WithKey(context.Background(), "acme")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.example.com/things", nil)
	if err != nil {
		log.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
}

// An API that counts points has a limit of Tokens: here GitHub's of GraphQL, where
// a query of 30 costs 30 of 5000 an hour.
func ExampleWithCost() {
	client := tollgate.NewClient(tollgate.Quotas{
		"api.github.com": {{Unit: tollgate.Tokens, N: 5000, Per: time.Hour}, tollgate.Concurrency(100)},
	})
	ctx := tollgate.WithCost(context.Background(), tollgate.Cost{tollgate.Requests: 1, tollgate.Tokens: 30})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://api.github.com/graphql", nil)
	if err != nil {
		log.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
}

// How long 100 calls of a model will take, and what a larger quota changes.
func ExampleTransport_Forecast() {
	t := &tollgate.Transport{Quotas: tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(10)}}}
	fmt.Println(t.Forecast("gemini-2.5-flash", 100, tollgate.Cost{}).Round(time.Minute))
	t.SetQuotas(tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(50)}})
	fmt.Println(t.Forecast("gemini-2.5-flash", 100, tollgate.Cost{}).Round(time.Minute))
	// Output:
	// 9m0s
	// 1m0s
}

// The Gemini SDK takes the client as it is: the key is the model.
func ExampleNewClient_genai() {
	ctx := context.Background()
	client, err := genai.NewClient(ctx, &genai.ClientConfig{
		HTTPClient: tollgate.NewClient(tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(10)}}),
	})
	if err != nil {
		log.Fatal(err)
	}
	answer, err := client.Models.GenerateContent(ctx, "gemini-2.5-flash", genai.Text("Say hello."), nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Text())
}

// A server that has no time to wait turns requests away instead.
func ExampleTransport() {
	api := httptest.NewServer(http.NotFoundHandler())
	defer api.Close()
	client := &http.Client{Transport: &tollgate.Transport{
		Quotas:  tollgate.Quotas{"*": {tollgate.RPM(1)}},
		MaxWait: 5 * time.Second,
		Trace:   tollgate.LogTrace(slog.Default()),
	}}
	if _, err := client.Get(api.URL); err != nil {
		log.Fatal(err)
	}
	_, err := client.Get(api.URL)
	var limit *tollgate.LimitError
	fmt.Println(errors.As(err, &limit), limit.Limit, limit.Reason)
	// Output: true 1 request per minute its turn comes after MaxWait
}

// A token bucket on its own, for work that is not HTTP.
func ExampleBucket() {
	b := tollgate.NewBucket(tollgate.Limit{N: 2, Per: time.Hour})
	fmt.Println(b.TryTake(1), b.TryTake(1), b.TryTake(1), b.Level())
	b.Put(1)
	fmt.Println(b.TryTake(1))
	// Output:
	// true true false 0
	// true
}

// One line publishes the state of every key at /debug/vars.
func ExampleTransport_Status() {
	api := httptest.NewServer(http.NotFoundHandler())
	defer api.Close()
	t := &tollgate.Transport{Quotas: tollgate.Quotas{"*": {tollgate.Concurrency(5), {N: 10, Per: time.Minute}}}}
	expvar.Publish("tollgate", expvar.Func(func() any { return t.Status() }))

	resp, err := (&http.Client{Transport: t}).Get(api.URL)
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	var list []tollgate.Status // as another program reads it
	if err := json.Unmarshal([]byte(expvar.Get("tollgate").String()), &list); err != nil {
		log.Fatal(err)
	}
	for _, l := range list[0].Limits {
		fmt.Println(l)
	}
	// Output:
	// 5 of 5 requests at once left
	// 9 of 10 requests per minute left
}

// Metrics of your own beside the log.
func ExampleJoinTraces() {
	retries := expvar.NewInt("retries")
	count := &tollgate.Trace{
		Retrying: func(*http.Request, tollgate.RetryInfo) { retries.Add(1) },
	}
	client := tollgate.NewClient(tollgate.GeminiFree)
	client.Transport.(*tollgate.Retry).Trace = tollgate.JoinTraces(count, tollgate.LogTrace(slog.Default()))
}
