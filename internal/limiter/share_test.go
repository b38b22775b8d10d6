package limiter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
)

// A script is a Store that answers as it is told to, a moment later.
type script struct {
	mu      sync.Mutex
	batches []share.Batch
	answer  func(b share.Batch) (share.Reply, error)
}

func (s *script) Exchange(ctx context.Context, b share.Batch) (share.Reply, error) {
	s.mu.Lock()
	s.batches = append(s.batches, b)
	answer := s.answer
	s.mu.Unlock()
	select {
	case <-time.After(5 * time.Millisecond):
	case <-ctx.Done():
		return share.Reply{}, ctx.Err()
	}
	r, err := answer(b)
	r.Now = storeNow()
	r.Taken, r.Generation = r.Now, max(r.Generation, 1)
	return r, err
}

// storeNow is what the store's clock shows: another one than ours.
func storeNow() time.Duration { return (Mono() + time.Hour).Truncate(time.Microsecond) }

func (s *script) now(answer func(b share.Batch) (share.Reply, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches, s.answer = nil, answer
}

// seen returns the batches since.
func (s *script) seen() []share.Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.batches)
}

// told returns what the store was told since.
func (s *script) told() (list []share.Report) {
	for _, b := range s.seen() {
		list = append(list, b.Reports...)
	}
	return list
}

// hears reports whether the store was told of an event of the first limit.
func (s *script) hears(e share.Event) bool {
	return slices.ContainsFunc(s.told(), func(r share.Report) bool { return r.Event == e && r.Limit == 0 })
}

func yes(b share.Batch) (share.Reply, error) {
	r := share.Reply{Granted: len(b.Asks)}
	for _, c := range b.Limits {
		r.Limits = append(r.Limits, share.State{Limit: c.Limit, Most: c.N, Left: c.N})
	}
	return r, nil
}

func away(share.Batch) (share.Reply, error) { return share.Reply{}, errors.New("away") }

// shared runs f in a bubble with a limiter of 100 requests a minute that are
// shared through a store.
func shared(t *testing.T, o *Shared, f func(t *testing.T, s *script, l *Limiter)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: yes}
		o.Store = func(key string) Store {
			if key != "k" {
				t.Errorf("store of %q, want k", key)
			}
			return s
		}
		f(t, s, New("k", Options{Limits: []refill.Limit{rpm(100)}, Shared: o}))
		time.Sleep(time.Minute) // nothing goes on for ever
		synctest.Wait()
	})
}

// Those who wait ask together.
func TestSharedTogether(t *testing.T) {
	shared(t, &Shared{}, func(t *testing.T, s *script, l *Limiter) {
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				r := acquire(t, l, uint64(i+1))
				accept(r)
				r.Closed()
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		if n := len(s.seen()); n > 3 {
			t.Errorf("%d exchanges for 50 requests that came together, want 3 at most", n)
		}
		if got := s.told(); len(got) == 0 || got[0].Event != share.Move || got[0].At == 0 || got[0].Limit != 0 {
			t.Errorf("told %v, want what was spent", got)
		}
	})
}

// Tokens that come for someone who has gone go back.
func TestSharedGone(t *testing.T) {
	shared(t, &Shared{}, func(t *testing.T, s *script, l *Limiter) {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Millisecond)
		defer cancel()
		if err := l.Acquire(ctx, ask(1)); err != context.DeadlineExceeded {
			t.Errorf("error %v, want the context's", err)
		}
		time.Sleep(time.Second)
		if got := s.told(); len(got) != 1 || got[0].Event != share.Move || got[0].N != 1 || got[0].From == 0 || got[0].At != 0 {
			t.Errorf("told %+v, want that one will never be spent", got)
		}
	})
}

// The head asks again when it was told to, and not before.
func TestSharedWait(t *testing.T) {
	shared(t, &Shared{}, func(t *testing.T, s *script, l *Limiter) {
		began := time.Now()
		s.now(func(b share.Batch) (share.Reply, error) {
			if time.Since(began) < 10*time.Second {
				return share.Reply{Wait: 10 * time.Second}, nil
			}
			return yes(b)
		})
		r := ask(1)
		if err := l.Acquire(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		r.Closed()
		if got, n := time.Since(began), len(s.seen()); got != 10005*time.Millisecond || n != 2 { // it is there when they are due
			t.Errorf("after %v and %d exchanges, want 10.005s and 2", got, n)
		}
	})
}

// What happens while a store is away, and that both turns are told once.
func TestSharedAway(t *testing.T) {
	for on, want := range map[share.OnError]int{share.FallBack: 25, share.FailOpen: 60, share.FailClosed: 0} {
		t.Run(fmt.Sprint(on), func(t *testing.T) {
			shared(t, &Shared{OnError: on, Instances: 4}, func(t *testing.T, s *script, l *Limiter) {
				s.now(away)
				var told []error
				var mu sync.Mutex
				l.tell = func(err error) { // nothing has asked the store yet
					mu.Lock()
					defer mu.Unlock()
					told = append(told, err)
				}
				let := func(n int) (passed int) {
					for range n {
						ctx, cancel := context.WithTimeout(context.Background(), time.Second)
						r := ask(1)
						err := l.Acquire(ctx, r)
						if cancel(); err == nil {
							passed++
							accept(r)
							r.Closed()
						} else if (err == ErrRejected) != (on == share.FallBack) {
							t.Errorf("error %v", err)
						} else if err != ErrRejected && !strings.HasSuffix(err.Error(), ": away") {
							t.Errorf("error %v, want it to say why the store does not answer", err)
						}
					}
					return passed
				}
				if n := let(60); n != want {
					t.Errorf("%d passed, want %d", n, want)
				}
				s.now(yes)
				time.Sleep(500*time.Millisecond + time.Second)
				if n := let(200); n != 200 {
					t.Errorf("%d passed when it was back, want all", n)
				}
				mu.Lock()
				defer mu.Unlock()
				if len(told) != 2 || told[0] == nil || told[1] != nil {
					t.Errorf("told %v, want of either turn once", told)
				}
			})
		})
	}
}

// A store that has forgotten everything is told what was spent.
func TestSharedLost(t *testing.T) {
	shared(t, &Shared{}, func(t *testing.T, s *script, l *Limiter) {
		for range 7 {
			r := acquire(t, l, 1)
			accept(r)
			r.Closed()
		}
		time.Sleep(time.Second)
		s.now(func(b share.Batch) (share.Reply, error) {
			if b.Generation != 2 {
				return share.Reply{Lost: true, Generation: 2}, nil
			}
			r, err := yes(b)
			r.Generation = 2
			return r, err
		})
		acquire(t, l, 1).Closed()
		time.Sleep(time.Second)
		n := int64(0)
		for _, b := range s.seen() {
			for _, r := range b.Reports {
				if b.Generation == 2 && r.From == 0 {
					n += r.N
				}
			}
		}
		if n != 7 {
			t.Errorf("told of %d spent, want 7", n)
		}
	})
}

// A drain that the store was not told of, because it was away, it is told later.
func TestSharedTellsAgain(t *testing.T) {
	shared(t, &Shared{OnError: share.FailOpen}, func(t *testing.T, s *script, l *Limiter) {
		r := acquire(t, l, 1)
		s.now(away)
		refuse(r, engine.Refusal{Wait: 30 * time.Second})
		r.Closed()
		time.Sleep(100 * time.Millisecond)
		s.now(yes)
		time.Sleep(2 * time.Second)
		if !s.hears(share.Drain) {
			t.Errorf("told %+v, want the drain", s.told())
		}
	})
}

// A limit that the store knows is kept, and one that is learned is told.
func TestSharedLimits(t *testing.T) {
	shared(t, &Shared{}, func(t *testing.T, s *script, l *Limiter) {
		other := refill.Limit{Unit: refill.Tokens, N: 1000, Per: time.Minute, Rule: refill.Steady}
		s.now(func(b share.Batch) (share.Reply, error) {
			r := share.Reply{Granted: len(b.Asks)}
			for _, c := range b.Limits {
				l := c.Limit
				if l.Unit == refill.Requests {
					l.N = 60
				} else {
					l = other
				}
				r.Limits = append(r.Limits, share.State{Limit: l, Most: l.N, Left: 5, Full: time.Minute})
			}
			if len(b.Limits) == 1 {
				r.Others = []share.State{{Limit: other, Most: 1000}}
			}
			return r, nil
		})
		r := acquire(t, l, 1)
		changes := r.Answered(engine.Answer{})
		r.Closed()
		if len(changes) != 2 || changes[0].To != other || changes[1].To.N != 60 {
			t.Errorf("learned %v, want the store's", changes)
		}
		if st := status(l); len(st.Limits) != 2 || st.Limits[0].N != 60 || st.Limits[0].Left != 5 {
			t.Errorf("%+v", st)
		}
		if !l.CountsTokens() {
			t.Error("a limit of tokens that the store knows is not counted")
		}
		s.now(yes)
		r = acquire(t, l, 2)
		r.Answered(engine.Answer{Levels: []engine.Level{{Unit: refill.Requests, N: 20, Per: time.Minute, Left: 3}}})
		r.Closed()
		time.Sleep(time.Second)
		if !slices.ContainsFunc(s.seen(), func(b share.Batch) bool { c := b.Limits[0]; return c.N == 100 && c.Told == 20 && c.News }) {
			t.Errorf("told %+v, want that a limit of 20 is in force", s.seen())
		}
	})
}

// A wait is told by when tokens are back, although the store's last word, which was
// asked for by those who wait for ever, did not say that.
func TestSharedDetail(t *testing.T) {
	shared(t, &Shared{}, func(t *testing.T, s *script, l *Limiter) {
		s.now(func(b share.Batch) (share.Reply, error) {
			r, err := yes(b)
			r.Limits[0].Left, r.Limits[0].Full = 0, 55*time.Second
			if b.Detail {
				r.Limits[0].Back = []share.Back{{In: 55 * time.Second, N: 100}}
				r.Granted = 0
			}
			return r, err
		})
		r := ask(1)
		if err := l.Acquire(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		accept(r)
		r.Closed()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		late := ask(2)
		if err := l.Acquire(ctx, late); err != ErrRejected || late.Rejection.After < 54*time.Second {
			t.Errorf("%v, %+v; want it rejected, by 55s", err, late.Rejection)
		}
	})
}
