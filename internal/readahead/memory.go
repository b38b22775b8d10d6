package readahead

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Memory bounds what all bodies together hold of what was read ahead. It is safe
// for concurrent use. A nil one has no bound; the zero value has no memory.
//
// A quarter of it is for the first few kilobytes of bodies, so that large ones do
// not keep others from being looked at. What needs more may wait for the other
// three quarters, first come, first served, and holds none of those meanwhile: who
// holds some never waits for more, so that all who wait get theirs in time.
type Memory struct {
	mu      sync.Mutex
	max     int64
	used    int64 // of three quarters
	heads   int64 // used of the last one
	waiters []*waiter
}

type waiter struct {
	n     int64
	ready chan struct{}
}

// ErrFull is the error of a body that there is no memory for in time.
var ErrFull = errors.New("tollgate: no memory for the beginning of a body")

// SetMax sets how many bytes there are. It may be called again with the same value.
func (m *Memory) SetMax(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.max = max(n, 0)
}

// Max returns how many bytes there are.
func (m *Memory) Max() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.max
}

// most returns how many bytes one body can have, at most n.
func (m *Memory) most(n int64) int64 {
	if m == nil {
		return n
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return min(n, m.max-m.max/4)
}

// Used returns how many bytes are in use.
func (m *Memory) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used + m.heads
}

// take takes n bytes, unless there are not as many or others wait for them.
func (m *Memory) take(n int64) bool {
	if m == nil {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.waiters) > 0 || m.used+n > m.max-m.max/4 {
		return false
	}
	m.used += n
	return true
}

// takeHead takes up to n bytes of those for beginnings, and returns how many.
func (m *Memory) takeHead(n int64) int64 {
	if m == nil {
		return n
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n = max(min(n, m.max/4-m.heads), 0)
	m.heads += n
	return n
}

// put gives back what was taken: of the three quarters, and of the last one.
func (m *Memory) put(n, heads int64) {
	if m == nil || n == 0 && heads == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= n
	m.heads -= heads
	m.serve()
}

// serve lets those go for whom there is enough.
func (m *Memory) serve() {
	for len(m.waiters) > 0 && m.used+m.waiters[0].n <= m.max-m.max/4 {
		m.used += m.waiters[0].n
		close(m.waiters[0].ready)
		m.waiters = slices.Delete(m.waiters, 0, 1)
	}
}

// await takes n bytes as soon as there are as many. It waits for at most the given
// time, 0: any, until ctx is done, or stop is closed. Its error is the context's,
// context.Canceled for stop, or ErrFull, at once if there never are so many.
func (m *Memory) await(ctx context.Context, stop <-chan struct{}, most time.Duration, n int64) error {
	m.mu.Lock()
	switch {
	case n > m.max-m.max/4:
		m.mu.Unlock()
		return ErrFull
	case len(m.waiters) == 0 && m.used+n <= m.max-m.max/4:
		m.used += n
		m.mu.Unlock()
		return nil
	}
	w := &waiter{n, make(chan struct{})}
	m.waiters = append(m.waiters, w)
	m.mu.Unlock()
	var late <-chan time.Time
	if most > 0 {
		timer := time.NewTimer(most)
		defer timer.Stop()
		late = timer.C
	}
	var err error
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-stop:
		err = context.Canceled
	case <-late:
		err = ErrFull
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.waiters, w); i >= 0 {
		m.waiters = slices.Delete(m.waiters, i, i+1)
	} else {
		m.used -= n // it was given in the same moment
	}
	m.serve()
	return err
}
