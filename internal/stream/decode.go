package stream

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"iter"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// Bounds of decompression: no more comes out than so many bytes, and so many for
// each that went in. What it costs in memory is the window that the body asks for.
const (
	freeOutput = 128 << 10
	maxRatio   = 16
	maxWindow  = 8 << 20 // of zstd, as RFC 9659 has it
)

// normal returns a content coding in its usual form: "" if there is none.
func normal(encoding string) string {
	switch e := strings.ToLower(strings.TrimSpace(encoding)); e {
	case "identity":
		return ""
	case "x-gzip":
		return "gzip"
	default:
		return e
	}
}

// reader decompresses r. It returns nil for codings that are not known.
func reader(encoding string, r io.Reader) (io.Reader, error) {
	switch encoding {
	case "gzip":
		return gzip.NewReader(r)
	case "deflate":
		b := bufio.NewReader(r)
		// zlib's format (RFC 9110, section 8.4.1.2), which some servers leave out.
		if head, err := b.Peek(2); err == nil && head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
			return zlib.NewReader(b)
		}
		return flate.NewReader(b), nil
	case "br":
		return brotli.NewReader(r), nil
	case "zstd":
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(2*maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return nil, nil
}

// Decode decompresses the beginning of a body, of which it returns at most max
// bytes: as much as can be had. What is not compressed as said is returned as it is.
func Decode(encoding string, body []byte, max int) []byte {
	if encoding = normal(encoding); encoding != "" && len(body) > 0 {
		begin := body
		if max <= smallWindow {
			begin = narrow(encoding, body)
		}
		r, err := reader(encoding, bytes.NewReader(begin))
		if r != nil && err == nil {
			text, err := io.ReadAll(io.LimitReader(r, int64(max)))
			if c, ok := r.(io.Closer); ok {
				_ = c.Close() // there is nothing to be lost
			}
			if len(text) > 0 || err == nil {
				return text
			}
		}
	}
	return body[:min(len(body), max)]
}

// smallWindow is how far back the beginning of a body can refer to.
const smallWindow = 128 << 10

// narrow makes the window that a body asks for as small as its beginning needs:
// one of megabytes would be allocated for the sake of a few kilobytes.
func narrow(encoding string, body []byte) []byte {
	switch {
	case encoding == "br" && body[0]&1 == 1 && body[0]>>1&7 > 1: // RFC 7932, section 9.1
		body = bytes.Clone(body)
		body[0] = body[0]&^0x0e | 1<<1 // 256 KiB
	case encoding == "zstd" && len(body) > 6: // RFC 8878, section 3.1.1.1
		const single, window = 1 << 5, 7 << 3 // 128 KiB
		flags := body[4]
		if flags&single == 0 {
			if body[5] > window {
				body = bytes.Clone(body)
				body[5] = window
			}
			break
		}
		// The window is as large as the content. Its size, in as many bytes as the
		// flags say, gives way to a window.
		size, dictionary := [...]int{1, 2, 4, 8}[flags>>6], [...]int{0, 1, 2, 4}[flags&3]
		if size < 4 || len(body) < 5+dictionary+size {
			break
		}
		head := append(append([]byte{}, body[:4]...), flags&^(single|3<<6), window)
		head = append(head, body[5:5+dictionary]...)
		body = append(head, body[5+dictionary+size:]...)
	}
	return body
}

// A decoder decompresses what is written to it, piece by piece. Decompressors want
// to read, so that one runs as a coroutine: it stops where it needs more, and runs
// only within write and close.
type decoder struct {
	in    []byte // not yet read
	ended bool   // no more will come
	over  bool   // no more is wanted
	room  int    // bytes that may come out
	next  func() (struct{}, bool)
	stop  func()
}

func newDecoder(encoding string, to func([]byte)) *decoder {
	d := &decoder{room: freeOutput}
	d.next, d.stop = iter.Pull(func(yield func(struct{}) bool) {
		r, err := reader(encoding, &source{d, yield})
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
			to(buf[:n])
			if err != nil || d.room == 0 {
				return
			}
		}
	})
	return d
}

func (d *decoder) write(p []byte) {
	if d.over || len(p) == 0 {
		return
	}
	d.in = p
	d.room += maxRatio * len(p)
	if _, more := d.next(); !more {
		d.over = true
	}
	d.in = nil
}

func (d *decoder) close() {
	if d.ended = true; !d.over {
		_, _ = d.next()
		d.over = true
	}
	d.stop()
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
