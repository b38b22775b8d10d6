package zoo

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"example.com/tollgate"
)

// A Client makes what is to be measured of a server and of what the client is
// told of its limit: the key "*" has one limit of requests, or there is no key.
type Client func(server http.RoundTripper, q tollgate.Quotas) http.RoundTripper

// Most is the virtual time after which a play is broken off: what is not done by
// then is lost.
const Most = 2 * time.Hour

// A Result is what came of a play.
type Result struct {
	Server
	OK       int           // requests whose caller got a 200
	Lost     int           // requests whose caller got something else
	Refused  int           // refusals
	Volley   int           // refusals of what was sent before the first of them was heard
	Makespan time.Duration // from the first request until the last one was accepted
	Log      Log
}

// PerRequest is how many refusals there were for each request.
func (r Result) PerRequest() float64 { return float64(r.Refused) / float64(r.Requests) }

// Slowness is the makespan in terms of the ideal and of what is attainable, if
// that can be said: all is wanted at once, and the ideal is at least ten seconds.
// What is lost is never done: then the makespan counts as Most.
func (r Result) Slowness() (ideal, attainable float64, ok bool) {
	if r.Load != AtOnce || r.Ideal() < 10*time.Second {
		return 0, 0, false
	}
	took := r.Makespan
	if r.Lost > 0 {
		took = Most
	}
	return took.Seconds() / r.Ideal().Seconds(), took.Seconds() / r.Attainable().Seconds(), true
}

// Play makes the calls through the client. It has to be called in a synctest
// bubble.
func (s Server) Play(client Client) Result {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := time.AfterFunc(s.Start+Most, cancel) // no deadline: clients would act on it
	defer stop.Stop()

	g := newGateway(s, time.Now())
	hc := &http.Client{Transport: client(g, s.Quotas())}
	time.Sleep(s.Start)
	r := Result{Server: s}
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for i, at := range s.Wanted() {
		time.Sleep(s.Start + at - g.now())
		path := "/" + strconv.Itoa(i)
		wg.Go(func() {
			g.note(path, wanted, "")
			ok := get(ctx, hc, "http://zoo.example"+path)
			mu.Lock()
			defer mu.Unlock()
			if ok {
				r.OK++
				g.note(path, done, "")
			} else {
				r.Lost++
				g.note(path, lost, "")
			}
		})
	}
	wg.Wait()
	hc.CloseIdleConnections()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.log {
		switch e.what {
		case accepted:
			r.Makespan = e.at - s.Start
		case refused:
			r.Refused++
		}
	}
	for _, at := range g.sent {
		if at < g.heard {
			r.Volley++
		}
	}
	r.Log = Log{s.Start, g.log}
	return r
}

func get(ctx context.Context, hc *http.Client, url string) (ok bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := hc.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}
