// Package bench measures tollgate beside its peers, always side by side in one
// run: what is claimed of its speed are ratios. What has no peer, the cost of
// many waiters and of many keys, is printed beside the bound set for it.
package bench

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// versus measures two ways of doing the same by turns, and reports the medians
// and their ratio. Each of them does it n times.
func versus(b *testing.B, ours, theirs func(n int)) {
	const n = 200
	took := byTurns(b, func() { ours(n) }, func() { theirs(n) })
	report(b, "ns", median(took[0])/n, median(took[1])/n)
	b.ReportMetric(testing.AllocsPerRun(100, func() { ours(1) }), "allocs")
}

// byTurns runs each of the functions once a round, in as many rounds as the
// benchmark takes, and returns what each took in nanoseconds, by function and
// round. What disturbs the machine for a while disturbs all of them: of what is
// compared within a round, the median is the one to believe.
func byTurns(b *testing.B, fs ...func()) [][]float64 {
	took := make([][]float64, len(fs))
	for round := 0; b.Loop(); round++ {
		for i := range fs {
			i = (i + round) % len(fs) // none always comes after the same one
			began := time.Now()
			fs[i]()
			took[i] = append(took[i], float64(time.Since(began)))
		}
	}
	return took
}

// median returns the middle one of a list.
func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// less returns what is left of each of a when that of b is taken away.
func less(a, b []float64) []float64 {
	c := make([]float64, len(a))
	for i := range a {
		c[i] = a[i] - b[i]
	}
	return c
}

// ratio returns the median of the ratios of a to b.
func ratio(a, b []float64) float64 {
	c := make([]float64, len(a))
	for i := range a {
		c[i] = a[i] / b[i]
	}
	return median(c)
}

// report reports what is measured of us and of a peer.
func report(b *testing.B, unit string, ours, theirs float64) {
	b.ReportMetric(0, "ns/op") // left out: it would be that of both
	b.ReportMetric(ours, unit+"-ours")
	b.ReportMetric(theirs, unit+"-theirs")
	b.ReportMetric(ours/theirs, "ratio")
}

// A table is what several benchmarks print together.
type table struct{ rows [][]string }

// add adds a row. Numbers with a fraction get three digits.
func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		if f, ok := c.(float64); ok {
			row[i] = digits(f)
		} else {
			row[i] = fmt.Sprint(c)
		}
	}
	t.rows = append(t.rows, row)
}

// bound is a cell for what a figure must keep to; 0: it need not.
func bound[T int | float64](n T) any {
	if n == 0 {
		return ""
	}
	return n
}

// digits writes a number with three digits, or with all that it has before the
// point.
func digits(f float64) string {
	switch {
	case f >= 100 || f <= -100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10 || f <= -10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

// print prints the table, whose first row is its head, in Markdown. A table of no
// other row is none: its benchmarks were not asked for.
func (t *table) print() {
	if len(t.rows) < 2 {
		return
	}
	wide := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, c := range row {
			wide[i] = max(wide[i], len([]rune(c)))
		}
	}
	var s strings.Builder
	for n, row := range t.rows {
		s.WriteString("\n|")
		for i, c := range row {
			fmt.Fprintf(&s, " %-*s |", wide[i], c)
		}
		if n == 0 {
			s.WriteString("\n|")
			for _, w := range wide {
				s.WriteString(strings.Repeat("-", w+2) + "|")
			}
		}
	}
	fmt.Println(s.String())
}
