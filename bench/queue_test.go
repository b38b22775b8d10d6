package bench

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"example.com/tollgate"
)

// many is how many wait.
const many = 100_000

// A crowd is one key with requests in flight, each held at the server until it
// is told what to answer, and with many that wait. All that is learned of it is
// learned from outside: from Status, from when a call returns, and from the
// processor time that goes by.
type crowd struct {
	*tollgate.Transport
	b      *testing.B
	api    *exchange
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	lost   chan error // of a call that should have waited
}

func newCrowd(b *testing.B, api *exchange, quota ...tollgate.Limit) *crowd {
	c := &crowd{b: b, api: api, lost: make(chan error, 1)}
	c.ctx, c.cancel = context.WithCancel(b.Context())
	c.Transport = limited(server{api}, quota)
	return c
}

// end has all go home.
func (c *crowd) end() {
	c.cancel()
	c.wg.Wait()
}

// An attempt is a request in flight.
type attempt struct {
	arrived  chan struct{}
	answer   chan *http.Response
	answered time.Time          // when the server's answer was on its way back
	took     chan time.Duration // what the crowd's hold was asked to measure
}

type attemptKey struct{}

// A server holds the requests that come with an attempt, and has the API answer
// the others.
type server struct{ api *exchange }

func (s server) RoundTrip(req *http.Request) (*http.Response, error) {
	a, ok := req.Context().Value(attemptKey{}).(*attempt)
	if !ok {
		return s.api.RoundTrip(req)
	}
	if req.Body != nil {
		req.Body.Close()
	}
	close(a.arrived)
	select {
	case resp := <-a.answer:
		resp.Request = req
		a.answered = time.Now()
		return resp, nil
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

// hold sends a request that the server holds. measure is told of the response,
// if there is one, as soon as that is here.
func (c *crowd) hold(rt http.RoundTripper, measure func(*attempt, *http.Response) time.Duration) *attempt {
	a := &attempt{arrived: make(chan struct{}), answer: make(chan *http.Response), took: make(chan time.Duration, 1)}
	c.wg.Go(func() {
		resp, err := rt.RoundTrip(c.api.request(context.WithValue(c.ctx, attemptKey{}, a)))
		if err != nil {
			c.failed(err)
			return
		}
		a.took <- measure(a, resp)
		drain(resp.Body)
	})
	select {
	case <-a.arrived:
	case err := <-c.lost:
		c.b.Fatal(err)
	}
	return a
}

// took returns what hold measured.
func (c *crowd) took(a *attempt) time.Duration {
	select {
	case d := <-a.took:
		return d
	case err := <-c.lost:
		c.b.Fatal(err)
		return 0
	}
}

// pass makes n calls that are answered at once.
func (c *crowd) pass(n int) { c.api.send(c.ctx, c.Transport)(n) }

// join has n more requests wait, those of a batch in any order.
func (c *crowd) join(n int, ctx func() context.Context) {
	const batch = 1000
	for i := range n {
		c.wg.Go(func() { c.wait(c.api.request(ctx())) })
		if i%batch == batch-1 {
			c.waits(i + 1)
		}
	}
	c.waits(n)
	runtime.GC() // so that there is none while something is measured
}

// patient returns the context of those who wait for as long as they have to.
func (c *crowd) patient() context.Context { return c.ctx }

func (c *crowd) wait(req *http.Request) {
	resp, err := c.RoundTrip(req)
	if err == nil {
		resp.Body.Close()
		err = errors.New("a request was sent that should wait")
	}
	c.failed(err)
}

func (c *crowd) failed(err error) {
	if c.ctx.Err() == nil {
		select {
		case c.lost <- err:
		default:
		}
	}
}

// waits returns when n requests wait.
func (c *crowd) waits(n int) {
	late := time.After(2 * time.Minute)
	for {
		is := 0
		for _, s := range c.Status() {
			is += s.Waiting
		}
		if is == n {
			return
		}
		select {
		case err := <-c.lost:
			c.b.Fatalf("%d wait, want %d: %v", is, n, err)
		case <-late:
			c.b.Fatalf("%d wait, want %d", is, n)
		case <-time.After(time.Millisecond):
		}
	}
}

// hourly is a limit of n an hour, all of which are gone for the time that a
// benchmark takes once they are spent.
func hourly(unit tollgate.Unit, n int64) tollgate.Limit {
	return tollgate.Limit{Unit: unit, N: n, Per: time.Hour, Refill: tollgate.Window}
}

func refused(after time.Duration) *http.Response {
	h := unknown.headers().Clone()
	h.Set("Retry-After", strconv.Itoa(int(after.Seconds())))
	return &http.Response{StatusCode: http.StatusTooManyRequests, Header: h, Body: &said{rest: `{"error":"too many requests"}`}}
}

// back measures the time from when the server's answer was on its way back to
// when the caller of RoundTrip has it.
func back(a *attempt, _ *http.Response) time.Duration { return time.Since(a.answered) }

// comeback measures what it costs that a request which was refused returns to
// its place: processor time, from the refusal of 500 in one moment to when they
// all wait again. All of them have places before the 100,000 that wait, and
// behind one that is much older and waits at the head.
func comeback(b *testing.B) []figure {
	const n = 500
	c := newCrowd(b, unknown, hourly(tollgate.Requests, 1+many+n))
	defer c.end()
	retry := &tollgate.Retry{Base: c.Transport}
	old := c.hold(retry, back)
	c.pass(many)
	flying := make([]*attempt, n)
	for i := range flying {
		flying[i] = c.hold(retry, back)
	}
	c.join(many, c.patient)
	old.answer <- refused(10 * time.Minute)
	c.waits(1 + many)
	began := cpu()
	for _, a := range flying {
		a.answer <- refused(10 * time.Minute)
	}
	c.waits(1 + many + n)
	took := cpu() - began
	return []figure{{"comeback to the front, CPU", "µs", us(took) / n, "50"}}
}

// refusal measures a 429 with a hint while all who wait have a deadline, none of
// which is missed: the time from the server's answer until RoundTrip returns,
// most of which the key is locked, and the processor time, which has in it what
// is left to be done by others. Each hint is twice the one before, and the quota
// is one of requests and of tokens.
func refusal(b *testing.B) []figure {
	const n = 9
	c := newCrowd(b, gemini, hourly(tollgate.Requests, many+n), hourly(tollgate.Tokens, plenty))
	defer c.end()
	c.pass(many) // or the last of those who wait would have their turn in years
	var flying []*attempt
	for range n {
		flying = append(flying, c.hold(c.Transport, back))
	}
	var cancels []context.CancelFunc
	defer func() {
		for _, cancel := range cancels {
			cancel()
		}
	}()
	deadlines := make(chan context.Context, many)
	for range many {
		ctx, cancel := context.WithTimeout(c.ctx, 100*time.Hour+rand.N(100*time.Hour))
		deadlines <- ctx
		cancels = append(cancels, cancel)
	}
	c.join(many, func() context.Context { return <-deadlines })
	var took []float64
	began := cpu()
	for i, a := range flying {
		a.answer <- refused(5 * time.Second << i)
		took = append(took, ms(c.took(a)))
	}
	time.Sleep(10 * time.Millisecond)
	busy := cpu() - began
	return []figure{
		{"429 with a hint, all with deadlines, time until it is back", "ms", median(took), "1"},
		{"429 with a hint, all with deadlines, CPU", "ms", ms(busy) / n, ""},
	}
}

// estimate measures a response that changes what the requests of its key are
// estimated to cost: the time that its body takes to be read and closed. Each
// has cost 1.3 times what the one before it has, so that all of them do, and all
// more than was thought, so that nobody is let go.
func estimate(b *testing.B) []figure {
	const n = 32
	// What one is estimated to cost is what is missing while it is in flight.
	probe := newCrowd(b, gemini, hourly(tollgate.Tokens, plenty))
	probe.hold(probe.Transport, back)
	each := plenty - probe.Status()[0].Limits[0].Left
	probe.end()

	c := newCrowd(b, gemini, hourly(tollgate.Tokens, n*each))
	defer c.end()
	reading := func(_ *attempt, resp *http.Response) time.Duration {
		began := time.Now()
		drain(resp.Body)
		return time.Since(began)
	}
	var flying []*attempt
	for range n {
		flying = append(flying, c.hold(c.Transport, reading))
	}
	c.join(many, c.patient)
	var took []float64
	for i, a := range flying {
		cost := int(math.Ceil(float64(each) * math.Pow(1.3, float64(i+1))))
		a.answer <- &http.Response{
			StatusCode: http.StatusOK, Header: gemini.headers(),
			Body: &said{rest: geminiSays(strconv.Itoa(cost), strconv.Itoa(cost+5))},
		}
		took = append(took, ms(c.took(a)))
	}
	c.waits(many)
	return []figure{{"changed estimate, time until the body is read", "ms", median(took), "0.1"}}
}

// join measures 100,000 goroutines that call RoundTrip in one moment and have to
// wait, and what it costs when their context ends: processor time, for each.
// There are eight threads at it, however few processors: the system interrupts
// them anywhere, so that goroutines overtake each other between one step and the
// next, as they do on larger machines.
func join(b *testing.B) []figure {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	c := newCrowd(b, unknown, hourly(tollgate.Requests, 1))
	defer c.end()
	c.pass(1)
	var ready sync.WaitGroup
	start := make(chan struct{})
	for range many {
		ready.Add(1)
		c.wg.Go(func() {
			req := c.api.request(c.ctx)
			ready.Done()
			<-start
			c.wait(req)
		})
	}
	ready.Wait()
	runtime.GC()
	began := cpu()
	close(start)
	c.waits(many)
	joined := cpu()
	c.end()
	left := cpu()
	return []figure{
		{"join of 100,000 in one moment, CPU each", "µs", us(joined-began) / many, "50"},
		{"end of their context, CPU each", "µs", us(left-joined) / many, ""},
	}
}

func us(d time.Duration) float64 { return float64(d) / 1e3 }
func ms(d time.Duration) float64 { return float64(d) / 1e6 }
