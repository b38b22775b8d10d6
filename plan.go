package tollgate

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/readahead"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/provider"
)

type tokensKey struct{}

// WithTokens returns a context for requests of n tokens each, where the caller
// knows better than an estimate what a request draws on limits of [Tokens]. An
// n below 0 is 0.
func WithTokens(ctx context.Context, n int64) context.Context {
	return context.WithValue(ctx, tokensKey{}, max(n, 0))
}

// An attempt is one attempt at a request: what that draws on, and how far it has
// come. A waiter is little more than that, so it is kept small.
type attempt struct {
	limiter.Request
	req   *http.Request
	body  *readahead.Body // to be sent in place of the request's; nil: that itself
	note  *note
	api   provider.API
	key   limiter.Key
	usage []provider.Usage // where the response says what it has cost; nil: nowhere, or it does not matter
	aside bool             // see provider.Call
	open  bool
	rough bool // the cost is a guess at what was not read

	traced, wrote atomic.Bool // the base reports what it does; has begun to write
	own           note        // if none came with the request
}

// plan finds out what a request draws on.
func plan(t *Transport, req *http.Request) (*attempt, error) {
	a := &attempt{req: req, api: t.API}
	a.note = &a.own
	if a.api == nil {
		a.api = provider.For(req)
	}
	call := a.api.Call(req)
	given, known := req.Context().Value(tokensKey{}).(int64)
	host := provider.Host(req)
	var err error
	if call.Open {
		if call, err = a.read(t, call, !known); err != nil {
			return a, err
		}
		// The quota of a host is for all of its models together.
		if _, ok := t.Quotas[call.Key]; !ok && t.Quotas[host] != nil {
			call.Key = host
		}
	}
	a.key = limiter.Key{Host: host, Name: call.Key}
	a.aside, a.open, a.Rule, a.Zone = call.Aside, call.Open, refill.Rule(call.Refill), call.Zone
	a.note = noteOf(req, t, a.key, a.note)
	a.note.once = call.Once
	if a.Limiter, err = t.limiter(a); err != nil {
		return a, err
	}
	if !call.Open && !known && !call.Aside && a.Limiter.CountsTokens() {
		if call, err = a.read(t, call, true); err != nil {
			return a, err
		}
	}
	if known {
		call.Cost[Tokens] = given
	}
	if !call.Exact && !call.Aside {
		a.usage = call.Usage
	}
	a.Draw = estimate.Draw{Fixed: known || call.Exact || a.rough, Continues: call.Continues}
	for u, n := range call.Cost {
		a.Draw.Cost[u] = min(max(n, 0), mostCost)
	}
	return a, nil
}

// mostCost is more than any request costs.
const mostCost = 1 << 40

// Bounds on what is read, before it is sent, of a body that cannot be had twice.
const (
	maxPrompt   = 8 << 20          // bytes
	maxSilence  = 10 * time.Second // without a byte
	maxBuffered = 64 << 20         // bytes of all bodies together, where Transport.MaxBuffered is 0
)

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
	b := readahead.New(req.Context(), req.Cancel, req.Body, lengthOf(req), buffers(t))
	defer b.Release()
	c, err := a.readAhead(b, c, tokens, t.MaxWait)
	if b.Begun() {
		a.body = b
	}
	return c, err
}

// lengthOf returns the length of a request's body, -1 if it is not known.
func lengthOf(req *http.Request) int64 {
	if req.ContentLength > 0 {
		return req.ContentLength
	}
	return -1 // there is a body, so that 0 stands for not known
}

// buffers returns the memory for what is read of bodies before they are sent.
func buffers(t *Transport) *readahead.Memory {
	if t.MaxBuffered == 0 {
		t.memory.SetMax(maxBuffered)
	} else {
		t.memory.SetMax(t.MaxBuffered)
	}
	return &t.memory
}

// readAhead has the API read a body that cannot be had twice, as far as there is
// memory for it. A request whose model nobody knows waits for memory; one of which
// just the cost is not known does not.
func (a *attempt) readAhead(b *readahead.Body, call provider.Call, tokens bool, most time.Duration) (provider.Call, error) {
	need := b.Most(maxPrompt)
	_, size := b.Length()
	if size >= 0 && b.Reserve(need) || size < 0 && !call.Open {
		c, _, err := a.readHead(b, need, call, tokens)
		return c, err
	}
	// The name of the model is mostly at the beginning, which there is memory for.
	var head int64
	if call.Open {
		head = b.ReserveHead(need)
	}
	c, end, err := a.readHead(b, head, call, tokens)
	switch named := c.Key != call.Key; {
	case err != nil, end != readahead.Long, !call.Open, named && size >= 0:
		return c, err
	case named:
	case most < 0:
		return c, errNoRoom(call.Key)
	default:
		if err := b.Await(need, most); err == readahead.ErrFull {
			return c, errNoRoom(call.Key)
		} else if err != nil {
			return c, err
		}
	}
	c, _, err = a.readHead(b, need, call, tokens)
	return c, err
}

// errNoRoom is the error of a request whose body waits for memory for too long.
func errNoRoom(key string) error {
	return limitError(key, &engine.Rejection{Reason: engine.PastMaxQueue, After: refill.Never})
}

// readHead has the API read so many bytes of a body at most. A body that is silent
// may be of a caller who waits for the response before writing on: then, and where
// it ends for lack of memory, what was not read is charged as well.
func (a *attempt) readHead(b *readahead.Body, most int64, c provider.Call, tokens bool) (provider.Call, readahead.End, error) {
	h := readahead.NewHead(b, readahead.Limits{Bytes: most, Silence: maxSilence})
	defer h.Close()
	a.api.Read(&c, h, tokens)
	end := h.End()
	if a.rough = tokens && end != readahead.Whole; a.rough {
		c.Cost[Tokens] = max(c.Cost[Tokens], 0) + unread(b.Length())
	}
	return c, end, h.Err()
}

// mostUnread is how many tokens a text has at most that was not read: as many as the
// largest prompts that models take.
const mostUnread = 1 << 20

// unread returns what is charged, in tokens, for a body of which so many bytes were
// read: one for each three bytes, and [mostUnread] where its size is not known. No
// text is as long as maxPrompt: what comes after that is sound or images, a token
// for each 256 bytes, and as much again as before if its size is not known.
func unread(read, size int64) int64 {
	const text, media = 3, 256
	switch {
	case size < 0 && read >= maxPrompt:
		return read / media
	case size < 0:
		return mostUnread
	}
	begin := min(size, max(maxPrompt, read)) - read
	return min((begin+text-1)/text, mostUnread) + (size-read-begin)/media
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

// answerOf returns what the headers of a response say, as the engine has it.
func answerOf(t *Transport, api provider.API, resp *http.Response, refused bool) engine.Answer {
	a := engine.Answer{Refused: refused, Invalid: invalid(resp.StatusCode), Date: t.date(resp)}
	levels := api.Levels(resp)
	if levels == nil {
		return a
	}
	a.Levels = make([]engine.Level, 0, len(levels))
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
