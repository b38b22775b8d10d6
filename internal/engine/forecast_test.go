package engine

import (
	"fmt"
	"testing"
	"time"

	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/refill"
)

// crowded returns an engine with so many in its queue.
func crowded(list []refill.Limit, waiting int) *Engine {
	e := New(Now{}, Config{Limits: list})
	for i := range waiting {
		e.Arrive(Now{}, &Request{Place: uint64(i), Draw: estimate.Draw{Cost: refill.Cost{refill.Requests: 1, refill.Tokens: int64(1 + i%40)}}})
	}
	e.Decide()
	return e
}

// A forecast changes nothing.
func TestForeseeLeavesAlone(t *testing.T) {
	for _, rule := range []refill.Rule{refill.Window, refill.Steady, refill.Calendar} {
		list := []refill.Limit{{N: 3, Per: time.Minute, Rule: rule}, {Unit: refill.Tokens, N: 90, Per: refill.Day, Rule: rule}}
		e := crowded(list, 20)
		e.backoff.width = 2
		now := Now{time.Second, time.Second}
		e.at(now)
		before, backoff := fmt.Sprintf("%+v", Snapshot(e, now)), e.backoff
		for range 2 {
			f, _ := Foresee(e, now, 50, estimate.Draw{Cost: refill.Cost{1, 5, 0}})
			f.Last(50, estimate.Draw{Cost: refill.Cost{1, 5, 0}})
		}
		if after := fmt.Sprintf("%+v", Snapshot(e, now)); after != before || e.backoff != backoff {
			t.Errorf("rule %d: after %s, before %s", rule, after, before)
		}
	}
}

// Beyond what is gone through one by one it estimates, and is not far off.
func TestForecastLong(t *testing.T) {
	const n = 2_000_000
	for _, list := range [][]refill.Limit{
		{{N: 10, Per: time.Second, Rule: refill.Steady}},
		{{N: 1, Per: time.Second}},
		{{N: 7, Per: time.Second}, {Unit: refill.Tokens, N: 100, Per: time.Minute}},
	} {
		e := crowded(list, 100)
		d := estimate.Draw{Cost: refill.Cost{1, 5, 0}, Fixed: true}
		f, _ := Foresee(e, Now{}, n, d)
		var most float64
		for _, l := range e.limits.list {
			most = max(most, n*float64(d.Cost[l.Limit().Unit])/float64(l.n())*l.Limit().Per.Seconds())
		}
		if got := f.Last(n, d).Seconds(); got < most*0.99 || got > most*1.01 {
			t.Errorf("%v: %.0f s, want about %.0f s", list, got, most)
		}
	}
}

// A long queue is taken in a part at a time: what leaves it at its head or joins at its
// end meanwhile makes no difference.
func TestForecastParts(t *testing.T) {
	list := []refill.Limit{{N: 3, Per: time.Minute, Rule: refill.Steady, Burst: 1}}
	d := estimate.Draw{Cost: refill.Cost{refill.Requests: 1}, Fixed: true}
	now := Now{}
	e := crowded(list, 3*part)
	want := time.Duration(3*part) * 20 * time.Second // the first one went at once, one is asked for
	f, _ := Foresee(e, now, 1, d)
	for i := range 10 {
		now = Now{now.Mono + 21*time.Second, now.Wall + 21*time.Second}
		e.Tick(now)
		e.Decide()
		e.Arrive(now, &Request{Place: uint64(4*part + i), Draw: d})
		more := f.Next(e)
		if left := 3*part - 1 - len(f.waiting); more != (left > 0) {
			t.Fatalf("%d of the queue are left, more %t", left, more)
		}
	}
	if got := f.Last(1, d); got.Round(time.Hour) != (want + want/2000).Round(time.Hour) {
		t.Errorf("%v, want %v", got, want)
	}
}

// BenchmarkForecast shows how long others wait at once for a forecast of 100,000
// requests (copy), and how long it takes in all (reckon).
func BenchmarkForecast(b *testing.B) {
	d := estimate.Draw{Cost: refill.Cost{1, 20, 0}, Fixed: true}
	for name, rule := range map[string]refill.Rule{"window": refill.Window, "steady": refill.Steady} {
		for _, waiting := range []int{0, 10_000, 100_000} {
			e := crowded([]refill.Limit{{N: 60, Per: time.Minute, Rule: rule}, {Unit: refill.Tokens, N: 100_000, Per: time.Minute, Rule: rule}}, waiting)
			b.Run(fmt.Sprintf("copy/%s/%d wait", name, waiting), func(b *testing.B) {
				for b.Loop() {
					Foresee(e, Now{}, 100_000, d)
				}
			})
			b.Run(fmt.Sprintf("reckon/%s/%d wait", name, waiting), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					f, _ := Foresee(e, Now{}, 100_000, d)
					b.StartTimer()
					for more := true; more; {
						f.Reserve()
						more = f.Next(e)
					}
					f.Last(100_000, d)
				}
			})
		}
	}
}
