package queue

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// A sharer is a tenant of the property test, and what came of it.
type sharer struct {
	class   Class
	scale   int64   // its requests cost up to this
	largest float64 // of them, over its weight
	served  float64 // over its weight
	waiting []*Waiter[int]
}

// A span is how far one tenant was ahead of another while both had work waiting.
type span struct{ least, most float64 }

// For any two tenants with work waiting, what each was served over its weight differs
// by at most the sum of their largest requests, each over its weight: from any moment
// on until any other, as long as both have work waiting, whoever comes, leaves or
// comes back to its old place meanwhile.
func TestShares(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 3))
			var q Fair[int]
			q.Price(Prices{1}, 1)
			list := make([]*sharer, 2+r.IntN(6))
			for i := range list {
				list[i] = &sharer{scale: 1 << r.IntN(30), class: Class{Tenant: fmt.Sprint(i), Weight: math.Exp(r.Float64()*14 - 7)}}
			}
			spans := make(map[[2]int]span)
			look := func() {
				for i, a := range list {
					for k, b := range list[:i] {
						if len(a.waiting) == 0 || len(b.waiting) == 0 {
							delete(spans, [2]int{i, k})
							continue
						}
						d := a.served - b.served
						s, ok := spans[[2]int{i, k}]
						if !ok {
							s = span{d, d}
						}
						s = span{min(s.least, d), max(s.most, d)}
						spans[[2]int{i, k}] = s
						if bound := a.largest + b.largest; s.most-s.least > bound*(1+1e-9) {
							t.Fatalf("%d and %d differ by %g, want %g at most", i, k, s.most-s.least, bound)
						}
					}
				}
			}
			place, served := uint64(0), 0
			for range 6000 {
				i := r.IntN(len(list))
				x := list[i]
				switch n := r.IntN(20); {
				case n < 9 || q.Len() == 0:
					place++
					w := &Waiter[int]{Item: i, Place: place, Until: forever, Class: &x.class, Weight: Weight{1 + r.Int64N(x.scale)}}
					if r.IntN(8) == 0 {
						w.Place = 1 + r.Uint64N(place) // a retry
					}
					x.largest = max(x.largest, float64(w.Weight[0])/x.class.Weight)
					q.Push(w, 0)
					x.waiting = append(x.waiting, w)
				case n < 11 && len(x.waiting) > 0: // one hangs up
					k := r.IntN(len(x.waiting))
					q.Remove(x.waiting[k])
					x.waiting = append(x.waiting[:k], x.waiting[k+1:]...)
				default:
					w := q.Head()
					x = list[w.Item]
					for _, o := range x.waiting {
						if o.Place < w.Place {
							t.Fatalf("place %d overtakes %d of its tenant", w.Place, o.Place)
						}
					}
					q.Remove(w)
					q.Served(w, 0)
					served++
					for k, o := range x.waiting {
						if o == w {
							x.waiting = append(x.waiting[:k], x.waiting[k+1:]...)
							break
						}
					}
					x.served += float64(w.Weight[0]) / x.class.Weight
				}
				look()
			}
			if served < 2000 {
				t.Errorf("%d were served, want many more", served)
			}
		})
	}
}

// A tenant that was alone owes nothing for what it got: one that comes later has
// its turn next, and then they go in turns.
func TestAlone(t *testing.T) {
	var q Fair[string]
	q.Price(Prices{1}, 1)
	place := uint64(0)
	come := func(tenant string) {
		place++
		q.Push(&Waiter[string]{Item: tenant, Place: place, Until: forever, Class: &Class{Tenant: tenant}, Weight: Weight{10}}, 0)
	}
	serve := func() string {
		w := q.Head()
		q.Remove(w)
		q.Served(w, 0)
		return w.Item
	}
	for range 1000 {
		come("a")
	}
	for range 900 {
		serve()
	}
	for range 5 {
		come("b")
	}
	got := ""
	for range 12 {
		got += serve()
	}
	if want := "bababababaaa"; got != want {
		t.Errorf("%s go, want %s", got, want)
	}
}

// A tenant that always has one request at a time gets its share and no more.
func TestOneAtATime(t *testing.T) {
	var q Fair[string]
	q.Price(Prices{1}, 1)
	place, served := uint64(0), map[string]int{}
	come := func(tenant string, n int64) {
		place++
		q.Push(&Waiter[string]{Item: tenant, Place: place, Until: forever, Class: &Class{Tenant: tenant}, Weight: Weight{n}}, 0)
	}
	for range 400 {
		come("many", 10)
	}
	come("one", 10)
	for range 200 {
		w := q.Head()
		q.Remove(w)
		q.Served(w, 0)
		if served[w.Item]++; w.Item == "one" {
			come("one", 10)
		}
	}
	if served["one"] != 100 {
		t.Errorf("%v were served, want as many of each", served)
	}
}

// Tenants that have nothing waiting are forgotten: their names may come from
// outside.
func TestForgottenTenants(t *testing.T) {
	var q Fair[int]
	q.Price(Prices{1}, 1)
	push := func(i int, tenant string) {
		q.Push(&Waiter[int]{Item: i, Place: uint64(i) + 1, Until: forever, Class: &Class{Tenant: tenant}, Weight: Weight{1 + int64(i%100)}}, 0)
	}
	push(0, "stays")
	push(1, "stays")
	for i := range 50_000 {
		push(i+2, fmt.Sprint(i))
		w := q.Head()
		q.Remove(w)
		q.Served(w, 0)
		if w.Item < 2 {
			push(w.Item, "stays")
		}
		if n := len(q.classes.levels[0].tenants); n > 2*spare {
			t.Fatalf("%d tenants are known, and %d wait", n, q.Len())
		}
	}
	for q.Len() > 0 {
		q.Remove(q.Head())
	}
	if q.Classed() {
		t.Error("nobody waits, and tenants are known")
	}
}

// What tenants are ahead is kept when they share something else, by as much of it.
func TestPrice(t *testing.T) {
	var q Fair[string]
	q.Price(Prices{1}, 1)
	for i := range uint64(200) {
		for k, tenant := range []string{"a", "b"} {
			q.Push(&Waiter[string]{Item: tenant, Place: 2*i + uint64(k) + 1, Until: forever, Class: &Class{Tenant: tenant}, Weight: Weight{90 + 10*int64(k), 1}}, 0)
		}
	}
	serve := func() string {
		w := q.Head()
		q.Remove(w)
		q.Served(w, 0)
		return w.Item
	}
	got := serve() // a is ahead by 90, which is 4.5 of the other units
	q.Price(Prices{0, 1}, 1.0/20)
	for range 9 {
		got += serve()
	}
	if want := "abbbbbaba"; got[:9] != want {
		t.Errorf("%s go, want %s", got, want)
	}
	// Far from its beginning virtual time starts over.
	q.Price(Prices{1 << 30}, 1<<30)
	n := map[string]int{}
	for range 190 {
		n[serve()]++
	}
	if n["a"] != 100 || n["b"] != 90 {
		t.Errorf("%v were served, want 100 of a and 90 of b", n)
	}
}

// One of a higher level goes next however many wait, and a lower level is served
// within the time of ageing, in turns with the highest.
func TestLevels(t *testing.T) {
	var q Fair[int]
	q.Price(Prices{1}, 1)
	place := uint64(0)
	push := func(level int, now time.Duration, n int64) {
		place++
		q.Push(&Waiter[int]{Item: level, Place: place, Until: forever, Class: &Class{Level: level, Since: now}, Weight: Weight{n}}, now)
	}
	serve := func(now time.Duration) int {
		q.Rise(now, func(*Waiter[int]) bool { return true }, func(w Weight) time.Duration { return now + time.Duration(w[0])*time.Second })
		w := q.Head()
		q.Remove(w)
		q.Served(w, now)
		return w.Item
	}
	for range 10_000 {
		push(0, 0, 1)
	}
	now := time.Duration(0)
	for range 1000 { // for a quarter of an hour nobody keeps them back
		now += time.Second
		serve(now)
	}
	for i := range 50 {
		push(5, now, 1)
		now += time.Second
		if level := serve(now); level != 5 {
			t.Fatalf("the %dth request of a higher level waits for one of level %d", i, level)
		}
	}
	// Level 5 has more than there is from now on; level 2 has few, large ones.
	for range 2000 {
		push(5, now, 1)
	}
	push(2, now, 10)
	push(2, now, 10)
	begin, first, sum := now, map[int]time.Duration{}, map[int]int64{}
	for range 1000 {
		now += time.Second
		level := serve(now)
		if _, ok := first[level]; !ok {
			first[level] = now - begin
		}
		if sum[level]++; level == 2 {
			sum[level] += 9
		}
		if lower := sum[0] + sum[2]; lower > sum[5]+10 {
			t.Fatalf("after %v level 5 has got %d, lower ones %d", now-begin, sum[5], lower)
		}
	}
	for _, level := range []int{2, 0} {
		if at := first[level]; at > Ageing+11*time.Second || at < Ageing-14*time.Second {
			t.Errorf("level %d is served after %v, want %v or soon after", level, at, Ageing)
		}
	}
	if sum[2] != 20 || sum[0] < 400 {
		t.Errorf("%v were served: lower levels have waited for minutes", sum)
	}
}
