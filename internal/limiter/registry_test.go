package limiter

import (
	"context"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/refill"
)

// A rack is a registry and what its limiters are made of.
type rack struct {
	Registry
	options func(k Key) Options
	made    atomic.Int64
}

// of returns the limiter of a key.
func (g *rack) of(k Key) *Limiter {
	if l := g.Find(k); l != nil {
		return l
	}
	return g.Get(k, func(m *engine.Memory) *Limiter {
		g.made.Add(1)
		var o Options
		if g.options != nil {
			o = g.options(k)
		}
		o.Memory = m
		return New(k.Name, o)
	})
}

// acquire lets one request of a key go, as a Transport does.
func (g *rack) acquire(ctx context.Context, k Key, r *Request) error {
	for {
		l := g.of(k)
		runtime.Gosched() // it may be forgotten here
		err := l.Acquire(ctx, r)
		if err != ErrForgotten {
			return err
		}
		g.Drop(k, l)
	}
}

// use has a request of a key go and be accepted.
func (g *rack) use(t *testing.T, k Key) {
	t.Helper()
	r := ask(1)
	if err := g.acquire(t.Context(), k, r); err != nil {
		t.Fatal(err)
	}
	accept(r)
	r.Closed()
}

// limits are those of every key.
func limits(list ...refill.Limit) func(Key) Options {
	return func(Key) Options { return Options{Limits: list} }
}

// A key is forgotten at the first sweep that finds all its tokens back.
func TestForgets(t *testing.T) {
	k := Key{"host", "model"}
	for name, test := range map[string]struct {
		options func(Key) Options
		kept    time.Duration // at least
		gone    time.Duration // at most; 0: never
	}{
		"no limit":           {nil, 59 * s, sweeps},
		"ten a minute":       {limits(rpm(10)), perMinute, 2 * sweeps},
		"one in ten minutes": {limits(refill.Limit{N: 1, Per: 10 * time.Minute}), 10 * time.Minute, 11*time.Minute + s},
		"steady":             {limits(refill.Limit{N: 10, Per: 100 * time.Minute, Rule: refill.Steady}), 10 * time.Minute, 11*time.Minute + s},
		"at once":            {limits(atOnce(3)), 59 * s, sweeps},
		"a day":              {limits(refill.Limit{N: 10, Per: refill.Day}), refill.Day, refill.Day + time.Minute},
		"by name":            {func(Key) Options { return Options{Limits: []refill.Limit{rpm(10)}, Named: true} }, 100 * time.Hour, 0},
		"with a store": {func(Key) Options {
			return Options{Shared: &Shared{Store: func(string) Store { return &script{answer: yes} }}}
		}, 100 * time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &rack{options: test.options}
				g.use(t, k)
				began := time.Now()
				for time.Since(began) < test.kept {
					if len(g.All()) != 1 {
						t.Fatalf("forgotten after %v, want it kept for %v", time.Since(began), test.kept)
					}
					time.Sleep(min(max(s, test.kept/500), test.kept-time.Since(began)))
				}
				if test.gone == 0 {
					return
				}
				time.Sleep(test.gone - time.Since(began) + s)
				if n := len(g.All()); n != 0 {
					t.Errorf("not forgotten after %v", time.Since(began))
				}
				g.use(t, k)
				if n := g.made.Load(); n != 2 {
					t.Errorf("%d limiters were made, want a second one", n)
				}
			})
		})
	}
}

// A key is not forgotten while somebody waits or is in flight, nor while a pause
// is in force.
func TestForgetsNobody(t *testing.T) {
	k := Key{"host", "model"}
	for name, test := range map[string]struct {
		use func(t *testing.T, g *rack) (end func())
	}{
		"in flight": {func(t *testing.T, g *rack) func() {
			r := ask(1)
			if err := g.acquire(t.Context(), k, r); err != nil {
				t.Fatal(err)
			}
			return r.Closed
		}},
		"waiting": {func(t *testing.T, g *rack) func() {
			a := ask(1)
			if err := g.acquire(t.Context(), k, a); err != nil {
				t.Fatal(err)
			}
			done := make(chan error)
			b := ask(2)
			go func() { done <- g.of(k).Acquire(t.Context(), b) }()
			synctest.Wait()
			return func() {
				a.Closed()
				if err := <-done; err != nil {
					t.Error(err)
				}
				b.Closed()
			}
		}},
		"paused": {func(t *testing.T, g *rack) func() {
			r := ask(1)
			if err := g.acquire(t.Context(), k, r); err != nil {
				t.Fatal(err)
			}
			refuse(r, engine.Refusal{Wait: time.Hour, Limits: []engine.Named{{Unit: refill.Tokens}}})
			r.Closed()
			return func() {}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &rack{options: limits(atOnce(1))}
				end := test.use(t, g)
				l := g.Find(k)
				time.Sleep(59 * time.Minute)
				if g.Find(k) != l {
					t.Fatal("it was forgotten")
				}
				end()
				g.Find(k) // those in use are seen to when they are used the next time
				time.Sleep(3 * time.Minute)
				if g.Find(k) != nil {
					t.Error("it was not forgotten in the end")
				}
			})
		})
	}
}

// Two keys that turn out to share a quota share a limiter.
func TestJoin(t *testing.T) {
	a, b, c := Key{"host", "alias"}, Key{"host", "model"}, Key{"host", "third"}
	names := func(names ...Key) func(Key) Options {
		return func(k Key) Options {
			o := Options{Limits: []refill.Limit{rpm(3)}}
			for _, n := range names {
				o.Named = o.Named || n == k
			}
			return o
		}
	}
	t.Run("the second has none yet", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := &rack{}
			l := g.of(a)
			g.Join(a, b, l)
			if g.of(b) != l || g.of(a) != l || len(g.All()) != 1 {
				t.Error("they do not share the first one's")
			}
			g.Join(c, b, g.of(c))
			if g.of(c) != l || len(g.All()) != 1 {
				t.Error("the third does not share it")
			}
			time.Sleep(10 * time.Minute)
			if g.Find(a) != nil || g.Find(b) != nil || g.Find(c) != nil {
				t.Error("it was not forgotten")
			}
		})
	})
	t.Run("the second has one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := &rack{options: names(b)}
			l := g.of(b)
			g.Join(a, b, g.of(a))
			if g.of(a) != l || len(g.All()) != 1 {
				t.Error("they do not share the second one's")
			}
			time.Sleep(10 * time.Minute)
			if g.of(a) != l {
				t.Error("one that is configured by name was forgotten under its other name")
			}
		})
	})
	t.Run("the first is configured by name", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := &rack{options: names(a)}
			l, m := g.of(a), g.of(b)
			g.Join(a, b, l)
			if g.of(a) != l || g.of(b) != m {
				t.Error("one that is configured by name shares another's")
			}
		})
	})
	t.Run("itself", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := &rack{}
			l := g.of(a)
			if g.Join(a, a, l); g.of(a) != l || len(g.All()) != 1 {
				t.Error("it is another one")
			}
		})
	})
}

// Listing looks at no limiter: it goes on while they are all busy, and holds up
// nobody while they are looked at one by one. A limiter that keys share is listed
// once.
func TestRegistryAll(t *testing.T) {
	g := &Registry{}
	create := func(*engine.Memory) *Limiter {
		return New("", Options{Limits: []refill.Limit{atOnce(1)}})
	}
	const keys = 1000
	var first *Limiter
	for i := range keys {
		l := g.Get(Key{Name: strconv.Itoa(i)}, create)
		if l.mu.Lock(); first == nil {
			first = l
		}
	}
	g.Join(Key{Name: "0"}, Key{Name: "whole"}, first)
	list := g.All()
	if len(list) != keys {
		t.Errorf("%d limiters listed, want %d", len(list), keys)
	}
	for i := range g.shards {
		if !g.shards[i].mu.TryLock() {
			t.Fatal("a shard is still locked")
		}
		g.shards[i].mu.Unlock()
	}
	for _, l := range list {
		l.mu.Unlock()
	}
}
