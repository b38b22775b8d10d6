package provider

import (
	"io"
	"mime/multipart"
	"unicode/utf8"
)

// maxForm is how many parts of a form are looked at.
const maxForm = 64

// readForm reads what counts of a multipart/form-data body, in which files may go
// before the field that names the model. The text of the prompt is read if asked for.
func readForm(body io.Reader, boundary string, text bool) (p prompt) {
	var field [maxHead]byte
	for form, n := multipart.NewReader(body, boundary), 0; n < maxForm; n++ {
		part, err := form.NextRawPart()
		if err != nil {
			break
		}
		switch name := part.FormName(); {
		case part.FileName() != "":
		case name == "model":
			size, _ := io.ReadFull(part, field[:256])
			p.model = string(field[:size])
		case name == "prompt":
			size, _ := io.ReadFull(part, field[:])
			p.chars = int64(utf8.RuneCount(field[:size]))
		}
		if p.model != "" && (p.chars > 0 || !text) {
			break
		}
	}
	return p
}
