package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
)

// Whatever is configured in between, no span of a Per has more than the limit in force
// allows when a request goes: what was spent stays spent, as far back as any limit
// that was ever configured remembers, or a minute where there was none.
func TestRequotaKeeps(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		s := time.Second
		pers := []time.Duration{20 * s, 60 * s, 100 * s}
		var quota []refill.Limit
		e := New(Now{}, Config{})
		var at []time.Duration // when those that went did
		var open []*Request    // not answered yet
		since := make(map[time.Duration]time.Duration)
		let := func(list []*Request) {
			for _, x := range list {
				at = append(at, e.t)
				open = append(open, x)
				for _, l := range quota {
					n := int64(0)
					for _, a := range at {
						if a > max(e.t-l.Per, since[l.Per]) {
							n++
						}
					}
					if n > l.N {
						t.Fatalf("seed %d: at %v %d went in %v, allowed are %d", seed, e.t, n, l.Per, l.N)
					}
				}
			}
		}
		now, place := Now{}, uint64(0)
		decide := func() {
			d := e.Decide()
			let(d.Go)
		}
		for range 400 {
			next := now.Mono + time.Duration(r.IntN(4000))*time.Millisecond
			for { // timers
				d := e.Decide()
				let(d.Go)
				if d.WakeAt > next {
					break
				}
				now.Mono = max(now.Mono, d.WakeAt)
				now.Wall = now.Mono
				e.Tick(now)
			}
			now = Now{next, next}
			switch r.IntN(8) {
			case 0:
				quota = nil
				for _, per := range pers {
					if r.IntN(2) == 0 {
						quota = append(quota, refill.Limit{N: 1 + r.Int64N(9), Per: per, Rule: refill.Window})
					}
				}
				knows := time.Duration(0)
				for per := range since {
					knows = max(knows, per)
				}
				from := max(since[knows], now.Mono-knows)
				if knows == 0 {
					from = now.Mono - 60*s
				}
				for _, l := range quota {
					if _, ok := since[l.Per]; !ok {
						since[l.Per] = from
					}
				}
				Requota(e, now, quota, nil)
			case 1, 2:
				if len(open) > 0 {
					i := r.IntN(len(open))
					x := open[i]
					open = append(open[:i], open[i+1:]...)
					e.Answered(now, x, Answer{})
					e.Closed(now, x)
				}
			default:
				place++
				x := &Request{Place: place, Draw: estimate.Draw{Cost: refill.Cost{refill.Requests: 1}, Fixed: true}}
				e.Arrive(now, x)
				if x.Going() {
					let([]*Request{x})
				}
			}
			decide()
		}
		if len(at) < 20 {
			t.Fatalf("seed %d: only %d went", seed, len(at))
		}
	}
}

// What is configured is what Configured returns, and nothing else is changed by being
// configured again.
func TestRequotaSame(t *testing.T) {
	list := []refill.Limit{{N: 5, Per: time.Minute}, {N: 9, Per: time.Hour, Rule: refill.Steady, Burst: 2}, {N: 3}, {Unit: refill.Tokens, N: 100, Per: refill.Day, Rule: refill.Calendar}}
	e := New(Now{}, Config{Limits: list})
	for i := range uint64(4) {
		e.Arrive(Now{time.Second, time.Second}, &Request{Place: i, Draw: estimate.Draw{Cost: refill.Cost{refill.Requests: 1, refill.Tokens: 7}, Fixed: true}})
	}
	before := fmt.Sprintf("%+v", Snapshot(e, Now{2 * time.Second, 2 * time.Second}))
	Requota(e, Now{2 * time.Second, 2 * time.Second}, list, nil)
	if got := fmt.Sprint(Configured(e)); got != fmt.Sprint(list) {
		t.Errorf("configured %s, want %v", got, list)
	}
	if after := fmt.Sprintf("%+v", Snapshot(e, Now{2 * time.Second, 2 * time.Second})); after != before {
		t.Errorf("after: %s\nbefore: %s", after, before)
	}
}

// Limits that are left out are kept for what was spent, but not without end.
func TestRequotaDormant(t *testing.T) {
	e := New(Now{}, Config{})
	for i := range 1000 {
		Requota(e, Now{}, []refill.Limit{{N: 1, Per: time.Duration(1+i) * time.Second}}, nil)
	}
	if n := len(e.limits.dormant); n > maxDormant || len(e.limits.list) != 1 {
		t.Errorf("%d dormant ones, %d others", n, len(e.limits.list))
	}
}

// A store is told of what is another limit now, and what is still to be told is of the
// right ones. An answer that was under way does not undo it.
func TestRequotaShared(t *testing.T) {
	now := func(s int) Now { return Now{time.Duration(s) * time.Second, time.Duration(s) * time.Second} }
	minute, hour := refill.Limit{N: 10, Per: time.Minute, Rule: refill.Window}, refill.Limit{N: 100, Per: time.Hour, Rule: refill.Window}
	e := New(now(0), Config{Limits: []refill.Limit{minute, hour}, Shared: &Shared{Instances: 1, Timeout: time.Second}})
	r := &Request{Place: 1, Draw: estimate.Draw{Cost: refill.Cost{refill.Requests: 1}, Fixed: true}}
	e.Arrive(now(0), r)
	if d := e.Decide(); !d.Exchange || len(e.Exchange().Limits) != 2 {
		t.Fatal("nothing is asked")
	}
	reply := share.Reply{Generation: 1, Now: time.Hour, Taken: time.Hour, Granted: 1, Limits: []share.State{{Limit: minute, Most: 10, Left: 9}, {Limit: hour, Most: 100, Left: 99}}}
	e.Replied(now(0), reply)
	e.Decide()
	e.Answered(now(1), r, Answer{}) // to be told: one spent of each
	e.Arrive(now(1), &Request{Place: 2, Draw: r.Draw})
	e.Decide() // it asks
	e.Arrive(now(1), &Request{Place: 3, Draw: r.Draw})
	e.Closed(now(1), r)
	e.Tell(now(1))
	more, second := hour, refill.Limit{N: 2, Per: time.Second, Rule: refill.Window}
	more.N = 200
	Requota(e, now(1), []refill.Limit{more, second}, nil)
	e.Replied(now(2), reply) // it knows nothing of that
	if got := fmt.Sprint(Configured(e)); got != fmt.Sprint([]refill.Limit{more, second}) || e.limits.list[0].n() != 200 {
		t.Errorf("limits %s, of the first %d", got, e.limits.list[0].n())
	}
	if d := e.Decide(); !d.Exchange {
		e.Tell(now(2))
		e.Decide()
	}
	b := e.Exchange()
	for _, x := range b.Reports {
		if x.Limit < 0 || x.Limit > 1 {
			t.Errorf("a report of limit %d", x.Limit)
		}
	}
	if len(b.Limits) != 2 || b.Limits[0].Limit != more || !b.Limits[0].Set || !b.Limits[1].Set {
		t.Errorf("told %+v", b)
	}
}
