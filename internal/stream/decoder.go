package stream

import (
	"io"
	"iter"
)

// A decoder decompresses what is written to it, piece by piece. Decompressors want
// to read, so that one runs as a coroutine: it stops where it needs more, and runs
// only within write and close.
type decoder struct {
	encoding string
	to       func([]byte)

	kept  []byte // a body that may be short
	in    []byte // not yet read
	ended bool   // no more will come
	over  bool   // no more is wanted
	room  int    // bytes that may come out
	next  func() (struct{}, bool)
	stop  func()
}

func newDecoder(encoding string, to func([]byte)) *decoder {
	return &decoder{encoding: encoding, to: to, room: freeOutput}
}

func (d *decoder) write(p []byte) {
	if d.over || len(p) == 0 {
		return
	}
	d.room += maxRatio * len(p)
	switch {
	case d.next != nil:
	case needsWindow(d.encoding) && len(d.kept)+len(p) <= largeBody:
		d.keep(p)
		return
	default:
		d.run()
		d.feed(d.kept)
		d.kept = nil
	}
	d.feed(p)
}

// keep keeps a piece of a body that may be short. It grows in large steps, as all of
// them count.
func (d *decoder) keep(p []byte) {
	if need := len(d.kept) + len(p); need > cap(d.kept) {
		kept := make([]byte, len(d.kept), min(max(4*cap(d.kept), need, 4<<10), largeBody))
		copy(kept, d.kept)
		d.kept = kept
	}
	d.kept = append(d.kept, p...)
}

// run begins to decompress.
func (d *decoder) run() {
	d.next, d.stop = iter.Pull(func(yield func(struct{}) bool) {
		r, err := reader(d.encoding, &source{d, yield})
		if err != nil || r == nil {
			return
		}
		if c, ok := r.(io.Closer); ok {
			defer c.Close()
		}
		var buf [4 << 10]byte
		for {
			n, err := r.Read(buf[:])
			n = min(n, d.room)
			d.room -= n
			d.to(buf[:n])
			if err != nil || d.room == 0 {
				return
			}
		}
	})
}

// feed decompresses a piece of the body.
func (d *decoder) feed(p []byte) {
	if d.over || len(p) == 0 {
		return
	}
	d.in = p
	if _, more := d.next(); !more {
		d.over = true
	}
	d.in = nil
}

func (d *decoder) close() {
	d.ended = true
	switch {
	case d.next == nil:
		short(d.encoding, d.kept, d.room, d.to)
		d.kept = nil
	case d.over:
		d.stop()
	default:
		_, _ = d.next()
		d.stop()
	}
	d.over = true
}

// A source is what a decompressor reads from.
type source struct {
	d     *decoder
	yield func(struct{}) bool
}

func (s *source) Read(p []byte) (int, error) {
	for len(s.d.in) == 0 {
		if s.d.ended || !s.yield(struct{}{}) {
			return 0, io.EOF
		}
	}
	n := copy(p, s.d.in)
	s.d.in = s.d.in[n:]
	return n, nil
}
