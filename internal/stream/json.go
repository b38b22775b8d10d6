package stream

import (
	"bytes"
	"strings"
)

// A tokenizer goes through JSON documents in pieces of any size, once, and never
// fails. It knows at which path it is as deep as paths of interest go, and counts
// brackets below. A document that is an array is read as its elements, each a
// document of its own, and elements of arrays stand in their array's place.
type tokenizer struct {
	s      *Scanner
	fields []Field // at most maxFields
	depth  int     // objects and arrays that are open; of an array that is the body: 0

	watch   bool // for signs of an error
	inner   bool // reads documents that stand in another tokenizer's
	state   state
	isKey   bool // the string is a name
	value   bool // a field's value comes next or is being read
	ok      bool // the number is a whole one, of a size that makes sense
	text    int  // Unit of the text that is being read; 0: it is none
	word    [maxWord]byte
	size    int    // of the word: the beginning of a string
	pathsAt uint32 // fields whose paths lead to what comes next
	signAt  place
	number  int64
	stack   [maxDepth]nest

	failed  bool   // the document says that it is an error
	done    bool   // the document has ended
	doc     []byte // its beginning
	raw     int    // depth of the error in the document that is being read; 0: none
	failure []byte // the error's beginning
}

const (
	maxDepth = 24
	maxWord  = 48

	maxDoc     = 32 << 10 // bytes of a document that are kept
	maxFailure = 16 << 10 // bytes of an error within a larger one
	maxCount   = 1 << 40  // a count beyond that is nonsense
	maxFields  = 32
	maxText    = 256
)

type nest struct {
	array bool
	paths uint32 // fields whose paths lead to this object
	place place
}

type state uint8

const (
	between state = iota
	inString
	escaped
	inNumber
	inLiteral
)

// name returns a part of a path, and whether it is the last one.
func (f Field) name(i int) (name string, last, ok bool) {
	rest, more := f.Path, true
	for ; i >= 0; i-- {
		if !more {
			return "", false, false
		}
		name, rest, more = strings.Cut(rest, ".")
	}
	return name, !more, true
}

// counts are the last numbers of fields, each one more, by the first field that
// is the same figure; 0: none.
type counts [maxFields]int64

// set notes a number of a field.
func (c *counts) set(fields []Field, i int, n int64) {
	last := func(f Field) string { return f.Path[strings.LastIndexByte(f.Path, '.')+1:] }
	for same, f := range fields {
		if f.Unit == fields[i].Unit && last(f) == last(fields[i]) {
			c[same] = n + 1
			return
		}
	}
}

// sum adds figures up, by unit: -1 where there is none.
func (c *counts) sum(fields []Field) (sum [units]int64) {
	for u := range sum {
		sum[u] = -1
	}
	for i, f := range fields {
		if c[i] > 0 && f.Unit >= 0 && f.Unit < units {
			sum[f.Unit] = max(sum[f.Unit], 0) + c[i] - 1
		}
	}
	return sum
}

// reset begins a new document, whatever has become of the one before.
func (t *tokenizer) reset() {
	t.depth, t.state, t.value = 0, between, false
	t.begin()
}

func (t *tokenizer) begin() {
	t.failed, t.done, t.raw = false, false, 0
	t.doc, t.failure = t.doc[:0], t.failure[:0]
	t.pathsAt, t.signAt, t.value = 1<<len(t.fields)-1, root, false
}

// write reads on.
func (t *tokenizer) write(p []byte) {
	doc, failure := p, p // what is to be kept begins there
	for len(p) > 0 {
		at, depth, raw := p, t.depth, t.raw
		switch t.state {
		case inString:
			p = t.string(p)
		case escaped:
			t.state, t.size = inString, maxWord // no name of interest has an escape
			p = p[1:]
		case inNumber:
			p = t.digits(p)
		case inLiteral:
			if p = bytes.TrimLeft(p, "abcdefghijklmnopqrstuvwxyz"); len(p) > 0 {
				t.state = between
			}
		default:
			p = t.token(p)
		}
		if !t.watch {
			if t.done {
				t.end()
			}
			continue
		}
		if depth == 0 && t.depth == 1 {
			t.doc, doc = t.doc[:0], at
		}
		if raw == 0 && t.raw > 0 {
			failure = at
		}
		if raw > 0 && t.raw == 0 {
			t.failure = keep(t.failure, failure[:len(failure)-len(p)], maxFailure)
		}
		if t.done {
			if t.failed || isError(t.s.event) { // others need not be copied
				t.doc = keep(t.doc, doc[:len(doc)-len(p)], maxDoc)
			}
			doc = p
			t.end()
		}
	}
	if t.watch {
		t.doc = keep(t.doc, doc, maxDoc)
		if t.raw > 0 {
			t.failure = keep(t.failure, failure, maxFailure)
		}
	}
}

func (t *tokenizer) end() {
	t.s.document(t)
	t.begin()
}

// keep appends as much as there is room for.
func keep(b, p []byte, most int) []byte {
	return append(b, p[:max(0, min(len(p), most-len(b)))]...)
}

// document returns the document, or of a large one the error in it.
func (t *tokenizer) document() []byte {
	if len(t.doc) < maxDoc || len(t.failure) == 0 {
		return t.doc
	}
	return append(append([]byte(`{"error":`), t.failure...), '}')
}

func (t *tokenizer) top() *nest { return &t.stack[min(t.depth, maxDepth-1)] }

// token reads what stands between strings and numbers, up to and with the first
// byte that matters.
func (t *tokenizer) token(p []byte) []byte {
	c := p[0]
	switch {
	case c == '"':
		f := t.top()
		t.state, t.size = inString, 0
		t.isKey = t.depth > 0 && !f.array && !t.value
		t.beginText()
	case c == '{', c == '[':
		t.open(c == '[')
	case c == '}', c == ']':
		t.close()
	case c == ',':
		t.value = t.top().array
	case c >= '0' && c <= '9':
		t.state, t.number, t.ok = inNumber, int64(c-'0'), true
		if t.place() == inError && t.top().place == inError { // not a number of errors
			t.failed = true
		}
	case c == '-':
		t.state, t.ok = inNumber, false
	case c >= 'a' && c <= 'z':
		t.state = inLiteral
		if t.depth > 0 && (c == 'f' && t.place() == success || c == 't' && t.place() == inError) {
			t.failed = true
		}
	}
	return p[1:]
}

// place returns the place of the value that comes next.
func (t *tokenizer) place() place {
	if t.depth >= maxDepth {
		return nowhere
	}
	if t.value || t.depth == 0 {
		return t.signAt
	}
	return nowhere
}

func (t *tokenizer) open(array bool) {
	if t.depth == 0 {
		if array {
			return // its elements are documents
		}
		t.pathsAt, t.signAt = 1<<len(t.fields)-1, root
	}
	f := nest{array: array}
	if t.depth < maxDepth && (t.value || t.depth == 0) {
		f.paths, f.place = t.pathsAt, t.signAt
	}
	t.depth++
	if t.depth < maxDepth {
		t.stack[t.depth] = f
		if t.watch && f.place == inError && t.raw == 0 {
			t.raw = t.depth
		}
		t.value = array
		if array {
			t.pathsAt, t.signAt = f.paths, f.place
		}
	}
}

func (t *tokenizer) close() {
	if t.depth == 0 {
		return
	}
	if t.raw == t.depth {
		t.raw = 0
	}
	t.depth--
	f := t.top()
	t.value = f.array && t.depth > 0
	if t.value && t.depth < maxDepth {
		t.pathsAt, t.signAt = f.paths, f.place
	}
	t.done = t.depth == 0
}

// string reads on in a string, and returns what comes after.
func (t *tokenizer) string(p []byte) []byte {
	n := bytes.IndexByte(p, '"')
	all := p
	if n >= 0 {
		p = p[:n]
	}
	if i := bytes.IndexByte(p, '\\'); i >= 0 {
		t.add(p[:i])
		t.state, t.text = escaped, 0
		return all[i+1:]
	}
	t.add(p)
	if n < 0 {
		return nil
	}
	t.state = between
	t.endText()
	switch {
	case t.isKey:
		t.key()
	case t.depth == 0:
	case t.place() == kind:
		t.said(t.word[:t.size])
	case t.place() == inError && t.size > 0:
		t.failed = true
	}
	return all[n+1:]
}

// add notes a piece of a string.
func (t *tokenizer) add(p []byte) {
	if t.size < maxWord {
		t.size += copy(t.word[t.size:], p)
	}
	if t.text > 0 {
		t.s.saying = keep(t.s.saying, p, maxText+1)
	}
	if t.s.inner != nil && !t.inner && !t.isKey && t.place() == encoded {
		t.s.base.write(p, t.s.inner)
	}
}

// key is where a field's name ends.
func (t *tokenizer) key() {
	t.value = true
	if t.depth >= maxDepth {
		return
	}
	f := t.top()
	t.pathsAt, t.signAt = 0, nowhere
	if t.size == maxWord {
		return
	}
	name := t.word[:t.size]
	if f.paths != 0 {
		at := t.objects() // arrays are no part of a path
		for i := range t.fields {
			if f.paths&(1<<i) != 0 {
				if n, _, ok := t.fields[i].name(at); ok && n == string(name) {
					t.pathsAt |= 1 << i
				}
			}
		}
	}
	if t.watch || t.s.inner != nil {
		t.signAt = placeOf(f.place, name)
	}
}

// objects counts the objects that are open around the one that is being read.
func (t *tokenizer) objects() (n int) {
	for i := 1; i < t.depth; i++ {
		if !t.stack[i].array {
			n++
		}
	}
	return n
}

// digits reads on in a number.
func (t *tokenizer) digits(p []byte) []byte {
	for i, c := range p {
		switch {
		case c >= '0' && c <= '9':
			if t.number = t.number*10 + int64(c-'0'); t.number > maxCount {
				t.number, t.ok = maxCount+1, false
			}
		case c == '.' && t.ok: // a count with a fraction is cut off
			t.count()
			t.ok = false
		case c == '.', c == 'e', c == 'E', c == '+', c == '-':
			t.ok = false
		default:
			t.count()
			t.state = between
			return p[i:]
		}
	}
	return nil
}

// count is where a number ends.
func (t *tokenizer) count() {
	if !t.ok || t.depth == 0 || t.depth >= maxDepth || !t.value {
		return
	}
	if t.pathsAt != 0 {
		at := t.objects()
		for i := range t.fields {
			if t.pathsAt&(1<<i) != 0 {
				if _, last, _ := t.fields[i].name(at); last {
					t.s.counts.set(t.fields, i, t.number)
				}
			}
		}
	}
	if t.signAt == kind && (t.number == 429 || t.number == 503 || t.number == 529) {
		t.failed = t.failed || t.watch
	}
}
