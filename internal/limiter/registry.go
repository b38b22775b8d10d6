package limiter

import (
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/tollgate/internal/engine"
)

// A Key names a quota: two hosts may have models of one name.
type Key struct{ Host, Name string }

// Quote returns a key as messages have it: as it is if it reads like a model's
// name or a host, else in quotes. A key may come from outside: it could have line
// breaks in it, or be as long as anything.
func Quote(key string) string {
	short := key
	if len(short) > maxQuoted {
		short = strings.ToValidUTF8(short[:maxQuoted], "") + "…"
	}
	for _, c := range key {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.ContainsRune("-._:/@+*", c):
		default:
			return strconv.Quote(short)
		}
	}
	if key == "" || short != key {
		return strconv.Quote(short)
	}
	return key
}

// maxQuoted is how much of a key is shown, in bytes.
const maxQuoted = 128

// A Registry holds the limiters of many keys. One whose key is not configured by
// name is forgotten when it has been idle until all its tokens were back, but for
// a little of what it has learned: keys that come from outside cannot exhaust
// memory. Its zero value is empty.
type Registry struct {
	once   sync.Once
	seed   maphash.Seed
	shards [shards]shard

	armed atomic.Bool // the timer is set
	mu    sync.Mutex
	sweep *time.Timer // looks for those to be forgotten; nil: it was not needed yet
}

const (
	shards = 64
	// sweeps is the time between looks for limiters to be forgotten.
	sweeps = time.Minute
	// memories is how many forgotten keys of a shard something is known of.
	memories = 64
	// longKey is the longest key of which something is remembered.
	longKey = 256
)

type shard struct {
	mu       sync.RWMutex
	limiters map[Key]*Limiter
	memory   map[Key]*engine.Memory
}

func (g *Registry) shard(k Key) *shard {
	g.once.Do(func() { g.seed = maphash.MakeSeed() })
	return &g.shards[maphash.String(g.seed, k.Name)%shards]
}

// Find returns the limiter of a key; nil: there is none yet.
func (g *Registry) Find(k Key) *Limiter {
	s := g.shard(k)
	s.mu.RLock()
	l := s.limiters[k]
	s.mu.RUnlock()
	if l != nil {
		g.arm(l)
	}
	return l
}

// Get returns the limiter of a key, made by create if there is none. create is
// given what was learned before, or nil.
func (g *Registry) Get(k Key, create func(*engine.Memory) *Limiter) *Limiter {
	s := g.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.limiters[k]; l != nil {
		return l
	}
	l := create(s.memory[k])
	delete(s.memory, k)
	if s.limiters == nil {
		s.limiters = make(map[Key]*Limiter)
	}
	s.limiters[k] = l
	g.arm(l)
	return l
}

// Drop takes a limiter that was forgotten out.
func (g *Registry) Drop(k Key, l *Limiter) {
	s := g.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limiters[k] == l {
		delete(s.limiters, k)
	}
}

// Join has two keys draw on the quota of the second, or of the first if the second
// has none yet. A key that is configured by name keeps its own.
func (g *Registry) Join(k, whole Key, l *Limiter) {
	if l.named.Load() || k == whole {
		return
	}
	s := g.shard(whole)
	s.mu.Lock()
	other := s.limiters[whole]
	if other == nil {
		if s.limiters == nil {
			s.limiters = make(map[Key]*Limiter)
		}
		s.limiters[whole], other = l, l
	}
	s.mu.Unlock()
	if s = g.shard(k); other != l {
		s.mu.Lock()
		s.limiters[k] = other
		s.mu.Unlock()
	}
}

// All returns the limiters that there are. It holds up other requests for no longer
// than it takes to copy a shard.
func (g *Registry) All() []*Limiter {
	var list []*Limiter
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.RLock()
		some := slices.AppendSeq(make([]*Limiter, 0, len(s.limiters)), maps.Values(s.limiters))
		s.mu.RUnlock()
		list = append(list, some...)
	}
	return distinct(list)
}

// distinct returns each limiter once: several keys may share one.
func distinct(list []*Limiter) []*Limiter {
	seen := make(map[*Limiter]struct{}, len(list))
	return slices.DeleteFunc(list, func(l *Limiter) bool {
		_, twice := seen[l]
		seen[l] = struct{}{}
		return twice
	})
}

// Named returns the limiters whose keys have a name, at whatever host.
func (g *Registry) Named(name string) (list []*Limiter) {
	s := g.shard(Key{Name: name})
	s.mu.RLock()
	defer s.mu.RUnlock()
	for k, l := range s.limiters {
		if k.Name == name {
			list = append(list, l)
		}
	}
	return list
}

// Each calls f with each key and its limiter, which is dropped if f returns false.
// Keys that come or go meanwhile may be missed.
func (g *Registry) Each(f func(Key, *Limiter) bool) {
	type entry struct {
		k Key
		l *Limiter
	}
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.RLock()
		list := make([]entry, 0, len(s.limiters))
		for k, l := range s.limiters {
			list = append(list, entry{k, l})
		}
		s.mu.RUnlock()
		for _, x := range list {
			if !f(x.k, x.l) {
				g.Drop(x.k, x.l)
			}
		}
	}
}

// arm sees to it that there is a sweep now that l is used.
func (g *Registry) arm(l *Limiter) {
	if !l.named.Load() && l.file == nil && l.store == nil && !g.armed.Load() {
		g.again()
	}
}

func (g *Registry) again() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.armed.Swap(true) {
		return
	}
	if g.sweep == nil {
		g.sweep = time.AfterFunc(sweeps, g.forget)
	} else {
		g.sweep.Reset(sweeps)
	}
}

// forget forgets the limiters that are idle, and looks again later if there are
// some that will be if they are not used. Those that are in use are seen to when
// they are used the next time.
func (g *Registry) forget() {
	g.armed.Store(false)
	left := false
	for i := range g.shards {
		left = g.shards[i].forget() || left
	}
	if left {
		g.again()
	}
}

// forget reports whether there are limiters that only have to wait for tokens.
func (s *shard) forget() (left bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, l := range s.limiters {
		m, gone, soon := l.forget()
		if !gone {
			left = left || soon
			continue
		}
		delete(s.limiters, k)
		if m == nil || len(k.Host)+len(k.Name) > longKey {
			continue
		}
		if s.memory == nil {
			s.memory = make(map[Key]*engine.Memory)
		}
		for old := range s.memory {
			if len(s.memory) < memories {
				break
			}
			delete(s.memory, old)
		}
		s.memory[k] = m
	}
	if len(s.limiters) == 0 {
		s.limiters = nil // a map never shrinks
	}
	return left
}
