package limiter

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/refill"
)

// What comes back keeps its place, and whoever is in the queue is turned away as
// soon as a drain puts its turn off too far.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(refill.Limit{N: 60, Per: time.Minute, Rule: refill.Steady, Burst: 1})
		r := acquire(t, l, 1)
		start := time.Now()
		var mu sync.Mutex
		got := map[uint64]time.Duration{}
		var order []uint64
		var wg sync.WaitGroup
		join := func(place uint64, maxWait time.Duration) {
			wg.Go(func() {
				r := ask(place)
				r.MaxWait = maxWait
				err := l.Acquire(t.Context(), r)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					accept(r)
					order = append(order, place)
				}
				got[place] = time.Since(start)
				if (err != nil) != (place == 3) {
					t.Errorf("place %d: %v", place, err)
				}
			})
			synctest.Wait()
		}
		join(2, 0)
		join(3, 5*s)
		join(4, time.Hour)
		time.Sleep(s / 2)
		refuse(r, engine.Refusal{Wait: 10 * s})
		synctest.Wait()
		join(1, 0) // the refused one is back
		wg.Wait()
		if want := []uint64{1, 2, 4}; !slices.Equal(order, want) {
			t.Errorf("let go in the order %v, want %v", order, want)
		}
		want := map[uint64]time.Duration{3: s / 2, 1: 10*s + s/2, 2: 11*s + s/2, 4: 12*s + s/2}
		for place, at := range want {
			if d := got[place] - at; d < 0 || d > 5*time.Millisecond {
				t.Errorf("place %d was done after %v, want %v", place, got[place], at)
			}
		}
	})
}

// A 429 of a server whose limits nobody knows shuts the key for as long as it
// says, and it opens slowly: one in flight, two, four.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter()
		refused := []*Request{acquire(t, l, 1), acquire(t, l, 2), acquire(t, l, 3)}
		start := time.Now()
		for _, r := range refused {
			refuse(r, engine.Refusal{Wait: 7 * s})
		}
		var mu sync.Mutex
		var at []time.Duration
		for i := range 10 {
			go func() {
				r := ask(uint64(i + 1))
				if err := l.Acquire(t.Context(), r); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				at = append(at, time.Since(start))
				mu.Unlock()
				r.Sent()
				if i == 9 {
					time.Sleep(10 * s)
				} else {
					time.Sleep(100 * time.Millisecond)
				}
				accept(r)
				r.Closed()
			}()
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		const ms = time.Millisecond
		want := []time.Duration{7 * s, 7100 * ms, 7100 * ms, 7200 * ms, 7200 * ms, 7200 * ms, 7200 * ms, 7300 * ms, 7300 * ms, 7300 * ms}
		if !slices.Equal(at, want) {
			t.Errorf("let go at %v, want %v", at, want)
		}
		synctest.Wait()
		var last *Request
		for i := range 20 { // it is over: any number may be in flight
			last = acquire(t, l, uint64(20+i))
		}
		start = time.Now()
		refuse(last, engine.Refusal{Wait: 7 * s})
		if got := freeAt(t, l, start); got != 7*s { // and none of those count as such
			t.Errorf("the next pause took %v, want 7s", got)
		}
	})
}

// Bare refusals double the pause up to a minute, those of one moment count as
// one, and a success ends the doubling.
func TestBare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter()
		for i, want := range []time.Duration{1 * s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 60 * s, 60 * s} {
			a := acquire(t, l, 1)
			var b *Request
			if i == 0 {
				b = acquire(t, l, 2)
			}
			start := time.Now()
			refuse(a, engine.Refusal{})
			if b != nil {
				refuse(b, engine.Refusal{})
			}
			if got := freeAt(t, l, start); got < want || got > want*5/4 {
				t.Errorf("pause %d of %v, want %v to a quarter more", i, got, want)
			}
		}
		accept(acquire(t, l, 1))
		r := acquire(t, l, 1)
		start := time.Now()
		refuse(r, engine.Refusal{})
		if got := freeAt(t, l, start); got > 2*s {
			t.Errorf("pause of %v after a success, want a second", got)
		}
	})
}

// While nothing is accepted, each refusal of a request let go after the one before
// has the key wait for longer, whatever the server says: from one token's gap,
// doubling, up to two Pers. The first success ends it.
func TestPersist(t *testing.T) {
	for name, test := range map[string]struct {
		limits []refill.Limit
		wait   time.Duration
		want   []time.Duration
	}{
		"no limit": {nil, s / 10, []time.Duration{s / 10, 120 * s / 64, 120 * s / 32, 120 * s / 16, 15 * s, 30 * s, 60 * s, 120 * s, 120 * s}},
		"ten a minute": {
			[]refill.Limit{rpm(10)}, s, []time.Duration{s, 6 * s, 12 * s, 24 * s, 48 * s, 96 * s, 120 * s, 120 * s},
		},
		"many a minute": { // starts late enough for eight of them to outlast four minutes
			[]refill.Limit{rpm(60_000)}, s / 10, []time.Duration{s / 10, 120 * s / 64, 120 * s / 32, 120 * s / 16},
		},
		"a hint that is longer": {
			[]refill.Limit{rpm(10)}, 30 * s, []time.Duration{30 * s, 30 * s, 30 * s, 30 * s, 48 * s},
		},
		"the slowest limit of requests below a day": {
			[]refill.Limit{rpm(10), {N: 2, Per: 10 * time.Minute}, {N: 5, Per: refill.Day}, perUnit(refill.Tokens, 1)}, s,
			[]time.Duration{s, 5 * time.Minute},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(test.limits...)
				for i, want := range test.want {
					r := acquire(t, l, 1)
					start := time.Now()
					refuse(r, engine.Refusal{Wait: test.wait})
					r.Closed()
					if got := freeAt(t, l, start); got < want || got > want*17/16 {
						t.Errorf("refusal %d: open after %v, want %v to a sixteenth more", i+1, got, want)
					}
				}
				accept(acquire(t, l, 1))
				time.Sleep(time.Hour)
				r := acquire(t, l, 1)
				start := time.Now()
				refuse(r, engine.Refusal{Wait: test.wait})
				if got := freeAt(t, l, start); got != test.wait {
					t.Errorf("open after %v when one was accepted, want %v", got, test.wait)
				}
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name    string
		refusal engine.Refusal
		want    time.Duration
	}{
		{"429 with a hint", engine.Refusal{Wait: 20 * s}, 20 * s},
		{"429 with an absurd hint", engine.Refusal{Wait: 1 << 62}, time.Hour},
		{"429 that no waiting cures", engine.Refusal{Never: true, Wait: 20 * s}, 0},
		{"503 without a hint", engine.Refusal{Overload: true}, 0},
		{"503 with a hint", engine.Refusal{Overload: true, Wait: 20 * s}, 20 * s},
		{"503 with an absurd hint", engine.Refusal{Overload: true, Wait: 1 << 62}, time.Hour},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(rpm(100), refill.Limit{N: 1000, Per: refill.Day})
				r := acquire(t, l, 1)
				start := time.Now()
				refuse(r, test.refusal)
				if got := freeAt(t, l, start); got != test.want {
					t.Errorf("open after %v, want %v", got, test.want)
				}
				if r.Hopeless != test.refusal.Never {
					t.Errorf("hopeless: %v", r.Hopeless)
				}
			})
		})
	}
}

// A hint of hours that no limit explains is a quota that nobody knows of: the key
// is shut until then, and only those wait for it whose MaxWait covers it.
func TestLongPause(t *testing.T) {
	for name, test := range map[string]struct {
		limits []refill.Limit
		hint   time.Duration
		long   bool
	}{
		"longer than any limit":    {[]refill.Limit{rpm(100)}, 2 * time.Hour, true},
		"no limit":                 {nil, 2 * time.Hour, true},
		"only a day's limit":       {[]refill.Limit{{N: 1000, Per: refill.Day}}, 2 * time.Hour, true},
		"a month":                  {[]refill.Limit{rpm(100)}, 31 * refill.Day, true},
		"more than a month":        {[]refill.Limit{rpm(100)}, 32 * refill.Day, false},
		"an hour":                  {[]refill.Limit{rpm(100)}, time.Hour, false},
		"as long as a limit's Per": {[]refill.Limit{{N: 100, Per: 3 * time.Hour}}, 2 * time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(test.limits...)
				r := acquire(t, l, 1)
				var wg sync.WaitGroup
				wait := func(maxWait, want time.Duration) {
					wg.Go(func() {
						start := time.Now()
						r := ask(10)
						r.MaxWait = maxWait
						err := l.Acquire(t.Context(), r)
						if got := time.Since(start); got != want {
							t.Errorf("MaxWait %v: %v, %+v after %v, want %v", maxWait, err, r.Rejection, got, want)
						}
						if err == nil {
							accept(r)
							r.Closed()
							return
						}
						if x := r.Rejection; err != ErrRejected || x.Reason != engine.LongPause || x.After != test.hint {
							t.Errorf("MaxWait %v: %v, %+v, want it rejected for the pause of %v", maxWait, err, x, test.hint)
						}
					})
					synctest.Wait()
				}
				start := time.Now()
				refuse(r, engine.Refusal{Wait: test.hint})
				if !test.long {
					if got, want := freeAt(t, l, start), min(test.hint, time.Hour); got != want || r.Hopeless {
						t.Errorf("open after %v, want %v", got, want)
					}
					return
				}
				if !r.Hopeless {
					t.Error("the refused one is to be tried again")
				}
				if st, now := l.Status(); st.PausedUntil != now.Mono+test.hint {
					t.Errorf("paused until %v, want in %v", st.PausedUntil-now.Mono, test.hint)
				}
				wait(0, 0)
				wait(time.Hour, 0)
				wait(test.hint, test.hint)
				wg.Wait()
			})
		})
	}
}

// Those in the queue are turned away by a pause of hours as those are who come
// later.
func TestLongPauseInQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(rpm(1))
		r := acquire(t, l, 1)
		var wg sync.WaitGroup
		for i, test := range []struct {
			maxWait, want time.Duration
			rejected      bool
		}{{0, s, true}, {time.Hour, s, true}, {5 * time.Hour, s + 3*time.Hour, false}} {
			wg.Go(func() {
				start := time.Now()
				r := ask(uint64(2 + i))
				r.MaxWait = test.maxWait
				err := l.Acquire(t.Context(), r)
				if got := time.Since(start); got != test.want || (err == ErrRejected) != test.rejected || test.rejected && r.Rejection.Reason != engine.LongPause {
					t.Errorf("MaxWait %v: %v, %+v after %v, want an answer after %v", test.maxWait, err, r.Rejection, got, test.want)
				}
			})
		}
		time.Sleep(s)
		refuse(r, engine.Refusal{Wait: 3 * time.Hour})
		wg.Wait()
	})
}

// A refusal that names one limit drains that one alone.
func TestDrainsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(rpm(100), perUnit(refill.Tokens, 1000), refill.Limit{N: 1000, Per: refill.Day})
		r := acquire(t, l, 1)
		refuse(r, engine.Refusal{Wait: 20 * s, Limits: []engine.Named{{Unit: refill.Tokens, Per: time.Minute}}})
		st, now := l.Status()
		if st.Limits[0].Left != 99 || st.Limits[1].Left != 0 || st.Limits[2].Left != 999 {
			t.Errorf("left %+v, want the tokens drained and nothing else", st.Limits)
		}
		if st.PausedUntil != now.Mono+20*s {
			t.Errorf("paused until %v", st.PausedUntil)
		}
	})
}

// A hint that no bucket can heed shuts the key as a whole.
func TestHintWithoutBucket(t *testing.T) {
	named := engine.Refusal{Wait: 30 * s, Limits: []engine.Named{{Unit: refill.Tokens, Per: time.Minute}}}
	for name, test := range map[string]struct {
		limits  []refill.Limit
		refusal engine.Refusal
	}{
		"only a limit of a day":         {[]refill.Limit{{N: 1000, Per: refill.Day}}, engine.Refusal{Wait: 30 * s}},
		"a limit that it draws not on":  {[]refill.Limit{rpm(1000), perUnit(refill.Tokens, 1000)}, named},
		"a limit that nobody stated":    {[]refill.Limit{atOnce(5)}, named},
		"no limit":                      {nil, named},
		"an output limit of this quota": {[]refill.Limit{perUnit(refill.OutputTokens, 1000)}, engine.Refusal{Wait: 30 * s, Limits: []engine.Named{{Unit: refill.OutputTokens, Per: time.Minute}}}},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(test.limits...)
			r := acquire(t, l, 1)
			refuse(r, test.refusal)
			r.Closed()
			if got := freeAt(t, l, time.Now()); got != 30*s {
				t.Errorf("%s: open after %v, want 30s", name, got)
			}
		})
	}
}

// A slow connection does not hold up a key that opens slowly, and one that fails
// leaves no trace after a drain.
func TestSlowStartLeavesNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter()
		refuse(acquire(t, l, 1), engine.Refusal{Wait: 5 * s})
		if err := l.Acquire(t.Context(), ask(2)); err != nil { // is never sent
			t.Fatal(err)
		}
		if got := freeAt(t, l, time.Now()); got != refill.Flight {
			t.Errorf("the next one after %v, want %v", got, refill.Flight)
		}

		l = newLimiter(rpm(2))
		refuse(acquire(t, l, 1), engine.Refusal{Wait: 90 * s})
		freeAt(t, l, time.Now()) // and fails
		if got := freeAt(t, l, time.Now()); got != 0 {
			t.Errorf("after one that failed the next had to wait %v", got)
		}
	})
}
