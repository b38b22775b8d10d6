// Package keys finds the entry of a table that a request draws on: it matches the
// keys of quotas, as people write them, with models, hosts and names chosen by the
// caller. It knows nothing of limits or requests.
package keys

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// A Table holds values by keys. Its zero value is empty. It is safe for concurrent
// use once all entries are added.
type Table[T any] struct {
	exact   map[string]entry[T] // by canonical key
	folded  map[string]string   // canonical keys by their lower case; "": there are several
	domains []domain[T]         // the longest first
	all     *T
}

type entry[T any] struct {
	key   string // as it was written, without what does not matter
	value T
}

// A domain stands for all hosts below it.
type domain[T any] struct {
	suffix string // with the dot
	value  T
}

// Any is the key of the entry for all that no other entry matches.
const Any = "*"

// Add adds an entry. Its key is a model's name, with or without the path of its
// resource ("models/gemini-2.5-flash"); a host, in any letter case, with or without
// a scheme, the scheme's port and a slash at the end ("https://API.example.com:443/");
// "*." and a domain, for every host below it; Any; or any other name. It returns
// an error for an empty key, for any other pattern, and for a second entry of one
// key.
func (t *Table[T]) Add(written string, value T) error {
	name, key := canonical(written)
	switch {
	case key == "":
		return fmt.Errorf("the key %q is empty", written)
	case key == Any:
		if t.all != nil {
			return fmt.Errorf("the key %q is there twice", Any)
		}
		t.all = &value
		return nil
	case strings.HasPrefix(key, "*.") && len(key) > 2 && !strings.Contains(key[1:], Any):
		suffix := bareHost(strings.ToLower(key[1:]))
		if slices.ContainsFunc(t.domains, func(d domain[T]) bool { return d.suffix == suffix }) {
			return fmt.Errorf("the key %q is there twice", "*"+suffix)
		}
		t.domains = append(t.domains, domain[T]{suffix, value})
		slices.SortFunc(t.domains, func(a, b domain[T]) int { return len(b.suffix) - len(a.suffix) })
		return nil
	case strings.Contains(key, Any):
		return fmt.Errorf("the key %q is no pattern that is known: %q stands alone, or for the hosts below a domain as in %q", written, Any, "*.example.com")
	}
	if was, ok := t.exact[key]; ok {
		return fmt.Errorf("the keys %q and %q are the same", was.key, written)
	}
	if t.exact == nil {
		t.exact, t.folded = make(map[string]entry[T]), make(map[string]string)
	}
	t.exact[key] = entry[T]{name, value}
	fold := strings.ToLower(key)
	if _, several := t.folded[fold]; several {
		key = ""
	}
	t.folded[fold] = key
	return nil
}

// Len returns how many entries there are.
func (t *Table[T]) Len() int {
	n := len(t.exact) + len(t.domains)
	if t.all != nil {
		n++
	}
	return n
}

// List returns up to most of the keys, in order.
func (t *Table[T]) List(most int) []string {
	var list []string
	for _, e := range t.exact {
		list = append(list, e.key)
	}
	for _, d := range t.domains {
		list = append(list, "*"+d.suffix)
	}
	if t.all != nil {
		list = append(list, Any)
	}
	slices.Sort(list)
	return list[:min(len(list), most)]
}

// Name returns the entry of a name that the caller has chosen: letter case matters
// unless it is a host.
func (t *Table[T]) Name(name string) (key string, value T, ok bool) {
	e, ok := t.exact[name]
	if !ok && len(t.exact) > 0 {
		_, c := canonical(name)
		e, ok = t.exact[c]
	}
	return e.key, e.value, ok
}

// Model returns the entry of a model. Letter case matters only between entries that
// differ in nothing else.
func (t *Table[T]) Model(name string) (key string, value T, ok bool) {
	if key, value, ok = t.Name(name); ok || len(t.folded) == 0 {
		return key, value, ok
	}
	_, c := canonical(name)
	e, ok := t.exact[t.folded[strings.ToLower(c)]]
	return e.key, e.value, ok
}

// Host returns the entry of a host, which is given in lower case and without its
// scheme's port: its own one, or that of the longest domain that it is below, each
// of whose hosts is a key of its own. A domain is not below itself. named tells
// the first from the second.
func (t *Table[T]) Host(host string) (key string, value T, named, ok bool) {
	if e, ok := t.exact[host]; ok {
		return host, e.value, true, true
	}
	bare := bareHost(host)
	if bare != host {
		if e, ok := t.exact[bare]; ok {
			return bare, e.value, true, true
		}
	}
	for _, d := range t.domains {
		if len(bare) > len(d.suffix) && strings.HasSuffix(bare, d.suffix) {
			return bare, d.value, false, true
		}
	}
	return "", value, false, false
}

// Rest returns the entry for what no other one matches.
func (t *Table[T]) Rest() (value T, ok bool) {
	if t.all == nil {
		return value, false
	}
	return *t.all, true
}

// Find returns the entry of a key as people write it: of a model, a host or any other
// name, else that for the rest. names are what requests of such a key may be known by.
func (t *Table[T]) Find(written string) (names []string, value T, ok bool) {
	shown, name := canonical(written)
	names = []string{written, shown, name, Short(written)}
	host := bareHost(strings.ToLower(name))
	names = append(names, host)
	key, value, ok := t.Model(written)
	if !ok {
		key, value, _, ok = t.Host(host)
	}
	if ok {
		names = append(names, key)
	} else {
		value, ok = t.Rest()
	}
	slices.Sort(names)
	return slices.Compact(names), value, ok
}

// canonical returns a key without what does not matter, as it is to be shown and as
// it is compared.
func canonical(s string) (shown, key string) {
	s = strings.TrimSpace(s)
	scheme, rest, url := strings.Cut(s, "://")
	if url {
		s = rest
	}
	s = strings.TrimRight(s, "/")
	if !url {
		s = resource(s)
	}
	host, path := s, ""
	if i := strings.IndexByte(s, '/'); i >= 0 {
		host, path = s[:i], s[i:]
	}
	switch {
	case host == "*.": // which is not all
	case url:
		host = strings.ToLower(strings.TrimRight(portless(host, strings.ToLower(scheme)), "."))
	case isHost(host):
		if host = bareHost(host); !isHost(host) { // any more, and so its letter case would matter
			host = strings.ToLower(host)
		}
	default:
		return s, s
	}
	return host + path, strings.ToLower(host) + path
}

// resource returns the name in the name of a resource
// (https://google.aip.dev/122), such as that of a model of Google's.
func resource(s string) string {
	if strings.HasPrefix(s, "projects/") || strings.HasPrefix(s, "publishers/") {
		for _, of := range []string{"/models/", "/endpoints/", "/tunedModels/"} {
			if i := strings.LastIndex(s, of); i >= 0 {
				return s[i+len(of):]
			}
		}
		return s
	}
	for _, of := range []string{"models/", "tunedModels/", "endpoints/"} {
		if name, ok := strings.CutPrefix(s, of); ok {
			return name
		}
	}
	return s
}

// portless returns a host without the port that the scheme has anyway.
func portless(host, scheme string) string {
	switch scheme {
	case "http", "ws":
		return strings.TrimSuffix(host, ":80")
	case "https", "wss":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}

// bareHost returns a host of an unknown scheme without the port of either, and
// without the dot that ends an absolute name.
func bareHost(host string) string {
	return strings.TrimRight(portless(portless(host, "http"), "https"), ".")
}

// isHost reports whether a key without a scheme may be a host: names with dots,
// addresses, and whatever has a port.
func isHost(s string) bool {
	name, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && i > strings.LastIndexByte(s, ']') {
		name, port = s[:i], s[i+1:]
		if port == "" || strings.Trim(port, "0123456789") != "" {
			return false
		}
	}
	if strings.HasPrefix(name, "[") {
		return strings.HasSuffix(name, "]")
	}
	if name == "" || strings.ContainsAny(name, " :@?#%[]\\") {
		return false
	}
	return port != "" || strings.Contains(name, ".") || strings.EqualFold(name, "localhost")
}

// longest is the longest name that is kept as it is, in bytes.
const longest = 256

// Short returns a name of bounded length that stands for a name from outside: that
// itself, or its beginning and a hash.
func Short(name string) string {
	if len(name) <= longest {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return strings.ToValidUTF8(name[:longest-36], "") + "… " + hex.EncodeToString(sum[:16])
}
