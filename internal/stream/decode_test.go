package stream

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

func compress(t testing.TB, encoding, text string) string {
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "raw":
		w, err = flate.NewWriter(&b, 6)
	case "br":
		w = brotli.NewWriter(&b)
	case "zstd":
		w, err = zstd.NewWriter(&b)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestCompressed(t *testing.T) {
	var text strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&text, "data: {\"candidates\":[{\"text\":\"%x\"}],\"usageMetadata\":{\"promptTokenCount\":12,\"candidatesTokenCount\":%d}}\n\n", i*i*7919, i)
	}
	text.WriteString("data: {\"error\":{\"code\":429}}\n\n")
	for _, encoding := range []string{"gzip", "deflate", "raw", "br", "zstd"} {
		packed, name := compress(t, encoding, text.String()), strings.Replace(encoding, "raw", "deflate", 1)
		for _, piece := range []int{1, 7, 1000, len(packed)} {
			s := NewScanner(Options{ContentType: asEvents, ContentEncoding: name, Fields: gemini, Errors: true})
			write(s, packed, piece)
			s.Close()
			if got, want := s.Usage(), [3]int64{-1, 12, 1999}; got != want {
				t.Errorf("%s, in pieces of %d: %v, want %v", encoding, piece, got, want)
			}
			if _, data, _ := s.Errors(); string(data) != `{"error":{"code":429}}` {
				t.Errorf("%s, in pieces of %d: error %q", encoding, piece, data)
			}
		}
		if got := string(Decode(strings.ToUpper(name), []byte(packed), 100)); got != text.String()[:100] {
			t.Errorf("%s: decoded to %q", encoding, got)
		}
		if encoding == "zstd" {
			continue // its blocks are whole or nothing
		}
		if got := string(Decode(name, []byte(packed[:len(packed)/2]), 64<<10)); !strings.HasPrefix(text.String(), got) || len(got) < 1000 {
			t.Errorf("%s: half of it is decoded to %d bytes", encoding, len(got))
		}
	}
	for _, encoding := range []string{"", "identity", "gzip", "br", "zstd", "compress"} {
		if got := string(Decode(encoding, []byte(`{"error":{}}`), 8)); got != `{"error"` {
			t.Errorf("%q: what is not compressed is decoded to %q", encoding, got)
		}
	}
}

// A stream is understood as it comes, not when it ends.
func TestFlushed(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	s := NewScanner(Options{ContentType: asEvents, ContentEncoding: "gzip", Fields: gemini})
	defer s.Close()
	for i := range int64(5) {
		fmt.Fprintf(z, "data: {\"usageMetadata\":{\"promptTokenCount\":%d}}\n\n", i)
		if err := z.Flush(); err != nil {
			t.Fatal(err)
		}
		s.Write(b.Next(b.Len()))
		if got := s.Usage()[1]; got != i {
			t.Errorf("after event %d: %d", i, got)
		}
	}
}

// The beginning of a body needs no large window, whatever its header asks for.
// A short body is decompressed in little memory, whatever window it asks for.
func TestShort(t *testing.T) {
	text := strings.Repeat("some text that is not always the same, ", 100) + strings.Repeat("and much more of it ", 100_000)
	zstdOf := func(o ...zstd.EOption) string {
		e, err := zstd.NewWriter(nil, o...)
		if err != nil {
			t.Fatal(err)
		}
		return string(e.EncodeAll([]byte(text), nil))
	}
	for name, packed := range map[string]string{
		"br":                        compress(t, "br", text),
		"zstd":                      compress(t, "zstd", text),
		"zstd, its size stated":     zstdOf(),
		"zstd, of a single segment": zstdOf(zstd.WithSingleSegment(true)),
		"zstd, a small window":      zstdOf(zstd.WithWindowSize(1 << 10)),
	} {
		encoding, _, _ := strings.Cut(name, ",")
		if got := string(Decode(encoding, []byte(packed), 64<<10)); got != text[:64<<10] {
			t.Errorf("%s: decoded to %d bytes that are not the beginning", name, len(got))
		}
		var got []byte
		short(encoding, []byte(packed), 1<<20, collect(&got))
		if len(got) < shortText-block || !strings.HasPrefix(text, string(got)) {
			t.Errorf("%s: decoded to %d bytes, want the first %d", name, len(got), shortText)
		}
		for i := 0; i < min(len(packed), 300); i += 11 { // broken off anywhere
			got = got[:0]
			short(encoding, []byte(packed[:i]), 1<<20, collect(&got))
			if !strings.HasPrefix(text, string(got)) {
				t.Errorf("%s: the first %d bytes are decoded to something else", name, i)
			}
		}
	}
}

// A long body looks back as far as it asks for, in pieces of any size.
func TestLong(t *testing.T) {
	first := noise(300 << 10) // which comes again, further back than a small window
	text := `[{"a":` + first + `,"b":` + first + `,"c":` + noise(600<<10) + `},{"usageMetadata":{"promptTokenCount":12,"candidatesTokenCount":34}}]`
	for _, encoding := range []string{"gzip", "br", "zstd"} {
		packed := compress(t, encoding, text)
		if len(packed) < 4*largeBody {
			t.Errorf("%s: %d bytes are not long", encoding, len(packed))
		}
		for _, piece := range []int{999, largeBody, largeBody + 1, len(packed)} {
			s := NewScanner(Options{ContentType: asJSON, ContentEncoding: encoding, Fields: gemini, Errors: true})
			write(s, packed, piece)
			s.Close()
			if got, want := s.Usage(), [3]int64{-1, 12, 34}; got != want {
				t.Errorf("%s, in pieces of %d: %v, want %v", encoding, piece, got, want)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	for i, encoding := range []string{"gzip", "deflate", "br", "zstd"} {
		f.Add([]byte(compress(f, encoding, "some text, some text, some text")), uint8(i))
	}
	f.Fuzz(func(t *testing.T, body []byte, how uint8) {
		if got := Decode([]string{"gzip", "deflate", "br", "zstd"}[how%4], body, 1000); len(got) > 1000 {
			t.Errorf("%d bytes", len(got))
		}
	})
}

// Whatever is compressed how, it costs little memory.
func FuzzCost(f *testing.F) {
	types := []string{asJSON, asEvents, asLines, asFrames}
	encodings := []string{"", "gzip", "deflate", "br", "zstd"}
	for text, o := range hostile(f) {
		f.Add([]byte(text), uint8(slices.Index(types, o.ContentType)+4*slices.Index(encodings, o.ContentEncoding)))
	}
	f.Fuzz(func(t *testing.T, text []byte, how uint8) {
		text = text[:min(len(text), 64<<10)]
		o := Options{ContentType: types[how%4], ContentEncoding: encodings[how/4%5], Fields: append(record, gemini...), Errors: true}
		least := uint64(math.MaxUint64)
		for range 3 { // others may allocate at the same time
			least = min(least, allocated(func() {
				s := NewScanner(o)
				for p := text; len(p) > 0; p = p[min(len(p), 4<<10):] {
					s.Write(p[:min(len(p), 4<<10)])
				}
				s.Close()
			}))
		}
		if least > 1<<20 {
			t.Errorf("%d bytes of %s, %s cost %d", len(text), o.ContentType, o.ContentEncoding, least)
		}
	})
}
