package engine

import (
	"time"

	"example.com/tollgate/internal/refill"
)

// A journal keeps what was spent of limits of a day where it survives the
// process, and several processes of a machine write it. The engine says what is
// to be written (Decisions.Book), and has to be told what others have written
// before it lets a request go that draws on such a limit (Decisions.Sync).
type journal struct {
	on     bool
	synced bool          // what others have written is known, and stays so for now
	busy   time.Duration // another process writes: to be tried again then
	book   []Booking
}

// A Booking is a number of tokens to be written down, or taken off if negative.
type Booking struct {
	Unit int
	Per  time.Duration
	Back int64 // when they are back, in seconds since 1970
	N    int64
}

// needs reports whether what a request of cost c draws on has to be written down.
func (j *journal) needs(ls *limits, c *refill.Cost) bool {
	if !j.on {
		return false
	}
	for _, l := range ls.list {
		if l.daily() && l.draws(c) > 0 {
			return true
		}
	}
	return false
}

// back returns under which time what is spent at the given one is written down:
// the end of the server's day, or a Per after the end of the hour.
func (j *journal) back(e *Engine, l *limit, at time.Duration) int64 {
	if l.Limit().Rule == refill.Calendar {
		return int64(e.limits.clock.Day(at) / time.Second)
	}
	wall := at + e.wall - e.t
	return int64(refill.After(wall-wall%time.Hour+time.Hour, l.Limit().Per) / time.Second)
}

// note has n tokens of a limit written down as spent at the given time.
func (j *journal) note(e *Engine, l *limit, at time.Duration, n int64) {
	if !j.on || !l.daily() || l.dormant || n == 0 {
		return
	}
	back := j.back(e, l, at)
	j.book = append(j.book, Booking{l.Limit().Unit, l.Limit().Per, back, n})
	j.know(l, back, n)
}

// take has what a request draws written down.
func (j *journal) take(e *Engine, c *refill.Cost) {
	if j.on {
		for _, l := range e.limits.list {
			j.note(e, l, e.t, l.draws(c))
		}
	}
}

// exhaust has it written down that nothing is left of a limit's day.
func (j *journal) exhaust(e *Engine, l *limit) {
	if j.on {
		j.note(e, l, e.t, l.n()-l.booked[j.back(e, l, e.t)])
	}
}

// catchUp has what was spent of a limit written down that was not configured
// meanwhile.
func (j *journal) catchUp(e *Engine, l *limit) {
	if !j.on || !l.daily() {
		return
	}
	spent := map[int64]int64{j.back(e, l, e.t): l.Flying()}
	l.Spent(e.t, func(at time.Duration, n int64) { spent[j.back(e, l, at)] += n })
	for back, n := range spent {
		if n -= l.booked[back]; n > 0 {
			j.book = append(j.book, Booking{l.Limit().Unit, l.Limit().Per, back, n})
			j.know(l, back, n)
		}
	}
}

// know notes that n more tokens of what is written down are counted here.
func (j *journal) know(l *limit, back, n int64) {
	if l.booked == nil {
		l.booked = make(map[int64]int64)
	}
	for k := range l.booked {
		if k < back-2*int64(l.Limit().Per/time.Second) {
			delete(l.booked, k)
		}
	}
	l.booked[back] += n
}

// merge counts what others have written of a limit as spent: n tokens that are
// back at the given time. It reports whether that was news.
func (j *journal) merge(e *Engine, l *limit, back, n int64) bool {
	more, at := n-l.booked[back], e.t
	if l.Limit().Rule == refill.Calendar {
		if back < j.back(e, l, e.t) {
			return false
		}
	} else if wall := time.Duration(back) * time.Second; back < int64(refill.Never/time.Second) {
		at = min(e.t, e.t+wall-l.Limit().Per-e.wall)
	}
	if more <= 0 {
		return false
	}
	l.Elsewhere(e.t, at, more)
	j.know(l, back, more)
	return true
}
