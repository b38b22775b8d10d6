package provider

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

var fields = []Usage{{"promptTokenCount", Tokens}, {"candidatesTokenCount", OutputTokens}, {"thoughtsTokenCount", OutputTokens}}

func TestMeter(t *testing.T) {
	long := strings.Repeat(`{"text":"a token, and \"promptTokenCount\": 5 "},`, 100)
	tests := []struct {
		text string
		want Cost
	}{
		{``, Cost{-1, -1, -1}},
		{`{"promptTokenCount":12}`, Cost{-1, 12, -1}},
		{`{"promptTokenCount" : 12 , "candidatesTokenCount":3}`, Cost{-1, 12, 3}},
		{`{"thoughtsTokenCount":4,"candidatesTokenCount":3}`, Cost{-1, -1, 7}},
		{`{"promptTokenCount":1} {"promptTokenCount":2}`, Cost{-1, 2, -1}},
		{`{"promptTokenCount":0}`, Cost{-1, 0, -1}},
		{`{"promptTokenCount":12`, Cost{-1, -1, -1}}, // more digits may follow
		{`{"promptTokenCount":null,"x":1}`, Cost{-1, -1, -1}},
		{`{"promptTokenCount":-5}`, Cost{-1, -1, -1}},
		{`{"promptTokenCount":"5"}`, Cost{-1, -1, -1}},
		{`{"promptTokenCount":99999999999999999999999}`, Cost{-1, -1, -1}},
		{`{"promptTokenCountX":5,"XpromptTokenCount":5}`, Cost{-1, -1, -1}},
		{`{"text":"say \"promptTokenCount\": 5 "}`, Cost{-1, -1, -1}},
		{`token oken "oken" oken: 5`, Cost{-1, -1, -1}},
		{long + `{"promptTokenCount":` + "\r\n\t" + `7}` + long, Cost{-1, 7, -1}},
		{strings.Repeat("x", 1000) + `"promptTokenCount":7 ` + strings.Repeat("token", 1000), Cost{-1, 7, -1}},
	}
	for _, test := range tests {
		for piece := 1; piece <= len(test.text)+1; piece += 1 + piece/3 {
			m := NewMeter(fields)
			for i := 0; i < len(test.text); i += piece {
				m.Write([]byte(test.text[i:min(i+piece, len(test.text))]))
				if len(m.tail) > 2*maxField {
					t.Fatalf("%.60q in pieces of %d: keeps %d bytes", test.text, piece, len(m.tail))
				}
			}
			if got := m.Cost(); got != test.want {
				t.Errorf("%.60q in pieces of %d: %v, want %v", test.text, piece, got, test.want)
			}
		}
	}
}

// In whatever pieces a response comes, it says the same.
func FuzzMeter(f *testing.F) {
	f.Add([]byte(`{"promptTokenCount":12,"candidatesTokenCount": 3}`), uint64(1))
	f.Add([]byte(`"thoughtsTokenCount" :: "promptTokenCount":99999999999,`), uint64(2))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		whole, pieces := NewMeter(fields), NewMeter(fields)
		whole.Write(text)
		r := rand.New(rand.NewPCG(seed, 0))
		for rest := text; len(rest) > 0; {
			n := 1 + r.IntN(min(len(rest), 200))
			pieces.Write(rest[:n])
			rest = rest[n:]
		}
		if whole.Cost() != pieces.Cost() {
			t.Errorf("%v in pieces, %v whole", pieces.Cost(), whole.Cost())
		}
		if len(pieces.tail) > 2*maxField {
			t.Errorf("keeps %d bytes", len(pieces.tail))
		}
	})
}

func BenchmarkMeter(b *testing.B) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"some words of an answer\"}]}}],\"usageMetadata\":{\"promptTokenCount\":12,\"candidatesTokenCount\":%d}}\r\n\r\n", i)
	}
	stream := []byte(text.String())
	m := NewMeter(fields)
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		m.Write(stream)
	}
}
