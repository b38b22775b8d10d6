package zoo

import "time"

// A counter counts the requests of a server. Times never go back.
type counter interface {
	// ready returns the first time from now on at which a request is accepted,
	// if none is counted before.
	ready(now time.Duration) time.Duration

	// count counts a request that was accepted, or one that was refused if the
	// server counts those.
	count(now time.Duration)
}

func counterOf(s Server) counter {
	switch s.Counts {
	case Fixed:
		return &fixed{n: s.N, per: s.Per, phase: s.Phase}
	case Sliding:
		return &sliding{n: int(s.N), per: s.Per}
	case Bucket:
		return newBucket(s.N, s.N, s.Per)
	case QuarterBucket:
		return newBucket(max(1, s.N/4), s.N, s.Per)
	case LeakyBucket:
		return newBucket(1, s.N, s.Per)
	case Counter:
		return &weighted{n: s.N, per: s.Per, phase: s.Phase}
	}
	panic("zoo: no way of counting: " + s.Counts)
}

// window returns when the window began that now is in.
func window(now, per, phase time.Duration) time.Duration {
	since := (now - phase) % per
	if since < 0 {
		since += per
	}
	return now - since
}

// fixed allows n in each window.
type fixed struct {
	n          int64
	per, phase time.Duration
	began      time.Duration // the window of used
	used       int64
}

func (f *fixed) ready(now time.Duration) time.Duration {
	began := window(now, f.per, f.phase)
	if began == f.began && f.used >= f.n {
		return began + f.per
	}
	return now
}

func (f *fixed) count(now time.Duration) {
	if began := window(now, f.per, f.phase); began != f.began {
		f.began, f.used = began, 0
	}
	f.used++
}

// sliding allows n in any span of per: what is exactly per old counts no more.
type sliding struct {
	n   int
	per time.Duration
	log []time.Duration
}

func (s *sliding) ready(now time.Duration) time.Duration {
	if len(s.log) < s.n {
		return now
	}
	return max(now, s.log[len(s.log)-s.n]+s.per)
}

func (s *sliding) count(now time.Duration) { s.log = append(s.log, now) }

// bucket is a token bucket, full at first. It is kept as the time at which it is
// full again, in nanoseconds times n, so that nothing is rounded. Requests that
// are counted though they were refused put it into debt.
type bucket struct {
	n    int64
	room int64 // how far ahead of now full may be, for a request to be accepted
	one  int64 // what a request puts full off by
	full int64
}

func newBucket(capacity, n int64, per time.Duration) *bucket {
	one := int64(per)
	return &bucket{n: n, one: one, room: (capacity - 1) * one}
}

func (b *bucket) ready(now time.Duration) time.Duration {
	return max(now, time.Duration((b.full-b.room+b.n-1)/b.n)) // rounded up
}

func (b *bucket) count(now time.Duration) { b.full = max(b.full, int64(now)*b.n) + b.one }

// weighted allows n of which those in the current window count whole, and those
// in the one before by the part of it that is in the last per.
type weighted struct {
	n          int64
	per, phase time.Duration
	began      time.Duration // the window of used
	last, used int64
}

// roll returns what counts in the window of now.
func (w *weighted) roll(now time.Duration) (began time.Duration, last, used int64) {
	switch began = window(now, w.per, w.phase); began {
	case w.began:
		return began, w.last, w.used
	case w.began + w.per:
		return began, w.used, 0
	}
	return began, 0, 0
}

func (w *weighted) ready(now time.Duration) time.Duration {
	for {
		began, last, used := w.roll(now)
		end := began + w.per
		if room := w.n - 1 - used; room >= 0 { // then last·(end−at)/per ≤ room suffices
			at := now
			if last > 0 {
				at = max(now, end-time.Duration(room*int64(w.per)/last))
			}
			if at < end {
				return at
			}
		}
		now = end
	}
}

func (w *weighted) count(now time.Duration) {
	w.began, w.last, w.used = w.roll(now)
	w.used++
}
