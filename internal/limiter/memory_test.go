package limiter

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/refill"
)

// What was learned of a key is known when it comes back: limits, lower ones, how
// estimates are off. What is configured is not mistaken for that.
func TestRemembers(t *testing.T) {
	k := Key{"host", "model"}
	synctest.Test(t, func(t *testing.T) {
		g := &rack{options: limits(rpm(100))}
		r := ask(1, refill.Cost{refill.Requests: 1, refill.Tokens: 1000})
		if err := g.acquire(t.Context(), k, r); err != nil {
			t.Fatal(err)
		}
		r.Answered(engine.Answer{Levels: []engine.Level{
			{Unit: refill.Requests, N: 7, Per: time.Minute, Left: 6, Full: -1},
			{Unit: refill.Tokens, N: 9000, Per: time.Minute, Left: 8000, Full: -1},
		}})
		r.Settle(refill.Cost{-1, 3000, -1})
		r.Closed()
		for round := range 3 {
			time.Sleep(5 * time.Minute)
			if g.Find(k) != nil {
				t.Fatal("it was not forgotten")
			}
			l := g.of(k)
			st := status(l)
			if len(st.Limits) != 2 || st.Limits[0].N != 7 || st.Limits[0].Left != 7 || st.Limits[0].Learned ||
				st.Limits[1].N != 9000 || st.Limits[1].Left != 9000 || !st.Limits[1].Learned || !l.CountsTokens() {
				t.Fatalf("round %d: it came back with %+v, want 7 requests and 9000 tokens", round, st.Limits)
			}
			r := ask(1, refill.Cost{refill.Requests: 1, refill.Tokens: 1000})
			if err := g.acquire(t.Context(), k, r); err != nil {
				t.Fatal(err)
			}
			if left := status(l).Limits[1].Left; left != 6000 {
				t.Errorf("round %d: %d tokens left after one estimated at a third, want 6000", round, left)
			}
			accept(r)
			r.Closed()
		}
	})
	synctest.Test(t, func(t *testing.T) { // nothing was learned
		n := int64(10)
		g := &rack{options: func(Key) Options { return Options{Limits: []refill.Limit{rpm(n)}} }}
		g.use(t, k)
		time.Sleep(5 * time.Minute)
		n = 20
		if st := status(g.of(k)); st.Limits[0].N != 20 {
			t.Errorf("it came back with %+v, want what is configured", st.Limits)
		}
	})
}

// Keys that come from outside cannot exhaust memory, whatever is learned of them.
func TestRemembersLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &rack{}
		learn := func(k Key) {
			r := ask(1)
			if err := g.acquire(t.Context(), k, r); err != nil {
				t.Fatal(err)
			}
			r.Answered(engine.Answer{Levels: []engine.Level{{N: 7, Per: time.Minute, Left: -1, Full: -1}}})
			r.Closed()
		}
		long := Key{"host", strings.Repeat("x", 60_000)}
		for i := range 3 * shards * memories {
			learn(Key{"host", fmt.Sprint(i)})
		}
		learn(long)
		time.Sleep(5 * time.Minute)
		n := 0
		for i := range g.shards {
			x := &g.shards[i]
			x.mu.Lock()
			if x.limiters != nil {
				t.Errorf("shard %d still has %d limiters", i, len(x.limiters))
			}
			if len(x.memory) > memories {
				t.Errorf("shard %d remembers %d keys, want %d at most", i, len(x.memory), memories)
			}
			n += len(x.memory)
			if x.memory[long] != nil {
				t.Error("a key of 60 KB is remembered")
			}
			x.mu.Unlock()
		}
		if n < shards*memories*9/10 {
			t.Errorf("%d are remembered, want about %d", n, shards*memories)
		}
	})
}

// Who has found a limiter that is forgotten has to look for another one, which what
// becomes of the first one leaves alone.
func TestForgotten(t *testing.T) {
	k := Key{"host", "model"}
	synctest.Test(t, func(t *testing.T) {
		g := &rack{options: limits(atOnce(1))}
		old := g.of(k)
		time.Sleep(sweeps + s)
		if g.Find(k) != nil {
			t.Fatal("it was not forgotten")
		}
		if err := old.Acquire(t.Context(), ask(1)); err != ErrForgotten {
			t.Errorf("error %v, want ErrForgotten", err)
		}
		l := g.of(k)
		if g.Drop(k, old); g.Find(k) != l {
			t.Error("another one than the forgotten was dropped")
		}
		if g.Drop(k, l); g.Find(k) != nil {
			t.Error("it was not dropped")
		}
	})
}

// Requests that come while their key is forgotten find another limiter, and at no
// time go more than it allows.
func TestForgottenRace(t *testing.T) {
	var g rack
	g.options = limits(atOnce(2))
	keys := []Key{{"host", "a"}, {"host", "b"}, {"host", "c"}}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 { // sweeps, without a pause
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					for i := range g.shards {
						g.shards[i].forget()
					}
					runtime.Gosched()
				}
			}
		})
	}
	var flying [3]atomic.Int64
	var users sync.WaitGroup
	for i := range 8 {
		users.Go(func() {
			for n := range 300 {
				x := (i + n) % len(keys)
				r := ask(uint64(n + 1))
				if err := g.acquire(t.Context(), keys[x], r); err != nil {
					t.Error(err)
					return
				}
				if k := flying[x].Add(1); k > 2 {
					t.Errorf("%d in flight at once, want 2 at most", k)
				}
				r.Sent()
				runtime.Gosched()
				accept(r)
				flying[x].Add(-1)
				r.Closed()
			}
		})
	}
	users.Wait()
	close(stop)
	wg.Wait()
	for i := range g.shards {
		g.shards[i].forget()
	}
	if n := len(g.All()); n != 0 || g.made.Load() < 4 {
		t.Errorf("%d are left of %d that were made", n, g.made.Load())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sweep != nil {
		g.sweep.Stop()
	}
}
