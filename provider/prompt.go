package provider

import (
	"bytes"
	"io"
	"sync"
	"unicode/utf8"
)

// A prompt is what counts of a request's JSON.
type prompt struct {
	model     string // its top-level field, or agent
	tier      string // its top-level field service_tier, if that has limits of its own
	continues bool   // it names what went before, which the server has
	previous  string // what that is called, where it may have been polled
	chars     int64  // of all that is text
	media     int64  // tokens of what is not
	requests  int64  // elements of the top-level field requests
	messages  int64  // elements of messages, or of input
	maxTokens int64  // most tokens that the answer may have
}

// name is the model's, with the service tier that has limits of its own:
// "gpt-5:flex".
func (p *prompt) name() string {
	if p.model == "" || p.tier == "" {
		return p.model
	}
	return p.model + ":" + p.tier
}

// tokens estimates what a prompt costs at so many characters a token.
func (p *prompt) tokens(chars int64) int64 { return (p.chars+chars-1)/chars + p.media }

// The names of strings that are not part of a prompt.
var silent = map[string]bool{
	"model": true, "role": true, "type": true, "id": true,
	"mimeType": true, "mime_type": true, "media_type": true, "responseMimeType": true, "response_mime_type": true,
	"fileUri": true, "file_uri": true, "cachedContent": true, "cached_content": true,
	"thoughtSignature": true, "thought_signature": true, "signature": true,
	"detail": true, "tool_call_id": true, "tool_use_id": true, "service_tier": true, "serviceTier": true,
	"agent": true, "previous_response_id": true, "previous_interaction_id": true, "conversation": true, "continuation_token": true,
}

// A property is what is known of a field by its name.
type property struct {
	name   string
	silent bool // its strings are not part of a prompt
}

// properties are those of the fields that most prompts have, whose names are not made
// again for each.
var properties = func() map[string]property {
	list := []string{"contents", "parts", "text", "inlineData", "inline_data", "data", "generationConfig", "systemInstruction",
		"messages", "content", "input", "requests", "max_tokens", "max_completion_tokens", "max_output_tokens", "stream", "temperature",
		"image_url", "url", "system", "source", "tools", "function", "name", "description", "parameters", "properties"}
	m := make(map[string]property, len(list)+len(silent))
	for _, s := range list {
		m[s] = property{name: s}
	}
	for s := range silent {
		m[s] = property{s, true}
	}
	return m
}()

// propertyOf returns that of a name, of which the beginning is of interest.
func propertyOf(b []byte) property {
	b = b[:min(len(b), 40)]
	if p, ok := properties[string(b)]; ok {
		return p
	}
	return property{name: string(b)}
}

// A reader goes through JSON of any size in pieces, once, and never fails: what
// is not JSON counts for what it looks like.
type reader struct {
	prompt
	last   string // the last model that was named
	depth  int
	stack  [64]frame // of what is open; what is deeper is not told apart
	state  state
	key    bool   // the string is a name
	str    []byte // its beginning
	length int64  // of it, in bytes
	runes  int64
	hex    int // digits of an escape that are still to come
	high   bool
	number int64
	buf    [32 << 10]byte
}

// A frame is an object or array that is open.
type frame struct {
	array    bool
	property        // of the field that is being read
	value    bool   // what comes next is a field's value
	mime     string // of an object with data
	data     int64  // length of that data, in base64
	head     []byte
}

type state uint8

const (
	between state = iota // values
	inString
	escaped
	inHex
	inNumber
)

// maxHead is how much of a string is looked at, more than its length. It holds
// the size of an image, whose beginning may be filled with other things.
const maxHead = 16 << 10

var readers = sync.Pool{New: func() any { return new(reader) }}

func readPrompt(body io.Reader) prompt {
	r := readers.Get().(*reader)
	defer readers.Put(r)
	r.prompt, r.depth, r.state, r.key, r.stack[0] = prompt{}, 0, between, false, frame{}
	for {
		n, err := body.Read(r.buf[:])
		r.scan(r.buf[:n])
		if err != nil {
			return r.prompt
		}
	}
}

func (r *reader) top() *frame { return &r.stack[min(r.depth, len(r.stack)-1)] }

func (r *reader) scan(p []byte) {
	for len(p) > 0 {
		switch r.state {
		case inString:
			p = r.text(p)
		case escaped:
			r.state = inString
			if p[0] == 'u' {
				r.state, r.hex = inHex, 4
			} else {
				r.add(p[:1])
				r.runes++
			}
			p = p[1:]
		case inHex:
			p = r.escape(p)
		case inNumber:
			for len(p) > 0 && r.state == inNumber {
				if c := p[0]; c >= '0' && c <= '9' && r.number < 1<<40 {
					r.number = r.number*10 + int64(c-'0')
					p = p[1:]
				} else {
					r.state = between
					r.count()
				}
			}
		default:
			r.token(p[0])
			p = p[1:]
		}
	}
}

// text reads on in a string, and returns what comes after.
func (r *reader) text(p []byte) []byte {
	if r.binary() {
		end := bytes.IndexByte(p, '"') // there are no escapes
		if end < 0 {
			r.add(p)
			return nil
		}
		r.add(p[:end])
		r.end()
		return p[end+1:]
	}
	all, runes := p, int64(0)
	if begin := len(dataURL) - len(r.str); begin > 0 && begin < len(p) {
		p = p[:begin] // what comes after may be binary
	}
	for i, c := range p {
		switch {
		case c == '"':
			r.runes += runes
			r.add(p[:i])
			r.end()
			return all[i+1:]
		case c == '\\':
			r.runes += runes
			r.add(p[:i])
			r.state = escaped
			return all[i+1:]
		case utf8.RuneStart(c):
			runes++
		}
	}
	r.runes += runes
	r.add(p)
	return all[len(p):]
}

// dataURL begins a string that is no text (RFC 2397).
var dataURL = []byte("data:")

// add notes a piece of a string.
func (r *reader) add(p []byte) {
	r.length += int64(len(p))
	if room := maxHead - len(r.str); room > 0 {
		r.str = append(r.str, p[:min(len(p), room)]...)
	}
}

// escape reads a character written as \uXXXX. The second half of a pair is not
// another one.
func (r *reader) escape(p []byte) []byte {
	c := p[0] | 0x20
	switch r.hex {
	case 4:
		r.high = c == 'd'
	case 3:
		if !r.high || c < 'c' || c > 'f' {
			r.runes++
		}
		r.length++
	}
	if r.hex--; r.hex == 0 {
		r.state = inString
	}
	return p[1:]
}

// binary reports whether the string is no text.
func (r *reader) binary() bool {
	return r.top().name == "data" && !r.key || bytes.HasPrefix(r.str, dataURL)
}

// token reads what stands between strings and numbers.
func (r *reader) token(c byte) {
	f := r.top()
	switch {
	case c == '"':
		r.state, r.str, r.length, r.runes = inString, r.str[:0], 0, 0
		r.key = r.depth > 0 && !f.array && !f.value
		r.item(f)
	case c == ':':
		f.value = true
	case c == ',':
		f.value = false
	case c == '{', c == '[':
		r.item(f)
		r.continues = r.continues || c == '{' && r.depth == 1 && f.name == "conversation"
		r.depth++
		f := r.top()
		*f = frame{array: c == '[', head: f.head[:0]}
		if f.array && r.depth > 1 {
			f.property = r.stack[min(r.depth-1, len(r.stack)-1)].property // of its elements
		}
	case c == '}', c == ']':
		switch {
		case f.mime == "":
			r.chars += f.data // it was text
		case f.data > 0:
			r.media += media(f.mime, f.head, f.data/4*3)
		}
		f.data = 0
		r.depth = max(r.depth-1, 0)
	case c >= '0' && c <= '9':
		r.state, r.number = inNumber, int64(c-'0')
		r.item(f)
	}
}

// item counts an element of an array at the top level.
func (r *reader) item(f *frame) {
	if !f.array || r.depth != 2 {
		return
	}
	switch f.name {
	case "requests":
		r.requests++
	case "messages", "input":
		r.messages++
	}
}

// end is where a string ends.
func (r *reader) end() {
	r.state = between
	f := r.top()
	if r.key {
		f.property = propertyOf(r.str)
		return
	}
	if r.depth == 1 && f.name == "input" && !f.array {
		r.messages++
	}
	switch {
	case f.name == "data":
		f.data, f.head = r.length, append(f.head[:0], r.str...)
	case bytes.HasPrefix(r.str, dataURL):
		head, data, _ := bytes.Cut(r.str, []byte(","))
		mime, _, _ := bytes.Cut(head[len(dataURL):], []byte(";"))
		r.media += media(string(mime), data, (r.length-int64(len(head)))/4*3)
	case f.name == "mimeType", f.name == "mime_type", f.name == "media_type":
		f.mime = string(r.str[:min(len(r.str), 40)])
	case f.name == "fileUri", f.name == "file_uri":
		r.media += tile // at least
	case r.depth == 1 && f.silent:
		r.topLevel(f.name)
	case !f.silent:
		r.chars += r.runes
	}
}

// topLevel notes a string at the top level.
func (r *reader) topLevel(name string) {
	s := r.str[:min(len(r.str), 256)]
	switch name {
	case "model":
		if r.last != string(s) { // most requests are for the same one
			r.last = string(s)
		}
		r.model = r.last
	case "agent":
		if r.model == "" {
			r.model = string(s)
		}
	case "service_tier", "serviceTier":
		switch s := string(s); s {
		case "flex", "priority": // others share the standard limits
			r.tier = s
		}
	case "previous_response_id", "previous_interaction_id", "conversation", "continuation_token":
		r.continues = r.continues || len(s) > 0
		if name == "previous_interaction_id" {
			r.previous = string(s)
		}
	}
}

// count is where a number ends.
func (r *reader) count() {
	if r.depth != 1 {
		return
	}
	switch r.top().name {
	case "max_tokens", "max_completion_tokens", "max_output_tokens":
		r.maxTokens = r.number
	}
}
