package keys

import (
	"fmt"
	"strings"
	"testing"
)

// table returns one whose values are the keys as they were written.
func table(t *testing.T, keys ...string) *Table[string] {
	t.Helper()
	var list Table[string]
	for _, k := range keys {
		if err := list.Add(k, k); err != nil {
			t.Fatal(err)
		}
	}
	return &list
}

// A host matches however either side writes it.
func TestHost(t *testing.T) {
	for _, test := range []struct {
		written, host string
		want          string // the key; "": none
	}{
		{"api.example.com", "api.example.com", "api.example.com"},
		{"API.Example.com", "api.example.com", "api.example.com"},
		{"https://API.Example.com:443/", "api.example.com", "api.example.com"},
		{"HTTP://api.example.com:80//", "api.example.com", "api.example.com"},
		{" api.example.com ", "api.example.com", "api.example.com"},
		{"api.example.com:443", "api.example.com", "api.example.com"},
		{"api.example.com.", "api.example.com", "api.example.com"},
		{"api.example.com", "api.example.com.", "api.example.com"},
		{"api.example.com:8443", "api.example.com:8443", "api.example.com:8443"},
		{"https://api.example.com:8443/", "api.example.com:8443", "api.example.com:8443"},
		{"http://api.example.com:443", "api.example.com:443", "api.example.com:443"},
		{"LOCALHOST:8080", "localhost:8080", "localhost:8080"},
		{"http://LocalHost", "localhost", "localhost"},
		{"[::1]:8080", "[::1]:8080", "[::1]:8080"},
		{"[FE80::1]", "[fe80::1]", "[fe80::1]"},
		{"127.0.0.1", "127.0.0.1", "127.0.0.1"},
		{"api.example.com:8443", "api.example.com", ""},
		{"api.example.com", "api.example.com:8443", ""},
		{"https://api.example.com/v1", "api.example.com", ""},
		{"example.com", "api.example.com", ""},
		{"*.example.com", "api.example.com", "api.example.com"},
		{"https://*.Example.com:443/", "api.example.com", "api.example.com"},
		{"*.example.com", "a.b.example.com", "a.b.example.com"},
		{"*.example.com", "example.com", ""},
		{"*.example.com", "badexample.com", ""},
		{"*.example.com", ".example.com", ""},
	} {
		key, value, _, ok := table(t, test.written).Host(test.host)
		if key != test.want || ok != (test.want != "") || ok && value != test.written {
			t.Errorf("%q as host %q: key %q of entry %q, want %q", test.written, test.host, key, value, test.want)
		}
	}
}

// Of several entries the closest one counts.
func TestHostClosest(t *testing.T) {
	l := table(t, "*", "*.com", "*.b.example.com", "*.example.com", "a.example.com")
	for host, want := range map[string]string{
		"a.example.com":   "a.example.com true",
		"b.example.com":   "*.example.com false",
		"c.b.example.com": "*.b.example.com false",
		"example.com":     "*.com false",
		"example.org":     " false",
	} {
		_, value, named, _ := l.Host(host)
		if got := fmt.Sprint(value, " ", named); got != want {
			t.Errorf("host %q: %s, want %s", host, got, want)
		}
	}
	if v, ok := l.Rest(); !ok || v != "*" {
		t.Errorf("the rest: %q, %t", v, ok)
	}
}

// A model matches with its resource's path or without, in any letter case; a name
// that the caller has chosen, as it is.
func TestModel(t *testing.T) {
	for _, test := range []struct {
		written, name string
		model, chosen bool
	}{
		{"gemini-2.5-flash", "gemini-2.5-flash", true, true},
		{"models/gemini-2.5-flash", "gemini-2.5-flash", true, true},
		{"gemini-2.5-flash", "models/gemini-2.5-flash", true, true},
		{"tunedModels/mine", "mine", true, true},
		{"publishers/google/models/gemini-2.5-flash", "gemini-2.5-flash", true, true},
		{"projects/p/locations/l/endpoints/123", "123", true, true},
		{"Gemini-2.5-Flash", "gemini-2.5-flash", true, true}, // may be a host
		{"GPT-5", "gpt-5", true, false},
		{"gpt-5", "GPT-5", true, false},
		{"meta-llama/Llama-3.3-70B", "meta-llama/llama-3.3-70b", true, false},
		{"meta-llama/Llama-3.3-70B/", "meta-llama/Llama-3.3-70B", true, true},
		{"accounts/fireworks/models/llama", "llama", false, false},
		{"gpt-5", "gpt-5-mini", false, false},
		{"Acme", "acme", true, false},
		{"https://api.example.com/v1/search", "api.example.com/v1/search", true, true},
		{"https://API.example.com/V1", "api.example.com/v1", true, false},
		{"anthropic.claude-v1:0", "anthropic.claude-v1:0", true, true},
	} {
		l := table(t, test.written)
		if _, _, ok := l.Model(test.name); ok != test.model {
			t.Errorf("%q as model %q: %t, want %t", test.written, test.name, ok, test.model)
		}
		if _, _, ok := l.Name(test.name); ok != test.chosen {
			t.Errorf("%q as name %q: %t, want %t", test.written, test.name, ok, test.chosen)
		}
	}
	// Two entries may differ in letter case alone; each is found by its own.
	l := table(t, "acme", "ACME")
	for name, want := range map[string]string{"acme": "acme", "ACME": "ACME", "Acme": ""} {
		if _, got, _ := l.Model(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
}

// What can mean nothing is an error, and so is what means something twice.
func TestAdd(t *testing.T) {
	for _, test := range []struct{ keys, want string }{
		{"", "empty"}, {"/", "empty"}, {"https://", "empty"}, {"  ", "empty"},
		{"gemini-*", "pattern"}, {"*example.com", "pattern"}, {"a.*.com", "pattern"}, {"*.", "pattern"}, {"*.*", "pattern"},
		{"* *", "twice"},
		{"*.example.com https://*.EXAMPLE.com", "twice"},
		{"api.example.com https://API.example.com:443/", "the same"},
		{"gemini-2.5-flash models/gemini-2.5-flash", "the same"},
	} {
		var l Table[int]
		var err error
		for i, k := range strings.Split(test.keys, " ") {
			if err = l.Add(k, i); err != nil {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: error %v, want one that says %q", test.keys, err, test.want)
		}
	}
}

func TestList(t *testing.T) {
	l := table(t, "*", "*.example.com", "models/b", "A.com/")
	if got := fmt.Sprint(l.List(9), l.List(2), l.Len()); got != "[* *.example.com A.com b] [* *.example.com] 4" {
		t.Error(got)
	}
}

func TestShort(t *testing.T) {
	long := strings.Repeat("ä", 200)
	a, b := Short(long+"a"), Short(long+"b")
	if Short("name") != "name" || a == b || len(a) > 256 || a != Short(long+"a") {
		t.Errorf("%q, %q", a, b)
	}
}

// What a key is shown as is a key that finds the same entry.
func FuzzAdd(f *testing.F) {
	for _, s := range []string{"https://API.example.com:443/", "models/x", "*.a.b", "a.b:80:443", "x://y://z", "[::1]:80", "a.."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var l Table[string]
		if l.Add(s, s) != nil {
			return
		}
		for _, shown := range l.List(1) {
			if shown == Any || strings.HasPrefix(shown, "*.") {
				continue
			}
			for _, name := range []string{shown, s} {
				if key, value, ok := l.Name(name); !ok || key != shown || value != s {
					t.Errorf("%q is shown as %q, and %q finds %q, %t", s, shown, name, value, ok)
				}
			}
		}
	})
}
