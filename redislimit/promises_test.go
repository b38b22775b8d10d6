package redislimit

import (
	"context"
	"slices"
	"testing"
	"time"

	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
)

func window(n int64, per time.Duration) refill.Limit {
	return refill.Limit{N: n, Per: per, Rule: refill.Window}
}

// holds says how many tokens of its first limit a process holds.
func holds(n int64, b share.Batch) share.Batch {
	b.Limits = slices.Clone(b.Limits)
	b.Limits[0].Holding = n
	return b
}

// An exchange that is told twice is heeded once, and answered as before; one that
// comes after the next one is not heeded at all.
func TestStoreRepeated(t *testing.T) {
	list, f, _ := stores(t, 2)
	b := share.Batch{Limits: claims(window(10, time.Minute)), Asks: ask(3, one)}
	r := trade(t, list[0], b)
	again := share.Batch{Generation: r.Generation, Seq: 2, Limits: b.Limits, Asks: ask(2, one), Reports: []share.Report{{N: 1, From: r.Taken + refill.Flight}}}
	first, err := list[0].Exchange(context.Background(), again)
	if err != nil {
		t.Fatal(err)
	}
	f.pass(10 * time.Millisecond)
	second, err := list[0].Exchange(context.Background(), again)
	if err != nil {
		t.Fatal(err)
	}
	if first.Granted != 2 || second.Granted != 2 || second.Taken != first.Taken || second.Now == second.Taken || second.Limits[0].Left != 6 {
		t.Errorf("first %+v, then %+v; want the same 2 granted, and 6 left of 10", first, second)
	}
	list[0].seq = 2
	trade(t, list[0], share.Batch{Limits: b.Limits})
	late, err := list[0].Exchange(context.Background(), again)
	if err != nil || !late.Lost || late.Granted != 0 {
		t.Errorf("%+v, %v for one that comes too late, want nothing granted", late, err)
	}
	if r := trade(t, list[1], share.Batch{Limits: b.Limits}); r.Limits[0].Left != 6 {
		t.Errorf("%d left, want 6", r.Limits[0].Left)
	}
}

// A store that was emptied, has lost the last writes or had its clock set back is
// told everything again, by everyone, and refuses nothing for longer than a Per.
func TestStoreGenerations(t *testing.T) {
	limit := window(10, time.Minute)
	for name, fault := range map[string]func(f *fake, p *peer, empty func()){
		"emptied":              func(_ *fake, _ *peer, empty func()) { empty() },
		"a clock set back":     func(f *fake, _ *peer, _ func()) { f.pass(-5 * time.Minute) },
		"writes that are lost": func(_ *fake, p *peer, _ func()) { p.seq++ },
	} {
		t.Run(name, func(t *testing.T) {
			list, f, c := stores(t, 3)
			b := share.Batch{Limits: claims(limit), Asks: ask(3, one)}
			for _, p := range list {
				if r := trade(t, p, b); r.Granted != 3 {
					t.Fatalf("%+v", r)
				}
			}
			f.pass(time.Second)
			fault(f, list[0], func() { c.FlushAll(context.Background()) })
			for i, p := range list {
				r := trade(t, p, share.Batch{Limits: b.Limits, Asks: ask(1, one)})
				if !r.Lost || r.Granted != 0 {
					t.Fatalf("process %d: %+v, want it to be told that all is lost", i, r)
				}
				r = trade(t, p, share.Batch{Limits: b.Limits, Reports: []share.Report{{N: 3, At: f.time()}}})
				if want := 10 - 3*int64(i+1); r.Lost || r.Limits[0].Left != want {
					t.Errorf("process %d: %+v, want %d left", i, r, want)
				}
			}
			f.pass(time.Minute + time.Second)
			if r := trade(t, list[0], share.Batch{Limits: b.Limits, Asks: ask(10, one)}); r.Granted != 10 {
				t.Errorf("%+v after a Per, want all back", r)
			}
		})
	}
}

// Slots stay with those who hold them, whatever the clock of Redis does, and with one
// who was idle for long.
func TestStoreSlots(t *testing.T) {
	list, f, _ := stores(t, 2)
	b := share.Batch{Limits: claims(refill.Limit{N: 3}), Asks: ask(3, one)}
	f.pass(time.Hour)
	trade(t, list[0], share.Batch{Limits: b.Limits})
	f.pass(2 * share.Lease) // it was idle
	if r := trade(t, list[0], b); r.Granted != 3 {
		t.Fatalf("%+v", r)
	}
	if r := trade(t, list[1], b); r.Granted != 0 {
		t.Errorf("%+v, but all are held by one who was idle before", r)
	}
	f.pass(15 * time.Second) // the clock is set
	if r := trade(t, list[1], b); r.Granted != 0 {
		t.Errorf("%+v after the clock was set forward", r)
	}
	trade(t, list[0], holds(3, share.Batch{Limits: b.Limits}))
	f.pass(-10 * time.Second)
	trade(t, list[0], holds(3, share.Batch{Limits: b.Limits})) // learns that all is new
	trade(t, list[0], holds(3, share.Batch{Limits: b.Limits}))
	trade(t, list[1], share.Batch{Limits: b.Limits})
	if r := trade(t, list[1], b); r.Granted != 0 {
		t.Errorf("%+v after the clock was set back", r)
	}
}

// A request that costs more than a Steady limit lets go at once waits until that is
// full, and goes.
func TestStoreBurst(t *testing.T) {
	list, f, _ := stores(t, 1)
	b := share.Batch{Limits: claims(refill.Limit{N: 100, Per: 10 * time.Second, Rule: refill.Steady, Burst: 2}), Asks: ask(2, refill.Cost{10})}
	r := trade(t, list[0], b)
	if r.Granted != 1 || r.Wait < 990*time.Millisecond || r.Wait > 1010*time.Millisecond {
		t.Fatalf("%+v, want the first one granted, and the next in a second", r)
	}
	f.pass(r.Wait)
	if r = trade(t, list[0], b); r.Granted != 1 {
		t.Errorf("%+v", r)
	}
}

// What falls due within a round trip is granted ahead, each at its time.
func TestStoreAhead(t *testing.T) {
	list, _, _ := stores(t, 1)
	b := share.Batch{Limits: claims(refill.Limit{N: 30, Per: time.Second, Rule: refill.Steady, Burst: 1}), Asks: ask(10, one), Ahead: 100 * time.Millisecond}
	r := trade(t, list[0], b)
	if r.Granted != 3 || len(r.Due) != 3 || r.Due[0] != 0 || r.Due[2] < 66*time.Millisecond || r.Due[2] > 68*time.Millisecond {
		t.Errorf("%+v, want 3 granted, a thirtieth of a second apart", r)
	}
}

// A limit that the server has stated ends with those who know of it, and is raised by
// what it states later.
func TestStoreLearned(t *testing.T) {
	list, f, _ := stores(t, 2)
	told := func(n int64, news bool) share.Batch {
		b := share.Batch{Limits: claims(window(100, time.Minute))}
		b.Limits[0].Told, b.Limits[0].News = n, news
		return b
	}
	n := func(p *peer, b share.Batch) int64 { return trade(t, p, b).Limits[0].N }
	none := told(share.None, false)
	if got := n(list[0], told(20, true)); got != 20 {
		t.Errorf("N %d, want the 20 that the server has stated", got)
	}
	if got := n(list[1], none); got != 20 {
		t.Errorf("N %d for another process, want 20", got)
	}
	if got := n(list[1], told(50, true)); got != 50 {
		t.Errorf("N %d after the server has stated 50", got)
	}
	if got := n(list[0], told(20, false)); got != 50 {
		t.Errorf("N %d for one who heard of 20 before, want 50", got)
	}
	f.pass(2 * time.Minute)
	if got := n(list[1], none); got != 100 {
		t.Errorf("N %d when nobody knows of it any more, want 100", got)
	}
}

// Processes that are configured with different numbers keep to the lowest, which is in
// force for all: none starves.
func TestStoreDifferent(t *testing.T) {
	list, f, _ := stores(t, 2)
	limits := []refill.Limit{window(100, 10*time.Second), window(60, 10*time.Second)}
	had := make([]int, 2)
	for range 4000 {
		for i, p := range list {
			r := trade(t, p, share.Batch{Limits: claims(limits[i]), Asks: ask(5, one)})
			had[i] += r.Granted
			if l := r.Limits[0]; f.micros > 1_700_000_001_000_000 && (l.N != 60 || l.Most != 60) {
				t.Fatalf("process %d keeps to %+v, want 60", i, l)
			}
		}
		f.pass(15 * time.Millisecond)
	}
	if sum := had[0] + had[1]; sum < 340 || sum > 400 || had[1] < 150 {
		t.Errorf("%v in a minute, want 360 together, in equal parts", had)
	}
	f.pass(2 * time.Minute)
	if r := trade(t, list[0], share.Batch{Limits: claims(limits[0])}); r.Limits[0].N != 100 {
		t.Errorf("N %d when the other one has gone, want 100", r.Limits[0].N)
	}
}

// Processes that are configured with another Per are told of each other's limit, until
// the last one has gone that is configured with it.
func TestStoreOthers(t *testing.T) {
	list, f, _ := stores(t, 2)
	minute, second := window(60, time.Minute), window(5, time.Second)
	trade(t, list[0], share.Batch{Limits: claims(minute)})
	r := trade(t, list[1], share.Batch{Limits: claims(second)})
	if len(r.Others) != 1 || r.Others[0].Limit != minute {
		t.Fatalf("others %+v, want %+v", r.Others, minute)
	}
	both := claims(second, minute)
	both[1].N = share.None
	r = trade(t, list[1], share.Batch{Limits: both, Asks: ask(10, one)})
	if r.Granted != 5 || r.Limits[1].N != 60 || r.Limits[1].Left != 55 {
		t.Errorf("%+v, want both limits to hold", r)
	}
	for range 10 {
		f.pass(20 * time.Second)
		r = trade(t, list[1], share.Batch{Limits: both})
	}
	if r.Limits[1].N != share.None {
		t.Errorf("%+v, want the other's limit to be over", r.Limits[1])
	}
}
