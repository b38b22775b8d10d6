package tollgate

import (
	"math"

	"example.com/tollgate/provider"
)

// A gauge learns how far estimates of the cost of a key's requests are off. That
// depends on the language and on the kind of prompts.
type gauge struct {
	tokens mean // actual tokens for each one estimated
	output mean // tokens of answers
	stood  [2]float64
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

// correct corrects an estimate: by what is known, and somewhat more, since what
// was too much is back with the response.
func (g *gauge) correct(c cost, fixed bool) cost {
	if n := c[Tokens]; n > 0 && !fixed && g.tokens.n > 0 {
		c[Tokens] = max(1, int64(math.Ceil(float64(n)*(g.tokens.value+g.tokens.dev))))
	}
	c[OutputTokens] = max(c[OutputTokens], 1, int64(math.Ceil(g.output.value+g.output.dev)))
	return c
}

// learn takes in what a request has cost, and reports whether that has changed
// what estimates are by a twentieth or more since it last did.
func (g *gauge) learn(estimate cost, fixed bool, actual provider.Cost) (moved bool) {
	if estimate[Tokens] > 0 && actual[Tokens] > 0 && !fixed {
		g.tokens.add(float64(actual[Tokens]) / float64(estimate[Tokens]))
	}
	if actual[OutputTokens] >= 0 {
		g.output.add(float64(actual[OutputTokens]))
	}
	for i, m := range []mean{g.tokens, g.output} {
		if is := m.value + m.dev; math.Abs(is-g.stood[i]) > is/20 {
			g.stood[i] = is
			moved = true
		}
	}
	return moved
}
