package refill

import (
	"slices"
	"sort"
	"time"
)

// window is the rule that returns each token a Per after it was spent: at any
// time the tokens of the last Per and those on their way make up what is gone.
// With a clock, it returns them when the server's span of a Per ends in which
// they were spent at the latest, if that is sooner: whatever is sent then counts
// towards another span.
//
// Tokens spent within a grain of each other come back together, with the last
// of them, so that the list stays short however large n is.
type window struct {
	n     int64
	per   time.Duration
	grain time.Duration
	clock *Clock        // of the server; nil: its spans are not known
	span  time.Duration // per, by that clock
	held  int64         // on their way
	live  int64         // spent less than per ago
	spent []entry       // oldest first, from first on
	first int
	// Up to this time of the last shift, what was spent stands under another one.
	shifted time.Duration
}

type entry struct {
	at time.Duration
	n  int64
}

// grains is how many entries a window keeps at the most. With more tokens than
// that, they come back up to 1/1024 of per late.
const grains = 1024

func newWindow(l Limit) *window {
	w := &window{n: l.N, per: l.Per, shifted: -Never}
	if l.N > grains {
		w.grain = l.Per / grains
	}
	return w
}

// back returns when a token spent at the given time is back.
func (w *window) back(now, at time.Duration) time.Duration {
	if w.clock == nil || !w.clock.Known {
		return at + w.per
	}
	return min(at+w.per, w.clock.back(now, at, w.span))
}

func (w *window) resize(_ time.Duration, l Limit) { w.n = l.N }

// expire forgets the tokens that have come back.
func (w *window) expire(now time.Duration) {
	for w.first < len(w.spent) && w.back(now, w.spent[w.first].at) <= now {
		w.live -= w.spent[w.first].n
		w.first++
	}
	if w.first == len(w.spent) {
		w.spent, w.first = w.spent[:0], 0
	}
}

func (w *window) free(now time.Duration) int64 {
	w.expire(now)
	return w.n - w.held - w.live
}

func (w *window) ready(now time.Duration, n int64) time.Duration {
	return w.whenBack(now, n-w.free(now), Never)
}

// whenBack returns when n of the tokens that are gone are, or unknown if that
// includes tokens on their way.
func (w *window) whenBack(now time.Duration, n int64, unknown time.Duration) time.Duration {
	if n <= 0 {
		return now
	}
	if n > w.live {
		return unknown
	}
	for _, s := range w.spent[w.first:] {
		if n -= s.n; n <= 0 {
			return w.back(now, s.at)
		}
	}
	return unknown
}

func (w *window) turn(now time.Duration, n int64) time.Duration {
	if w.n <= 0 {
		return Never
	}
	// What is not there now comes back in rounds of n a Per. Those on their
	// way are taken to arrive within a second, as when they are counted.
	free := w.free(now)
	if n <= free {
		return now
	}
	rounds := (n - 1) / w.n
	landed := w.back(now, now+Flight)
	at := w.whenBack(now, n-rounds*w.n-free, landed)
	if rounds > int64((Never-at)/w.per) {
		return Never
	}
	if at += time.Duration(rounds) * w.per; rounds > 0 {
		at = max(at, w.whenBack(now, w.n-free, landed)) // not before the last one of the round before
	}
	return at
}

func (w *window) full(now time.Duration) time.Duration {
	w.expire(now)
	if w.held > 0 {
		return Never
	}
	if last := len(w.spent) - 1; last >= w.first {
		return w.back(now, w.spent[last].at)
	}
	return now
}

func (w *window) take(_ time.Duration, n int64) { w.held += n }
func (w *window) put(n int64)                   { w.held -= n }

func (w *window) spend(at time.Duration, n int64) {
	w.held -= n
	w.live += n
	if last := len(w.spent) - 1; last >= w.first {
		if s := &w.spent[last]; at <= s.at || w.together(at, s.at) {
			s.at = max(s.at, at)
			s.n += n
			return
		}
	}
	if w.first > len(w.spent)/2 && len(w.spent) == cap(w.spent) { // rarely: O(1) a token
		w.spent = w.spent[:copy(w.spent, w.spent[w.first:])]
		w.first = 0
	}
	w.spent = append(w.spent, entry{at, n})
}

// together reports whether tokens spent at two times are kept together.
func (w *window) together(a, b time.Duration) bool {
	return a == b || w.grain > 0 && a/w.grain == b/w.grain
}

func (w *window) settle(now, at time.Duration, n int64) {
	w.expire(now)
	list := w.spent[w.first:]
	if at == Never {
		for i := len(list) - 1; i >= 0 && n < 0; i-- {
			k := min(-n, list[i].n)
			list[i].n -= k
			w.live -= k
			n += k
			if list[i].n == 0 {
				w.spent = w.spent[:len(w.spent)-1]
			}
		}
		return
	}
	if w.back(now, at) <= now {
		return
	}
	i := sort.Search(len(list), func(i int) bool { return list[i].at >= at })
	if i == len(list) {
		w.spent = append(w.spent, entry{at: at})
		list = w.spent[w.first:]
	}
	if n < 0 && (at <= w.shifted || !w.together(at, list[i].at)) {
		return // those are another's: its own are somewhere else by now, or came back before the clock was in doubt
	}
	n = max(n, -list[i].n)
	list[i].n += n
	w.live += n
}

// insert counts n tokens as spent at the time given, between those of before and
// after.
func (w *window) insert(now, at time.Duration, n int64) {
	w.expire(now)
	if w.back(now, at) <= now {
		return
	}
	list := w.spent[w.first:]
	i := sort.Search(len(list), func(i int) bool { return list[i].at >= at })
	w.live += n
	if i < len(list) && list[i].at-at <= w.grain {
		list[i].n += n
		return
	}
	w.spent = slices.Insert(w.spent, w.first+i, entry{at, n})
}

// shift has all that was spent be so much longer ago. After a sleep of the
// machine that is true; after its clock was set it is not, which a limit of less
// than an hour would pay for with refusals.
func (w *window) shift(by time.Duration) {
	if w.per < time.Hour || len(w.spent) == 0 {
		return
	}
	w.shifted = max(w.shifted, w.spent[len(w.spent)-1].at)
	for i := range w.spent {
		w.spent[i].at -= by
	}
}
