package readahead

import (
	"io"
	"time"
)

// Limits bound what a Head reads.
type Limits struct {
	Bytes   int64         // so many at most
	Silence time.Duration // no longer than this without a byte; 0: any time
	Within  time.Duration // no longer than this in all; 0: any time
}

// An End is why a Head has ended.
type End uint8

// The ends.
const (
	Whole End = iota // the body ends there, or has failed; or the Head has not ended
	Long             // the body is longer than Limits.Bytes
	Late             // nothing came in time
	Full             // there is no memory for more
	Done             // the context is done, stop or the body is closed: see Err
)

// A Head reads a Body from its beginning and leaves it there. Its Read ends with
// io.EOF whatever the reason: see End.
type Head struct {
	b     *Body
	l     Limits
	i, at int   // what is read next: a piece and a place in it
	off   int64 // of that in the body
	end   End
	err   error
	timer *time.Timer
}

// NewHead returns a reader of the beginning of a body of which nothing was passed on
// yet.
func NewHead(b *Body, l Limits) *Head {
	h := &Head{b: b, l: l}
	if l.Within > 0 {
		h.timer = time.NewTimer(l.Within)
	}
	return h
}

// End returns why the Head has ended.
func (h *Head) End() End { return h.end }

// Err returns the error of the context where the end is Done, or context.Canceled
// where stop was closed.
func (h *Head) Err() error { return h.err }

// Close frees the timer.
func (h *Head) Close() {
	if h.timer != nil {
		h.timer.Stop()
	}
}

func (h *Head) Read(p []byte) (int, error) {
	for len(p) > 0 {
		n, busy := h.next(p)
		if n > 0 {
			return n, nil
		}
		if busy == nil {
			return 0, io.EOF
		}
		if h.l.Silence > 0 {
			if h.timer == nil {
				h.timer = time.NewTimer(h.l.Silence)
			} else {
				h.timer.Reset(h.l.Silence)
			}
		}
		var late <-chan time.Time
		if h.timer != nil {
			late = h.timer.C
		}
		if err := h.b.wait(busy, late); err == errLate {
			h.end = Late
		} else if err != nil {
			h.end, h.err = Done, err
		}
	}
	return 0, nil
}

// next copies what was read already, else has the body read on. It does neither
// where the Head ends.
func (h *Head) next(p []byte) (int, <-chan struct{}) {
	b := h.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if h.end != Whole {
		return 0, nil
	}
	for ; h.i < len(b.pieces); h.i, h.at = h.i+1, 0 {
		c := &b.pieces[h.i]
		if n := copy(p, c.p[h.at:c.to]); n > 0 {
			h.at += n
			h.off += int64(n)
			return n, nil
		}
		if h.at < len(c.p) {
			break // more of it may come
		}
	}
	most := h.l.Bytes - h.off
	switch {
	case b.shut:
		h.end, h.err = Done, errClosed
	case b.err != nil, b.size >= 0 && h.off >= b.size:
	case most <= 0:
		h.end = Long
	default:
		if b.size >= 0 {
			most = min(most, b.size-h.off)
		}
		if busy := b.fetch(most); busy != nil {
			return 0, busy
		}
		h.end = Full
	}
	return 0, nil
}
