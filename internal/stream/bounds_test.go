package stream

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
)

// hostile are bodies of 64 KiB that mean the most work.
func hostile(t testing.TB) map[string]Options {
	const size = 64 << 10
	fill := func(before, s, after string) string {
		return before + strings.Repeat(s, (size-len(before)-len(after))/len(s)) + after
	}
	zeros := strings.Repeat(`{"usageMetadata":`, 60_000)
	list := map[string]Options{}
	add := func(text, contentType, encoding string) {
		list[text[:min(len(text), size)]] = Options{ContentType: contentType, ContentEncoding: encoding, Fields: gemini, Errors: true}
	}
	add(fill("", "[", ""), asJSON, "")
	add(fill("", `{"error":`, ""), asJSON, "")
	add(fill("", `{"usageMetadata":`, ""), asJSON, "")
	add(fill(`{"error":{`, `"a":1,`, `}}`), asJSON, "")
	add(fill("", `{"error":{"code":429}}`, ""), asJSON, "")
	add(fill(`{"a":"`, `\\`, `"}`), asJSON, "")
	add(fill("", "event: error\n\n", ""), asEvents, "")
	add(fill("", "data: {\"error\":1}\n\n", ""), asEvents, "")
	add(fill("", "data:\n", ""), asEvents, "")
	add(fill("", "\r", ""), asEvents, "")
	add(fill("", "{\n", ""), asLines, "")
	add(fill("", frame("{}", ":exception-type", "throttlingException"), ""), asFrames, "")
	add(fill("", frame(""), ""), asFrames, "")
	for _, encoding := range []string{"gzip", "deflate", "br", "zstd"} {
		add(compress(t, encoding, zeros), asJSON, encoding)
		add(compress(t, encoding, strings.Repeat("{", 1<<20)), asJSON, encoding)
		add(compress(t, encoding, noise(256<<10)), asJSON, encoding)
		add(compress(t, encoding, letters(600<<10)), asJSON, encoding)
	}
	add(compress(t, "zstd", "{}")+compress(t, "zstd", noise(256<<10)), asJSON, "zstd") // of two frames
	add(compress(t, "zstd", zeros)[:10], asJSON, "zstd")
	return list
}

// noise is JSON of a size that is hard to compress.
func noise(size int) string {
	r := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for b.WriteByte('['); b.Len() < size-20; {
		fmt.Fprintf(&b, "%d,", r.Int64())
	}
	return b.String() + "0]"
}

// letters is a JSON string of two letters at random: long, but without repetitions.
func letters(size int) string {
	r := rand.New(rand.NewPCG(1, 2))
	b := []byte(`{"error":"`)
	for len(b) < size {
		b = append(b, 'a'+byte(r.Uint32()&1))
	}
	return string(b)
}

// However hostile, a body costs little memory.
func TestBounds(t *testing.T) {
	for text, o := range hostile(t) {
		const most = 1 << 20
		var pieces [][]byte
		for i := 0; i < len(text); i += 4 << 10 {
			pieces = append(pieces, []byte(text[i:min(i+4<<10, len(text))]))
		}
		if n := allocated(func() {
			s := NewScanner(o)
			for _, p := range pieces {
				s.Write(p)
			}
			s.Close()
		}); n > most {
			t.Errorf("%.40q (%s) allocates %d bytes, want at most %d", text, o.ContentEncoding, n, most)
		}
		body := []byte(text)
		if n := allocated(func() { Decode(o.ContentEncoding, body, 64<<10) }); n > most {
			t.Errorf("%.40q (%s): decoding allocates %d bytes, want at most 1 MiB", text, o.ContentEncoding, n)
		}
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Claimed: at most 10 ms each.
func BenchmarkHostile(b *testing.B) {
	for text, o := range hostile(b) {
		b.Run(fmt.Sprintf("%.20q %s", text, o.ContentEncoding), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s := NewScanner(o)
				write(s, text, 4<<10)
				s.Close()
			}
		})
	}
}

func BenchmarkScanner(b *testing.B) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"some words of an answer\"}]}}],\"usageMetadata\":{\"promptTokenCount\":12,\"candidatesTokenCount\":%d}}\r\n\r\n", i)
	}
	long := `{"candidates":[{"content":{"parts":[{"text":"` + strings.Repeat("some words of an answer ", 5000) + `"}]}}],"usageMetadata":{"promptTokenCount":12}}`
	for name, o := range map[string]struct {
		text string
		Options
	}{
		"events":     {text.String(), Options{ContentType: asEvents, Fields: gemini, Errors: true}},
		"long text":  {long, Options{ContentType: asJSON, Fields: gemini, Errors: true}},
		"gzip":       {compress(b, "gzip", text.String()), Options{ContentType: asEvents, ContentEncoding: "gzip", Fields: gemini, Errors: true}},
		"small body": {`{"id":"x","usageMetadata":{"promptTokenCount":12}}`, Options{ContentType: asJSON, Fields: gemini, Errors: true}},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(o.text)))
			b.ReportAllocs()
			for b.Loop() {
				s := NewScanner(o.Options)
				write(s, o.text, 4<<10)
				s.Close()
			}
		})
	}
}
