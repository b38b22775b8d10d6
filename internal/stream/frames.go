package stream

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
)

// frameState is how far a binary event stream has been read: messages of a
// prelude, headers, a payload and a checksum, which is not checked, as nothing
// depends on it:
// https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html.
type frameState struct {
	head    []byte // prelude and headers
	need    int    // how long head will be
	payload int    // bytes of the payload still to come
	sum     int    // bytes of the checksum still to come
}

const (
	prelude    = 12
	checksum   = 4
	maxHeaders = 16 << 10
	maxMessage = 32 << 20
)

func (f *frameState) read(s *Scanner, p []byte) {
	for len(p) > 0 && s.mode == frames {
		switch {
		case f.payload > 0:
			n := min(len(p), f.payload)
			s.json.write(p[:n])
			if f.payload -= n; f.payload == 0 {
				endFrame(s)
			}
			p = p[n:]
		case f.sum > 0:
			n := min(len(p), f.sum)
			f.sum -= n
			p = p[n:]
		default:
			f.need = max(f.need, prelude)
			n := min(len(p), f.need-len(f.head))
			f.head = append(f.head, p[:n]...)
			p = p[n:]
			if len(f.head) == f.need {
				f.readHead(s)
			}
		}
	}
}

// readHead reads the prelude, or prelude and headers.
func (f *frameState) readHead(s *Scanner) {
	total, headers := binary.BigEndian.Uint32(f.head), binary.BigEndian.Uint32(f.head[4:])
	if f.need == prelude {
		if total > maxMessage || headers > maxHeaders || total < prelude+headers+checksum {
			s.mode = off // it is no such stream
			return
		}
		if f.need += int(headers); headers > 0 {
			return
		}
	}
	s.event = messageKind(f.head[prelude:])
	f.payload, f.sum = int(total)-f.need-checksum, checksum
	f.head, f.need = f.head[:0], 0
	if f.payload == 0 {
		endFrame(s)
	}
}

// endFrame is where a payload ends.
func endFrame(s *Scanner) {
	s.endMessage()
	s.inner.reset()
	s.base = base64State{}
}

// messageKind returns the type of an exception, an error or an event, from the
// headers of a message.
func messageKind(headers []byte) (kind string) {
	for len(headers) > 1 {
		n := int(headers[0])
		if len(headers) < n+2 {
			return kind
		}
		name, typ := string(headers[1:1+n]), headers[1+n]
		headers = headers[n+2:]
		size := 0
		switch typ {
		case 0, 1: // true, false
		case 2:
			size = 1
		case 3:
			size = 2
		case 4:
			size = 4
		case 5, 8:
			size = 8
		case 6, 7: // bytes, string
			if len(headers) < 2 {
				return kind
			}
			size = int(binary.BigEndian.Uint16(headers))
			headers = headers[2:]
		case 9:
			size = 16
		default:
			return kind
		}
		if len(headers) < size {
			return kind
		}
		switch value := headers[:size]; {
		case typ != 7:
		case name == ":exception-type", name == ":error-code":
			return string(value[:min(len(value), maxWord)])
		case name == ":event-type":
			kind = string(value[:min(len(value), maxWord)])
		}
		headers = headers[size:]
	}
	return kind
}

// base64State is what of base64 waits for the rest of its group of four.
type base64State struct {
	group [4]byte
	n     int
	over  bool // it has ended, or is none
}

// write decodes the next piece, and passes it on.
func (b *base64State) write(p []byte, to *tokenizer) {
	var out [3 << 8]byte
	var in [4 << 8]byte
	i := bytes.IndexAny(p, "\r\n") // which a decoder would pass over
	if i >= 0 {
		p = p[:i]
	}
	for len(p) > 0 && !b.over {
		n := copy(in[:], b.group[:b.n])
		m := copy(in[n:], p)
		p, n = p[m:], n+m
		whole := n &^ 3
		b.n = copy(b.group[:], in[whole:n])
		size, err := base64.StdEncoding.Decode(out[:], in[:whole])
		to.write(out[:size])
		b.over = err != nil || bytes.IndexByte(in[:whole], '=') >= 0
	}
	b.over = b.over || i >= 0
}
