package zoo

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A gateway is a server at work: an http.RoundTripper that is the network too.
type gateway struct {
	Server
	began time.Time // time 0

	mu      sync.Mutex
	counter counter
	shut    time.Duration   // everything is refused until then
	tries   map[string]int  // how often each path was sent
	log     []event         // in the order of time
	sent    []time.Duration // when each refused attempt was sent
	heard   time.Duration   // when the first refusal reached the client; -1: none has
}

// An event is one step of one request.
type event struct {
	at   time.Duration
	path string
	what step
	hint string // of a refusal
}

type step int

const (
	wanted step = iota
	sent
	accepted
	refused
	answered // the client has the response
	done     // the caller has a 200
	lost     // the caller has something else
	steps
)

func newGateway(s Server, began time.Time) *gateway {
	return &gateway{Server: s, began: began, counter: counterOf(s), tries: make(map[string]int), heard: -1}
}

func (g *gateway) now() time.Duration { return time.Since(g.began) }

// note logs what has happened to a request.
func (g *gateway) note(path string, what step, hint string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.log = append(g.log, event{g.now(), path, what, hint})
}

// RoundTrip implements http.RoundTripper.
func (g *gateway) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, path := req.Context(), req.URL.Path
	if req.Body != nil {
		req.Body.Close()
	}
	there, think, back := g.luck(path)
	began := g.now()
	g.note(path, sent, "")
	if err := sleep(ctx, there); err != nil {
		return nil, err
	}
	wait, ok := g.arrive(path)
	resp := &http.Response{
		StatusCode: http.StatusOK,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header: http.Header{
			"Content-Type": {"application/json"},
			"Server":       {"zoo"},
		},
		Request: req,
	}
	body := `{"ok":true}`
	if !ok {
		resp.StatusCode, body, think = http.StatusTooManyRequests, `{"error":"too many requests"}`, 0
		name, value := g.hint(g.now(), wait)
		if name != "" {
			resp.Header.Set(name, value)
			value = name + ": " + value
		}
		g.note(path, refused, value)
	}
	if err := sleep(ctx, think); err != nil {
		return nil, err
	}
	resp.Status = fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	resp.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	if err := sleep(ctx, back); err != nil {
		return nil, err
	}
	if !ok {
		g.hear(began)
	}
	g.note(path, answered, "")
	return resp, nil
}

// luck returns how long the next attempt at a path travels and is thought about.
// It depends on nothing else, and so not on who comes first of those that are
// sent at one time.
func (g *gateway) luck(path string) (there, think, back time.Duration) {
	g.mu.Lock()
	try := g.tries[path]
	g.tries[path]++
	g.mu.Unlock()
	n, _ := strconv.ParseUint(path[1:], 10, 32)
	r := rand.New(rand.NewPCG(g.Seed, n<<32|uint64(try)))
	there, back = g.Distance.travel(r), g.Distance.travel(r)
	return there, time.Duration(r.Float64() * float64(g.Think)), back
}

// travel returns a random time for one way.
func (d Distance) travel(r *rand.Rand) time.Duration {
	switch d {
	case Jitter:
		return time.Duration(r.ExpFloat64() * float64(60*time.Millisecond))
	case Tail:
		return min(time.Duration(float64(20*time.Millisecond)/(1-r.Float64())), 3*time.Second)
	}
	return 2 * time.Millisecond
}

// arrive judges a request. If it is refused, wait is how long it is until one
// would be accepted, if no other is counted before.
func (g *gateway) arrive(path string) (wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	ok = g.counter.ready(now) <= now && now >= g.shut
	if ok || g.CountRefused {
		g.counter.count(now)
	}
	if ok {
		g.log = append(g.log, event{at: now, path: path, what: accepted})
		return 0, true
	}
	if now >= g.shut { // refusals while it is shut do not prolong that
		g.shut = now + g.Shut
	}
	return max(g.shut, g.counter.ready(now)) - now, false
}

// hint returns the header of a refusal, "" if it has none.
func (g *gateway) hint(now, wait time.Duration) (name, value string) {
	const retry = "Retry-After"
	switch g.Hint {
	case Exact:
		return retry, seconds(up(wait, time.Second))
	case Float:
		return retry, strconv.FormatFloat(up(wait, time.Millisecond).Seconds(), 'f', 3, 64)
	case Truncated:
		return retry, seconds(wait)
	case OneSecond:
		return retry, "1"
	case WholePer:
		return retry, seconds(g.Per)
	case WrongWindow:
		return retry, seconds(up(window(now, g.Per, g.HintPhase)+g.Per-now, time.Second))
	case Epoch:
		return "X-RateLimit-Reset", strconv.FormatInt(g.second(now+wait).Unix(), 10)
	case Date:
		return retry, g.second(now + wait).Format(http.TimeFormat)
	}
	return "", ""
}

// second returns the first full second from a time on.
func (g *gateway) second(at time.Duration) time.Time {
	t := g.began.Add(at).UTC()
	if whole := t.Truncate(time.Second); whole.Before(t) {
		return whole.Add(time.Second)
	}
	return t
}

// up rounds up to whole units.
func up(d, unit time.Duration) time.Duration { return (d + unit - 1) / unit * unit }

// seconds writes the whole seconds of d.
func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// hear notes that the refusal of an attempt sent at the given time has reached
// the client.
func (g *gateway) hear(began time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sent = append(g.sent, began)
	if g.heard < 0 {
		g.heard = g.now()
	}
}

// sleep returns the context's error if that is done before d is over.
func sleep(ctx context.Context, d time.Duration) error {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}
