package tollgate

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"example.com/tollgate/internal/readahead"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/stream"
	"example.com/tollgate/provider"
)

// Bounds on what is read of a refusal before it is acted on. A body that is longer,
// or stalls, says by then why, or does not; the caller gets the rest as it comes.
const (
	maxErrorBody = 64 << 10    // bytes
	maxStall     = time.Second // from when the headers are here
)

// readRefusal reads why a request was refused. It leaves the body as it was.
func readRefusal(ctx context.Context, api provider.API, resp *http.Response) provider.Refusal {
	if resp.Body == http.NoBody {
		return api.Refusal(resp, nil)
	}
	b := readahead.New(ctx, nil, resp.Body, -1, nil)
	h := readahead.NewHead(b, readahead.Limits{Bytes: maxErrorBody, Within: maxStall})
	head, _ := io.ReadAll(h) // a Head ends without an error
	h.Close()
	resp.Body = b
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" {
		head = stream.Decode(encoding, head, maxErrorBody)
	}
	return api.Refusal(resp, head)
}

// A body ends its attempt when it is closed or read to its end, whichever is
// first: there are clients that do only one of the two. What passes through it
// is read on the way.
type body struct {
	io.ReadCloser
	transport *Transport
	attempt   *attempt
	resp      *http.Response
	stop      *stop
	once      sync.Once
	unwatch   func() bool // stops the watch over the context; nil: there is none

	mu      sync.Mutex      // a body may be closed while it is read
	scanner *stream.Scanner // nil: there is nothing to be read, or it is not known yet
	peeking bool            // the beginning says whether there is
	n       int             // how much of that has been read
	head    [beginning]byte
}

// watch has the attempt end with its context as well: a body that is never closed
// must not hold a slot for ever.
func (b *body) watch(ctx context.Context) {
	if ctx.Done() != nil && b.attempt.HoldsSlot() {
		b.mu.Lock() // the context may be done already
		defer b.mu.Unlock()
		b.unwatch = context.AfterFunc(ctx, func() { b.once.Do(b.end) })
	}
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 && (b.peeking || b.scanner != nil) {
		b.mu.Lock()
		if b.peeking {
			b.peek(p[:n])
		} else if b.scanner != nil {
			b.scanner.Write(p[:n])
		}
		b.mu.Unlock()
	}
	if err != nil {
		if err != io.EOF {
			err = b.stop.cause(err)
		}
		b.once.Do(b.end)
	}
	return n, err
}

// beginning is how much of a body says whether it is an error: an object whose
// first names are error, errors and the like, data being null.
const beginning = 64

// peek takes in the beginning of a body of which only an error would be of
// interest.
func (b *body) peek(p []byte) {
	n := copy(b.head[b.n:], p)
	b.n += n
	switch head := b.head[:b.n]; {
	case bytes.Contains(head, []byte(`"err`)):
		b.peeking = false
		b.scanner = stream.NewScanner(stream.Options{ContentType: b.resp.Header.Get("Content-Type"), Errors: true})
		b.scanner.Write(head)
		b.scanner.Write(p[n:])
	case b.n == beginning:
		b.peeking = false
	}
}

func (b *body) Close() error {
	defer b.once.Do(b.end) // also if Close panics
	return b.ReadCloser.Close()
}

func (b *body) end() {
	b.mu.Lock()
	unwatch := b.unwatch
	b.mu.Unlock()
	if unwatch != nil {
		unwatch()
	}
	b.stop.end()
	defer b.attempt.end()
	if b.scanner == nil {
		return
	}
	b.mu.Lock()
	b.scanner.Close()
	usage := b.scanner.Usage()
	kind, data, failed := b.scanner.Errors()
	b.mu.Unlock()
	if usage != unknown {
		usage[provider.Requests] = -1
		b.attempt.Settle(usage)
	}
	if failed {
		b.transport.failedWithin(b.attempt, b.resp, kind, data)
	}
}

// unknown is the cost of a request of which a response says nothing.
var unknown = refill.Cost{-1, -1, -1}

// scan sees to it that what there is to be read in the response to an attempt is
// read as it passes.
func (b *body) scan(a *attempt, resp *http.Response) {
	var o stream.Options
	if v := resp.Header["Content-Type"]; len(v) > 0 {
		o.ContentType = v[0]
	}
	if v := resp.Header["Content-Encoding"]; len(v) > 0 {
		o.ContentEncoding = v[0]
	}
	if len(a.usage) > 0 && a.Limiter.CountsTokens() {
		o.Fields = fieldsOf(a.usage)
	}
	json := strings.Contains(o.ContentType, "json")
	o.Errors = resp.StatusCode == http.StatusOK && (json || strings.Contains(o.ContentType, "stream"))
	switch {
	case o.Fields == nil && !o.Errors:
	case o.Fields == nil && json && o.ContentEncoding == "" && !strings.Contains(o.ContentType, "stream") && !strings.Contains(o.ContentType, "nd"):
		b.peeking = true
	default:
		b.scanner = stream.NewScanner(o)
	}
}

// knownFields are the fields of the APIs' usages, by where those begin.
var knownFields struct {
	sync.RWMutex
	of map[*provider.Usage][]stream.Field
}

// maxKnown is how many APIs' fields are kept: more than there are.
const maxKnown = 64

// fieldsOf returns the fields that say what a call has cost.
func fieldsOf(usage []provider.Usage) []stream.Field {
	k := &knownFields
	k.RLock()
	list := k.of[&usage[0]]
	k.RUnlock()
	if len(list) == len(usage) {
		return list
	}
	list = make([]stream.Field, len(usage))
	for i, u := range usage {
		list[i] = stream.Field{Path: strings.Join(u.Path, "."), Unit: int(u.Unit)}
	}
	k.Lock()
	defer k.Unlock()
	if k.of == nil {
		k.of = make(map[*provider.Usage][]stream.Field)
	}
	if len(k.of) < maxKnown {
		k.of[&usage[0]] = list
	}
	return list
}
