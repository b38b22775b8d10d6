package quotatest

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// ServeHTTP answers a request. The parts of a stream are flushed one by one.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := read(r.Context(), r.Body)
	if err != nil {
		d, _, _ := route(r)
		s.write(w, d.failure(http.StatusBadRequest, "The request did not arrive: "+err.Error()))
		return
	}
	a, think := s.serve(r, body)
	if sleep(r.Context(), think) != nil {
		d, _, _ := route(r)
		a = d.failure(statusCanceled, blame(statusCanceled))
	}
	s.write(w, a)
}

// write sends an answer.
func (s *Server) write(w http.ResponseWriter, a answer) {
	s.describe(w.Header(), a)
	w.WriteHeader(a.status)
	for _, part := range a.parts {
		if _, err := w.Write(part); err != nil {
			return
		}
		if len(a.parts) > 1 {
			_ = http.NewResponseController(w).Flush() // not all can
		}
	}
}

// RoundTrip answers a request without a network, in the caller's goroutine.
//
// It returns the context's error, as it is, when the context is done during
// Latency or Think; afterwards reading the response's body does.
func (s *Server) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	body, err := read(ctx, r.Body)
	if err != nil {
		return nil, err
	}
	var latency time.Duration
	if s.Latency != nil {
		latency = s.Latency()
	}
	began := time.Now()
	if err := sleep(ctx, latency); err != nil {
		if left := latency - time.Since(began); left > 0 && left < latency { // it had left
			time.AfterFunc(left, func() { s.serve(r, body) })
		}
		return nil, err
	}
	a, think := s.serve(r, body)
	if err := sleep(ctx, think); err != nil {
		return nil, err
	}
	h := make(http.Header)
	s.describe(h, a)
	if err := s.travel(ctx); err != nil {
		return nil, err
	}
	return &http.Response{
		Status:        fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)),
		StatusCode:    a.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        h,
		Body:          &reader{ctx: ctx, parts: a.parts},
		ContentLength: a.length(),
		Request:       r,
	}, nil
}

// describe sets the headers of an answer that is sent now.
func (s *Server) describe(h http.Header, a answer) {
	maps.Copy(h, a.header)
	h.Set("Date", time.Now().Add(s.Skew).UTC().Format(http.TimeFormat))
	h.Set("Content-Type", a.contentType())
	if n := a.length(); n >= 0 {
		h.Set("Content-Length", strconv.FormatInt(n, 10))
	}
}

// travel takes as long as a message from one side to the other.
func (s *Server) travel(ctx context.Context) error {
	if s.Latency == nil {
		return ctx.Err()
	}
	return sleep(ctx, s.Latency())
}

// sleep returns the context's error if that is done before or by the end.
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

// read reads a request's body to its end and closes it. When the context is
// done it closes it earlier, which is what ends a Read that waits.
func read(ctx context.Context, body io.ReadCloser) ([]byte, error) {
	if body == nil {
		return nil, ctx.Err()
	}
	var once sync.Once
	end := func() { once.Do(func() { body.Close() }) }
	defer end()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, end)
	defer stop()
	b, err := io.ReadAll(body)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return b, err
}

// A reader is the body of a response. A Read returns no more than one part.
type reader struct {
	ctx    context.Context
	mu     sync.Mutex
	parts  [][]byte
	closed bool
}

func (r *reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return 0, http.ErrBodyReadAfterClose
	case len(r.parts) == 0:
		return 0, io.EOF
	case r.ctx.Err() != nil:
		return 0, r.ctx.Err()
	}
	n := copy(p, r.parts[0])
	if r.parts[0] = r.parts[0][n:]; len(r.parts[0]) == 0 {
		r.parts = r.parts[1:]
	}
	return n, nil
}

func (r *reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}
