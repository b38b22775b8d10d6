package tollgate

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"example.com/tollgate/internal/limiter"
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

// A leftover is the body of a response that is given up for another attempt. The
// engine reads what there is of it, so that its connection can be used again: not
// of one that stalls.
type leftover struct{ try *try }

func (l *leftover) Read(p []byte) (int, error) {
	resp := l.try.resp
	b := readahead.New(l.try.ctx, nil, resp.Body, -1, nil)
	resp.Body = b
	h := readahead.NewHead(b, readahead.Limits{Bytes: int64(len(p)), Within: maxStall})
	defer h.Close()
	n, _ := io.ReadFull(h, p) // a Head ends without an error of its own
	return n, io.EOF
}

func (l *leftover) Close() error { return l.try.resp.Body.Close() }

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
	head    []byte          // what has been read of that, where it came in pieces
}

// watch has the slot come back with the end of the context as well: a body that is
// never closed must not hold it for ever.
func (b *body) watch(ctx context.Context) {
	if ctx.Done() != nil && b.attempt.HoldsSlot() {
		b.unwatch = context.AfterFunc(ctx, b.attempt.Closed)
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

// beginning is how much of a body says whether it may be an error: one of its first
// names is error, errors and the like, data being null, or the first of all is one
// that errors begin with.
const beginning = 64

// peek takes in the beginning of a body of which only an error would be of
// interest.
func (b *body) peek(p []byte) {
	n := min(beginning-len(b.head), len(p))
	head := p[:n]
	if len(b.head) > 0 || n < beginning {
		b.head = append(b.head, head...)
		head = b.head
	}
	switch {
	case bytes.Contains(head, []byte(`"err`)), beginsError(head):
		b.peeking = false
		b.scanner = stream.NewScanner(stream.Options{ContentType: b.resp.Header.Get("Content-Type"), Errors: true})
		b.scanner.Write(head)
		b.scanner.Write(p[n:])
	case len(head) == beginning:
		b.peeking = false
	}
}

// beginsError reports whether the first name of an object is one that errors which do
// not begin with error begin with.
func beginsError(head []byte) bool {
	head, ok := bytes.CutPrefix(bytes.TrimLeft(head, " \t\r\n{\ufeff"), []byte(`"`)) // no list: of what is listed, one may look like an error
	n := bytes.IndexByte(head, '"')
	if !ok || n < 0 {
		return false
	}
	switch string(head[:n]) {
	case "code", "status", "status_code", "statusCode", "ok", "success", "message", "extensions", "fault":
		return true
	}
	return false
}

func (b *body) Close() error {
	defer b.once.Do(b.end) // also if Close panics
	return b.ReadCloser.Close()
}

func (b *body) end() {
	if b.unwatch != nil {
		b.unwatch()
	}
	b.stop.end()
	defer b.attempt.forget()
	defer b.transport.Trace.done(b.attempt, b.resp, nil)
	defer b.attempt.Closed()
	if b.scanner == nil {
		return
	}
	b.mu.Lock()
	b.scanner.Close()
	usage := refill.Cost(b.scanner.Usage())
	kind, data, failed := b.scanner.Errors()
	b.mu.Unlock()
	of := &b.attempt.Request
	if b.attempt.kept != nil {
		of = b.settled(usage, b.scanner.Text(stream.ID), b.scanner.Text(stream.Status))
	}
	if usage != unknown && of != nil {
		usage[provider.Requests] = -1
		of.Settle(usage)
		b.transport.Trace.settled(b.attempt, of, usage)
	}
	if failed {
		b.transport.failedWithin(b.attempt, b.resp, kind, data)
	}
}

// settled returns the request of which a response states the cost where the server
// keeps what it has begun: an earlier one if this one polls, none if that is not
// finished.
func (b *body) settled(usage refill.Cost, id, status string) *limiter.Request {
	a, book := b.attempt, &b.transport.receipts
	host, of := a.key.Host, &a.Request
	if a.kept.polls != "" {
		id = a.kept.polls
		of = book.Request(host, id)
	}
	final := usage != unknown && !provider.Unfinished(status) && (status != "" || usage[provider.Tokens] > 0)
	switch {
	case final && id != "":
		book.Done(host, id, usage)
	case !final && id != "" && of == &a.Request:
		book.Open(host, id, a.Later())
	}
	if !final {
		return nil
	}
	return of
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
	switch {
	case len(a.usage) == 0:
	case a.kept != nil:
		o.Fields = fieldsOf(a.usage, a.kept.record)
	case a.Limiter.CountsTokens():
		o.Fields = fieldsOf(a.usage, nil)
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

// fieldsOf returns the fields that say what a call has cost, and what the server keeps
// of it if record is not nil.
func fieldsOf(usage []provider.Usage, record *provider.Record) []stream.Field {
	n := len(usage)
	if record != nil {
		n += len(record.ID) + len(record.Status)
	}
	k := &knownFields
	k.RLock()
	list := k.of[&usage[0]]
	k.RUnlock()
	if len(list) == n {
		return list
	}
	list = make([]stream.Field, 0, n)
	for _, u := range usage {
		list = append(list, stream.Field{Path: strings.Join(u.Path, "."), Unit: int(u.Unit)})
	}
	if record != nil {
		for _, p := range record.ID {
			list = append(list, stream.Field{Path: strings.Join(p, "."), Unit: stream.ID})
		}
		for _, p := range record.Status {
			list = append(list, stream.Field{Path: strings.Join(p, "."), Unit: stream.Status})
		}
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
