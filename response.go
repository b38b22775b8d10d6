package tollgate

import (
	"bytes"
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
	plan  *plan
	stop  *stop
	once  sync.Once
	mu    sync.Mutex      // a body may be closed while it is read
	meter *provider.Meter // nil: there is nothing to be read
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.meter != nil && n > 0 {
		b.mu.Lock()
		b.meter.Write(p[:n])
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
	if b.meter != nil {
		b.mu.Lock()
		cost := b.meter.Cost()
		b.mu.Unlock()
		b.plan.settle(cost)
	}
	b.plan.grant.Done()
}
