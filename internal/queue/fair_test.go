package queue

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A fairModel does what a Fair does, slowly and obviously: it looks for the one that
// goes first among all, and forgets nobody before all are gone.
type fairModel struct {
	tenants []*modelTenant
	clocks  map[int]float64 // by level
	held    map[int]time.Duration
	served  map[int]time.Duration
	passed  map[int]bool
	owed    float64
}

type modelTenant struct {
	level  int
	name   string
	weight float64
	start  float64 // of its first request, or where its last one ended
	list   model
}

func newFairModel() *fairModel {
	return &fairModel{nil, map[int]float64{}, map[int]time.Duration{}, map[int]time.Duration{}, map[int]bool{}, 0}
}

func (m *fairModel) copy() *fairModel {
	c := newFairModel()
	for _, t := range m.tenants {
		x := *t
		x.list = slices.Clone(t.list)
		c.tenants = append(c.tenants, &x)
	}
	for k, v := range m.clocks {
		c.clocks[k] = v
	}
	return c
}

func (m *fairModel) tenant(w *Waiter[int]) *modelTenant {
	c := classOf(w)
	for _, t := range m.tenants {
		if t.level == c.Level && t.name == c.Tenant {
			return t
		}
	}
	t := &modelTenant{level: c.Level, name: c.Tenant}
	m.tenants = append(m.tenants, t)
	return t
}

// levels are those with waiters, the highest first.
func (m *fairModel) levels() (list []int) {
	for _, t := range m.tenants {
		if len(t.list) > 0 && !slices.Contains(list, t.level) {
			list = append(list, t.level)
		}
	}
	slices.SortFunc(list, func(a, b int) int { return cmp.Compare(b, a) })
	return list
}

func (m *fairModel) push(w *Waiter[int], now time.Duration) {
	t := m.tenant(w)
	if len(t.list) == 0 {
		t.start = max(t.start, m.clocks[t.level])
	}
	t.weight = cmp.Or(classOf(w).Weight, 1)
	was := m.levels()
	t.list.push(w)
	if !slices.Contains(was, t.level) {
		m.served[t.level], m.passed[t.level] = now, false
		if list := m.levels(); list[0] == t.level && len(list) > 1 {
			m.held[list[1]], m.passed[list[1]] = now, false
		} else {
			m.held[t.level] = now
		}
	}
}

func (m *fairModel) remove(w *Waiter[int]) {
	t := m.tenant(w)
	t.list.remove(w)
	if !slices.Contains(m.levels(), t.level) { // none of the level waits: it begins anew
		m.tenants = slices.DeleteFunc(m.tenants, func(x *modelTenant) bool { return x.level == t.level })
		delete(m.clocks, t.level)
	}
	if len(m.levels()) < 2 {
		m.owed = 0
	}
}

// first returns who goes first in a level.
func (m *fairModel) first(level int) *Waiter[int] {
	var best *modelTenant
	for _, t := range m.tenants {
		if t.level == level && len(t.list) > 0 && (best == nil || t.start < best.start || t.start == best.start && t.list[0].Place < best.list[0].Place) {
			best = t
		}
	}
	return best.list[0]
}

// next returns who goes next.
func (m *fairModel) next(now time.Duration, ready func(*Waiter[int]) bool, turn func(Weight) time.Duration) *Waiter[int] {
	list := m.levels()
	first := m.first(list[0])
	chosen, found := 0, false
	var all Weight
	for _, level := range list[1:] {
		if m.passed[level] {
			all = all.Plus(first.Weight).Plus(m.first(level).Weight)
		}
	}
	for _, level := range list[1:] {
		w := m.first(level)
		due := max(m.held[level], min(m.served[level], classOf(w).Since)) + Ageing
		soon := m.passed[level] && ready(w) && turn(all) > due
		if m.owed <= 0 && (due <= now || soon) && (!found || m.served[level] < m.served[chosen]) {
			chosen, found = level, true
		}
	}
	if found {
		return m.first(chosen)
	}
	return first
}

// serve lets w go.
func (m *fairModel) serve(w *Waiter[int], now time.Duration) {
	t, cost := m.tenant(w), float64(w.Weight[0])
	m.clocks[t.level] = max(m.clocks[t.level], t.start)
	t.start += cost / t.weight
	m.remove(w)
	list := m.levels()
	if len(list) > 0 && list[0] > t.level {
		m.owed += cost
	} else {
		m.owed = max(0, m.owed-cost)
	}
	if len(list) < 2 {
		m.owed = 0
	}
	m.served[t.level], m.passed[t.level] = now, false
	for _, level := range list {
		if level < t.level {
			m.passed[level] = true
		}
	}
}

// order is the one in which all go, if none rises.
func (m *fairModel) order() (list []*Waiter[int]) {
	m = m.copy()
	for levels := m.levels(); len(levels) > 0; levels = m.levels() {
		w := m.first(levels[0])
		m.serve(w, 0)
		list = append(list, w)
	}
	return list
}

// A fairPair is a queue of classes and its model.
type fairPair struct {
	*testing.T
	r      *rand.Rand
	queue  Fair[int]
	model  *fairModel
	all    []*Waiter[int] // who is in
	gone   []*Waiter[int]
	n      int
	levels int
	now    time.Duration
}

func (p *fairPair) waiter() *Waiter[int] {
	p.n++
	w := &Waiter[int]{Item: p.n, Place: uint64(p.n), Until: forever}
	if len(p.gone) > 0 && p.r.IntN(6) == 0 { // a retry
		i := p.r.IntN(len(p.gone))
		w.Place, w.Class = p.gone[i].Place, p.gone[i].Class
		p.gone = slices.Delete(p.gone, i, i+1)
	} else if p.r.IntN(5) > 0 {
		k := p.r.IntN(5)
		w.Class = &Class{Level: p.r.IntN(p.levels) - 1, Tenant: string(rune('a' + k)), Weight: math.Ldexp(1, k-3), Since: p.now}
	}
	w.Weight = Weight{1 + p.r.Int64N(1<<p.r.IntN(8)), p.r.Int64N(1000)}
	if p.r.IntN(4) == 0 {
		w.Until, w.Expire = p.now+time.Duration(p.r.Int64N(int64(3*time.Minute))), p.r.IntN(2) == 0
	}
	return w
}

// turn is when so much has gone at one a second.
func (p *fairPair) turn(w Weight) time.Duration { return p.now + time.Duration(w[0])*time.Second }

func (p *fairPair) drop(w *Waiter[int]) {
	p.all = slices.Delete(p.all, slices.Index(p.all, w), slices.Index(p.all, w)+1)
}

func (p *fairPair) push() {
	w := p.waiter()
	if p.n > 1 && w.Class == nil && p.queue.Classed() {
		w.Class = &Class{Since: p.now}
	}
	if !p.queue.Classed() { // nobody was charged for what has gone
		clear(p.model.clocks)
		for _, t := range p.model.tenants {
			t.start = 0
		}
	}
	n, at := p.queue.Ahead(w, p.now, p.turn)
	p.queue.Push(w, p.now)
	p.model.push(w, p.now)
	p.all = append(p.all, w)
	p.placed(w, n, at)
}

// placed sees that w, which was just put in, is where it was said to be.
func (p *fairPair) placed(w *Waiter[int], n int, at time.Duration) {
	p.Helper()
	order := p.model.order()
	want := slices.Index(order, w)
	var sum Weight
	for _, x := range order[:want+1] {
		sum = sum.Plus(x.Weight)
	}
	if k, _ := p.queue.Ahead(w, p.now, p.turn); n != want || p.queue.Classed() && k != want {
		p.Fatalf("%d go ahead, and once it is in %d; want %d", n, k, want)
	}
	switch least, most := p.turn(w.Weight), p.turn(p.queue.Sum()); {
	case at < least || at > most:
		p.Fatalf("its turn comes at %v, want %v to %v", at, least, most)
	case len(p.model.levels()) == 1 && at != p.turn(sum):
		p.Fatalf("its turn comes at %v, want %v", at, p.turn(sum))
	}
}

func (p *fairPair) leave() {
	w := p.all[p.r.IntN(len(p.all))]
	if !w.In() || !p.queue.Remove(w) || w.In() || p.queue.Remove(w) {
		p.Fatalf("%d was not in", w.Item)
	}
	p.model.remove(w)
	p.drop(w)
}

func (p *fairPair) serve() {
	ready := func(w *Waiter[int]) bool { return w.Item%5 > 0 }
	p.queue.Rise(p.now, ready, p.turn)
	w, want := p.queue.Head(), p.model.next(p.now, ready, p.turn)
	if w != want {
		p.Fatalf("at %v %d of %+v goes, want %d of %+v", p.now, w.Item, classOf(w), want.Item, classOf(want))
	}
	var list []*Waiter[int]
	p.queue.All(func(w *Waiter[int]) bool { list = append(list, w); return true })
	order := p.model.order()
	i := slices.Index(order, want)
	if order = slices.Insert(slices.Delete(order, i, i+1), 0, want); !slices.Equal(list, order) {
		p.Fatalf("%d in another order", len(list))
	}
	p.queue.Remove(w)
	p.queue.Served(w, p.now)
	p.model.serve(w, p.now)
	p.drop(w)
	p.gone = append(p.gone, w)
}

func (p *fairPair) expire() {
	list, sums := p.queue.Expired(p.now, 1000)
	order := p.model.order()
	found := 0
	for i, w := range order {
		if w.Expire && w.Until <= p.now {
			found++
			k := slices.Index(list, w)
			var sum Weight
			for _, x := range order[:i+1] {
				sum = sum.Plus(x.Weight)
			}
			if k < 0 || p.queue.Classed() && sums[k] != sum {
				p.Fatalf("%d has expired: %d, %v, want %v", w.Item, k, sums, sum)
			}
		}
	}
	if found != len(list) {
		p.Fatalf("%d have expired, want %d", len(list), found)
	}
	for _, w := range list {
		p.queue.Remove(w)
		p.model.remove(w)
		p.drop(w)
	}
}

// late has those rejected who come too late, in several turns.
func (p *fairPair) late() {
	strict, most := p.r.IntN(2) == 0, 1+p.r.IntN(60)
	var want []*Waiter[int]
	if len(p.model.levels()) == 1 {
		m := p.model.copy()
		var sum Weight
		for len(m.levels()) > 0 {
			w := m.first(m.levels()[0])
			if at := p.turn(sum.Plus(w.Weight)); at > w.Until || strict && w.Item%7 == 0 && w.Until == forever {
				want = append(want, w)
				m.remove(w)
				continue
			}
			sum = sum.Plus(w.Weight)
			m.serve(w, 0)
		}
	}
	late := func(w *Waiter[int], at time.Duration) bool {
		return at > w.Until || strict && w.Item%7 == 0 && w.Until == forever
	}
	one := len(p.model.levels()) == 1
	var list []*Waiter[int]
	for next, rounds := uint64(0), 0; rounds == 0 || next > 0; rounds++ {
		next = p.queue.Late(next, most, strict, p.now, p.turn, late, func(w *Waiter[int], sum Weight) {
			if p.turn(sum) < p.turn(w.Weight) {
				p.Fatalf("%d waits for %v", w.Item, sum)
			}
			list = append(list, w)
		})
		if rounds > len(p.all)+3 {
			p.Fatal("no end of those who are late")
		}
	}
	if one && !slices.Equal(list, want) {
		p.Fatalf("%d are late, want %d", len(list), len(want))
	}
	for _, w := range list {
		if w.In() {
			p.Fatalf("%d is late and still in", w.Item)
		}
		p.model.remove(w)
		p.drop(w)
	}
	if !one && !strict && len(p.all) > 0 {
		list, _ = nil, p.queue.Late(0, 1<<30, false, p.now, p.turn, late, func(w *Waiter[int], _ Weight) { list = append(list, w) })
		for _, w := range list {
			p.model.remove(w)
			p.drop(w)
		}
	}
}

func (p *fairPair) check() {
	var sum Weight
	timed, soonest := 0, forever
	for _, w := range p.all {
		sum = sum.Plus(w.Weight)
		if w.Until != forever {
			timed++
		}
		if w.Expire {
			soonest = min(soonest, w.Until)
		}
	}
	if p.queue.Len() != len(p.all) || p.queue.Sum() != sum || p.queue.Timed() != timed || (p.queue.Head() == nil) != (len(p.all) == 0) {
		p.Fatalf("%d wait for %v, %d not for ever; want %d for %v, %d", p.queue.Len(), p.queue.Sum(), p.queue.Timed(), len(p.all), sum, timed)
	}
	if at := p.queue.Expire(); at > soonest || soonest != forever && at == 0 || len(p.all) == 0 && at != 0 {
		p.Fatalf("the first one expires at %v, want %v", at, soonest)
	}
	for _, t := range p.model.tenants {
		if n := p.queue.Beside(&Class{Level: t.level, Tenant: t.name}); n != len(t.list) {
			p.Fatalf("%d of tenant %q wait at level %d, want %d", n, t.name, t.level, len(t.list))
		}
	}
	if c := p.queue.classes; c != nil {
		known, waiting := 0, 0
		for _, l := range c.levels {
			known, waiting = known+len(l.tenants), waiting+len(l.waiting)
			if len(l.tenants) != len(l.waiting)+len(l.idle) {
				p.Fatalf("%d tenants, %d wait and %d do not", len(l.tenants), len(l.waiting), len(l.idle))
			}
		}
		if known > spare*len(c.levels)+3*waiting {
			p.Fatalf("%d tenants are known, and %d wait", known, waiting)
		}
	}
}

// A Fair does what its model does: of classes and of none, of one level and of
// several.
func TestFairModel(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			p := &fairPair{T: t, r: rand.New(rand.NewPCG(seed, 21)), model: newFairModel(), levels: 1 + int(seed%4)}
			if p.levels == 1 {
				p.levels = 2 // -1 and 0: the level of those without a class is one of them
				if seed%8 == 0 {
					p.levels = 1
				}
			}
			p.queue.Price(Prices{1}, 1)
			for i := range 1500 {
				p.now += time.Duration(p.r.Int64N(int64(2 * time.Second)))
				grows := 7
				if i%500 > 250 {
					grows = 2
				}
				switch x := p.r.IntN(12); {
				case x < grows || len(p.all) == 0:
					p.push()
				case x == 11 && p.r.IntN(4) == 0:
					p.expire()
				case x == 11 && p.r.IntN(4) == 0:
					p.late()
				case x == 11:
					p.leave()
				default:
					p.serve()
				}
				p.check()
			}
			for len(p.all) > 0 {
				p.serve()
				p.check()
			}
		})
	}
}
