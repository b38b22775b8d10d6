package queue

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// push puts a new waiter into a queue.
func push(q *Queue[int], place uint64, w Weight) *Waiter[int] {
	x := &Waiter[int]{Place: place, Until: forever, Weight: w}
	q.Push(x)
	return x
}

func TestAhead(t *testing.T) {
	var q Queue[int]
	for place := uint64(10); place <= 100; place += 10 {
		push(&q, place, Weight{int64(place)})
	}
	for place, want := range map[uint64]int{1: 0, 10: 1, 15: 1, 45: 4, 55: 5, 75: 7, 100: 10, 200: 10} {
		sum := int64(0)
		for i := 1; i <= want; i++ {
			sum += int64(10 * i)
		}
		if n, w := q.Ahead(place); n != want || w[0] != sum {
			t.Errorf("ahead of %d: %d, %d; want %d, %d", place, n, w[0], want, sum)
		}
	}
}

// Sums do not overflow, whatever is waited for.
func TestHeaviest(t *testing.T) {
	var q Queue[int]
	var list []*Waiter[int]
	for i := range uint64(2000) {
		list = append(list, push(&q, i+1, Weight{math.MaxInt64, 1}))
	}
	for n := int64(len(list)); n > 0; n-- {
		k, sum := q.Ahead(math.MaxUint64)
		if int64(k) != n || sum != q.Sum() || sum[0] != n*heaviest || sum[1] != n {
			t.Fatalf("%d wait for %v, want %d for %d times the most", k, sum, n, n)
		}
		if sum = sum.Plus(Weight{math.MaxInt64}); sum[0] <= 0 {
			t.Fatalf("one more makes %v", sum)
		}
		q.Remove(list[n-1])
	}
	if q.Sum() != (Weight{}) {
		t.Errorf("nobody waits for %v", q.Sum())
	}
}

// A model does what a Queue does, slowly and obviously.
type model []*Waiter[int]

// push puts w behind those of its place and before those of the next ones.
func (m *model) push(w *Waiter[int]) {
	i := 0
	for i < len(*m) && (*m)[i].Place <= w.Place {
		i++
	}
	*m = slices.Insert(*m, i, w)
}

func (m *model) remove(w *Waiter[int]) bool {
	i := slices.Index(*m, w)
	if i >= 0 {
		*m = slices.Delete(*m, i, i+1)
	}
	return i >= 0
}

func (m model) ahead(place uint64) (n int, sum Weight) {
	for _, w := range m {
		if w.Place <= place {
			n, sum = n+1, sum.Plus(w.Weight)
		}
	}
	return n, sum
}

func (m model) expired(now time.Duration, most int) (list []*Waiter[int], sums []Weight) {
	var sum Weight
	for _, w := range m {
		if sum = sum.Plus(w.Weight); w.Expire && w.Until <= now && len(list) < most {
			list, sums = append(list, w), append(sums, sum)
		}
	}
	return list, sums
}

// late removes those whose turn comes too late and returns them, with what they
// and those ahead wait for.
func (m *model) late(turn func(Weight) time.Duration, late func(*Waiter[int], time.Duration) bool) (list []*Waiter[int], sums []Weight) {
	var ahead Weight
	for _, w := range slices.Clone(*m) {
		sum := ahead.Plus(w.Weight)
		if late(w, turn(sum)) {
			list, sums = append(list, w), append(sums, sum)
			m.remove(w)
		} else {
			ahead = sum
		}
	}
	return list, sums
}

// A pair is a queue and its model, and what is done to both.
type pair struct {
	*testing.T
	r     *rand.Rand
	queue Queue[int]
	model model
	gone  []*Waiter[int] // some that are in no more
	n     int
	few   uint64 // how many places there are; 0: any number
}

func (p *pair) weight() (w Weight) {
	for i := range w {
		switch p.r.IntN(8) {
		case 0:
		case 1:
			w[i] = math.MaxInt64 - p.r.Int64N(100)
		default:
			w[i] = p.r.Int64N(1000)
		}
	}
	return w
}

// place is one in the middle, most of the time a new one at the end.
func (p *pair) place() uint64 {
	if p.few > 0 {
		return p.r.Uint64N(p.few)
	}
	if p.r.IntN(3) == 0 {
		return 1 + p.r.Uint64N(uint64(p.n)+1)
	}
	return uint64(p.n) + 1
}

func (p *pair) push(now time.Duration) {
	p.n++
	w := &Waiter[int]{Item: p.n, Place: p.place(), Until: forever, Weight: p.weight()}
	if p.r.IntN(3) == 0 {
		w.Until, w.Expire = now+time.Duration(p.r.Int64N(2000)), p.r.IntN(2) == 0
	}
	p.queue.Push(w)
	p.model.push(w)
}

func (p *pair) remove() {
	switch {
	case len(p.model) == 0 || len(p.gone) > 0 && p.r.IntN(10) == 0:
		if len(p.gone) > 0 && p.queue.Remove(p.gone[p.r.IntN(len(p.gone))]) {
			p.Fatal("removed one that was not in")
		}
		return
	case p.r.IntN(2) == 0:
		p.take(p.model[0])
	default:
		p.take(p.model[p.r.IntN(len(p.model))])
	}
}

func (p *pair) take(w *Waiter[int]) {
	if !p.model.remove(w) || !w.In() || !p.queue.Remove(w) || w.In() {
		p.Fatalf("%d was not in", w.Item)
	}
	p.gone = append(p.gone[max(0, len(p.gone)-20):], w)
}

func (p *pair) expire(now time.Duration) {
	most := 1 + p.r.IntN(40)
	list, sums := p.queue.Expired(now, most)
	if want, wantSums := p.model.expired(now, most); !slices.Equal(list, want) || !slices.Equal(sums, wantSums) {
		p.Fatalf("at %d, %d of %d have expired, want %d", now, len(list), len(p.model), len(want))
	}
	for _, w := range list {
		p.take(w)
	}
}

// late has the queue go through its waiters in several turns.
func (p *pair) late(now time.Duration) {
	strict, pace := p.r.IntN(2) == 0, 1+p.r.Int64N(heaviest/8)
	turn := func(w Weight) time.Duration { return now + time.Duration(w[1]/pace) }
	late := func(w *Waiter[int], at time.Duration) bool {
		return at > w.Until || strict && w.Until == forever && w.Item%7 == 0
	}
	var list []*Waiter[int]
	var sums []Weight
	rounds := 0
	for from := uint64(0); ; rounds++ {
		from = p.queue.Late(from, 600, strict, turn, late, func(w *Waiter[int], sum Weight) {
			list, sums = append(list, w), append(sums, sum)
		})
		if from == 0 {
			break
		}
		if rounds > len(p.model) {
			p.Fatal("no end of those who are late")
		}
	}
	if want, wantSums := p.model.late(turn, late); !slices.Equal(list, want) || !slices.Equal(sums, wantSums) {
		p.Fatalf("%d of %d are late, want %d", len(list), len(p.model)+len(want), len(want))
	}
}

func (p *pair) reweigh() {
	weights := make(map[*Waiter[int]]Weight)
	for _, w := range p.model {
		weights[w] = p.weight()
	}
	p.queue.Reweigh(func(w *Waiter[int]) Weight { return weights[w] })
}

// check compares what is quick to compare, and everything if all is set.
func (p *pair) check(all bool) {
	place := 1 + p.r.Uint64N(uint64(p.n)+2)
	n, sum := p.queue.Ahead(place)
	if k, want := p.model.ahead(place); n != k || sum != want {
		p.Fatalf("ahead of %d: %d, %v; want %d, %v", place, n, sum, k, want)
	}
	if head := p.queue.Head(); p.queue.Len() != len(p.model) || (head == nil) != (len(p.model) == 0) || head != nil && (head != p.model[0] || p.queue.Last() != p.model[len(p.model)-1]) {
		p.Fatalf("%d wait, the first of them %v, want %d", p.queue.Len(), head, len(p.model))
	}
	if !all {
		return
	}
	var list []*Waiter[int]
	p.queue.All(func(w *Waiter[int]) bool { list = append(list, w); return true })
	timed, soonest := 0, forever
	for _, w := range p.model {
		if w.Until != forever {
			timed++
		}
		if w.Expire {
			soonest = min(soonest, w.Until)
		}
	}
	if _, want := p.model.ahead(math.MaxUint64); !slices.Equal(list, p.model) || p.queue.Sum() != want || p.queue.Timed() != timed {
		p.Fatalf("%d in another order, waiting for %v, %d not for ever; want %v, %d", len(list), p.queue.Sum(), p.queue.Timed(), want, timed)
	}
	if at := p.queue.Expire(); at > soonest || soonest != forever && at == 0 || len(p.model) == 0 && at != 0 {
		p.Fatalf("the first one expires at %d, want %d", at, soonest)
	}
}

func TestModel(t *testing.T) {
	for seed := range uint64(6) {
		p := &pair{T: t, r: rand.New(rand.NewPCG(seed, 7)), few: []uint64{0, 0, 3}[seed%3]}
		longest := 0
		for i := range 5000 {
			now := time.Duration(1000 + i)
			grows := 9 // of ten, then four
			if i > 2000 {
				grows = 4
			}
			switch x := p.r.IntN(10); {
			case p.r.IntN(100) == 0:
				p.expire(now)
			case p.r.IntN(300) == 0:
				p.late(now)
			case p.r.IntN(300) == 0:
				p.reweigh()
			case x < grows:
				p.push(now)
			default:
				p.remove()
			}
			p.check(i%100 == 0)
			longest = max(longest, len(p.model))
		}
		for len(p.model) > 0 {
			p.take(p.model[len(p.model)/2])
		}
		p.check(true)
		if longest <= full+full/2 {
			t.Errorf("seed %d: never more than %d in the queue: too few for several chunks", seed, longest)
		}
	}
}

// What is late is found in as many turns as it takes, and each of them looks at
// about as many as it may: at all of one place, as there is no going on from the
// middle of them.
func TestLateInTurns(t *testing.T) {
	for name, test := range map[string]struct {
		place        func(i int) uint64
		rounds, left int // rounds at least
		until        func(i int) time.Duration
	}{
		"every other one": {func(i int) uint64 { return uint64(i) }, 8, 5000, func(i int) time.Duration { return time.Duration(1 + i%2) }},
		"all":             {func(i int) uint64 { return uint64(i) }, 8, 0, func(int) time.Duration { return 1 }},
		"of one place":    {func(int) uint64 { return 0 }, 1, 5000, func(i int) time.Duration { return time.Duration(1 + i%2) }},
		"of three":        {func(i int) uint64 { return uint64(i / 4000) }, 1, 5000, func(i int) time.Duration { return time.Duration(1 + i%2) }},
	} {
		t.Run(name, func(t *testing.T) {
			var q Queue[int]
			for i := range 10_000 {
				q.Push(&Waiter[int]{Item: i, Place: test.place(i), Until: test.until(i), Weight: Weight{1}})
			}
			turn := func(Weight) time.Duration { return 2 }
			looked, all, rounds := 0, 0, 0
			late := func(w *Waiter[int], at time.Duration) bool { looked++; return at > w.Until }
			for from := uint64(0); from != 0 || rounds == 0; rounds++ {
				looked = 0
				from = q.Late(from, 1000, false, turn, late, func(*Waiter[int], Weight) {})
				if all += looked; test.rounds > 3 && looked > 1000+full {
					t.Errorf("looked at %d in one turn, want about 1000", looked)
				}
				if rounds > 100 {
					t.Fatal("no end of it")
				}
			}
			if q.Len() != test.left || rounds < test.rounds || all > 10_000 {
				t.Errorf("%d left after %d turns that looked at %d, want %d after %d at least", q.Len(), rounds, all, test.left, test.rounds)
			}
		})
	}
}
