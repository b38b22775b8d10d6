package limiter

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
)

// spent sums up what a store was told of the first limit: tokens that count as spent
// and did not before, less those that no longer do.
func spent(list []share.Batch) (n int64) {
	seen := make(map[int64]bool)
	for _, b := range list {
		if seen[b.Seq] {
			continue // a repetition
		}
		seen[b.Seq] = true
		for _, r := range b.Reports {
			switch {
			case r.Event != share.Move || r.Limit != 0:
			case r.From == 0:
				n += r.N
			case r.At == 0:
				n -= r.N
			}
		}
	}
	return n
}

// wait lets a request through, whenever that is.
func wait(t *testing.T, l *Limiter, place uint64) *Request {
	t.Helper()
	r := ask(place)
	if err := l.Acquire(context.Background(), r); err != nil {
		t.Error(err)
	}
	return r
}

// An exchange that was not answered is told again as it was, until it is.
func TestSharedToldUntilKnown(t *testing.T) {
	shared(t, &Shared{}, func(t *testing.T, s *script, l *Limiter) {
		var told []error
		var mu sync.Mutex
		l.tell = func(err error) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, err)
		}
		r := acquire(t, l, 1)
		accept(r)
		time.Sleep(5 * time.Second) // nothing else is to be told
		s.now(away)
		r.Settle(refill.Cost{5, -1, -1})
		r.Closed()
		time.Sleep(3 * time.Second)
		failed := s.seen()
		s.now(yes)
		time.Sleep(3 * time.Second)
		if len(failed) < 2 || failed[0].Seq != failed[1].Seq || !slices.Equal(failed[0].Reports, failed[1].Reports) {
			t.Fatalf("told %+v, want the same twice", failed)
		}
		if got := s.seen(); len(got) == 0 || got[0].Seq != failed[0].Seq || spent(got) != 4 {
			t.Errorf("told %+v when it was back, want 4 more spent", got)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(told) != 2 || told[0] == nil || told[1] != nil {
			t.Errorf("told %v, want that it was away and is back", told)
		}
	})
}

// Slots are kept alive although an exchange fails, and though nobody comes.
func TestSharedKeepsSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: yes}
		l := New("k", Options{Limits: []refill.Limit{{N: 10}}, Shared: &Shared{Store: func(string) Store { return s }}})
		var all []*Request
		for i := range uint64(10) {
			all = append(all, acquire(t, l, i+1))
		}
		for range 5 {
			time.Sleep(20 * time.Second) // nobody comes
			s.now(away)
			for len(s.seen()) == 0 {
				time.Sleep(10 * time.Millisecond)
			}
			s.now(yes)
			time.Sleep(2 * time.Second)
			seen := s.seen()
			if len(seen) == 0 || seen[len(seen)-1].Limits[0].Holding != 10 {
				t.Fatalf("told %+v within 2s of a failure, want that 10 are held", seen)
			}
		}
		for _, r := range all {
			r.Closed()
		}
		time.Sleep(time.Minute)
		if seen := s.seen(); seen[len(seen)-1].Limits[0].Holding != 0 {
			t.Errorf("told that %d are held, want none", seen[len(seen)-1].Limits[0].Holding)
		}
	})
}

// Whatever is let go while the store is away is told when it is back, in a batch of a
// bounded size.
func TestSharedOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: yes}
		l := New("k", Options{Limits: []refill.Limit{{N: 8000, Per: time.Minute, Rule: refill.Window}}, Shared: &Shared{Store: func(string) Store { return s }, OnError: share.FailOpen}})
		acquire(t, l, 1).Closed()
		time.Sleep(2 * time.Minute)
		s.now(away)
		const n = 24_960
		for i := range n {
			r := acquire(t, l, uint64(i+2))
			accept(r)
			r.Closed()
			time.Sleep(50 * time.Second / n)
		}
		s.now(yes)
		time.Sleep(5 * time.Second)
		if got := spent(s.seen()); got < n-2 || got > n {
			t.Errorf("told of %d spent, want %d", got, n)
		}
		for _, b := range s.seen() {
			if len(b.Reports) > 600 {
				t.Errorf("%d reports in a batch", len(b.Reports))
			}
		}
		time.Sleep(3 * time.Minute)
	})
}

// A request that is let go and not written for long stays on its way for the store.
func TestSharedUnwritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: yes}
		l := New("k", Options{Limits: []refill.Limit{{N: 5, Per: time.Second, Rule: refill.Window}}, Shared: &Shared{Store: func(string) Store { return s }}})
		r := acquire(t, l, 1)
		r.Unsent()
		began := storeNow()
		until := began + refill.Flight // the store counts it as spent
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			for _, m := range s.told() {
				if m.Event == share.Move && m.From == until {
					until = m.At
				}
			}
			if now := storeNow(); until+time.Second < now {
				t.Fatalf("after %v its token is back, though it was not written: told %+v", now-began, s.told())
			}
		}
		r.Sent()
		accept(r)
		r.Closed()
		time.Sleep(time.Minute)
	})
}

// deaf is a store whose client does not heed the context until it gets an answer.
type deaf struct {
	*script
	takes time.Duration
}

func (d deaf) Exchange(ctx context.Context, b share.Batch) (share.Reply, error) {
	select {
	case <-time.After(d.takes):
	case <-ctx.Done():
		return share.Reply{}, ctx.Err()
	}
	return d.script.Exchange(context.WithoutCancel(ctx), b)
}

// A store that takes longer than Timeout delays a request by that, and not more; then
// its answers are waited for, and the quota is shared.
func TestSharedFarAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: yes}
		l := New("k", Options{Limits: []refill.Limit{rpm(100)}, Shared: &Shared{Store: func(string) Store { return deaf{s, 300 * time.Millisecond} }, Timeout: 100 * time.Millisecond}})
		began := time.Now()
		acquire(t, l, 1).Closed()
		if d := time.Since(began); d != 100*time.Millisecond {
			t.Errorf("the first request went after %v, want 100ms", d)
		}
		for i := range uint64(10) {
			time.Sleep(time.Second)
			acquire(t, l, i+2).Closed()
		}
		time.Sleep(time.Second)
		if l.engine.Away() {
			t.Error("the store is never waited for")
		}
		asked := 0
		for _, b := range s.seen() {
			asked += len(b.Asks)
		}
		if asked < 5 {
			t.Errorf("%d requests asked the store, want most of 11", asked)
		}
		time.Sleep(3 * time.Minute)
	})
}

// Nobody asks without end: not when the store never grants anything, and not after a
// refusal without a hint.
func TestSharedInVain(t *testing.T) {
	for name, answer := range map[string]func(share.Batch) (share.Reply, error){
		"never grants": func(b share.Batch) (share.Reply, error) {
			r, err := yes(b)
			r.Granted = 0
			return r, err
		},
		"always lost": func(share.Batch) (share.Reply, error) { return share.Reply{Lost: true, Generation: 7}, nil },
		"fails":       func(share.Batch) (share.Reply, error) { return share.Reply{}, errors.New("broken") },
	} {
		t.Run(name, func(t *testing.T) {
			shared(t, &Shared{OnError: share.FallBack}, func(t *testing.T, s *script, l *Limiter) {
				s.now(answer)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				_ = l.Acquire(ctx, ask(1))
				time.Sleep(10 * time.Second)
				if n := len(s.seen()); n > 250 {
					t.Errorf("%d exchanges in 10s", n)
				}
				s.now(yes)
			})
		})
	}
	t.Run("a bare refusal", func(t *testing.T) {
		shared(t, &Shared{}, func(t *testing.T, s *script, l *Limiter) {
			r := acquire(t, l, 1)
			refuse(r, engine.Refusal{})
			began := time.Now()
			var wg sync.WaitGroup
			for i := range uint64(3) { // none of them is answered
				wg.Go(func() { wait(t, l, i+2) })
			}
			wg.Wait()
			if d := time.Since(began); d > 10*time.Second {
				t.Errorf("the last one went after %v", d)
			}
			if n := len(s.seen()); n > 30 {
				t.Errorf("%d exchanges for 4 requests", n)
			}
			r.Closed()
		})
	})
}

// A slot that is freed while an exchange is under way is told of as soon as that ends.
func TestSharedFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answer: yes}
		l := New("k", Options{Limits: []refill.Limit{{N: 2}}, Shared: &Shared{Store: func(string) Store { return s }}})
		a, b := acquire(t, l, 1), acquire(t, l, 2)
		s.now(func(b share.Batch) (share.Reply, error) {
			r, err := yes(b)
			if b.Limits[0].Holding == 2 {
				r.Granted, r.Wait, r.Rivals = 0, time.Hour, 1
			}
			return r, err
		})
		done := make(chan time.Duration)
		began := time.Now()
		go func() {
			wait(t, l, 3).Closed()
			done <- time.Since(began)
		}()
		time.Sleep(2 * time.Millisecond) // its exchange takes 5
		a.Closed()
		if d := <-done; d > 20*time.Millisecond {
			t.Errorf("the freed slot was taken after %v", d)
		}
		b.Closed()
		time.Sleep(time.Minute)
	})
}

// With FailOpen a drain and what the server has asked for hold all the same while the
// store is away.
func TestSharedOpenHeeds(t *testing.T) {
	shared(t, &Shared{OnError: share.FailOpen}, func(t *testing.T, s *script, l *Limiter) {
		s.now(away)
		r := acquire(t, l, 1)
		refuse(r, engine.Refusal{Wait: 2 * time.Second})
		r.Closed()
		began := time.Now()
		wait(t, l, 1).Closed()
		if d := time.Since(began); d < 2*time.Second || d > 3*time.Second {
			t.Errorf("the next try went after %v, want 2s", d)
		}
	})
}

// What the store grants ahead goes at its time, and back if the key is drained
// meanwhile.
func TestSharedAhead(t *testing.T) {
	shared(t, &Shared{}, func(t *testing.T, s *script, l *Limiter) {
		s.now(func(b share.Batch) (share.Reply, error) {
			r, err := yes(b)
			for i := range b.Asks {
				r.Due = append(r.Due, time.Duration(i)*100*time.Millisecond)
			}
			return r, err
		})
		var mu sync.Mutex
		var went []time.Duration
		var first *Request
		began := time.Now()
		var wg sync.WaitGroup
		for i := range uint64(5) {
			wg.Go(func() {
				r := wait(t, l, i+1)
				mu.Lock()
				went = append(went, time.Since(began).Truncate(time.Millisecond))
				if first == nil {
					first = r
				}
				mu.Unlock()
			})
		}
		time.Sleep(150 * time.Millisecond)
		refuse(first, engine.Refusal{Wait: time.Second})
		wg.Wait()
		if len(went) != 5 || went[4] < 1150*time.Millisecond {
			t.Errorf("they went after %v, want none for 1s after 150ms", went)
		}
		back := int64(0)
		for _, r := range s.told() {
			if r.Event == share.Move && r.At == 0 {
				back += r.N
			}
		}
		if back < 3 {
			t.Errorf("%d were given back, want those that were not due", back)
		}
	})
}
