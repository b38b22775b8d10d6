// Package receipt remembers what calls have begun that the server keeps: what each of
// them has cost, or which request has still to be settled, by the id that the server
// gave. It knows no API and no time.
package receipt

import (
	"strings"
	"sync"

	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/refill"
)

// most is how many are remembered of each kind. The oldest ones go first.
const most = 4096

// A Book has the receipts of many calls. Its zero value is empty; it is safe for
// concurrent use.
type Book struct {
	mu   sync.Mutex
	open fifo[*limiter.Request]
	done fifo[refill.Cost]
}

// key is the name of an id of a host.
func key(host, id string) string { return host + " " + id }

// Open notes that a request has begun something of which it is not known yet what it
// costs.
func (b *Book) Open(host, id string, r *limiter.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open.put(key(host, id), r)
}

// Request returns the request that has begun something and is not settled, nil if
// there is none.
func (b *Book) Request(host, id string) *limiter.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open.of[key(host, id)]
}

// Done notes what something has cost.
func (b *Book) Done(host, id string, c refill.Cost) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open.of, key(host, id))
	b.done.put(key(host, id), c)
}

// Cost returns what something has cost, negative where that is not known.
func (b *Book) Cost(host, id string) (c refill.Cost, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok = b.done.of[key(host, id)]
	return c, ok
}

// A fifo holds the values of the last keys that were put in.
type fifo[T any] struct {
	of    map[string]T
	order []string // a ring, whose oldest element is at next once it is full
	next  int
}

func (f *fifo[T]) put(key string, v T) {
	if f.of == nil {
		f.of = make(map[string]T)
	}
	if _, ok := f.of[key]; ok {
		f.of[key] = v
		return
	}
	key = strings.Clone(key)
	if len(f.order) < most {
		f.order = append(f.order, key)
	} else {
		delete(f.of, f.order[f.next])
		f.order[f.next] = key
		f.next = (f.next + 1) % most
	}
	f.of[key] = v
}
