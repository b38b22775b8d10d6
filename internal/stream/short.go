package stream

import (
	"bytes"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// Brotli and zstd have decompressors look back over as much as a body asks for, which
// is megabytes, and those set aside as much. A short body must not cost that: it is
// decompressed when all of it is here, in as much memory as what comes out takes.
const (
	largeBody = 64 << 10  // a body of more than that is decompressed as it passes
	shortText = 384 << 10 // as much comes out of a short one at most
	block     = 128 << 10 // the largest of zstd
)

// needsWindow reports whether a coding asks for a window of any size.
func needsWindow(encoding string) bool { return encoding == "br" || encoding == "zstd" }

// short decompresses a body of brotli or zstd of which all is here, or its beginning:
// at most so many bytes.
func short(encoding string, body []byte, most int, to func([]byte)) {
	switch most = min(most, shortText); {
	case len(body) == 0:
	case encoding == "br":
		shortBrotli(body, most, to)
	case encoding == "zstd":
		shortZstd(body, most, to)
	}
}

// shortBrotli makes the window 512 KiB if it is larger: for less than that it makes no
// difference (RFC 7932, section 9.1).
func shortBrotli(body []byte, most int, to func([]byte)) {
	first := body[:1]
	if body[0]&1 == 1 && body[0]>>1&7 > 2 {
		first = []byte{body[0]&^0x0e | 2<<1}
	}
	r := brotli.NewReader(io.MultiReader(bytes.NewReader(first), bytes.NewReader(body[1:])))
	var buf [4 << 10]byte
	for most > 0 {
		n, err := r.Read(buf[:min(len(buf), most)])
		most -= n
		if to(buf[:n]); err != nil {
			return
		}
	}
}

// shortZstd has the blocks of zstd decompressed one after the other to where they are
// looked back at.
func shortZstd(body []byte, most int, to func([]byte)) {
	body = unsized(body)
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return
	}
	defer d.Close()
	end, size := fitting(body, (most+block-1)/block*block)
	text, _ := d.DecodeAll(body[:end], make([]byte, 0, size))
	to(text[:min(len(text), most)])
}

var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// zstdHead returns the length of the header of a frame of zstd (RFC 8878, section
// 3.1.1.1), and of the size of the content in it; ok is false if there is none.
func zstdHead(body []byte) (length, size int, ok bool) {
	if len(body) < 6 || !bytes.HasPrefix(body, zstdMagic) {
		return 0, 0, false
	}
	flags := body[4]
	size = [...]int{0, 2, 4, 8}[flags>>6]
	length = 5 + [...]int{0, 1, 2, 4}[flags&3] + size
	switch {
	case flags&singleSegment == 0:
		length++ // the window
	case size == 0:
		size, length = 1, length+1
	}
	return length, size, length <= len(body)
}

const singleSegment = 1 << 5

// unsized returns a body whose first frame does not state the size of its content, of
// which more would be decompressed than there is room for, or nothing.
func unsized(body []byte) []byte {
	length, size, ok := zstdHead(body)
	if !ok || size == 0 {
		return body
	}
	head := append(append([]byte{}, body[:4]...), body[4]&^(singleSegment|3<<6))
	if body[4]&singleSegment != 0 {
		head = append(head, 13<<3) // a window of 8 MiB, whatever the size
	}
	return append(append(head, body[5:length-size]...), body[length:]...)
}

// fitting returns the end of the last block of which the text surely fits into so many
// bytes, and how many those are.
func fitting(body []byte, most int) (end, size int) {
	for {
		n, _, ok := zstdHead(body[end:])
		if !ok {
			return end, size
		}
		checksum, largest := int(body[end+4])&4, block
		if w := body[end+5]; body[end+4]&singleSegment == 0 && w < 7<<3 {
			largest = (8 + int(w&7)) << (7 + w>>3) // the window, which no block is larger than
		}
		end += n
		for last := false; !last; {
			if end+3 > len(body) {
				return len(body), size
			}
			head := int(body[end]) | int(body[end+1])<<8 | int(body[end+2])<<16
			n, text := head>>3, head>>3
			switch head >> 1 & 3 {
			case 1: // a byte, repeated
				n = 1
			case 2: // compressed
				text = largest
			}
			if size+text > most || text > block {
				return end, size
			}
			size += text
			end = min(end+3+n, len(body))
			last = head&1 == 1
		}
		end = min(end+checksum, len(body))
	}
}

// collect is a function that keeps what it is given.
func collect(to *[]byte) func([]byte) {
	return func(p []byte) { *to = append(*to, p...) }
}
