// Package stream reads usage and errors in the body of a response while the body
// passes by. Pieces may have any size. The package never delays or changes the
// body, and keeps a bounded part of it.
//
// It knows JSON, event streams, lines of JSON, the binary event streams of AWS, and
// how they are compressed. It does not know any API: the caller names the fields
// to read.
package stream

import (
	"bytes"
	"strings"
)

// A Field locates a number in a JSON document that states a part of the cost. Its
// Path holds the names from the document's root, separated by dots. A document is
// the body, an element of an array that is the body, the data of an event, a line,
// or the payload of a message. An array's elements share its path.
//
// The last number at a path counts. Fields of one Unit whose paths end in the same
// name locate the same figure. Different figures of one Unit add up.
type Field struct {
	Path string
	Unit int // 0, 1 or 2, or that of a text
}

const units = 3

// Units of fields that hold a text. Of ids the first one counts, of statuses the
// last one.
const (
	ID = units + iota
	Status

	texts = iota
)

// Options say what a Scanner looks for.
type Options struct {
	ContentType     string  // of the response
	ContentEncoding string  // of the response; "": none
	Fields          []Field // of usage, at most 32; not to be changed
	Errors          bool    // whether to look for errors
}

// A Scanner watches a body. It is not safe for concurrent use. Its fields and those of
// what is in it are in an order that has it fit into 1 KiB.
type Scanner struct {
	mode       mode
	considered bool // the event or the message that is being read was found to be an error

	json   tokenizer
	inner  *tokenizer // of documents in base64; nil: there are none
	decode *decoder   // nil: the body is not compressed
	events eventState
	frames frameState

	base   base64State
	counts counts
	said   [texts]string // by Unit, less units
	saying []byte        // the text that is being read

	event string // name of the event or the message that is being read
	found candidate
}

type mode uint8

const (
	off    mode = iota // nothing is looked for
	sniff              // the first byte will tell
	text               // JSON documents, one after the other
	lines              // one a line
	events             // text/event-stream
	frames             // application/vnd.amazon.eventstream
)

// A candidate is an error that was found, and how much it seems to tell.
type candidate struct {
	kind  string
	data  []byte
	score int
}

// NewScanner returns a scanner of a body of which nothing has passed by.
func NewScanner(o Options) *Scanner {
	s := new(Scanner)
	if len(o.Fields) == 0 && !o.Errors {
		return s
	}
	s.mode = modeOf(o.ContentType)
	if s.mode == off {
		return s
	}
	fields := o.Fields[:min(len(o.Fields), maxFields)]
	s.json = tokenizer{s: s, fields: fields, watch: o.Errors}
	s.json.reset()
	if s.mode == frames {
		s.inner = &tokenizer{s: s, fields: fields, watch: o.Errors, inner: true}
		s.inner.reset()
	}
	if encoding := normal(o.ContentEncoding); encoding != "" {
		s.decode = newDecoder(encoding, s.read)
	}
	return s
}

// modeOf returns how a body of a media type is read.
func modeOf(contentType string) mode {
	t, _, _ := strings.Cut(contentType, ";")
	switch t = strings.ToLower(strings.TrimSpace(t)); {
	case t == "application/vnd.amazon.eventstream":
		return frames
	case t == "text/event-stream", t == "", t == "text/plain":
		return sniff
	case strings.HasSuffix(t, "ndjson"), strings.HasSuffix(t, "jsonl"), strings.HasSuffix(t, "jsonlines"), t == "application/stream+json":
		return lines
	case strings.HasSuffix(t, "json"), strings.HasSuffix(t, "json-seq"):
		return text
	}
	return off
}

// Write takes in the next piece of the body.
func (s *Scanner) Write(p []byte) {
	switch {
	case s.mode == off:
	case s.decode != nil:
		s.decode.write(p)
	default:
		s.read(p)
	}
}

// read takes in the next piece, decompressed.
func (s *Scanner) read(p []byte) {
	if s.mode == sniff {
		for len(p) > 0 && strings.IndexByte(" \t\r\n\ufeff", p[0]) >= 0 { // a byte order mark comes in any pieces
			p = p[1:]
		}
		if len(p) == 0 {
			return
		}
		s.mode = events
		if p[0] == '{' || p[0] == '[' {
			s.mode = text // whatever its type says, as with Gemini's errors
		}
	}
	switch s.mode {
	case text:
		s.json.write(p)
	case lines:
		s.readLines(p)
	case events:
		s.readEvents(p)
	case frames:
		s.frames.read(s, p)
	}
}

// readLines reads documents that end with their lines.
func (s *Scanner) readLines(p []byte) {
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte("\n"))
		s.json.write(line)
		if p = rest; ended {
			s.endMessage()
		}
	}
}

// document is where a document ends.
func (s *Scanner) document(t *tokenizer) {
	if t.watch && (t.failed || isError(s.event)) {
		s.consider(t.document())
	}
}

// endMessage is where an event or a message ends. One that is an error counts also
// if it has no document, or not all of one.
func (s *Scanner) endMessage() {
	t := &s.json
	if t.watch && !s.considered && (t.failed || isError(s.event)) {
		s.consider(t.document())
	}
	t.reset()
	s.event, s.considered = "", false
}

// isError reports whether an event of that name is an error.
func isError(event string) bool {
	return event == "error" || strings.HasSuffix(event, "Exception") || strings.HasSuffix(event, "exception")
}

// consider keeps an error if it tells more than the one before.
func (s *Scanner) consider(data []byte) {
	s.considered = true
	score := 1
	low := bytes.ToLower(data[:min(len(data), maxDoc)])
	for _, words := range [...][]string{
		{"rate_limit", "ratelimit", "rate limit", "too_many_requests", "toomanyrequests", "too many requests", "throttl", "exhausted", "quota", "429", "slow_down"},
		{"overloaded", "unavailable", "capacity"},
		{"try again in", "retry in", "retry after", "retry_after", "retryafter", "reset"},
	} {
		for _, w := range words {
			if bytes.Contains(low, []byte(w)) || strings.Contains(strings.ToLower(s.event), w) {
				score++
				break
			}
		}
	}
	if score > s.found.score {
		s.found = candidate{s.event, append(s.found.data[:0], data...), score}
	}
}

// Usage returns what the body has said so far that the request has cost, by unit:
// -1 for units of which it says nothing. Values beyond 1<<40 are ignored.
func (s *Scanner) Usage() [units]int64 {
	return s.counts.sum(s.json.fields)
}

// Text returns what the body has said so far in fields of the Unit ID or Status, at
// most 256 bytes; "": nothing.
func (s *Scanner) Text(unit int) string { return s.said[unit-units] }

// Errors returns an error that stands in the body: of several, the first of those
// that tell most. data is JSON, broken off if it is longer than 32 KiB; of a larger
// document it is an object with the field error alone. kind is the name of the
// event, or the type of the message, that it came in.
func (s *Scanner) Errors() (kind string, data []byte, ok bool) {
	return s.found.kind, s.found.data, s.found.score > 0
}

// Close frees what decompression needs. Afterwards Usage and Errors are final, and
// Write does nothing.
func (s *Scanner) Close() {
	if s.decode != nil {
		s.decode.close()
		s.decode = nil
	}
	if s.mode != off {
		s.endMessage() // broken off
	}
	s.mode = off
}
