// Package workload is what limiters are measured by: so many calls wanted at
// such times, at a server that counts in one way or another, in virtual time.
package workload

import (
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"example.com/tollgate/quotatest"
)

// A Case is a set of calls and the quota they are to be made in.
type Case struct {
	Name   string
	RPM    int64
	Wanted []time.Duration // when each call is wanted, from the start
}

// Cases are one round too many, many rounds, and bursts that come sooner than
// the quota is back.
var Cases = []Case{
	{"20 at once, 10 RPM", 10, bursts(1, 20, 0)},
	{"600 at once, 60 RPM", 60, bursts(1, 600, 0)},
	{"60 every 55 s, 60 RPM", 60, bursts(10, 60, 55*time.Second)},
}

func bursts(n, size int, apart time.Duration) []time.Duration {
	var at []time.Duration
	for i := range n {
		for range size {
			at = append(at, time.Duration(i)*apart)
		}
	}
	return at
}

// Ideal is how long the shortest schedule takes that is safe at every server
// that allows N a minute: the (N+1)th call has to be a minute after the first.
func (c Case) Ideal() time.Duration {
	return time.Duration((int64(len(c.Wanted))-1)/c.RPM) * time.Minute
}

// A Server is a way of counting.
type Server struct {
	Name  string
	Count quotatest.Counting
	Phase time.Duration // of a fixed window, after the start
}

// Servers are fixed windows that began some time ago, a sliding window, and a
// token bucket.
var Servers = []Server{
	{"fixed, begun 0 s ago", quotatest.Fixed, 0},
	{"fixed, begun 20 s ago", quotatest.Fixed, 40 * time.Second},
	{"fixed, begun 57 s ago", quotatest.Fixed, 3 * time.Second},
	{"sliding", quotatest.Sliding, 0},
	{"token bucket", quotatest.Bucket, 0},
}

// Jitter is an exponential latency with a mean of 60 ms, one way.
func Jitter() time.Duration { return time.Duration(rand.ExpFloat64() * float64(60*time.Millisecond)) }

// A Result is what came of a case.
type Result struct {
	OK       int           // calls whose caller got an answer
	Lost     int           // calls whose caller got none
	Refused  int           // refusals by the server
	Makespan time.Duration // until the last call was accepted
}

// Run makes the calls of c through what client makes of the server, in the
// synctest bubble that it is called in. An answer takes think.
func (c Case) Run(s Server, think time.Duration, client func(server http.RoundTripper) http.RoundTripper) Result {
	server := &quotatest.Server{
		Limits: map[string][]quotatest.Limit{"*": {{
			N: c.RPM, Per: time.Minute, Count: s.Count,
			Phase: time.Duration(time.Now().UnixNano())%time.Minute + s.Phase,
		}}},
		Latency: Jitter,
		Think:   func(*http.Request) time.Duration { return think },
	}
	return Calls(server, c.Wanted, client)
}

// Calls makes calls at the wanted times.
func Calls(server *quotatest.Server, wanted []time.Duration, client func(server http.RoundTripper) http.RoundTripper) Result {
	hc := &http.Client{Transport: client(server)}
	start := time.Now()
	var (
		r  Result
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for _, at := range wanted {
		time.Sleep(at - time.Since(start))
		wg.Go(func() {
			ok := call(hc)
			mu.Lock()
			defer mu.Unlock()
			if ok {
				r.OK++
			} else {
				r.Lost++
			}
		})
	}
	wg.Wait()
	r.Refused = server.Refused()
	for _, c := range server.Calls() {
		if c.Status == http.StatusOK {
			r.Makespan = max(r.Makespan, c.At.Sub(start))
		}
	}
	return r
}

// Prompt is the body of a small call to generateContent, and URL where to.
const (
	Prompt = `{"contents":[{"role":"user","parts":[{"text":"Say hello."}]}]}`
	URL    = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent"
)

func call(c *http.Client) (ok bool) {
	resp, err := c.Post(URL, "application/json", strings.NewReader(Prompt))
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}
