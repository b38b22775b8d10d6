package zoo

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// A Report is the results of a set of servers.
type Report []Result

// A Spread is where the values of the servers lie, by nearest rank.
type Spread struct{ Median, P90, P99, Max float64 }

func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	slices.Sort(values)
	rank := func(p float64) float64 { return values[int(math.Ceil(p*float64(len(values))))-1] }
	return Spread{rank(0.5), rank(0.9), rank(0.99), rank(1)}
}

// A Summary is what a report comes to.
type Summary struct {
	Servers, Requests int
	Lost, Losing      int     // requests lost, and the servers that lost any
	Mean, Volley      float64 // refusals a request, over all requests; those of the first volley
	Refused           Spread  // refusals a request, of the servers

	// Makespan where the limit was told truly, in terms of the ideal and of what
	// is attainable, and elsewhere, in terms of what is attainable. Servers of
	// whose limit the client was told a half are left out: it cannot be fast.
	Told, Others              int // servers that it is known of
	Ideal, Attained, Unguided Spread
	Bound                     Spread // what is attainable, in terms of the ideal, where the limit was told truly
}

// Summary returns what the report comes to.
func (rs Report) Summary() Summary {
	s := Summary{Servers: len(rs)}
	var refused, volley int
	var each, ideal, attained, bound, others []float64
	for _, r := range rs {
		s.Requests += r.Requests
		s.Lost += r.Lost
		if r.Lost > 0 {
			s.Losing++
		}
		refused += r.Refused
		volley += r.Volley
		each = append(each, r.PerRequest())
		toIdeal, toAttainable, ok := r.Slowness()
		switch {
		case !ok || r.Told == Half:
		case r.Told == Truth:
			ideal = append(ideal, toIdeal)
			attained = append(attained, toAttainable)
			bound = append(bound, r.Attainable().Seconds()/r.Ideal().Seconds())
		default:
			others = append(others, toAttainable)
		}
	}
	if s.Requests > 0 {
		s.Mean = float64(refused) / float64(s.Requests)
		s.Volley = float64(volley) / float64(s.Requests)
	}
	s.Refused = spread(each)
	s.Told, s.Others = len(ideal), len(others)
	s.Bound = spread(bound)
	s.Ideal, s.Attained, s.Unguided = spread(ideal), spread(attained), spread(others)
	return s
}

// String is one line for each of what is lost, refused and late.
func (s Summary) String() string {
	return fmt.Sprintf(`%d servers, %d requests: %d lost, at %d servers
refused a request: mean %.2f (%.2f of it in the first volley); of the servers median %.2f, p90 %.2f, p99 %.2f, max %.2f
makespan where the limit is known (%d servers): of the ideal median %.2f, p90 %.2f, max %.2f (attainable: p90 %.2f, max %.2f); of what is attainable median %.2f, p90 %.2f, max %.2f
makespan where it is not (%d): of what is attainable median %.2f, p90 %.2f, max %.2f`,
		s.Servers, s.Requests, s.Lost, s.Losing,
		s.Mean, s.Volley, s.Refused.Median, s.Refused.P90, s.Refused.P99, s.Refused.Max,
		s.Told, s.Ideal.Median, s.Ideal.P90, s.Ideal.Max, s.Bound.P90, s.Bound.Max, s.Attained.Median, s.Attained.P90, s.Attained.Max,
		s.Others, s.Unguided.Median, s.Unguided.P90, s.Unguided.Max)
}

// Header is that of the rows.
const Header = "servers requests   lost  refused: mean volley median   p90   p99    max  makespan: median   p90    max"

// Row is the summary as a row of a table.
func (s Summary) Row() string {
	return fmt.Sprintf("%7d %8d %6d %14.2f %6.2f %6.2f %5.2f %5.2f %6.2f %17.2f %5.2f %6.2f",
		s.Servers, s.Requests, s.Lost, s.Mean, s.Volley, s.Refused.Median, s.Refused.P90, s.Refused.P99, s.Refused.Max,
		s.Ideal.Median, s.Ideal.P90, s.Ideal.Max)
}

// By returns a table with a row for each place that servers have on the axes,
// whose names are separated by commas.
func (rs Report) By(axes string) string {
	groups := make(map[string]Report)
	for _, r := range rs {
		name := r.Group(axes)
		groups[name] = append(groups[name], r)
	}
	var names []string
	width := 0
	for name := range groups {
		names = append(names, name)
		width = max(width, len(name))
	}
	slices.Sort(names)
	var b strings.Builder
	fmt.Fprintf(&b, "%-*s %s\n", width, "", Header)
	for _, name := range names {
		fmt.Fprintf(&b, "%-*s %s\n", width, name, groups[name].Summary().Row())
	}
	return b.String()
}

// Worst returns the n servers that lost most, and then those that refused most
// for each request.
func (rs Report) Worst(n int) Report {
	return rs.first(n, func(a, b Result) int {
		return cmp.Or(cmp.Compare(b.Lost, a.Lost), cmp.Compare(b.PerRequest(), a.PerRequest()))
	})
}

// Slowest returns the n slowest servers where the limit was told truly.
func (rs Report) Slowest(n int) Report {
	slow := func(r Result) float64 {
		if s, _, ok := r.Slowness(); ok && r.Told == Truth {
			return s
		}
		return 0
	}
	return rs.first(n, func(a, b Result) int { return cmp.Compare(slow(b), slow(a)) })
}

func (rs Report) first(n int, order func(a, b Result) int) Report {
	sorted := slices.SortedFunc(slices.Values(rs), order)
	return sorted[:min(n, len(sorted))]
}

// String is a line for each server.
func (rs Report) String() string {
	var b strings.Builder
	for _, r := range rs {
		fmt.Fprintf(&b, "%v\n", r)
	}
	return b.String()
}

// String names the server and says what came of it.
func (r Result) String() string {
	b := fmt.Sprintf("%v => %d lost, %d refused (%.2f; %d in the first volley), %.1f s", r.Server, r.Lost, r.Refused, r.PerRequest(), r.Volley, r.Makespan.Seconds())
	if ideal, attainable, ok := r.Slowness(); ok {
		b += fmt.Sprintf(", %.2f of the ideal, %.2f of what is attainable", ideal, attainable)
	}
	return b
}
