package provider

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func picture(t testing.TB, w, h int, encode func(io.Writer, image.Image) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := encode(&b, image.NewGray(image.Rect(0, 0, w, h))); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

func asJPEG(w io.Writer, m image.Image) error { return jpeg.Encode(w, m, nil) }

func TestReadPrompt(t *testing.T) {
	inline := func(mime, data string) string {
		return `{"contents":[{"parts":[{"inlineData":{"mimeType":"` + mime + `","data":"` + data + `"}}]}]}`
	}
	wave := base64.StdEncoding.EncodeToString(append([]byte("RIFF    WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x40\x1f\x00\x00"), make([]byte, 80_000-32)...))
	tests := []struct {
		name, body string
		want       prompt
	}{
		{"nothing", ``, prompt{}},
		{"text", `{"contents":[{"role":"user","parts":[{"text":"Say hello."}]}]}`, prompt{chars: 10}},
		{"system", `{"systemInstruction":{"parts":[{"text":"abc"}]},"contents":[{"parts":[{"text":"de"},{"text":"f"}]}]}`, prompt{chars: 6}},
		{"characters, not bytes", `{"text":"äöü€"}`, prompt{chars: 4}},
		{"escapes", `{"text":"a\n\"b\\\u00e4\ud83d\ude00c"}`, prompt{chars: 8}},
		{"numbers and literals", `{"a":12,"b":[1,2,true,null],"text":"x","c":-1.5e3}`, prompt{chars: 1}},
		{"nested text", `{"functionResponse":{"response":{"deep":{"deeper":["abc","de"]}}}}`, prompt{chars: 5}},
		{"text called data", `{"response":{"data":"abcdef"}}`, prompt{chars: 6}},
		{"requests", `{"requests":[{"content":{"parts":[{"text":"ab"}]}},{"content":{"parts":[{"text":"c"}]}}]}`, prompt{chars: 3, requests: 2}},
		{"openai", `{"model":"gpt-4o","messages":[{"role":"system","content":"abcd"},{"role":"user","content":[{"type":"text","text":"ef"}]}],"max_tokens":100}`,
			prompt{model: "gpt-4o", chars: 6, messages: 2, maxTokens: 100}},
		{"model last", `{"input":"abc","max_output_tokens":7,"model":"o"}`, prompt{model: "o", chars: 3, messages: 1, maxTokens: 7}},
		{"deeper fields of those names", `{"tools":[{"model":"x","max_tokens":5,"messages":[1],"requests":[1]}],"model":"y"}`, prompt{model: "y"}},
		{"list of inputs", `{"input":["ab","cd","ef"]}`, prompt{chars: 6, messages: 3}},
		{"small image", inline("image/png", picture(t, 300, 384, png.Encode)), prompt{media: 258}},
		{"large image", inline("image/jpeg", picture(t, 1600, 700, asJPEG)), prompt{media: 3 * 258}},
		{"image of unknown size", inline("image/webp", "UklGRgAAAABXRUJQ"), prompt{media: 4 * 258}},
		{"mime type last", `{"inlineData":{"data":"` + picture(t, 10, 10, png.Encode) + `","mimeType":"image/png"}}`, prompt{media: 258}},
		{"data URL", `{"image_url":{"url":"data:image/png;base64,` + picture(t, 10, 10, png.Encode) + `"}}`, prompt{media: 258}},
		{"ten seconds of sound", inline("audio/wav", wave), prompt{media: 321}},
		{"a second of compressed sound", inline("audio/mp3", strings.Repeat("A", 16_000/3*4)), prompt{media: 32}},
		{"a second of film", inline("video/mp4", strings.Repeat("A", 125_000/3*4)), prompt{media: 263}},
		{"document", inline("application/pdf", strings.Repeat("A", 120_000/3*4)), prompt{media: 3 * 258}},
		{"file", `{"fileData":{"mimeType":"image/png","fileUri":"https://example.com/files/abc"}}`, prompt{media: 258}},
		{"broken off", `{"contents":[{"parts":[{"text":"abc`, prompt{}},
		{"no JSON", `}}]]"":,,\u12`, prompt{}},
		{"deep", strings.Repeat("[", 200) + `"a"` + strings.Repeat("]", 200), prompt{chars: 1}},
	}
	for _, test := range tests {
		for name, body := range map[string]io.Reader{
			"whole":       strings.NewReader(test.body),
			"in bytes":    iotest.OneByteReader(strings.NewReader(test.body)),
			"with an end": iotest.DataErrReader(strings.NewReader(test.body)),
		} {
			if got := readPrompt(body); got != test.want {
				t.Errorf("%s, read %s: %+v, want %+v", test.name, name, got, test.want)
			}
		}
	}
}

func FuzzReadPrompt(f *testing.F) {
	f.Add([]byte(`{"model":"m","messages":[{"content":"a\u00e4"}],"requests":[{}],"max_tokens":12}`))
	f.Add([]byte(`{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgo="}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := readPrompt(bytes.NewReader(b))
		if pieces := readPrompt(iotest.OneByteReader(bytes.NewReader(b))); pieces != whole {
			t.Errorf("%+v in pieces, %+v whole", pieces, whole)
		}
		if whole.chars < 0 || whole.chars > int64(len(b)) || whole.media < 0 || whole.requests > int64(len(b)) || whole.maxTokens < 0 {
			t.Errorf("%+v", whole)
		}
	})
}

// Claimed: at most 3 ns a byte.
func BenchmarkReadPrompt(b *testing.B) {
	text := strings.Repeat("The quick brown fox jumps over the lazy dog, \\\"twice\\\".\\n", 1<<20/54)
	for name, body := range map[string]string{
		"1 MB of text":        `{"contents":[{"parts":[{"text":"` + text + `"}]}]}`,
		"1 MB of escapes":     `{"contents":[{"parts":[{"text":"` + strings.Repeat(`\u4f60`, 1<<20/6) + `"}]}]}`,
		"4 MB inline picture": `{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"` + strings.Repeat("iVBORw0KGgoA", 4<<20/12) + `"}}]}]}`,
	} {
		b.Run(name, func(b *testing.B) {
			r := strings.NewReader(body)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(body)
				readPrompt(r)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(body)), "ns/byte")
		})
	}
}
