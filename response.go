package tollgate

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"sync"

	"example.com/tollgate/provider"
)

const (
	statusOverloaded = 529 // Anthropic's, beside 503
	maxErrorBody     = 64 << 10
)

// refusing reports whether a status means that the server wants fewer requests.
func refusing(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable || status == statusOverloaded
}

// readRefusal reads why a request was refused. It leaves the body as it was.
func readRefusal(api provider.API, resp *http.Response) provider.Refusal {
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	rest := io.Reader(resp.Body)
	if err != nil {
		rest = failing{err}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), resp.Body}
	return api.Refusal(resp, head)
}

// failing is the rest of a body that broke off.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A body ends its attempt when it is closed or read to its end, whichever is
// first: there are clients that do only one of the two. What passes through it
// is read on the way.
type body struct {
	io.ReadCloser
	transport *Transport
	plan      *plan
	stop      *stop
	once      sync.Once

	mu    sync.Mutex      // a body may be closed while it is read
	meter *provider.Meter // of what the request has cost; nil: there is nothing to be read
	last  *last           // of a stream's events; nil: it is none
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 && (b.meter != nil || b.last != nil) {
		b.mu.Lock()
		if b.meter != nil {
			b.meter.Write(p[:n])
		}
		if b.last != nil {
			b.last.write(p[:n])
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

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(b.end)
	return err
}

func (b *body) end() {
	b.stop.end()
	b.mu.Lock()
	cost, failure := provider.Cost{-1, -1, -1}, []byte(nil)
	if b.meter != nil {
		cost = b.meter.Cost()
	}
	if b.last != nil {
		failure = b.last.failure()
	}
	b.mu.Unlock()
	b.plan.settle(cost)
	if failure != nil {
		b.transport.failed(b.plan, failure)
	}
	b.plan.grant.Done()
}

// A last is the end of a stream of events: the place where a server that has
// already answered 200 says that it has had enough.
type last struct{ tail []byte }

// maxEvent is how much of the end of a stream is looked at.
const maxEvent = 4 << 10

func (l *last) write(p []byte) {
	if len(p) >= maxEvent {
		l.tail = append(l.tail[:0], p[len(p)-maxEvent:]...)
		return
	}
	if over := len(l.tail) + len(p) - maxEvent; over > 0 {
		l.tail = l.tail[:copy(l.tail, l.tail[over:])]
	}
	l.tail = append(l.tail, p...)
}

// failure returns the data of the last event, if that is an error.
func (l *last) failure() []byte {
	i := bytes.LastIndex(l.tail, []byte("data:"))
	if i < 0 {
		return nil
	}
	data, _, _ := bytes.Cut(l.tail[i+len("data:"):], []byte("\n"))
	if !bytes.Contains(data, []byte(`"error"`)) {
		return nil
	}
	var e struct{ Error json.RawMessage }
	if json.Unmarshal(data, &e) != nil || len(e.Error) == 0 || string(e.Error) == "null" {
		return nil
	}
	return data
}
