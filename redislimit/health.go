package redislimit

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate/internal/limiter"
)

const (
	// A Redis that does not answer is tried again after a tenth of the time for
	// which it has not, within these bounds. The first is less than what an
	// engine waits between its attempts.
	againFirst = 450 * time.Millisecond
	againLast  = 5 * time.Second
	// fineFor is for how long, after a look that has found nothing wrong, an
	// exchange that takes its time is no reason for another one.
	fineFor = 5 * time.Second
	// maxOnes is of how many troubles of some keys each it is known that they were
	// told.
	maxOnes = 1000
)

// A health is what is known of whether Redis answers, for all keys of a client.
// While it does not, one exchange at a time tries it, and all others fail at once:
// so there is one attempt for all keys, and one Outage that is told.
type health struct {
	client redis.UniversalClient
	shared *limiter.Shared
	down   atomic.Int32 // how many parts do not answer

	mu    sync.Mutex
	parts map[string]*part           // that do not answer, by address
	ones  map[string]*limiter.Outage // of troubles that some keys have, by what they are
	looks map[string]*glance         // the last one at each part
	fine  map[string]time.Time       // when one has found nothing wrong
	rose  time.Time                  // when a part answered again
	lost  int                        // keys whose state was lost since that was told
	told  time.Time                  // when it was
}

// A part is one server of a cluster or a ring, or all that the client reaches.
type part struct {
	outage *limiter.Outage
	since  time.Time
	next   time.Time // when to try it again
	trying bool
	looked bool // a look has found nothing wrong: the next attempt is an exchange
}

// A glance is a look that is under way until done is closed.
type glance struct {
	began time.Time
	done  chan struct{}
	err   error // what is wrong; nil: nothing
}

// where is the address of the part that has a key. "": all of Redis is one part, or
// it is not known yet. It asks nobody.
func (h *health) where(key string) string {
	h.mu.Lock()
	_, all := h.parts[""]
	h.mu.Unlock()
	var n *redis.Client
	var err error
	switch c := h.client.(type) {
	case *redis.ClusterClient:
		if all {
			return "" // and not known where the keys are
		}
		over, cancel := context.WithCancel(context.Background())
		cancel()
		n, err = c.MasterForKey(over, key)
	case *redis.Ring:
		n, err = c.GetShardClientForKey(key)
	}
	if n == nil || err != nil {
		return ""
	}
	return n.Options().Addr
}

// failsOver reports whether the client finds another server when one has become a
// replica.
func (h *health) failsOver() bool {
	switch c := h.client.(type) {
	case *redis.ClusterClient:
		return true
	case interface{ Options() *redis.Options }:
		return c.Options().Addr == "FailoverClient" // the name that NewFailoverClient gives it
	}
	return false
}

// enter returns the part that has a key if it does not answer, nil if it does, and
// whether the caller is to try it all the same. Then it has to say what came of it.
func (h *health) enter(where string) (p *part, try bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p = h.parts[where]; p == nil || p.trying || time.Now().Before(p.next) {
		return p, false
	}
	p.trying = true
	return p, true
}

// looked notes that a look at a part has found nothing wrong.
func (h *health) looked(where string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fine == nil {
		h.fine = make(map[string]time.Time)
	}
	h.fine[where] = time.Now()
}

// postpone leaves the attempt at a part, which a look has found well, to the next
// exchange.
func (h *health) postpone(p *part) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p.trying, p.looked, p.next = false, true, time.Now()
}

// seemsFine reports whether a look has found nothing wrong just now.
func (h *health) seemsFine(where string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Since(h.fine[where]) < fineFor
}

// fall notes a trouble and returns its Outage. fresh: it is a new one, whose
// trouble is to be settled. tried: the part was being tried.
func (h *health) fall(where string, t limiter.Trouble, k kind, tried bool) (o *limiter.Outage, fresh bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := "Redis"
	if where != "" {
		name += " at " + where
	}
	p := h.parts[where]
	switch {
	case k&single == 0:
		delete(h.fine, where)
	case p != nil && !tried:
		return p.outage, false // from before that
	default:
		if p != nil { // it answers, though not as it should
			h.rise(where, p)
		}
		if o = h.ones[t.What]; o == nil {
			o, fresh = h.shared.NewOutage(name, t), true
			h.note(t.What, o)
		}
		return o, fresh
	}
	now := time.Now()
	if p == nil {
		if h.parts == nil {
			h.parts = make(map[string]*part)
		}
		p, fresh = &part{outage: h.shared.NewOutage(name, t), since: now}, true
		h.parts[where] = p
		h.down.Add(1)
	} else if k&unclear == 0 && !p.outage.Settle(t) && t.Config && !p.outage.Config() {
		p.outage.Replace() // what was thought to pass does not
		p.outage, fresh = h.shared.NewOutage(name, t), true
	}
	p.trying, p.looked = false, false
	p.next = now.Add(min(max(now.Sub(p.since)/10, againFirst), againLast))
	return p.outage, fresh
}

// rise notes that a part answers. The lock is held.
func (h *health) rise(where string, p *part) {
	h.rose = time.Now()
	p.outage.End()
	delete(h.parts, where)
	h.down.Add(-1)
}

// narrow notes that an Outage that was thought to be of a part is of some keys only.
func (h *health) narrow(where string, o *limiter.Outage, what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.parts[where]; p != nil && p.outage == o {
		delete(h.parts, where)
		h.down.Add(-1)
	}
	if h.ones[what] == nil {
		h.note(what, o)
	} else {
		o.Replace() // there is one that says the same
	}
}

// note keeps the Outage of a trouble that some keys have, so that it is told once.
// The lock is held.
func (h *health) note(what string, o *limiter.Outage) {
	if h.ones == nil || len(h.ones) == maxOnes {
		h.ones = make(map[string]*limiter.Outage) // those that go on are told again
	}
	h.ones[what] = o
}

// restored notes that a part that was tried has answered to a key that had an Outage
// before. Either may be nil. (An answer to an exchange that was begun before the
// part fell says nothing.)
func (h *health) restored(where string, tried *part, had *limiter.Outage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if tried != nil && h.parts[where] == tried {
		h.rise(where, tried)
	}
	if had == nil {
		return
	}
	had.End()
	for at, p := range h.parts { // the key has moved to another part
		if p.outage == had {
			h.rise(at, p)
		}
	}
	for what, o := range h.ones {
		if o == had {
			delete(h.ones, what)
		}
	}
}

// current is the Outage of a part.
func (h *health) current(p *part) *limiter.Outage {
	h.mu.Lock()
	defer h.mu.Unlock()
	return p.outage
}

// forgot returns what is told of a key whose state was lost since a time, or nil if
// that was told of another one just now, or there was an outage meanwhile.
func (h *health) forgot(key string, since, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rose.After(since) {
		return nil
	}
	h.lost++
	if now.Sub(h.told) < tellLost {
		return nil
	}
	others := ""
	if h.lost > 1 {
		others = fmt.Sprintf(" and %d others", h.lost-1)
	}
	h.lost, h.told = 0, now
	return fmt.Errorf("tollgate: Redis has lost the state of %s%s, which had not expired: it was evicted (see maxmemory-policy) or deleted, or this is another server; what this process has spent is told again", key, others)
}
