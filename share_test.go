package tollgate

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

	"example.com/tollgate/provider"
)

// A script is a Store that answers as it is told to, a moment later.
type script struct {
	mu      sync.Mutex
	batches []Batch
	answer  func(b Batch) (Reply, error)
}

func (s *script) Exchange(ctx context.Context, b Batch) (Reply, error) {
	s.mu.Lock()
	s.batches = append(s.batches, b)
	answer := s.answer
	s.mu.Unlock()
	select {
	case <-time.After(5 * time.Millisecond):
	case <-ctx.Done():
		return Reply{}, ctx.Err()
	}
	r, err := answer(b)
	r.Taken = time.Hour
	return r, err
}

func (s *script) now(answer func(b Batch) (Reply, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches, s.answer = nil, answer
}

// seen returns the batches since.
func (s *script) seen() []Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.batches)
}

// told returns what the store was told since.
func (s *script) told() (list []string) {
	for _, b := range s.seen() {
		for _, r := range b.Reports {
			list = append(list, fmt.Sprintf("%v of limit %d: %d, taken %v, %v ago, for %v", r.Event, r.Limit, r.N, r.Taken, r.Ago, r.For))
		}
	}
	return list
}

func yes(b Batch) (Reply, error) { return Reply{Granted: len(b.Asks)}, nil }

func away(Batch) (Reply, error) { return Reply{}, errors.New("away") }

// shared runs f in a bubble with a shared limiter of 100 requests a minute.
func shared(t *testing.T, o SharedOptions, f func(t *testing.T, s *script, l Limiter)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: yes}
		o := o
		o.Store = s
		f(t, s, NewShared("k", Quota{RPM(100)}, o))
		time.Sleep(time.Minute) // nothing goes on for ever
		synctest.Wait()
	})
}

// Those who wait ask together.
func TestSharedTogether(t *testing.T) {
	shared(t, SharedOptions{}, func(t *testing.T, s *script, l Limiter) {
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				g := mustAcquire(t, l, uint64(i+1))
				g.Answered(200, time.Time{}, nil)
				g.Done()
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		if n := len(s.seen()); n > 3 {
			t.Errorf("%d exchanges for 50 requests that came together, want 3 at most", n)
		}
		if got := s.told(); len(got) == 0 || !strings.HasPrefix(got[0], "0 of limit 0: ") {
			t.Errorf("told %v, want what was spent", got)
		}
	})
}

// Tokens that come for someone who has gone go back.
func TestSharedGone(t *testing.T) {
	shared(t, SharedOptions{}, func(t *testing.T, s *script, l Limiter) {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Millisecond)
		defer cancel()
		if _, err := l.Acquire(ctx, Ask{Place: 1, Cost: cost{Requests: 1}}); err != context.DeadlineExceeded {
			t.Errorf("error %v, want the context's", err)
		}
		time.Sleep(time.Second)
		if got, want := s.told(), []string{"1 of limit 0: 1, taken 1h0m0s, 0s ago, for 0s"}; !slices.Equal(got, want) {
			t.Errorf("told %v, want %v", got, want)
		}
	})
}

// The head asks again when it was told to, and not before.
func TestSharedWait(t *testing.T) {
	shared(t, SharedOptions{}, func(t *testing.T, s *script, l Limiter) {
		began := time.Now()
		s.now(func(b Batch) (Reply, error) {
			if time.Since(began) < 10*time.Second {
				return Reply{Wait: 10 * time.Second}, nil
			}
			return yes(b)
		})
		g, err := l.Acquire(t.Context(), Ask{Place: 1, Cost: cost{Requests: 1}})
		if err != nil {
			t.Fatal(err)
		}
		g.Done()
		if got, n := time.Since(began), len(s.seen()); got != 10010*time.Millisecond || n != 2 {
			t.Errorf("after %v and %d exchanges, want 10.01s and 2", got, n)
		}
	})
}

// What happens while a store is away, and that both turns are told once.
func TestSharedAway(t *testing.T) {
	for on, want := range map[OnError]int{FallBack: 25, FailOpen: 60, FailClosed: 0} {
		shared(t, SharedOptions{OnError: on, Instances: 4}, func(t *testing.T, s *script, l Limiter) {
			s.now(away)
			var told []error
			var mu sync.Mutex
			let := func(n int) (passed int) {
				for range n {
					ctx, cancel := context.WithTimeout(context.Background(), time.Second)
					g, err := l.Acquire(ctx, Ask{Place: 1, Cost: cost{Requests: 1}, Store: func(err error) {
						mu.Lock()
						defer mu.Unlock()
						told = append(told, err)
					}})
					if cancel(); err == nil {
						passed++
						g.Answered(200, time.Time{}, nil)
						g.Done()
					} else if limited := errors.Is(err, ErrLimited); limited != (on == FallBack) {
						t.Errorf("%v: error %v", on, err)
					}
				}
				return passed
			}
			if n := let(60); n != want {
				t.Errorf("%v: %d passed, want %d", on, n, want)
			}
			s.now(yes)
			time.Sleep(retryStore + time.Second)
			if n := let(200); n != 200 {
				t.Errorf("%v: %d passed when it was back, want all", on, n)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(told) != 2 || told[0] == nil || told[1] != nil {
				t.Errorf("%v: told %v, want of either turn once", on, told)
			}
		})
	}
}

// A store that has forgotten everything is told what was spent.
func TestSharedLost(t *testing.T) {
	shared(t, SharedOptions{}, func(t *testing.T, s *script, l Limiter) {
		for range 7 {
			g := mustAcquire(t, l, 1)
			g.Answered(200, time.Time{}, nil)
			g.Done()
		}
		time.Sleep(time.Second)
		lost := true
		s.now(func(b Batch) (Reply, error) {
			r := Reply{Granted: len(b.Asks), Lost: lost}
			lost = false
			return r, nil
		})
		mustAcquire(t, l, 1).Done()
		time.Sleep(time.Second)
		n := int64(0)
		for _, b := range s.seen() {
			for _, r := range b.Reports {
				if r.Event == Settled {
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
	shared(t, SharedOptions{OnError: FailOpen}, func(t *testing.T, s *script, l Limiter) {
		g := mustAcquire(t, l, 1)
		g.Sent()
		s.now(away)
		g.Answered(429, time.Time{}, nil)
		g.Refused(429, provider.Refusal{Wait: 30 * time.Second, Hinted: true})
		g.Done()
		time.Sleep(100 * time.Millisecond)
		s.now(yes)
		time.Sleep(2 * time.Second)
		if !slices.ContainsFunc(s.told(), func(r string) bool { return strings.HasPrefix(r, "4 of limit 0: ") }) {
			t.Errorf("told %v, want the drain", s.told())
		}
	})
}

// A limit that the store knows is kept, and one that is learned is told.
func TestSharedLimits(t *testing.T) {
	shared(t, SharedOptions{}, func(t *testing.T, s *script, l Limiter) {
		other := Limit{Unit: Tokens, N: 1000, Per: time.Minute, Refill: Steady}
		s.now(func(b Batch) (Reply, error) {
			r := Reply{Granted: len(b.Asks)}
			for _, l := range b.Limits {
				if l.Unit == Requests {
					l.N = 60
				}
				r.Limits = append(r.Limits, LimitNews{Limit: l, Left: 5, Full: time.Minute})
			}
			if len(b.Limits) == 1 {
				r.Others = []Limit{other}
			}
			return r, nil
		})
		g := mustAcquire(t, l, 1)
		changes := g.Answered(200, time.Time{}, nil)
		g.Done()
		if len(changes) != 2 || changes[0].To != other || changes[1].To.N != 60 {
			t.Errorf("learned %v, want the store's", changes)
		}
		if st := l.Status(); len(st.Limits) != 2 || st.Limits[0].N != 60 || st.Limits[0].Left != 5 {
			t.Errorf("%+v", st)
		}
		s.now(yes)
		g = mustAcquire(t, l, 2)
		g.Answered(200, time.Time{}, []provider.Level{{Unit: Requests, N: 20, Per: time.Minute, Left: 3}})
		g.Done()
		time.Sleep(time.Second)
		if all := s.seen(); all[len(all)-1].Limits[0].N != 20 || !slices.ContainsFunc(s.told(), func(r string) bool { return strings.HasPrefix(r, "5 of limit 0") }) {
			t.Errorf("told %v, want that a limit of 20 is in force", s.told())
		}
	})
}
