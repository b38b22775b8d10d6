package quotatest

import (
	"testing"
)

func TestPromptTokens(t *testing.T) {
	length := func(text string) int64 { return int64(len(text)) }
	tests := []struct {
		body string
		of   func(string) int64
		want int64
	}{
		{`{}`, nil, 0},
		{`{"contents":[{"parts":[{"text":""}]}]}`, func(string) int64 { return 1 }, 0},
		{`{"contents":[{"parts":[{"text":"four"}]}]}`, nil, 1},
		{`{"contents":[{"parts":[{"text":"fiver"}]}]}`, nil, 2},
		{`{"contents":[{"parts":[{"text":"äöüß"}]}]}`, nil, 1},
		{`{"contents":[{"parts":[{"text":"a"},{"text":"b"}]},{"parts":[{"text":"c"}]}]}`, nil, 3},
		{`{"contents":[{"parts":[{"inlineData":{"data":"AAAA"}},{"text":"b"}]}]}`, nil, 1},
		{`{"contents":[{"parts":[{"text":"a"}]}],"systemInstruction":{"parts":[{"text":"12345"}]}}`, nil, 3},
		{`{"system_instruction":{"parts":[{"text":"12345"}]}}`, nil, 2},
		{`{"generateContentRequest":{"contents":[{"parts":[{"text":"12345"}]}]}}`, nil, 2},
		{`{"contents":[{"parts":[{"text":"12345"}]}]}`, length, 5},
		{`{"contents":[{"parts":[{"text":"12345"}]}]}`, func(string) int64 { return -1 }, 0},
	}
	for _, tt := range tests {
		s := &Server{Tokens: tt.of}
		count := decode[struct{ TotalTokens int64 }](t, do(s, "POST", flash+":countTokens", tt.body))
		if count.TotalTokens != tt.want || s.Calls()[0].Tokens != tt.want {
			t.Errorf("%s: %d tokens, %d in Calls, want %d", tt.body, count.TotalTokens, s.Calls()[0].Tokens, tt.want)
		}
		resp := decode[response](t, do(s, "POST", flash+":generateContent", tt.body))
		if u := resp.Usage; u.Prompt != tt.want || u.Candidates == 0 || u.Total != u.Prompt+u.Candidates {
			t.Errorf("%s: usage %+v, want %d", tt.body, u, tt.want)
		}
	}
}
