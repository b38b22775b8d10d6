package zoo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Log is all that happened in a play.
type Log struct {
	start  time.Duration
	events []event
}

// String has a line for each second in which something happened: how many
// requests were wanted, sent, accepted, refused (with the hints), done and lost
// in it, and how many are in the client's queue and in flight at its end.
func (l Log) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%7s %6s %5s %8s %7s %5s %5s | %6s %9s\n", "second", "wanted", "sent", "accepted", "refused", "done", "lost", "queued", "in flight")
	queued, flying := 0, 0
	for events := l.events; len(events) > 0; {
		second := (events[0].at - l.start) / time.Second
		var n [steps]int
		hints := make(map[string]int)
		for len(events) > 0 && (events[0].at-l.start)/time.Second == second {
			e := events[0]
			events = events[1:]
			n[e.what]++
			if e.what == refused {
				hints[e.hint]++
			}
		}
		flying += n[sent] - n[answered]
		queued += n[wanted] - n[done] - n[lost]
		line := fmt.Sprintf("%7d %6s %5s %8s %7s %5s %5s | %6d %9d", second,
			some(n[wanted]), some(n[sent]), some(n[accepted]), some(n[refused]), some(n[done]), some(n[lost]), queued-flying, flying)
		for _, hint := range slices.Sorted(maps.Keys(hints)) {
			if hint == "" {
				continue
			}
			line += "  " + hint
			if hints[hint] > 1 {
				line += fmt.Sprintf(" ×%d", hints[hint])
			}
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// Requests has a line for each request: when it was wanted, sent, refused or
// accepted, and done.
func (l Log) Requests() string {
	lines := make(map[string]string)
	var paths []string
	for _, e := range l.events {
		at := fmt.Sprintf(" %.3f", (e.at - l.start).Seconds())
		switch e.what {
		case wanted:
			paths = append(paths, e.path)
			at = "wanted" + at
		case sent:
			at = "; sent" + at
		case accepted:
			at = ", accepted" + at
		case refused:
			if at = ", refused" + at; e.hint != "" {
				at += " (" + e.hint + ")"
			}
		case answered:
			continue
		case done:
			at = "; done" + at
		case lost:
			at = "; lost" + at
		}
		lines[e.path] += at
	}
	var b strings.Builder
	for _, path := range paths {
		fmt.Fprintf(&b, "%s %s\n", path, lines[path])
	}
	return b.String()
}

// some is a number, and nothing for 0.
func some(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}
