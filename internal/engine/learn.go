package engine

import (
	"time"

	"example.com/tollgate/internal/refill"
)

// A Change is a limit that turned out to be another one. Where From is zero,
// nobody knew of it.
type Change struct{ From, To refill.Limit }

// A Level is what a response's headers say of a limit.
type Level struct {
	Unit int
	N    int64         // how many; 0: it does not say
	Per  time.Duration // in how long; 0: it does not say
	Left int64         // how many are left, this request taken off; -1: it does not say
	Full time.Duration // in which all of them are back, if none is taken; -1: it does not say
}

// minSpan is the shortest Per that Auto keeps by the server's clock: shorter
// spans than clocks can be trusted.
const minSpan = 10 * time.Second

// Kept returns the rule by which a limit of the given Per is kept, if rule is what
// the API is known for.
func Kept(rule refill.Rule, per time.Duration) refill.Rule {
	if rule == refill.Calendar && per < minSpan {
		return refill.Window
	}
	return rule
}

// maxLearned is how many limits of a key are learned: more than any API states.
const maxLearned = 8

// learn takes in a limit that the server states: one that was configured is
// lowered to it, and raised again by later statements, but never beyond what was
// configured; one that nobody knew of is kept from now on. It returns the limit if
// it is another one now.
func (ls *limits) learn(t time.Duration, unit int, n int64, per time.Duration, rule refill.Rule) (l *limit, change Change) {
	if n <= 0 || per <= 0 || unit < 0 || unit >= refill.Units {
		return nil, Change{}
	}
	learned := 0
	for _, l := range ls.list {
		x := l.Limit()
		if l.learned {
			learned++
		}
		if x.Unit != unit || x.Per <= 0 || l.daily() != (per >= refill.Day) {
			continue
		}
		if x.Per != per {
			if l.stated == n && !l.learned {
				return nil, Change{} // the same one, and whoever configured it knows in how long
			}
			continue
		}
		if !l.learned {
			n = min(n, l.most)
		}
		if n == l.stated {
			return nil, Change{}
		}
		whole := l.n() == l.ceiling()
		l.stated = n
		if most := l.ceiling(); whole || most < l.n() {
			l.trial = nil
			l.Resize(t, most)
		}
		if l.Limit() == x {
			return nil, Change{}
		}
		return l, Change{x, l.Limit()}
	}
	if learned == maxLearned {
		return nil, Change{}
	}
	l = ls.add(t, refill.Limit{Unit: unit, N: n, Per: per, Rule: Kept(rule, per)})
	l.learned = true
	if unit == refill.Requests && per < refill.Day {
		if ls.past != nil {
			ls.past.Spent(t, func(at time.Duration, n int64) { l.Elsewhere(t, at, n) })
		}
		if ls.coming > 0 { // those on their way know nothing of it
			l.Take(t, ls.coming)
			l.Spend(t, ls.coming)
		}
	}
	return l, Change{To: l.Limit()}
}

// at returns the limit that a level is of, by its unit and span, or by how many
// there are where no span is stated; nil: none.
func (ls *limits) at(v *Level) *limit {
	for _, l := range ls.list {
		if x := l.Limit(); x.Unit == v.Unit && x.Per > 0 && (v.Per == x.Per || v.Per == 0 && v.N == l.stated) {
			return l
		}
	}
	return nil
}

// lower corrects the level to what the server said it was at the given time: it
// cannot be more. What was sent since is off ours already. (To take that off
// theirs as well would be right only for what has not overtaken the request: of
// those sent together with it, it would be counted twice.)
func lower(l *limit, t, at time.Duration, left int64, full time.Duration) {
	x := l.Limit()
	if x.Rule == refill.Steady {
		left += int64(max(t-at, 0) / x.Gap())
	}
	// Some servers round what is left, and nothing is gained by a token or two.
	if l.Level(t)-left > x.N/100 {
		l.Lower(t, left, full)
	}
}

// named reports whether the limit is among those named.
func named(l *limit, list []Named) bool {
	x := l.Limit()
	for _, v := range list {
		if v.Unit == x.Unit && x.Per > 0 && (v.Per >= refill.Day) == l.daily() {
			return true
		}
	}
	return false
}

// anyNamed reports whether one of the limits is among those named.
func (ls *limits) anyNamed(list []Named) bool {
	for _, l := range ls.list {
		if named(l, list) {
			return true
		}
	}
	return false
}
