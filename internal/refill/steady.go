package refill

import (
	"math"
	"math/bits"
	"time"
)

// steady is the rule of the textbook token bucket. Two conditions apply at once:
// what was sent keeps to a bucket of capacity burst, what has reached the server
// to one of capacity n. (With the first alone, jitter gets the last token
// refused; with the second alone, a burst of 1 is slowed down by every round
// trip.)
//
// Each bucket is kept as the time at which it will be full, as in the generic
// cell rate algorithm of ITU-T I.371: taking a token moves that time by gap.
type steady struct {
	n, burst      int64
	gap           time.Duration // in which one token comes back
	sent, reached time.Duration // when either bucket is full
	held          int64         // on their way
}

func newSteady(l Limit) *steady {
	return &steady{n: l.N, burst: l.Capacity(), gap: l.Gap(), sent: -Never / 2, reached: -Never / 2}
}

func (s *steady) resize(now time.Duration, l Limit) {
	sent, reached := s.level(now, s.sent, 0), s.level(now, s.reached, 0)
	s.n, s.burst, s.gap = l.N, l.Capacity(), l.Gap()
	s.sent, s.reached = soon(now, s.span(-sent)), soon(now, s.span(-reached))
}

// span returns the time in which n tokens come back, at most half of Never.
func (s *steady) span(n int64) time.Duration {
	hi, lo := bits.Mul64(uint64(max(n, 0)), uint64(s.gap))
	if hi != 0 || lo > math.MaxInt64/2 {
		return Never / 2
	}
	return time.Duration(lo)
}

// level returns how much a bucket of the given size holds that is full at the
// given time.
func (s *steady) level(now, full time.Duration, size int64) int64 {
	if full <= now {
		return size
	}
	return size - int64((full-now+s.gap-1)/s.gap)
}

func (s *steady) free(now time.Duration) int64 {
	return min(s.level(now, s.sent, s.burst), s.level(now, s.reached, s.n)-s.held)
}

func (s *steady) ready(now time.Duration, n int64) time.Duration {
	n = min(n, s.n)
	if n > s.n-s.held {
		return Never
	}
	// A request larger than the burst waits until the bucket is full and leaves
	// a debt.
	at := max(now, s.sent-s.span(max(s.burst-n, 0)))
	return max(at, s.reached-s.span(s.n-n-s.held))
}

func (s *steady) turn(now time.Duration, n int64) time.Duration {
	if s.n <= 0 {
		return Never
	}
	at := max(s.sent, now)
	if n < s.burst {
		return max(now, at-s.span(s.burst-n))
	}
	return soon(at, s.span(n-s.burst)) // no span is taken from a time that was cut off
}

func (s *steady) full(now time.Duration) time.Duration {
	return max(now, s.sent, soon(s.reached, s.span(s.held)))
}

func (s *steady) take(now time.Duration, n int64) {
	s.sent = soon(max(s.sent, now), s.span(n))
	s.held += n
}

func (s *steady) spend(at time.Duration, n int64) {
	s.held -= n
	s.reached = soon(max(s.reached, at), s.span(n))
}

func (s *steady) put(n int64) {
	s.held -= n
	s.sent -= s.span(n)
}

func (s *steady) settle(now, _ time.Duration, n int64) {
	if n > 0 {
		s.sent = soon(max(s.sent, now), s.span(n))
		s.reached = soon(max(s.reached, now), s.span(n))
		return
	}
	s.sent = max(s.sent-s.span(-n), now)
	s.reached = max(s.reached-s.span(-n), now)
}

func (s *steady) shift(time.Duration) {}
