package clients

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/google/go-github/v75/github"

	"example.com/tollgate"
	"example.com/tollgate/internal/clienttest"
	"example.com/tollgate/quotatest"
)

// Example_github is go-github. The key is the host. The client's own check is
// off: it would fail calls that can wait.
func Example_github() {
	ctx := context.Background()
	client := github.NewClient(tollgate.NewClient(tollgate.Quotas{
		"api.github.com": {{N: 5000, Per: time.Hour}, tollgate.Concurrency(100)},
	})).WithAuthToken(os.Getenv("GITHUB_TOKEN"))
	client.DisableRateLimitCheck = true

	repo, _, err := client.Repositories.Get(ctx, "golang", "go")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(repo.GetDescription())
	// Output: One question at a time, please, and all will be answered.
}

func newGitHub(_ context.Context, rt http.RoundTripper) (clienttest.Ask, error) {
	client := github.NewClient(&http.Client{Transport: rt}).WithAuthToken(clienttest.Key)
	client.DisableRateLimitCheck = true
	return func(ctx context.Context, _ int) (string, error) {
		repo, _, err := client.Repositories.Get(ctx, "golang", "go")
		return repo.GetDescription(), err
	}, nil
}

func isGitHub(err error) bool {
	var e *github.ErrorResponse
	return errors.As(err, &e) && e.Response.StatusCode == http.StatusTooManyRequests
}

// A gitHubAPI describes repositories. It counts requests in fixed windows, and
// answers 403 where they are too many:
// https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api.
type gitHubAPI struct {
	limit quotatest.Limit // none if N is 0

	mu                sync.Mutex
	window            int64 // that was counted in last, since the Unix epoch
	used              int64 // in it
	accepted, refused int
}

func newGitHubAPI(limits ...quotatest.Limit) clienttest.API {
	return &gitHubAPI{limit: append(limits, quotatest.Limit{N: 5000, Per: time.Hour})[0]}
}

func (g *gitHubAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodGet || r.URL.Path != "/repos/golang/go":
		http.NotFound(w, r)
		return
	case r.Header.Get("Authorization") != "Bearer "+clienttest.Key:
		http.Error(w, `{"message":"Bad credentials"}`, http.StatusUnauthorized)
		return
	}
	left, reset, ok := g.take(time.Now())
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-RateLimit-Limit", strconv.FormatInt(g.limit.N, 10))
	w.Header().Set("X-RateLimit-Remaining", strconv.FormatInt(left, 10))
	w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(reset.Unix(), 10))
	if !ok {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintln(w, `{"message":"API rate limit exceeded for user ID 1."}`)
		return
	}
	fmt.Fprintf(w, `{"full_name":"golang/go","description":%q}`+"\n", clienttest.Speech)
}

// take counts a request. It returns how many are left of its window, when that
// ends, and whether the request is one too many.
func (g *gitHubAPI) take(now time.Time) (left int64, reset time.Time, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w := now.UnixNano() / int64(g.limit.Per); w != g.window {
		g.window, g.used = w, 0
	}
	if ok = g.used < g.limit.N; ok {
		g.used++
		g.accepted++
	} else {
		g.refused++
	}
	return g.limit.N - g.used, time.Unix(0, (g.window+1)*int64(g.limit.Per)), ok
}

func (g *gitHubAPI) Accepted() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.accepted
}

func (g *gitHubAPI) Refused() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refused
}
