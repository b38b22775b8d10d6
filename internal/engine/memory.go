package engine

import (
	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/refill"
)

// A Memory is what was learned of a key.
type Memory struct {
	limits    []remembered
	estimates estimate.Estimator
}

type remembered struct {
	refill.Limit
	config        refill.Limit
	most, stated  int64
	learned, even bool
}

// Remember returns what was learned of the key of an engine; nil: nothing.
func Remember(e *Engine) *Memory {
	m := &Memory{estimates: e.limits.estimates}
	worth := m.estimates != estimate.Estimator{}
	for _, l := range e.limits.list {
		m.limits = append(m.limits, remembered{l.Limit(), l.config, l.most, l.stated, l.learned, l.even})
		worth = worth || l.learned || l.even || l.n() != l.stated
	}
	if !worth {
		return nil
	}
	return m
}

// recollect takes up what was learned of the key before it was forgotten. The limits
// given are configured now.
func recollect(e *Engine, m *Memory, list []refill.Limit) {
	e.limits.estimates = m.estimates
	e.limits.list = nil
	for _, x := range m.limits {
		l := e.limits.add(e.t, x.Limit)
		l.config, l.most, l.stated, l.learned, l.even, l.calm = x.config, x.most, x.stated, x.learned, x.even, e.t
		if x.Unit == refill.Requests && x.Per > 0 {
			e.limits.past = nil
		}
	}
	requota(&e.limits, e.t, list, 0) // they may be others than at that time
	e.limits.dormant = nil           // all was back
}
