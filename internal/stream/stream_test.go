package stream

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
)

var (
	gemini = []Field{{"usageMetadata.promptTokenCount", 1}, {"usageMetadata.candidatesTokenCount", 2}, {"usageMetadata.thoughtsTokenCount", 2}}
	claude = []Field{{"usage.input_tokens", 1}, {"usage.cache_creation_input_tokens", 1}, {"usage.output_tokens", 2},
		{"message.usage.input_tokens", 1}, {"message.usage.cache_creation_input_tokens", 1}, {"message.usage.output_tokens", 2}}
	interaction = []Field{{"usage.total_input_tokens", 1}, {"interaction.usage.total_input_tokens", 1}, {"usage.total_output_tokens", 2}, {"interaction.usage.total_output_tokens", 2}}
	bedrock     = []Field{{"amazon-bedrock-invocationMetrics.inputTokenCount", 1}, {"amazon-bedrock-invocationMetrics.outputTokenCount", 1}}
	converse    = []Field{{"usage.inputTokens", 1}, {"usage.outputTokens", 1}}
)

const (
	asJSON   = "application/json; charset=UTF-8"
	asEvents = "text/event-stream"
	asLines  = "application/x-ndjson"
	asFrames = "application/vnd.amazon.eventstream"
)

// frame is a message of a binary event stream, with headers in pairs.
func frame(payload string, headers ...string) string {
	var h []byte
	for i := 0; i < len(headers); i += 2 {
		h = append(append(h, byte(len(headers[i]))), headers[i]...)
		h = append(binary.BigEndian.AppendUint16(append(h, 7), uint16(len(headers[i+1]))), headers[i+1]...)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(prelude+len(h)+len(payload)+checksum))
	b = binary.BigEndian.AppendUint32(b, uint32(len(h)))
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	b = append(append(b, h...), payload...)
	return string(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b)))
}

func chunk(document string) string {
	return frame(`{"bytes":"`+base64.StdEncoding.EncodeToString([]byte(document))+`","p":"abc"}`, ":message-type", "event", ":event-type", "chunk", ":content-type", "application/json")
}

func TestUsage(t *testing.T) {
	long := strings.Repeat(`{"text":"a token, and \"promptTokenCount\": 5 ","usageMetadataX":{"promptTokenCount":8}},`, 50)
	tests := []struct {
		name, contentType string
		fields            []Field
		text              string
		want              [3]int64
	}{
		{"nothing", asJSON, gemini, ``, [3]int64{-1, -1, -1}},
		{"one document", asJSON, gemini, `{"candidates":[{"content":{"parts":[{"text":"Hi"}]}}],"usageMetadata" : {"promptTokenCount" : 12 , "candidatesTokenCount":3,"thoughtsTokenCount":4}}`, [3]int64{-1, 12, 7}},
		{"an array of documents", asJSON, gemini, "[{\"usageMetadata\":{\"promptTokenCount\":12,\"candidatesTokenCount\":1}}\n,\r\n{\"usageMetadata\":{\"promptTokenCount\":12,\"candidatesTokenCount\":9}}]", [3]int64{-1, 12, 9}},
		{"in text", asJSON, gemini, `{"text":"{\"usageMetadata\":{\"promptTokenCount\":5}}"}`, [3]int64{-1, -1, -1}},
		{"in arguments of a function call", asJSON, gemini, `{"candidates":[{"functionCall":{"args":{"usageMetadata":{"promptTokenCount":5},"promptTokenCount":7}}}]}`, [3]int64{-1, -1, -1}},
		{"elsewhere", asJSON, gemini, `{"promptTokenCount":5,"x":{"usageMetadata":{"promptTokenCount":5}},"usageMetadata":{"details":{"promptTokenCount":5}}}`, [3]int64{-1, -1, -1}},
		{"no number", asJSON, gemini, `{"usageMetadata":{"promptTokenCount":"5","candidatesTokenCount":null,"thoughtsTokenCount":-5}}`, [3]int64{-1, -1, -1}},
		{"nonsense", asJSON, gemini, `{"usageMetadata":{"promptTokenCount":99999999999999999999999,"candidatesTokenCount":1099511627777,"thoughtsTokenCount":1e3}}`, [3]int64{-1, -1, -1}},
		{"as large as makes sense", asJSON, gemini, `{"usageMetadata":{"promptTokenCount":1099511627776,"candidatesTokenCount":0,"thoughtsTokenCount":2.0}}`, [3]int64{-1, 1 << 40, 2}},
		{"between much", asJSON, gemini, `{"candidates":[` + long + `1],"usageMetadata":{"promptTokenCount":` + "\r\n\t" + `7},"x":[` + long + `1]}`, [3]int64{-1, 7, -1}},
		{"deep brackets before", asJSON, gemini, `{"x":` + strings.Repeat(`[{"usageMetadata":`, 40) + `{"promptTokenCount":5}` + strings.Repeat(`}]`, 40) + `,"usageMetadata":{"promptTokenCount":6}}`, [3]int64{-1, 6, -1}},
		{"events", asEvents, gemini, "data: {\"usageMetadata\":{\"promptTokenCount\":12}}\r\n\r\ndata: {\"usageMetadata\":{\"promptTokenCount\":12,\"candidatesTokenCount\":30}}\r\n\r\n", [3]int64{-1, 12, 30}},
		{"events without spaces, with comments", asEvents, gemini, ": hello\n\nid: 7\ndata:{\"usageMetadata\":\ndata:{\"promptTokenCount\":12}}\n\n", [3]int64{-1, 12, -1}},
		{"events that end with carriage returns", asEvents, gemini, "data: {\"usageMetadata\":{\"promptTokenCount\":12}}\r\rdata: {\"x\":1}\r\r", [3]int64{-1, 12, -1}},
		{"JSON that says it is a stream", asEvents, gemini, `[{"usageMetadata":{"promptTokenCount":12}}]`, [3]int64{-1, 12, -1}},
		{"an event broken off goes before", asEvents, gemini, "data: {\"usageMetadata\":{\"text\":\"\n\ndata: {\"usageMetadata\":{\"promptTokenCount\":12}}\n\n", [3]int64{-1, 12, -1}},
		{"Claude", asEvents, claude, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":100,\"output_tokens\":1}}}\n\nevent: content_block_delta\ndata: {\"delta\":{\"usage\":{\"output_tokens\":999}}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":15}}\n\n", [3]int64{-1, 125, 15}},
		{"an interaction", asEvents, interaction, "data: {\"event_type\":\"interaction.created\",\"interaction\":{\"id\":\"i\"}}\n\ndata: {\"event_type\":\"interaction.completed\",\"interaction\":{\"usage\":{\"total_input_tokens\":7,\"total_output_tokens\":9}}}\n\ndata: [DONE]\n\n", [3]int64{-1, 7, 9}},
		{"lines", asLines, claude, "{\"usage\":{\"input_tokens\":3}}\n{\"usage\":{\"input_tokens\":\n{\"usage\":{\"output_tokens\":4}}\n", [3]int64{-1, 3, 4}},
		{"a binary stream", asFrames, converse, frame(`{"delta":{"text":"Hi"}}`, ":event-type", "contentBlockDelta") + frame(`{"metrics":{"latencyMs":1},"usage":{"inputTokens":10,"outputTokens":20,"totalTokens":30}}`, ":event-type", "metadata", ":message-type", "event"), [3]int64{-1, 30, -1}},
		{"a binary stream of base64", asFrames, bedrock, chunk(`{"type":"message_start"}`) + chunk(`{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":11,"outputTokenCount":5}}`), [3]int64{-1, 16, -1}},
		{"not what it says", asFrames, bedrock, `{"amazon-bedrock-invocationMetrics":{"inputTokenCount":11}}`, [3]int64{-1, -1, -1}},
		{"no JSON", "text/html", gemini, `<p>{"usageMetadata":{"promptTokenCount":12}}`, [3]int64{-1, -1, -1}},
		{"brackets that do not match", asJSON, gemini, `]}}{"usageMetadata":{"promptTokenCount":12}}}]`, [3]int64{-1, 12, -1}},
	}
	for _, test := range tests {
		for piece := 1; piece <= len(test.text)+1; piece += 1 + piece/3 {
			s := NewScanner(Options{ContentType: test.contentType, Fields: test.fields})
			write(s, test.text, piece)
			s.Close()
			if got := s.Usage(); got != test.want {
				t.Errorf("%s, in pieces of %d: %v, want %v", test.name, piece, got, test.want)
			}
		}
	}
}

func write(s *Scanner, text string, piece int) {
	for i := 0; i < len(text); i += piece {
		s.Write([]byte(text[i:min(i+piece, len(text))]))
	}
}

func TestErrors(t *testing.T) {
	event := func(data string) string { return "data: " + data + "\n\n" }
	limited := `{"error":{"message":"Rate limit reached. Try again in 2s.","code":"rate_limit_exceeded"}}`
	failed := `{"type":"response.failed","response":{"instructions":"` + strings.Repeat("Say \\\"please\\\". ", 5000) + `","error":{"code":"rate_limit_exceeded","message":"Try again in 14.036s."},"usage":null}}`
	tests := []struct {
		name, contentType, text string
		kind, data              string
	}{
		{"none", asEvents, event(`{"choices":[{"delta":{"content":"the error: rate limit"}}],"error":null}`) + event("[DONE]"), "", ""},
		{"an error, and more after it", asEvents, event(`{"choices":[]}`) + event(limited) + event(`{"choices":[]}`) + event("[DONE]"), "", limited},
		{"a named event", asEvents, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\nevent: ping\ndata: {}\n\n", "error", `{"type":"error","error":{"type":"overloaded_error"}}`},
		{"a named event that is no JSON", asEvents, "event: error\ndata: rate limited\n\n", "error", "rate limited"},
		{"a named event that is broken off", asEvents, "event: error\ndata: {\"error\":{\"code\":429", "error", `{"error":{"code":429`},
		{"flat", asEvents, event(`{"type":"error","code":"rate_limit_exceeded","message":"m"}`), "", `{"type":"error","code":"rate_limit_exceeded","message":"m"}`},
		{"a large event", asEvents, event(failed) + event("[DONE]"), "", `{"error":{"code":"rate_limit_exceeded","message":"Try again in 14.036s."}}`},
		{"the one that tells more", asEvents, event(`{"error":{"message":"Something went wrong."}}`) + event(limited), "", limited},
		{"the first of those that tell as much", asEvents, event(limited) + event(strings.Replace(limited, "2s", "3s", 1)), "", limited},
		{"no error", asEvents, event(`{"error":{}}`) + event(`{"error":""}`) + event(`{"errors":[],"error":false}`) + event(`{"errors":0}`), "", ""},
		{"an element of an array", asJSON, `[{"candidates":[]},` + "\r\n" + `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}]`, "", `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}`},
		{"a body", asJSON, `{"errors":[{"extensions":{"code":"THROTTLED"}}],"extensions":{"cost":{}}}`, "", `{"errors":[{"extensions":{"code":"THROTTLED"}}],"extensions":{"cost":{}}}`},
		{"a body without the word", asJSON, `{"statusCode":429,"message":"Rate limit is exceeded."}`, "", `{"statusCode":429,"message":"Rate limit is exceeded."}`},
		{"a body that is not all right", asJSON, `{"ok":false,"reason":"ratelimited"}`, "", `{"ok":false,"reason":"ratelimited"}`},
		{"of a choice", asJSON, `{"choices":[{"error":{"code":429}}]}`, "", `{"choices":[{"error":{"code":429}}]}`},
		{"of arguments", asJSON, `{"choices":[{"message":{"error":{"code":429},"type":"error"}}]}`, "", ""},
		{"a line", asLines, "{\"text\":\"a\"}\n" + limited + "\n{\"text\":\"b\"}\n", "", limited},
		{"an exception", asFrames, frame(`{"delta":{}}`, ":event-type", "contentBlockDelta") + frame(`{"message":"Too many requests"}`, ":message-type", "exception", ":exception-type", "throttlingException"), "throttlingException", `{"message":"Too many requests"}`},
		{"an exception without a payload", asFrames, frame("", ":message-type", "exception", ":exception-type", "throttlingException"), "throttlingException", ""},
		{"an exception that is an event", asFrames, frame(`{"message":"m"}`, ":message-type", "event", ":event-type", "throttlingException"), "throttlingException", `{"message":"m"}`},
		{"an exception in a payload", asFrames, frame(`{"throttlingException":{"message":"m"}}`, ":event-type", "x"), "x", `{"throttlingException":{"message":"m"}}`},
		{"in base64", asFrames, chunk(`{"type":"error","error":{"type":"rate_limit_error"}}`), "chunk", `{"type":"error","error":{"type":"rate_limit_error"}}`},
	}
	for _, test := range tests {
		for piece := 1; piece <= len(test.text)+1; piece += 1 + piece/2 {
			s := NewScanner(Options{ContentType: test.contentType, Errors: true})
			write(s, test.text, piece)
			s.Close()
			kind, data, ok := s.Errors()
			if kind != test.kind || string(data) != test.data || ok != (test.data != "" || test.kind != "") {
				t.Errorf("%s, in pieces of %d: %q, %q, %v, want %q, %q", test.name, piece, kind, data, ok, test.kind, test.data)
				break
			}
		}
	}
}

// A body that is never closed costs no goroutine that runs, and one that is closed
// twice does no harm.
func TestClose(t *testing.T) {
	s := NewScanner(Options{ContentType: asJSON, ContentEncoding: "br", Fields: gemini, Errors: true})
	s.Close()
	s.Close()
	s.Write([]byte("{}"))
	if _, _, ok := s.Errors(); ok {
		t.Error("an empty body has an error")
	}
	if s := NewScanner(Options{ContentType: asJSON}); s.Usage() != [3]int64{-1, -1, -1} {
		t.Error("a scanner that looks for nothing finds usage")
	}
}

func FuzzScanner(f *testing.F) {
	f.Add([]byte(`{"usageMetadata":{"promptTokenCount":12,"candidatesTokenCount": 3.5},"error":{"code":429}}`), uint8(0), uint8(3))
	f.Add([]byte(`{"id":"i1","interaction":{"id":"i2","status":"in_progress"},"status":"completed"}`), uint8(0), uint8(3))
	f.Add([]byte("event: error\r\ndata: {\"type\":\"error\"}\r\n\r\ndata: [DONE]\n\n"), uint8(1), uint8(1))
	f.Add([]byte("{\"ok\":false}\n[[{}]]\n"), uint8(2), uint8(200))
	f.Add([]byte(chunk(`{"usageMetadata":{"promptTokenCount":1}}`)+frame(`{"message":"m"}`, ":exception-type", "throttlingException")), uint8(3), uint8(9))
	f.Add([]byte(compress(f, "gzip", `{"usageMetadata":{"promptTokenCount":1}}`)), uint8(4), uint8(9))
	f.Add([]byte(compress(f, "br", `{"usageMetadata":{"promptTokenCount":1}}`)), uint8(12), uint8(9))
	f.Add([]byte(compress(f, "zstd", `{"usageMetadata":{"promptTokenCount":1}}`)), uint8(16), uint8(9))
	types := []string{asJSON, asEvents, asLines, asFrames}
	encodings := []string{"", "gzip", "deflate", "br", "zstd"}
	f.Fuzz(func(t *testing.T, text []byte, how, piece uint8) {
		o := Options{ContentType: types[how%4], ContentEncoding: encodings[how/4%5], Fields: append(record, gemini...), Errors: true}
		whole, pieces := NewScanner(o), NewScanner(o)
		whole.Write(text)
		write(pieces, string(text), int(piece)+1)
		whole.Close()
		pieces.Close()
		if whole.Usage() != pieces.Usage() && o.ContentEncoding == "" { // a decompressor that fails may have said more
			t.Errorf("usage %v in pieces, %v whole", pieces.Usage(), whole.Usage())
		}
		for _, unit := range []int{ID, Status} {
			if a, b := whole.Text(unit), pieces.Text(unit); a != b && o.ContentEncoding == "" || len(a) > maxText {
				t.Errorf("text %q in pieces, %q whole", b, a)
			}
		}
		kind, data, ok := whole.Errors()
		kind2, data2, ok2 := pieces.Errors()
		if o.ContentEncoding == "" && (kind != kind2 || ok != ok2 || !bytes.Equal(data, data2)) {
			t.Errorf("error %q %q %v in pieces, %q %q %v whole", kind2, data2, ok2, kind, data, ok)
		}
		if len(data) > maxDoc+100 {
			t.Errorf("keeps %d bytes", len(data))
		}
		for _, n := range whole.Usage() {
			if n < -1 || n > 2*maxCount {
				t.Errorf("usage of %d", n)
			}
		}
	})
}

// TestMarkInPieces has a byte order mark come a byte at a time, before what a type that
// may be of events or of JSON turns out to be.
func TestMarkInPieces(t *testing.T) {
	for _, body := range []string{"\ufeffdata: {\"error\":{\"code\":\"x\"}}\n\n", "\ufeff{\"error\":{\"code\":\"x\"}}"} {
		s := NewScanner(Options{ContentType: "text/event-stream", Errors: true})
		for i := range len(body) {
			s.Write([]byte{body[i]})
		}
		s.Close()
		if _, data, ok := s.Errors(); !ok || string(data) != `{"error":{"code":"x"}}` {
			t.Errorf("%q: found %q, %v", body, data, ok)
		}
	}
}
