package clienttest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// block is the Go code of a page, after the comment that says where it is taken
// from: the folder of a package and the name of an Example in it.
var block = regexp.MustCompile("(?m)^(?:<!-- ([a-z/]+): (Example\\w*) -->\n)?```go\n((?s:.*?))^```$")

// Snippets tests that the pages show what the Examples of this package are: each
// block of Go that says it is taken from folder is the body of that Example, and
// each Example is shown.
func Snippets(t *testing.T, folder string, pages ...string) {
	examples := bodies(t)
	missing := maps.Clone(examples)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		blocks := block.FindAllStringSubmatch(string(text), -1)
		if len(blocks) == 0 {
			t.Errorf("%s shows no Go", page)
		}
		for _, b := range blocks {
			from, name, code := b[1], b[2], b[3]
			switch want, ok := examples[name]; {
			case name == "":
				t.Errorf("%s: it is not said where this is taken from:\n%s", page, code)
			case from != folder: // another package's
			case !ok:
				t.Errorf("%s: there is no %s", page, name)
			case code != want:
				t.Errorf("%s: %s is shown as\n%s\nbut is\n%s", page, name, code, want)
			}
			if from == folder {
				delete(missing, name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		t.Errorf("no page shows %s", name)
	}
}

// bodies returns the code of the Examples in the current folder, by name, without
// what they print.
func bodies(t *testing.T) map[string]string {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	code := make(map[string]string)
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, name, src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Recv == nil && strings.HasPrefix(d.Name.Name, "Example") {
				code[d.Name.Name] = outdent(src[set.Position(d.Body.Lbrace).Offset+1 : set.Position(d.Body.Rbrace).Offset])
			}
		}
	}
	if len(code) == 0 {
		t.Fatal("there are no Examples")
	}
	return code
}

// outdent returns a function's body as it would be on its own.
func outdent(body []byte) string {
	body, _, _ = bytes.Cut(body, []byte("\t// Output:"))
	body = bytes.ReplaceAll(body, []byte("\n\t"), []byte("\n"))
	return string(bytes.TrimSpace(body)) + "\n"
}
