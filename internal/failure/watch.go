package failure

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
)

// A Watch is what a base tells of one attempt on its way to the server.
type Watch struct{ traced, wrote atomic.Bool }

// On returns a context in which the base tells w.
func (w *Watch) On(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { w.traced.Store(true) },
		WroteHeaders: func() { w.wrote.Store(true) },
	})
}

// Sent reports whether a request that ended in an error may have reached a server.
func (w *Watch) Sent(err error) bool { return Sent(err, w.traced.Load(), w.wrote.Load()) }
