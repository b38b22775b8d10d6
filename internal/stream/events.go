package stream

import "bytes"

// eventState is how far a stream of events has been read:
// https://html.spec.whatwg.org/multipage/server-sent-events.html.
type eventState struct {
	name    [maxWord]byte // of the field, or the event's name
	size    int
	field   lineField
	cr      bool // a line feed that comes next belongs to the line before
	data    bool // the event has data
	leading bool // a space that comes next is no part of the value
}

var lineFeed = []byte{'\n'}

type lineField uint8

const (
	lineName  lineField = iota // the field's name is being read
	lineData                   // its value, which is data
	lineEvent                  // which is the event's name
	lineOther                  // which does not matter
)

func (s *Scanner) readEvents(p []byte) {
	e := &s.events
	for len(p) > 0 {
		if e.cr {
			if e.cr = false; p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		if e.field == lineName {
			p = s.readName(p)
			continue
		}
		if e.leading {
			if e.leading = false; p[0] == ' ' {
				p = p[1:]
				continue
			}
		}
		value, ended := p, false
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			value, ended = p[:i], true
		}
		if i := bytes.IndexByte(value, '\r'); i >= 0 {
			value, ended, e.cr = value[:i], true, true
		}
		switch e.field {
		case lineData:
			s.json.write(value)
		case lineEvent:
			e.size += copy(e.name[e.size:], value)
		}
		if p = p[len(value):]; ended {
			p = p[1:]
			s.endLine()
		}
	}
}

// readName reads on in the name of a field, and returns what comes after.
func (s *Scanner) readName(p []byte) []byte {
	e := &s.events
	if e.data && e.size == 0 && bytes.IndexByte([]byte(" \t{}[]\",0123456789"), p[0]) >= 0 {
		e.field = lineData // some servers break the lines of JSON: no field begins like that
		return p
	}
	n := bytes.IndexAny(p, ":\r\n")
	if n < 0 {
		e.size += copy(e.name[e.size:], p)
		return nil
	}
	e.size += copy(e.name[e.size:], p[:n])
	if p[n] != ':' {
		e.cr = p[n] == '\r'
		if e.size == 0 {
			s.endEvent()
		}
		e.size = 0
		return p[n+1:]
	}
	e.leading = true
	switch string(e.name[:e.size]) {
	case "data":
		e.field = lineData
		if e.data {
			s.json.write(lineFeed)
		}
		e.data = true
	case "event":
		e.field = lineEvent
	default:
		e.field = lineOther
	}
	e.size = 0
	return p[n+1:]
}

func (s *Scanner) endLine() {
	e := &s.events
	if e.field == lineEvent {
		s.event = string(e.name[:e.size])
	}
	e.field, e.size, e.leading = lineName, 0, false
}

func (s *Scanner) endEvent() {
	if s.events.data {
		s.endMessage()
	}
	s.events.data, s.event = false, ""
}
