// Package estimate learns what requests cost from what they did: how far the
// estimates of one key are off depends on the language and on the kind of
// prompts. It knows nothing of limits or time.
package estimate

import (
	"math"

	"example.com/tollgate/internal/refill"
)

// An Estimator corrects estimates. Its zero value leaves them as they are.
type Estimator struct {
	tokens  mean // actual tokens for each one estimated
	history mean // actual tokens of requests whose history the server keeps
	carried mean // of a history of known size, what is charged again for each token
	output  mean // tokens of answers
	told    [4]float64
}

// A mean is one of values that come one after another, the last of which count
// most, and how far they are from it on average.
type mean struct {
	n          int
	value, dev float64
}

// memory is how many values a mean is over, more or less.
const memory = 16

func (m *mean) add(v float64) {
	if m.n == 0 {
		m.value = v
	}
	if m.n < memory {
		m.n++
	}
	m.dev += (math.Abs(v-m.value) - m.dev) / float64(m.n)
	m.value += (v - m.value) / float64(m.n)
}

// upper is what a value is taken to be: somewhat more than the mean, since what
// was too much is back with the response.
func (m *mean) upper() float64 { return m.value + m.dev }

// A Draw is what a request draws as far as its caller knows.
type Draw struct {
	Cost      refill.Cost
	Fixed     bool // Cost is no estimate: it is charged as it is
	Continues bool // the server keeps what went before: Cost is the least
	Said      Units
	History   int64 // how many tokens went before, prompts and answers; 0: not known
}

// Units is a set of units: of those that a caller has stated the cost in. It is
// charged as stated. A cost of nothing is final, whatever the response says.
type Units uint8

// With returns the set with a unit added.
func (u Units) With(unit int) Units { return u | 1<<unit }

// Has reports whether a unit is in the set.
func (u Units) Has(unit int) bool { return u>>unit&1 != 0 }

// Nothing reports whether the caller has said that the request draws nothing of a
// unit.
func (d *Draw) Nothing(unit int) bool { return d.Said.Has(unit) && d.Cost[unit] == 0 }

// most is the largest cost that is reckoned with.
const most = 1 << 62

// Cost returns what a request is expected to cost.
func (e *Estimator) Cost(d Draw) refill.Cost {
	c := d.Cost
	if n := c[refill.Tokens]; (n > 0 || d.Continues) && !d.Fixed {
		if n > 0 {
			n = scale(n, e.Factor())
		}
		switch {
		case d.Continues && d.History > 0:
			n = min(n+scale(min(d.History, most), e.again()), most)
		case d.Continues:
			n = max(n, ceil(e.history.upper()))
		}
		c[refill.Tokens] = n
	}
	if !d.Said.Has(refill.OutputTokens) {
		c[refill.OutputTokens] = max(c[refill.OutputTokens], e.Output())
	}
	return c
}

// Factor is what an estimate of tokens is multiplied by.
func (e *Estimator) Factor() float64 {
	if e.tokens.n == 0 {
		return 1
	}
	return e.tokens.upper()
}

// again is what a token of the history is expected to cost: all of it, until more is
// known.
func (e *Estimator) again() float64 {
	if e.carried.n == 0 {
		return 1
	}
	return e.carried.upper()
}

// Output is how many tokens an answer is expected to have, at least 1.
func (e *Estimator) Output() int64 { return max(1, ceil(e.output.upper())) }

func scale(n int64, by float64) int64 { return max(1, ceil(float64(n)*by)) }

func ceil(f float64) int64 { return int64(min(math.Ceil(f), most)) }

// Learn takes in what a request has cost, negative where that is not known, and
// reports whether estimates have changed by a twentieth or more since it last
// did.
func (e *Estimator) Learn(d Draw, actual refill.Cost) (moved bool) {
	if is := actual[refill.Tokens]; is > 0 && !d.Fixed {
		switch n := d.Cost[refill.Tokens]; {
		case d.Continues:
			e.history.add(float64(is))
			if d.History > 0 {
				own := float64(n)
				if e.tokens.n > 0 {
					own *= e.tokens.value
				}
				e.carried.add(max(0, float64(is)-own) / float64(d.History))
			}
		case n > 0:
			e.tokens.add(float64(is) / float64(n))
		}
	}
	if is := actual[refill.OutputTokens]; is >= 0 {
		e.output.add(float64(is))
	}
	for i, m := range []*mean{&e.tokens, &e.history, &e.carried, &e.output} {
		if is := m.upper(); math.Abs(is-e.told[i]) > is/20 {
			e.told[i] = is
			moved = true
		}
	}
	return moved
}
