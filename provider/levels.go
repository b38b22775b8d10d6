package provider

import (
	"net/http"
	"slices"
	"strings"
)

// levels reads the levels of any API. It does not allocate if the header states
// none.
func levels(r *http.Response) []Level {
	if !states(r.Header) {
		return nil
	}
	var f fields
	f.read(r.Header)
	return f.levels(r)
}

func (f *fields) levels(r *http.Response) (list []Level) {
	var array [maxPolicies]policy
	stated := f.list(r, array[:0])
	for _, p := range stated {
		if p.uncounted || p.n <= 0 && (p.left != 0 || p.reset <= 0) {
			continue
		}
		if list == nil {
			list = make([]Level, 0, len(stated))
		}
		list = append(list, Level{Unit: p.unit, N: p.n, Per: p.per, Left: min(p.left, p.n), Full: p.reset, Name: p.name})
	}
	return list
}

// exhausted reports whether a header says of any limit that nothing is left.
func exhausted(r *http.Response) bool {
	var f fields
	f.read(r.Header)
	for i := range f.families[:f.n] {
		if left, ok := number(f.families[i].values[remaining]); ok && left == 0 {
			return true
		}
	}
	var array [maxPolicies]policy
	return slices.ContainsFunc(policies(array[:0], f.policy, f.current), func(p policy) bool { return p.left == 0 })
}

// exceeded reads which limits the headers of a refusal say are used up. GitHub
// Models names one as UserByModelByDay.
func exceeded(r *http.Response, levels []Level) (list []Violation) {
	for _, l := range levels {
		if l.Left == 0 && l.N > 0 && l.Per > 0 {
			list = append(list, Violation{Unit: l.Unit, N: l.N, Per: l.Per})
		}
	}
	kind := first(r.Header, "X-Ratelimit-Type")
	if i := strings.LastIndex(kind, "By"); i >= 0 {
		if per, ok := spans[strings.ToLower(kind[i+len("By"):])]; ok {
			v := Violation{Per: per}
			if strings.Contains(kind, "Token") {
				v.Unit = Tokens
			}
			list = append(list, v)
		}
	}
	return list[:min(len(list), maxFew)]
}
