package engine

import (
	"slices"
	"time"

	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
)

// An outbox is what the store is to be told. However long that takes, it stays
// short: what the store would not tell apart is summed up.
type outbox struct {
	moves []share.Report
	other []share.Report // the last one of each kind, by limit
}

// maxMoves is how many are told at the most, more or less: from then on, what was
// spent at different times is.
const maxMoves = 512

// slot numbers the times that a store does not tell apart: 256 of each Per, as it
// divides them.
func slot(at, per time.Duration) int64 {
	return int64(at / max((per+255)/256, 4*time.Millisecond).Truncate(time.Microsecond))
}

func (o *outbox) empty() bool { return len(o.moves)+len(o.other) == 0 }

// move notes that n tokens of a limit count as spent at another time.
func (o *outbox) move(l refill.Limit, i int, n int64, from, at time.Duration) {
	if n == 0 || from == 0 && at == 0 || from == at {
		return
	}
	for k := len(o.moves) - 1; k >= 0; k-- {
		m := &o.moves[k]
		switch {
		case m.Limit != i:
		case m.From == from && (m.At == at || m.At > 0 && at > 0 && slot(m.At, l.Per) == slot(at, l.Per)):
			m.N += n
			m.At = max(m.At, at)
			return
		case from > 0 && at == 0 && m.From == 0 && m.N >= n && slot(m.At, l.Per) == slot(from, l.Per):
			if m.N -= n; m.N == 0 { // it was not told yet
				o.moves = slices.Delete(o.moves, k, k+1)
			}
			return
		}
	}
	o.moves = append(o.moves, share.Report{Event: share.Move, Limit: i, N: n, From: from, At: at})
	if len(o.moves) > 2*maxMoves {
		o.coarsen()
	}
}

// coarsen sums up what was spent at two times as spent at the later one.
func (o *outbox) coarsen() {
	open := make(map[int]int) // by limit: the one that waits for another
	list := o.moves[:0]
	for _, m := range o.moves {
		if k, ok := open[m.Limit]; ok && m.From == 0 {
			list[k].N += m.N
			list[k].At = max(list[k].At, m.At)
			delete(open, m.Limit)
			continue
		}
		if m.From == 0 {
			open[m.Limit] = len(list)
		}
		list = append(list, m)
	}
	o.moves = list
}

// note has something else told, instead of what it said before.
func (o *outbox) note(r share.Report) {
	for k := range o.other {
		if m := &o.other[k]; m.Event == r.Event && m.Limit == r.Limit {
			if r.At >= m.At {
				*m = r
			}
			return
		}
	}
	o.other = append(o.other, r)
}

// renumber follows limits to their new places; less than 0: they have none.
func (o *outbox) renumber(place func(i int) int) {
	for _, list := range []*[]share.Report{&o.moves, &o.other} {
		*list = slices.DeleteFunc(*list, func(r share.Report) bool { return r.Event < share.Pause && place(r.Limit) < 0 })
		for k := range *list {
			if r := &(*list)[k]; r.Event < share.Pause {
				r.Limit = place(r.Limit)
			}
		}
	}
}

// take returns what is told now: all that still counts at the given time of the
// store.
func (o *outbox) take(now time.Duration, list []*limit) []share.Report {
	all := slices.DeleteFunc(o.moves, func(m share.Report) bool {
		long := list[m.Limit].Limit().Per + refill.Flight
		if list[m.Limit].daily() {
			long += refill.Day
		}
		return m.At > 0 && now-m.At > long
	})
	for _, m := range o.other {
		if m.Event == share.Level && now-m.At > min(list[m.Limit].Limit().Per/8, 5*time.Second) {
			continue // some have come back since
		}
		all = append(all, m)
	}
	*o = outbox{}
	return all
}
