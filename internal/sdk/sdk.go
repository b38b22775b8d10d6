// Package sdk knows an SDK that tries again whatever a response says, and keeps its
// tries from multiplying those that were made below it. It knows nothing of limits.
//
// The SDK is genai's client of the Interactions API (google.golang.org/genai,
// interactions/internal/utils/retries.go): it tries statuses 408, 409, 429 and all
// from 500 on four times more, as it does errors that call themselves temporary. It
// heeds Retry-After-Ms and Retry-After, and not X-Should-Retry, and does not say
// which try a request is.
package sdk

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"weak"
)

// Insists reports whether the client that a request comes from tries again whatever
// a response says.
func Insists(r *http.Request) bool {
	if len(r.Header["Api-Revision"]) == 0 {
		return false
	}
	for _, name := range [...]string{"X-Goog-Api-Client", "User-Agent"} {
		if v := r.Header.Get(name); strings.Contains(v, "gl-go/") || strings.Contains(v, "google.golang.org/genai/interactions") {
			return true
		}
	}
	return false
}

// retried reports whether such a client tries a status again. It does 409 too, which
// nobody else does: that is left to it.
func retried(status int) bool {
	return status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
}

// Final makes resp, of a status from 400 to 499, one that such a client does not try
// again: the client looks at the status, and then reads the body. Up to that the
// status is 424, Failed Dependency, and from then on the one that it was, which is
// the one in the client's error.
func Final(resp *http.Response) *http.Response {
	resp.Body = &finalBody{ReadCloser: resp.Body, resp: resp, code: resp.StatusCode, status: resp.Status}
	resp.StatusCode = http.StatusFailedDependency
	resp.Status = "424 " + http.StatusText(resp.StatusCode)
	return resp
}

type finalBody struct {
	io.ReadCloser
	resp   *http.Response
	once   sync.Once
	code   int
	status string
}

func (b *finalBody) Read(p []byte) (int, error) {
	b.once.Do(b.show)
	return b.ReadCloser.Read(p)
}

func (b *finalBody) Close() error {
	b.once.Do(b.show)
	return b.ReadCloser.Close()
}

func (b *finalBody) show() { b.resp.StatusCode, b.resp.Status = b.code, b.status }

// Quiet returns err as an error that such a client does not try again: one that does
// not say that it was a timeout, though errors.Is still finds what it was.
func Quiet(err error) error {
	switch err.(type) {
	case interface{ Timeout() bool }, interface{ Temporary() bool }:
		return quiet{err}
	}
	return err
}

type quiet struct{ err error }

func (q quiet) Error() string { return q.err.Error() }
func (q quiet) Unwrap() error { return q.err }

// Ends remembers how requests have ended of which no more tries are to be made. A
// client that insists sends the very same request again, of which the URL, a pointer,
// tells it from all others: it is remembered for as long as somebody has it. The zero
// value is empty; it is safe for concurrent use.
type Ends struct {
	mu   sync.Mutex
	ends map[weak.Pointer[url.URL]]*end
}

// An end is a response and its body, or an error.
type end struct {
	resp http.Response
	body []byte
	err  error
}

// Bounds of what is remembered: the longest body, and how many requests at once.
const (
	maxBody = 16 << 10
	maxEnds = 4096
)

// Of reports whether a request has ended before, and how.
func (e *Ends) Of(r *http.Request) (ended bool, resp *http.Response, err error) {
	if !Insists(r) {
		return false, nil, nil
	}
	e.mu.Lock()
	last := e.ends[weak.Make(r.URL)]
	e.mu.Unlock()
	switch {
	case last == nil:
		return false, nil, nil
	case last.err != nil:
		return true, nil, last.err
	}
	resp = new(http.Response)
	*resp = last.resp
	resp.Header = last.resp.Header.Clone()
	resp.Body = io.NopCloser(bytes.NewReader(last.body))
	resp.Request = r
	return true, resp, nil
}

// Keep remembers how a request has ended, and returns what its client is to have: the
// same, and that it need not wait before it asks again.
func (e *Ends) Keep(r *http.Request, resp *http.Response, err error) (*http.Response, error) {
	if !Insists(r) || r.Context().Err() != nil {
		return resp, err
	}
	if err != nil {
		err = Quiet(err)
		e.put(r.URL, &end{err: err})
		return nil, err
	}
	if !retried(resp.StatusCode) {
		return resp, nil
	}
	body, failed := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if failed == nil && len(body) <= maxBody {
		if resp.Header = resp.Header.Clone(); resp.Header == nil {
			resp.Header = make(http.Header)
		}
		resp.Header["Retry-After-Ms"] = []string{"1"}
		e.put(r.URL, &end{resp: *resp, body: body})
	}
	resp.Body = rest{io.MultiReader(bytes.NewReader(body), after{resp.Body, failed}), resp.Body}
	return resp, nil
}

func (e *Ends) put(u *url.URL, last *end) {
	key := weak.Make(u)
	last.resp.Body, last.resp.Request = nil, nil // which has the URL
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ends == nil {
		e.ends = make(map[weak.Pointer[url.URL]]*end)
	}
	if e.ends[key] == nil {
		if len(e.ends) == maxEnds {
			return
		}
		runtime.AddCleanup(u, e.drop, key)
	}
	e.ends[key] = last
}

func (e *Ends) drop(key weak.Pointer[url.URL]) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.ends, key)
}

// rest is a body whose beginning was read.
type rest struct {
	io.Reader
	io.Closer
}

// after reads on, unless that has failed already.
type after struct {
	io.Reader
	err error
}

func (a after) Read(p []byte) (int, error) {
	if a.err != nil {
		return 0, a.err
	}
	return a.Reader.Read(p)
}
