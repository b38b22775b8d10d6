package tollgate_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The rules of the house: what the packages know of each other, and how large
// things may become.

// module is the path of this one.
const module = "example.com/tollgate"

// pure are the packages that only reckon, and what each may import.
var pure = map[string][]string{
	"refill":   {"math", "math/bits", "slices", "sort", "time"},
	"queue":    {"cmp", "math", "slices", "sort", "time"},
	"estimate": {"math", module + "/internal/refill"},
	"share":    {"time", module + "/internal/refill"},
	"engine": {
		"cmp", "math", "math/bits", "slices", "sort", "time",
		module + "/internal/estimate", module + "/internal/queue", module + "/internal/refill", module + "/internal/share",
	},
}

// clocks are the names of package time that ask a clock or wait for one.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Timer", "Ticker"}

// sources parses the Go files below a folder that keep says yes to, in every
// module. Their names are relative to it.
func sources(t *testing.T, dir string, keep func(name string) bool) (*token.FileSet, map[string]*ast.File) {
	t.Helper()
	set, files := token.NewFileSet(), make(map[string]*ast.File)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := filepath.ToSlash(path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != dir && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "vendor"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || !keep(name):
			return nil
		}
		files[name], err = parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("no files in %s", dir)
	}
	return set, files
}

func isTest(name string) bool { return strings.HasSuffix(name, "_test.go") }

// impurities returns what a file has that reckons with more than its arguments.
func impurities(f *ast.File, allowed []string) (list []string) {
	for _, i := range f.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil || !slices.Contains(allowed, path) || i.Name != nil {
			list = append(list, "import of "+i.Path.Value)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			list = append(list, "goroutine")
		case *ast.ChanType:
			list = append(list, "channel")
		case *ast.SelectStmt:
			list = append(list, "select")
		case *ast.SendStmt:
			list = append(list, "send")
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				list = append(list, "receive")
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clocks, n.Sel.Name) {
				list = append(list, "time."+n.Sel.Name)
			}
		}
		return true
	})
	return list
}

// The engine and what it is made of have no clock, lock, goroutine, timer or
// channel, and know nothing of HTTP.
func TestPure(t *testing.T) {
	for name, allowed := range pure {
		set, files := sources(t, "internal/"+name, func(name string) bool { return !isTest(name) })
		for _, f := range files {
			for _, what := range impurities(f, allowed) {
				t.Errorf("%s: %s", set.Position(f.Package).Filename, what)
			}
		}
	}
	const impure = `package p
import "sync"
import c "time"
var ch chan int
func f() { go f(); ch <- 1; <-ch; select {}; time.Now(); var t *time.Timer }`
	f, err := parser.ParseFile(token.NewFileSet(), "p.go", impure, 0)
	if err != nil {
		t.Fatal(err)
	}
	const want = `[import of "sync" import of "time" channel goroutine send receive select time.Now time.Timer]`
	if got := fmt.Sprint(impurities(f, []string{"time"})); got != want {
		t.Errorf("found %s, want %s", got, want)
	}
}

// goTool runs the go tool in this module alone, and returns the lines of its output.
func goTool(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v: %s", strings.Join(args, " "), err, &stderr)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// What the packages that only reckon reach by others is no more than that.
func TestPureDependencies(t *testing.T) {
	for name := range pure {
		for _, dep := range goTool(t, "list", "-deps", "./internal/"+name) {
			root, _, _ := strings.Cut(dep, "/")
			below, ours := strings.CutPrefix(dep, module+"/internal/")
			_, known := pure[below]
			switch {
			case ours && known:
			case strings.Contains(root, "."), slices.Contains([]string{"net", "context", "os", "log", "fmt", "crypto", "database"}, root):
				t.Errorf("internal/%s depends on %s", name, dep)
			}
		}
	}
}

// Days that begin at midnight somewhere need the data of zones, also where the
// machine has none.
func TestZones(t *testing.T) {
	if !slices.Contains(goTool(t, "list", "-deps", "."), "time/tzdata") {
		t.Error("the root does not depend on time/tzdata")
	}
}

// receiver returns the name of the type that a function is a method of.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	x := f.Recv.List[0].Type
	for {
		switch y := x.(type) {
		case *ast.StarExpr:
			x = y.X
		case *ast.ParenExpr:
			x = y.X
		case *ast.IndexExpr:
			x = y.X
		case *ast.IndexListExpr:
			x = y.X
		case *ast.Ident:
			return y.Name
		default:
			return ""
		}
	}
}

// The methods of a type stand in one file, in two at most.
func TestMethods(t *testing.T) {
	_, files := sources(t, ".", func(name string) bool { return !strings.HasSuffix(name, "_test.go") })
	where := make(map[string]map[string]bool)
	for name, f := range files {
		for _, d := range f.Decls {
			d, ok := d.(*ast.FuncDecl)
			if !ok || receiver(d) == "" {
				continue
			}
			key := filepath.ToSlash(filepath.Dir(name)) + ": " + f.Name.Name + "." + receiver(d)
			if where[key] == nil {
				where[key] = make(map[string]bool)
			}
			where[key][filepath.Base(name)] = true
		}
	}
	for key, in := range where {
		if len(in) > 2 {
			t.Errorf("%s has methods in %d files", key, len(in))
		}
	}
	if len(where["internal/queue: queue.Queue"]) == 0 {
		t.Error("the methods of a generic type were not found")
	}
}

// The root is what users name, and nothing else.
func TestRoot(t *testing.T) {
	_, files := sources(t, ".", func(name string) bool { return !strings.Contains(name, "/") && !isTest(name) })
	if len(files) > 10 {
		t.Errorf("the root has %d files, want 10 at most", len(files))
	}
	if doc := goTool(t, "doc", "."); len(doc) > 56 {
		t.Errorf("go doc has %d lines, want 56 at most:\n%s", len(doc), strings.Join(doc, "\n"))
	}
}
