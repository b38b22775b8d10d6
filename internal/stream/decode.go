package stream

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// Bounds of decompression: no more comes out than so many bytes, and so many for
// each that went in.
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
	var text []byte
	err := io.ErrUnexpectedEOF
	switch encoding = normal(encoding); {
	case encoding == "" || len(body) == 0:
	case needsWindow(encoding):
		short(encoding, body, max, collect(&text))
	default:
		text, err = decode(encoding, body, max)
	}
	if len(text) > 0 || err == nil {
		return text
	}
	return body[:min(len(body), max)]
}

func decode(encoding string, body []byte, max int) ([]byte, error) {
	r, err := reader(encoding, bytes.NewReader(body))
	if err != nil || r == nil {
		return nil, io.ErrUnexpectedEOF
	}
	return io.ReadAll(io.LimitReader(r, int64(max)))
}
