package tollgate

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/queue"
	"example.com/tollgate/internal/readahead"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/upload"
	"example.com/tollgate/provider"
)

// wishes are what a context says of requests.
type wishes struct {
	cost     Cost // negative: nothing
	key      string
	priority Priority
}

type wishesKey struct{}

// wishesOf returns what a context says. One look for all of it is enough: contexts
// may be many layers deep.
func wishesOf(ctx context.Context) wishes {
	if w, ok := ctx.Value(wishesKey{}).(*wishes); ok {
		return *w
	}
	return wishes{cost: unsaid}
}

func (w wishes) with(ctx context.Context) context.Context {
	return context.WithValue(ctx, wishesKey{}, &w)
}

// WithTokens returns a context for requests of n tokens each, where the caller
// knows better than an estimate what a request draws on limits of [Tokens]. An
// n below 0 is 0. It is [WithCost] of that unit alone.
func WithTokens(ctx context.Context, n int64) context.Context {
	return WithCost(ctx, Cost{Requests: -1, Tokens: max(n, 0), OutputTokens: -1})
}

// WithCost returns a context for requests that draw c each, by Unit: points of
// GitHub, Shopify or Atlassian as well as tokens. Of a unit that is 0 a request
// draws nothing; a negative one is as an earlier WithCost says, else as estimated.
//
// What is said is charged as it is. Where the API reports what a request has used
// of a unit, which model APIs do of tokens, that sets it right afterwards, unless 0
// was said.
func WithCost(ctx context.Context, c Cost) context.Context {
	w := wishesOf(ctx)
	for u, n := range c {
		if n >= 0 {
			w.cost[u] = n
		}
	}
	return w.with(ctx)
}

// WithKey returns a context for requests that draw on the quota of a key, whatever
// their host or model: that of a tenant, an API key or an endpoint. All hosts share
// it. Its limits are those of the entry of that name in Quotas, else those of "*".
// Empty: the model's name or the host.
func WithKey(ctx context.Context, key string) context.Context {
	w := wishesOf(ctx)
	w.key = key
	return w.with(ctx)
}

// A Priority says whose requests go first when several wait for one quota. The
// zero value is that of requests without one.
//
// Requests of a higher level go first: one that comes gets the next token,
// however many of lower levels wait. So that none starves, a lower level rises
// after a minute in which it was kept back, or before if it would have to wait for
// longer: from then on it and the highest level go in turns, each drawing as much
// as the other, until what has waited for a minute is done.
//
// Tenants of one level share the quota in proportion to their weights while they
// have requests waiting, in units of what is scarcest for those who wait: of two
// tenants, none gets ahead of the other by more than the largest request of
// each, divided by its weight. A tenant alone gets everything, and owes nothing for
// it. Each tenant's requests go in the order in which they came; one that is sent
// again keeps its place.
//
// Where a deadline or MaxWait would end the wait, those who would go ahead are
// reckoned with: a request that cannot make it any more because others have come
// that go before it is rejected then.
//
// Priorities order the requests of one Transport. Where [Transport.Limiter] shares
// the quota with other processes, each orders its own, and how much each gets is as
// if there were no priorities: a request of a high level does not go before those
// of another process.
type Priority struct {
	Level  int     // higher goes first; 0: normal
	Tenant string  // who shares the level with others; "": one tenant of its own
	Weight float64 // the tenant's share is in proportion to that of its latest request; 0: 1
}

// WithPriority returns a context for requests with a priority. It has no effect on
// a Transport that has a Priority function.
func WithPriority(ctx context.Context, p Priority) context.Context {
	w := wishesOf(ctx)
	w.priority = p
	return w.with(ctx)
}

// classOf returns the class of a request whose context says p; nil: it has none.
func classOf(t *Transport, req *http.Request, p Priority) (*queue.Class, error) {
	if t.Priority != nil {
		p = t.Priority(req)
	}
	switch {
	case p == Priority{}:
		return nil, nil
	case !(p.Weight >= 0 && p.Weight <= math.MaxFloat64):
		return nil, fmt.Errorf("tollgate: Priority of tenant %q: Weight is %v: it must be finite, and not negative", p.Tenant, p.Weight)
	}
	return &queue.Class{Level: p.Level, Tenant: p.Tenant, Weight: p.Weight}, nil
}

// An attempt is one attempt at a request: what that draws on, and how far it has
// come. A waiter is little more than that, so it is kept small.
type attempt struct {
	limiter.Request
	subject
	req  *http.Request
	body *readahead.Body // to be sent in place of the request's; nil: that itself
	note *note           // what goes on to the next attempt; nil: there is none
	fate
	counted bool // its tokens are estimated, if there is anything to estimate them by
	rough   bool // its cost is in part a guess at what was not read of its body

	api   provider.API
	key   limiter.Key
	usage []provider.Usage // where the response says what it has cost; nil: nowhere, or it does not matter
	kept  *kept            // what the server keeps of it; nil: nothing

	times  *times        // for Trace.Done; nil: that does not want to know
	waited time.Duration // in all queues that it has been in
}

// kept is what the server keeps of a call, and where it says so.
type kept struct {
	record *provider.Record
	polls  string // see provider.Call
}

// plan finds out what a request draws on.
func plan(t *Transport, a *attempt) error {
	req := a.req
	a.api, a.Owner = t.API, a
	if a.api == nil {
		a.api = provider.For(req)
	}
	call := a.api.Call(req)
	host, w := provider.Host(req), wishesOf(req.Context())
	said := w.cost
	if a.name = w.key; a.name == "" && t.Key != nil {
		a.name = t.Key(req)
	}
	a.chosen = a.name != ""
	a.aside, a.open, a.Rule, a.Zone = call.Aside, call.Open, refill.Rule(call.Refill), call.Zone
	var err error
	if a.counted = call.Open; call.Open && (!a.chosen || said[Requests] < 0 || said[Tokens] < 0) {
		if call, err = a.read(t, call, said[Tokens] < 0); err != nil {
			return err
		}
	}
	if !a.chosen {
		a.name = call.Key
	}
	err = a.locate(t, host)
	// The note stays with the request, whatever quota it is found to draw on next time.
	a.note = noteOf(req, t, limiter.Key{Host: host, Name: a.name})
	if err != nil {
		return err
	}
	class, err := classOf(t, req, w.priority)
	if err != nil {
		return err
	}
	a.From(class)
	a.once = call.Once
	return a.weigh(t, &call, said)
}

// weigh finds out what the request is charged by the limiter that it has.
func (a *attempt) weigh(t *Transport, call *provider.Call, said Cost) (err error) {
	if !a.counted && said[Tokens] < 0 && !call.Aside && a.Limiter.CountsTokens() {
		a.counted = true
		if *call, err = a.read(t, *call, true); err != nil {
			return err
		}
	}
	if !call.Exact && (!call.Aside || call.Polls != "") {
		a.usage = call.Usage
	}
	if call.Record != nil {
		a.kept = &kept{call.Record, call.Polls}
	}
	a.charge(t, call, said)
	if call.Follows != "" {
		if cost, ok := t.receipts.Cost(a.key.Host, call.Follows); ok {
			a.Draw.History = max(cost[Tokens], 0) + max(cost[OutputTokens], 0)
		}
	}
	return nil
}

// relocate finds the limiter of an attempt anew: it was forgotten, or there are other
// quotas.
func (a *attempt) relocate(t *Transport) error {
	if err := a.locate(t, provider.Host(a.req)); err != nil || a.counted || !a.Limiter.CountsTokens() {
		return err
	}
	call := a.api.Call(a.req)
	return a.weigh(t, &call, wishesOf(a.req.Context()).cost)
}

// locate finds the quota that a request to a host draws on, and the limiter that
// keeps it.
func (a *attempt) locate(t *Transport, host string) error {
	b := t.book()
	if b.err != nil {
		return b.err
	}
	x := b.find(host, &a.subject)
	if !x.found && !a.aside && b.tell(x.key.Name) {
		t.Trace.noQuota(a.req, x.key.Name, b.entries.List(maxListed))
	}
	a.key, a.Version, a.Limiter = x.key, b.version, t.limiter(a, b, &x)
	if t.book() != b { // SetQuotas may have missed a limiter that was made just now
		return a.locate(t, host)
	}
	return nil
}

// charge notes what a request draws: what the caller says, else what Transport.Cost
// makes of the estimate.
func (a *attempt) charge(t *Transport, call *provider.Call, said Cost) {
	d := estimate.Draw{Fixed: call.Exact || a.rough, Continues: call.Continues}
	for u, n := range call.Cost {
		d.Cost[u] = min(max(n, 0), mostCost)
	}
	if t.Cost != nil {
		is := Cost(a.Limiter.Estimate(d))
		for u, n := range t.Cost(a.req, is) {
			if said[u] < 0 && n != is[u] {
				said[u] = n // what it leaves as it is stays an estimate
			}
		}
	}
	for u, n := range said {
		if n >= 0 {
			d.Cost[u], d.Said = min(n, mostCost), d.Said.With(u)
		}
	}
	d.Fixed = d.Fixed || said[Tokens] >= 0
	a.Draw = d
}

// unsaid is a cost of which the caller says nothing.
var unsaid = Cost{-1, -1, -1}

// mostCost is more than any request costs.
const mostCost = 1 << 40

// maxBuffered is what Transport.MaxBuffered is where it is 0.
const maxBuffered = 64 << 20

// read has the API read the request's body, which is sent all the same.
func (a *attempt) read(t *Transport, c provider.Call, tokens bool) (provider.Call, error) {
	req := a.req
	switch {
	case req.Body == nil || req.Body == http.NoBody || req.Header.Get("Content-Encoding") != "":
		return c, nil
	case req.GetBody != nil:
		body, err := getBody(req)
		if err != nil {
			return c, err
		}
		defer body.Close()
		a.api.Read(&c, body, tokens)
		return c, nil
	}
	size := req.ContentLength
	if size <= 0 {
		size = -1 // there is a body, so that 0 stands for not known
	}
	t.memory.SetMax(cmp.Or(t.MaxBuffered, maxBuffered))
	//nolint:staticcheck // Cancel is deprecated, and heeded by http.Transport
	a.body = readahead.New(req.Context(), req.Cancel, req.Body, size, &t.memory)
	c, rough, err := upload.Read(a.body, a.api, c, tokens, t.MaxWait)
	a.rough = rough
	if !a.body.Begun() {
		a.body = nil
	}
	switch ctx := req.Context(); {
	case err == context.Canceled && (ctx.Err() == nil || context.Cause(ctx) == errCancel):
		err = errCancel
	case err == readahead.ErrFull:
		err = &LimitError{Key: c.Key, Reason: PastMaxQueue, RetryAfter: refill.Never, bound: fmt.Sprintf("MaxBuffered of %d bytes", t.memory.Max())}
	}
	return c, err
}

// getBody returns a new copy of a request's body.
func getBody(req *http.Request) (io.ReadCloser, error) {
	body, err := req.GetBody()
	if err == nil && body == nil {
		err = errNoBody
	}
	return body, err
}

// refusalOf returns a refusal as the engine has it.
func refusalOf(r provider.Refusal) engine.Refusal {
	f := engine.Refusal{Never: r.Never, Overload: r.Overload, Slower: r.Slower}
	if r.Hinted {
		f.Wait = max(r.Wait, 0)
	}
	for _, v := range r.Limits {
		if !v.Uncounted {
			f.Limits = append(f.Limits, engine.Named{Unit: int(v.Unit), N: v.N, Per: v.Per})
		}
	}
	return f
}

// answerOf returns what the headers of a response say, as the engine has it. There
// is room for levels.
func answerOf(t *Transport, api provider.API, resp *http.Response, refused bool, room []engine.Level) engine.Answer {
	a := engine.Answer{Refused: refused, Invalid: invalid(resp.StatusCode), Date: t.date(resp)}
	levels := api.Levels(resp)
	a.Levels = room[:0]
	for i := range levels {
		if l := &levels[i]; l.Name == "" {
			a.Levels = append(a.Levels, engine.Level{Unit: int(l.Unit), N: l.N, Per: l.Per, Left: l.Left, Full: l.Full})
		}
	}
	return a
}

// invalid reports whether a status means that the server did not process a request.
func invalid(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return true
	}
	return false
}
