package clients

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"golang.org/x/time/rate"
	"google.golang.org/genai"

	"example.com/tollgate"
)

func Example_beforeRate() {
	ctx := context.Background()
	limiter := rate.NewLimiter(rate.Every(6*time.Second), 10)

	if err := limiter.Wait(ctx); err != nil {
		log.Fatal(err)
	}
	resp, err := http.Get("https://api.example.com/things")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

func Example_afterRate() {
	client := tollgate.NewClient(tollgate.Quotas{"api.example.com": {tollgate.RPM(10)}})

	resp, err := client.Get("https://api.example.com/things")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

func Example_afterRateBucket() {
	ctx := context.Background()
	bucket := tollgate.NewBucket(tollgate.Limit{N: 10, Per: time.Minute, Refill: tollgate.Steady})

	if err := bucket.Take(ctx, 1); err != nil { // Wait, WaitN
		log.Fatal(err)
	}
	fmt.Println(bucket.TryTake(1)) // Allow, AllowN
	fmt.Println(bucket.Level())    // Tokens
	// Output:
	// true
	// 8
}

func Example_beforeFailsafe() {
	limiter := ratelimiter.NewBurstyBuilder[*http.Response](10, time.Minute).WithMaxWaitTime(5 * time.Minute).Build()
	retry := failsafehttp.NewRetryPolicyBuilder().WithMaxRetries(3).WithBackoff(time.Second, 30*time.Second).Build()
	client := &http.Client{Transport: failsafehttp.NewRoundTripper(nil, retry, limiter)}

	resp, err := client.Get("https://api.example.com/things")
	if errors.Is(err, ratelimiter.ErrExceeded) {
		log.Fatal("the wait would be too long")
	} else if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

func Example_afterFailsafe() {
	client := &http.Client{Transport: &tollgate.Retry{
		Max: 3,
		Base: &tollgate.Transport{
			Quotas:  tollgate.Quotas{"api.example.com": {tollgate.RPM(10)}},
			MaxWait: 5 * time.Minute,
		},
	}}

	resp, err := client.Get("https://api.example.com/things")
	if errors.Is(err, tollgate.ErrLimited) {
		log.Fatal("the wait would be too long")
	} else if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

func Example_beforeRetryOptions() {
	ctx := context.Background()
	client, err := genai.NewClient(ctx, &genai.ClientConfig{
		APIKey: os.Getenv("GEMINI_API_KEY"),
		HTTPOptions: genai.HTTPOptions{
			Timeout:      genai.Ptr(30 * time.Second),
			RetryOptions: &genai.HTTPRetryOptions{Attempts: genai.Ptr[int32](9)},
		},
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

func Example_afterRetryOptions() {
	ctx := context.Background()
	client, err := genai.NewClient(ctx, &genai.ClientConfig{
		APIKey: os.Getenv("GEMINI_API_KEY"),
		HTTPClient: &http.Client{Transport: &tollgate.Retry{
			Max: 8, // Attempts without the first one
			Base: &tollgate.Transport{
				Quotas:  tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(10)}},
				Timeout: 30 * time.Second, // of each attempt, without the wait
			},
		}},
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
