package engine

import "time"

// A ramp halves the rate of a key whose server asks for a slower one, such as
// OpenAI with slow_down and Anthropic with its acceleration limits, and lets it grow
// back evenly within a quarter of an hour.
type ramp struct {
	gap   time.Duration // between requests at the full rate; 0: there is no ramp
	times int64         // how many times longer it was when the ramp began
	since time.Duration // when that was
	next  time.Duration // when the next request may go
}

// rampTime is how long it takes for the rate to be back: OpenAI's documentation asks
// for a rise of half the rate in as long.
const rampTime = 15 * time.Minute

// steepest is the most that a rate is divided by.
const steepest = 64

// halve begins a ramp at half of the rate that is in force. gap is that between
// requests at the full rate.
func (r *ramp) halve(t, gap time.Duration) {
	now := int64(1)
	if r.gap > 0 {
		now, gap = int64(r.factor(t)+0.5), r.gap
	}
	r.gap, r.times, r.since = gap, min(2*max(now, 1), steepest), t
}

// factor is how many times longer the gap is than at the full rate. The rate, its
// inverse, grows evenly.
func (r *ramp) factor(t time.Duration) float64 {
	if r.gap == 0 {
		return 1
	}
	least := 1 / float64(r.times)
	return 1 / min(1, least+(1-least)*float64(t-r.since)/float64(rampTime))
}

// ready returns when the next request may go.
func (r *ramp) ready() time.Duration { return r.next }

// admit notes that a request goes.
func (r *ramp) admit(t time.Duration) {
	if r.gap == 0 {
		return
	}
	if t >= r.since+rampTime {
		*r = ramp{}
		return
	}
	r.next = max(r.next, t) + time.Duration(float64(r.gap)*r.factor(t))
}
