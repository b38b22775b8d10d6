package provider

import (
	"bytes"
	"math"
	"strings"
)

// A Usage is a field of a response's JSON that says what a call has cost. The
// costs of all fields of a unit add up. In a stream the last value counts.
type Usage struct {
	Field string // contains "oken", as they all do
	Unit  Unit
}

// A Meter reads what a call has cost as its response passes by, in pieces of
// any size. It keeps no more of it than the beginning of a field.
type Meter struct {
	fields []Usage
	last   [4]int64 // by field; -1: not seen
	tail   []byte
}

const (
	maxField = 128 // bytes of a field with its value and the space between
	maxSpace = 32  // bytes of such space before and after the colon, each
)

// NewMeter returns a meter that looks for up to four fields.
func NewMeter(fields []Usage) *Meter {
	return &Meter{fields: fields[:min(len(fields), 4)], last: [4]int64{-1, -1, -1, -1}}
}

// Write takes in the next piece.
func (m *Meter) Write(p []byte) {
	if len(m.tail) > 0 {
		n := min(len(p), maxField)
		m.tail = append(m.tail, p[:n]...)
		if rest := m.scan(m.tail); n == len(p) {
			m.keep(rest)
			return
		}
		m.tail = m.tail[:0]
	}
	m.keep(m.scan(p))
}

// keep keeps what the next piece may complete.
func (m *Meter) keep(rest []byte) {
	m.tail = append(m.tail[:0], rest[max(0, len(rest)-maxField):]...)
}

var oken = []byte("oken")

// scan reads the fields in p and returns the end of it, from where a field may
// have begun.
func (m *Meter) scan(p []byte) (rest []byte) {
	for {
		i := bytes.Index(p, oken)
		if i < 0 {
			return p[max(0, bytes.LastIndexByte(p, '"')):]
		}
		begin := bytes.LastIndexByte(p[:i], '"')
		end := bytes.IndexByte(p[i:], '"')
		if end < 0 {
			return p[max(0, begin):]
		}
		end += i
		n, value := number64(p[end+1:])
		if n < 0 {
			return p[max(0, begin):]
		}
		for k, f := range m.fields {
			if value >= 0 && string(p[begin+1:end]) == f.Field {
				m.last[k] = value
			}
		}
		p = p[end:]
	}
}

// number64 reads a colon and a whole number that something follows. It returns
// its length, or less than 0 if p ends before that can be said, and its value,
// or less than 0 if there is none.
func number64(p []byte) (n int, value int64) {
	skip := func() {
		for i := 0; i < maxSpace && n < len(p) && strings.IndexByte(" \t\r\n", p[n]) >= 0; i++ {
			n++
		}
	}
	if skip(); n == len(p) {
		return -1, -1
	}
	if p[n] != ':' {
		return n, -1
	}
	n++
	if skip(); n == len(p) {
		return -1, -1
	}
	if p[n] < '0' || p[n] > '9' {
		return n, -1
	}
	for ; n < len(p) && p[n] >= '0' && p[n] <= '9'; n++ {
		if value > math.MaxInt32 {
			return n, -1 // nonsense
		}
		value = value*10 + int64(p[n]-'0')
	}
	if n == len(p) {
		return -1, -1
	}
	return n, value
}

// Cost returns what the response has said so far: -1 for the units of which it
// says nothing.
func (m *Meter) Cost() Cost {
	c := Cost{-1, -1, -1}
	for i, f := range m.fields {
		if m.last[i] >= 0 {
			c[f.Unit] = max(c[f.Unit], 0) + m.last[i]
		}
	}
	return c
}
