package engine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/queue"
	"example.com/tollgate/internal/refill"
)

// A load is requests that come to one engine, whose server accepts all of them as
// soon as they are sent.
type load struct {
	*testing.T
	e     *Engine
	now   time.Duration
	place uint64
	let   func(*Request) // called with each that goes
}

func newLoad(t *testing.T, limits ...refill.Limit) *load {
	l := &load{T: t, now: time.Hour, let: func(*Request) {}}
	l.e = New(l.at(), Config{Limits: limits, Seed: 1})
	return l
}

func (l *load) at() Now { return Now{l.now, 1_750_000_000*time.Second + l.now} }

// come has a request of so many tokens come; class nil: of nobody in particular.
func (l *load) come(tokens int64, class *queue.Class) *Request {
	l.place++
	r := &Request{Place: l.place, Draw: estimate.Draw{Fixed: true, Cost: refill.Cost{1, tokens, 0}}}
	r.From(class)
	l.arrive(r)
	return r
}

func (l *load) arrive(r *Request) {
	l.e.Arrive(l.at(), r)
	d := l.e.Decide()
	if r.Going() && !slices.Contains(d.Go, r) {
		d.Go = append(d.Go, r)
	}
	l.act(d)
}

func (l *load) act(d Decisions) {
	list := slices.Clone(d.Go)
	for _, r := range list {
		l.let(r)
	}
	for _, r := range list {
		l.answer(r)
	}
}

func (l *load) answer(r *Request) {
	l.e.Sent(l.at(), l.now, r)
	l.act(l.e.Decide())
	l.e.Answered(l.at(), r, Answer{})
	l.act(l.e.Decide())
	l.e.Closed(l.at(), r)
	l.act(l.e.Decide())
}

// until lets time pass until the given one, or until nobody waits.
func (l *load) until(end time.Duration) {
	for l.e.queue.Len() > 0 && l.now < end {
		d := l.e.Decide()
		if l.now = max(l.now, min(d.WakeAt, end)); l.now == end {
			return
		}
		l.e.Tick(l.at())
		l.act(l.e.Decide())
	}
}

// Two tenants with 10,000 requests each, those of one a hundred times larger: at
// every moment what they were served differs by no more than one request of each.
// What is scarce is tokens, by each rule, or requests.
func TestTwoTenants(t *testing.T) {
	tpm := refill.Limit{Unit: refill.Tokens, N: 100_000, Per: time.Minute}
	steady := refill.Limit{Unit: refill.Tokens, N: 50_000, Per: time.Minute, Rule: refill.Steady, Burst: 2000}
	calendar := refill.Limit{Unit: refill.Tokens, N: 70_000, Per: time.Minute, Rule: refill.Calendar}
	plenty := refill.Limit{Unit: refill.Tokens, N: 1 << 20, Per: time.Minute}
	day := refill.Limit{Unit: refill.Tokens, N: 1 << 30, Per: refill.Day}
	rpm := func(n int64) refill.Limit { return refill.Limit{N: n, Per: time.Minute} }
	for name, test := range map[string]struct {
		limits []refill.Limit
		unit   int
		small  float64 // the weights
		large  float64
	}{
		"window":           {[]refill.Limit{tpm}, refill.Tokens, 1, 1},
		"steady":           {[]refill.Limit{steady}, refill.Tokens, 1, 1},
		"calendar, a day":  {[]refill.Limit{calendar, day}, refill.Tokens, 1, 1},
		"weights":          {[]refill.Limit{tpm}, refill.Tokens, 2.7, 0.3},
		"requests scarcer": {[]refill.Limit{rpm(100), plenty}, refill.Requests, 1, 3},
		"tokens scarcer":   {[]refill.Limit{rpm(1000), tpm}, refill.Tokens, 1, 1},
		"slots as well":    {[]refill.Limit{{N: 5}, tpm}, refill.Tokens, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLoad(t, test.limits...)
			classes := [2]*queue.Class{{Tenant: "small", Weight: test.small}, {Tenant: "large", Weight: test.large}}
			cost := [2]float64{1 / test.small, 1 / test.large}
			if test.unit == refill.Tokens {
				cost = [2]float64{10 / test.small, 1000 / test.large}
			}
			var served [2]float64
			var waiting [2]int
			moments, widest := 0, 0.0
			l.let = func(r *Request) {
				i := 0
				if r.whom().Tenant == "large" {
					i = 1
				}
				if waiting[i]--; waiting[0] == 0 || waiting[1] == 0 {
					served = [2]float64{}
					return
				}
				served[i] += cost[i]
				moments++
				widest = max(widest, math.Abs(served[0]-served[1]))
			}
			for range 10_000 {
				for i, c := range classes {
					waiting[i]++
					class := *c
					l.come([]int64{10, 1000}[i], &class)
				}
			}
			l.until(refill.Never)
			if bound := cost[0] + cost[1]; widest > bound*(1+1e-9) {
				t.Errorf("they differ by %g, want %g at most", widest, bound)
			}
			if moments < 9000 || waiting != [2]int{} {
				t.Errorf("both had work waiting at %d moments; %v are left", moments, waiting)
			}
			t.Logf("they differ by %.1f at most, of %.1f that are allowed, at %d moments", widest, cost[0]+cost[1], moments)
		})
	}
}

// Random tenants, weights and sizes, requests that come at any time, leave, or come
// back to their old place: from any moment until any other in which two have work
// waiting, what they were served over their weights differs by no more than the
// largest request of each.
func TestTenantsRandom(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 99))
			type tenant struct {
				class           queue.Class
				most            int64
				largest, served float64
				waiting         map[*Request]bool
			}
			list := make([]*tenant, 2+r.IntN(5))
			for i := range list {
				list[i] = &tenant{queue.Class{Tenant: fmt.Sprint(i), Weight: math.Exp(r.Float64()*8 - 4)}, 1 << (1 + r.IntN(13)), 0, 0, make(map[*Request]bool)}
			}
			var sum, most int64
			for _, x := range list {
				sum, most = sum+x.most, max(most, x.most)
			}
			// About half as much as is asked for.
			l := newLoad(t, refill.Limit{Unit: refill.Tokens, N: max(most, 30*sum/int64(len(list))), Per: time.Minute, Rule: []refill.Rule{refill.Window, refill.Steady}[seed%2]})
			lowest, highest := make(map[[2]int]float64), make(map[[2]int]float64)
			moments := 0
			check := func() {
				for i, a := range list {
					for k, b := range list[:i] {
						p, d := [2]int{i, k}, a.served-b.served
						if len(a.waiting) == 0 || len(b.waiting) == 0 {
							delete(lowest, p)
							continue
						}
						if _, ok := lowest[p]; !ok {
							lowest[p], highest[p] = d, d
						}
						lowest[p], highest[p] = min(lowest[p], d), max(highest[p], d)
						moments++
						if bound := a.largest + b.largest; highest[p]-lowest[p] > bound*(1+1e-9) {
							t.Fatalf("%d and %d differ by %g, want %g at most", i, k, highest[p]-lowest[p], bound)
						}
					}
				}
			}
			var gone []*Request
			l.let = func(r *Request) {
				for _, x := range list {
					if x.class.Tenant == r.whom().Tenant {
						x.served += float64(r.Draw.Cost[refill.Tokens]) / x.class.Weight
						delete(x.waiting, r)
					}
				}
				gone = append(gone, r)
				check()
			}
			for range 4000 {
				x := list[r.IntN(len(list))]
				switch n := r.IntN(10); {
				case n < 6:
					class := x.class
					q := &Request{Draw: estimate.Draw{Fixed: true, Cost: refill.Cost{1, 1 + r.Int64N(x.most), 0}}}
					q.From(&class)
					if l.place++; len(gone) > 0 && n == 0 { // a retry
						k := r.IntN(len(gone))
						old := gone[k]
						gone = slices.Delete(gone, k, k+1)
						q.Place, q.queue().Class, q.Draw = old.Place, old.whom(), old.Draw
						x = list[slices.IndexFunc(list, func(x *tenant) bool { return x.class.Tenant == old.whom().Tenant })]
					} else {
						q.Place = l.place
					}
					x.largest = max(x.largest, float64(q.Draw.Cost[refill.Tokens])/x.class.Weight)
					x.waiting[q] = true
					l.arrive(q)
					check()
				case n == 6:
					var last *Request // hangs up
					for q := range x.waiting {
						if last == nil || q.Place > last.Place {
							last = q
						}
					}
					if last == nil {
						break
					}
					delete(x.waiting, last)
					if !l.e.Leave(l.at(), last) {
						t.Fatal("it did not wait")
					}
					l.act(l.e.Decide())
					check()
				default:
					l.until(l.now + time.Duration(r.Int64N(int64(2*time.Second))))
				}
			}
			if moments < 10 {
				t.Errorf("two had work waiting at %d moments: too few", moments)
			}
		})
	}
}

// A tenant alone gets everything: its requests go when they would without tenants.
func TestLoneTenant(t *testing.T) {
	for name, limits := range map[string][]refill.Limit{
		"window":   {{N: 100, Per: time.Minute}},
		"steady":   {{N: 600, Per: time.Minute, Rule: refill.Steady, Burst: 10}},
		"tokens":   {{Unit: refill.Tokens, N: 10_000, Per: time.Minute}, {N: 500, Per: time.Minute}},
		"calendar": {{N: 1000, Per: time.Minute, Rule: refill.Calendar}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := func(class *queue.Class) (list []time.Duration) {
				l := newLoad(t, limits...)
				l.let = func(r *Request) { list = append(list, l.now, time.Duration(r.Place)) }
				for i := range int64(10_000) {
					if l.come(1+i%100, class); i == 3000 {
						l.until(l.now + 10*time.Minute)
					}
				}
				l.until(refill.Never)
				return list
			}
			plain, alone := run(nil), run(&queue.Class{Level: 3, Tenant: "alone", Weight: 0.01})
			if len(plain) != 20_000 || !slices.Equal(plain, alone) {
				t.Errorf("%d go without tenants until %v, and %d alone until %v", len(plain)/2, plain[len(plain)-2], len(alone)/2, alone[len(alone)-2])
			}
		})
	}
}

// A request of a higher level goes with the next token, behind 10,000 of a lower one
// that have waited for long: whether those have a class or not.
func TestInteractive(t *testing.T) {
	for name, batch := range map[string]*queue.Class{"no class": nil, "level 0": {Tenant: "batch"}, "level -5": {Level: -5}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLoad(t, refill.Limit{N: 600, Per: time.Minute, Rule: refill.Steady, Burst: 1})
			var order []*Request
			l.let = func(r *Request) { order = append(order, r) }
			for range 10_000 {
				var class *queue.Class
				if batch != nil {
					c := *batch
					class = &c
				}
				l.come(1, class)
			}
			l.until(l.now + 5*time.Minute) // they have waited for much longer than it takes to rise
			for i := range 20 {
				n := len(order)
				r := l.come(1, &queue.Class{Level: 1})
				began := l.now
				l.until(l.now + time.Second + time.Duration(i)*7*time.Millisecond)
				if len(order) == n || order[n] != r {
					t.Fatalf("%d: another request goes first", i)
				}
				if took := r.let - began; took > 101*time.Millisecond {
					t.Errorf("%d: it goes after %v, want the next token", i, took)
				}
			}
			l.until(refill.Never)
			if len(order) != 10_020 {
				t.Errorf("%d went, want all", len(order))
			}
		})
	}
}

// While higher levels have more than there is, a lower level is served within the
// time of ageing: in a steady flow of tokens, and where all come at once every minute.
// Where tokens come more often than that, each of its requests goes then, or soon after
// if several are due.
func TestAgeing(t *testing.T) {
	for name, test := range map[string]struct {
		limit refill.Limit
		slack time.Duration
	}{
		"steady":       {refill.Limit{N: 60, Per: time.Minute, Rule: refill.Steady, Burst: 1}, 10 * time.Second},
		"each second":  {refill.Limit{N: 10, Per: time.Second}, 2 * time.Second},
		"each minute":  {refill.Limit{N: 60, Per: time.Minute}, 0},
		"by the clock": {refill.Limit{N: 60, Per: time.Minute, Rule: refill.Calendar}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLoad(t, test.limit)
			came := make(map[*Request]time.Duration)
			var order []*Request
			l.let = func(r *Request) { order = append(order, r) }
			high := func(n int) {
				for range n {
					l.come(1, &queue.Class{Level: 1 + n%2, Tenant: fmt.Sprint(n % 3)})
				}
			}
			high(400)
			var low []*Request
			for i := range 40 {
				l.until(l.now + 7*time.Second + time.Duration(i)*130*time.Millisecond)
				if i%5 < 2 {
					r := l.come(1, &queue.Class{Level: -i % 3})
					low, came[r] = append(low, r), l.now
				}
				high(100)
			}
			for l.e.queue.Len() > 0 && slices.ContainsFunc(low, (*Request).Waiting) {
				l.until(l.now + time.Second)
				high(10)
			}
			early := 0
			last := make(map[int]time.Duration) // that the level was served
			slices.SortFunc(low, func(a, b *Request) int { return int(a.let - b.let) })
			for _, r := range low {
				since := came[r]
				if test.slack == 0 {
					since = max(since, last[r.whom().Level])
				}
				took := r.let - since
				last[r.whom().Level] = r.let
				if took > queue.Ageing+test.slack+50*time.Millisecond {
					t.Errorf("place %d of level %d goes after %v, want %v at most", r.Place, r.whom().Level, took, queue.Ageing+test.slack)
				}
				if took < queue.Ageing/2 {
					early++
				}
			}
			if test.slack > 0 && early > 0 {
				t.Errorf("%d of a lower level go long before they are due", early)
			}
			n := 0
			for _, r := range order {
				if r.whom().Level <= 0 {
					n++
				}
			}
			if n != len(low) {
				t.Errorf("%d of lower levels went, want %d", n, len(low))
			}
		})
	}
}
