package limiter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
)

// An outage is told once for all keys and calls, when its trouble is known, and so
// is its end.
func TestOutageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := &Shared{}
		var mu sync.Mutex
		var o *Outage
		shared.Store = func(string) Store {
			return &script{answer: func(b share.Batch) (share.Reply, error) {
				mu.Lock()
				defer mu.Unlock()
				if o != nil {
					return share.Reply{}, fmt.Errorf("tollgate: %w", o)
				}
				return yes(b)
			}}
		}
		var told Outages
		var heard []string
		var limiters []*Limiter
		for i := range 100 {
			limiters = append(limiters, New(fmt.Sprint(i), Options{
				Limits: []refill.Limit{rpm(1000)}, Shared: shared, Told: &told,
				Tell: func(err error) {
					mu.Lock()
					defer mu.Unlock()
					heard = append(heard, fmt.Sprint(err))
				},
			}))
		}
		all := func() {
			for range 3 {
				for _, l := range limiters {
					r := acquire(t, l, 1)
					accept(r)
					r.Closed()
				}
				time.Sleep(time.Second)
			}
		}
		said := func() []string {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			list := heard
			heard = nil
			return list
		}
		all()
		if got := said(); len(got) > 0 {
			t.Errorf("heard %q, want nothing", got)
		}

		mu.Lock()
		o = shared.NewOutage("Redis", Trouble{What: "unreachable: who knows"})
		mu.Unlock()
		all()
		if got := said(); len(got) > 0 {
			t.Errorf("heard %q before the trouble was known", got)
		}
		if !o.Settle(Trouble{What: "unreachable: refused"}) || o.Settle(Trouble{What: "never"}) {
			t.Error("settled not just once")
		}
		all()
		if got := said(); len(got) != 1 || !strings.HasPrefix(got[0], "tollgate: Redis unreachable: refused; keeping to the whole quota, as does every other") {
			t.Errorf("heard %q, want one outage", got)
		}

		mu.Lock()
		worse := shared.NewOutage("Redis", Trouble{})
		worse.Settle(Trouble{What: "refuses: all", Config: true})
		o.Replace()
		o = worse
		mu.Unlock()
		all()
		if got := said(); len(got) != 1 || got[0] != "tollgate: Redis refuses: all (an error of configuration: it does not pass by itself); keeping to the whole quota" {
			t.Errorf("heard %q, want the other one", got)
		}

		mu.Lock()
		o.End()
		o = nil
		mu.Unlock()
		all()
		if got := said(); len(got) != 1 || got[0] != "<nil>" {
			t.Errorf("heard %q, want its end", got)
		}
		time.Sleep(time.Minute)
	})
}

// A store that knows nothing of outages has one for each key; what it notices is
// told when it answers.
func TestOutageOfKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard []string
		s := &script{answer: away}
		l := New("k", Options{
			Limits: []refill.Limit{rpm(100)}, Shared: &Shared{Store: func(string) Store { return s }, OnError: share.FailClosed},
			Tell: func(err error) { heard = append(heard, fmt.Sprint(err)) },
		})
		for range 5 {
			err := l.Acquire(context.Background(), ask(1))
			var o *Outage
			if !errors.As(err, &o) || !strings.HasSuffix(err.Error(), "store of shared tokens does not answer: away") {
				t.Errorf("error %v, want the outage", err)
			}
			time.Sleep(time.Second)
		}
		s.now(yes)
		time.Sleep(2 * time.Second)
		r := acquire(t, l, 1)
		accept(r)
		r.Closed()
		synctest.Wait()
		if fmt.Sprint(heard) != "[tollgate: store of shared tokens does not answer: away; rejecting requests <nil>]" {
			t.Errorf("heard %q", heard)
		}
		s.now(func(b share.Batch) (share.Reply, error) {
			return share.Reply{Granted: len(b.Asks), Notice: errors.New("something")}, nil
		})
		r = acquire(t, l, 1)
		synctest.Wait()
		if len(heard) < 4 || heard[2] != "something" || heard[3] != "<nil>" {
			t.Errorf("heard %q", heard)
		}
		accept(r)
		r.Closed()
		s.now(yes)
		time.Sleep(time.Minute)
	})
}
