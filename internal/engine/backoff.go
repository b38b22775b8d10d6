package engine

import (
	"time"

	"example.com/tollgate/internal/refill"
)

// A backoff holds a key back on account of refusals, beyond what its limits say.
// It stays shut for as long as the server said, or for a second that doubles each
// time; then it opens slowly, one in flight, two, four, until all who waited are
// through. While nothing is accepted and what is sent keeps being refused, it
// stays shut for longer each time, whatever the server says.
type backoff struct {
	until  time.Duration // shut until then
	why    Why           // what shut it last
	long   time.Duration // until then on account of a quota that nobody knows: who does not want to wait for hours is turned away
	since  time.Duration // when it was last refused: refusals of earlier requests belong to that
	row    int           // refusals in a row, each of a request let go after the one before
	length time.Duration // of the last pause without a hint; 0: the last request was accepted
	width  int           // how many may be in flight; 0: any number
	flying int           // how many are, each for a flight at most
	last   time.Duration // when the last of them was let go
	seed   uint64        // of the jitter
}

const (
	minPause = time.Second
	maxPause = time.Minute
	// maxHint is the longest wait that a server is believed for a limit of
	// less than a day.
	maxHint = time.Hour
	// longHint is the longest that one is believed at all: a month.
	longHint = 31 * refill.Day
)

// open reports whether one more may be in flight.
func (b *backoff) open() bool { return b.width == 0 || b.flying < b.width }

// ready returns when the next one may go.
func (b *backoff) ready(t time.Duration) time.Duration {
	at := max(t, b.until)
	if !b.open() {
		at = max(at, b.last+refill.Flight)
	}
	return at
}

// admit counts one in flight, if it has to be counted.
func (b *backoff) admit(t time.Duration) bool {
	if b.width == 0 {
		return false
	}
	b.flying++
	b.last = t
	return true
}

// land counts a request as no longer in flight.
func (b *backoff) land(r *Request) {
	if r.slow {
		r.slow = false
		b.flying--
	}
}

// idle ends the slow start when nobody is left waiting.
func (b *backoff) idle(t time.Duration) {
	if b.flying == 0 && t >= b.until {
		b.width = 0
	}
}

// refused counts a refusal of a request let go at the given time, and reports
// whether it is one of its own: of many refusals of one moment the first counts.
func (b *backoff) refused(t, let time.Duration) bool {
	if let <= b.since {
		return false
	}
	b.since = t
	b.row++
	return true
}

// shut shuts until the given time, if it is not shut for longer already.
func (b *backoff) shut(until time.Duration, why Why) {
	if until > b.until {
		b.until, b.why = until, why
	}
}

// pause shuts for as long as the server said.
func (b *backoff) pause(t, wait time.Duration) {
	b.shut(t+wait, Refusing)
	b.width = 1
}

// bare shuts without the server having said for how long. again says that the
// refusal belongs to one that was heeded.
func (b *backoff) bare(t time.Duration, again bool) {
	if !again {
		b.length = min(max(2*b.length, minPause), maxPause)
		b.shut(t+b.length+b.jitter(b.length/4), Refusing)
	}
	b.width = 1
}

// persist shuts for longer with each refusal in a row, and reports whether there
// were several:
// a server that counts what it refuses is starved by anything else. The wait
// starts from the time in which a token comes back and doubles. It starts late
// enough for eight of them to outlast four spans of the limit, or four minutes.
func (b *backoff) persist(t, gap, per time.Duration) bool {
	if b.row < 2 {
		return false
	}
	most := max(2*per, 2*time.Minute)
	wait := max(gap, most/64)
	for i := 2; i < b.row && wait < most; i++ {
		wait *= 2
	}
	wait = min(wait, most)
	b.shut(t+wait+b.jitter(wait/16), Refusing)
	b.width = 1
	return true
}

// jitter returns something between 0 and most, never the same twice.
func (b *backoff) jitter(most time.Duration) time.Duration {
	b.seed = b.seed*6364136223846793005 + 1442695040888963407
	if most <= 0 {
		return 0
	}
	return time.Duration(b.seed>>1) % most
}

// accepted notes that a request let go at the given time was not refused.
func (b *backoff) accepted(let time.Duration) {
	if let <= b.since {
		return
	}
	b.length, b.row = 0, 0
	if b.width > 0 {
		b.width++
	}
}
