package stream

import "bytes"

// A place is what an object of a document is, as far as errors go.
type place uint8

const (
	nowhere place = iota
	root
	holder  // may hold an error, as response does
	inError // an error
	kind    // of the document, where it says that it is an error
	success // a field that is false in an error
	encoded // of Bedrock: a document in base64
)

// placeOf returns the place of a field.
func placeOf(in place, name []byte) place {
	switch in {
	case root:
		switch string(name) {
		case "error", "errors", "fault":
			return inError
		case "response", "interaction", "choices":
			return holder
		case "type", "event_type", "object", "code", "status", "statusCode", "status_code", "error_code", "errorCode", "error_type", "__type":
			return kind
		case "ok", "success":
			return success
		case "bytes":
			return encoded
		}
		if bytes.HasSuffix(name, []byte("Exception")) {
			return inError
		}
	case holder:
		switch string(name) {
		case "error", "errors":
			return inError
		}
	case inError:
		return inError
	}
	return nowhere
}

// said notes the kind of a document.
func (t *tokenizer) said(word []byte) {
	switch string(word) {
	case "error", "response.failed", "429", "503", "529":
		t.failed = t.failed || t.watch
	}
}

// beginText is where a string begins: it may be the value of a field that holds a
// text.
func (t *tokenizer) beginText() {
	t.text = 0
	if t.pathsAt == 0 || t.isKey || !t.value || t.depth == 0 || t.depth >= maxDepth {
		return
	}
	at := t.objects()
	for i := range t.fields {
		if f := &t.fields[i]; f.Unit >= units && t.pathsAt&(1<<i) != 0 {
			if _, last, _ := f.name(at); last {
				t.text, t.s.saying = f.Unit, t.s.saying[:0]
			}
		}
	}
}

// endText is where a string ends.
func (t *tokenizer) endText() {
	if unit := t.text; unit >= units && unit < units+texts && len(t.s.saying) <= maxText {
		if said := &t.s.said[unit-units]; unit != ID || *said == "" {
			*said = string(t.s.saying)
		}
	}
	t.text = 0
}
