package engine

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/tollgate/internal/refill"
)

var update = flag.Bool("update", false, "write what the engine decides into the scripts of testdata")

// TestScripts plays the scripts of testdata. A line that is not indented is an
// event; the lines below it, indented, are what the engine decides until the time
// of the next one:
//
//	limit requests 3 1m window     before all: the limits of the key
//	10s arrive a b deadline=30s    also maxwait=, tokens=; a retry has the name of the first attempt
//	10s answer a left=2            the headers came; left is what the first limit has left
//	10s refuse a wait=20s          also never, overload, slower, limit=5/1m
//	10s settle a tokens=120
//	10s fail a                     it never reached the server
//	10s lose a                     there was no response
//	10s close a
//	10s leave a                    its context ended
//	1m wait                        nothing happens
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := perform(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("%s decides otherwise (-update writes this into the script):\n%s", file, got)
			}
		})
	}
}

// A script is one being played.
type script struct {
	e      *Engine
	limits []refill.Limit
	now    time.Duration
	places map[string]uint64
	busy   map[string]*Request
	out    strings.Builder
}

// scriptBegin is the time at which scripts begin: twenty seconds past a minute.
const scriptBegin = 1_750_000_040 * time.Second

// perform returns a script with what the engine decides in it.
func perform(text string) (string, error) {
	s := &script{places: map[string]uint64{}, busy: map[string]*Request{}}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, " "):
			continue
		case len(words) == 0 || words[0] == "#":
		case words[0] == "limit":
			if err := s.limit(words[1:]); err != nil {
				return "", fmt.Errorf("line %d: %w", i+1, err)
			}
		default:
			at, err := time.ParseDuration(words[0])
			if err == nil && len(words) < 2 {
				err = fmt.Errorf("no event")
			}
			if err == nil {
				s.until(at)
				s.out.WriteString(line + "\n")
				err = s.event(words[1], words[2:])
			}
			if err != nil {
				return "", fmt.Errorf("line %d: %w", i+1, err)
			}
			continue
		}
		s.out.WriteString(line + "\n")
	}
	return s.out.String(), nil
}

func (s *script) limit(words []string) (err error) {
	if len(words) != 4 {
		return fmt.Errorf("want limit UNIT N PER RULE")
	}
	l := refill.Limit{Unit: slices.Index([]string{"requests", "tokens", "output"}, words[0])}
	l.Rule = refill.Rule(slices.Index([]string{"auto", "window", "steady", "calendar"}, words[3]))
	if l.N, err = strconv.ParseInt(words[1], 10, 64); err == nil {
		l.Per, err = time.ParseDuration(words[2])
	}
	s.limits = append(s.limits, l)
	return err
}

func (s *script) at() Now { return Now{Mono: s.now, Wall: scriptBegin + s.now} }

func (s *script) engine() *Engine {
	if s.e == nil {
		s.e = New(s.at(), Config{Limits: s.limits})
		s.e.Zone(time.UTC)
	}
	return s.e
}

// until lets time pass.
func (s *script) until(at time.Duration) {
	e := s.engine()
	for d := e.Decide(); d.WakeAt <= at; d = e.Decide() {
		s.now = max(s.now, d.WakeAt)
		e.Tick(s.at())
		s.decide()
	}
	s.now = at
}

// decide writes down what the engine has decided.
func (s *script) decide() {
	d := s.e.Decide()
	say := func(format string, args ...any) {
		fmt.Fprintf(&s.out, "  %v "+format+"\n", append([]any{s.now}, args...)...)
	}
	var names []string
	for _, r := range d.Go {
		s.busy[r.Owner.(string)] = r
		names = append(names, r.Owner.(string))
	}
	if len(names) > 0 {
		say("go %s", strings.Join(names, " "))
	}
	for _, r := range d.Reject {
		reasons := [...]string{"past its deadline", "past MaxWait", "queue full", "day spent", "too large", "long pause", "unreachable"}
		say("reject %s: %s, in %v", r.Owner, reasons[r.Rejection.Reason], r.Rejection.After)
	}
	for _, c := range d.Changes {
		say("limit %d/%v becomes %d/%v", c.From.N, c.From.Per, c.To.N, c.To.Per)
	}
}

// event has something happen to requests.
func (s *script) event(what string, words []string) error {
	e := s.engine()
	o := options{}
	var names []string
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok {
			o[k] = v
		} else if w == "never" || w == "overload" || w == "slower" {
			o[w] = "true"
		} else {
			names = append(names, w)
		}
	}
	if what == "wait" {
		return nil
	}
	for _, name := range names {
		if what == "arrive" {
			s.arrive(name, o)
			continue
		}
		r := s.busy[name]
		if r == nil {
			return fmt.Errorf("%s is not known", name)
		}
		switch what {
		case "answer":
			a := Answer{}
			if o["left"] != "" {
				a.Levels = []Level{{Unit: s.limits[0].Unit, N: s.limits[0].N, Per: s.limits[0].Per, Left: o.int("left"), Full: -1}}
			}
			e.Answered(s.at(), r, a)
		case "refuse":
			e.Answered(s.at(), r, Answer{Refused: true})
			s.decide()
			f := Refusal{Wait: o.time("wait"), Never: o["never"] != "", Overload: o["overload"] != "", Slower: o["slower"] != ""}
			if n, per, ok := strings.Cut(o["limit"], "/"); ok {
				o["n"], o["per"] = n, per
				f.Limits = []Named{{N: o.int("n"), Per: o.time("per")}}
			}
			e.Refused(s.at(), r, f)
			s.decide()
			e.Closed(s.at(), r)
		case "settle":
			e.Settled(s.at(), r, refill.Cost{-1, o.int("tokens"), -1})
		case "fail":
			e.Failed(s.at(), r, false)
		case "lose":
			e.Failed(s.at(), r, true)
		case "close":
			e.Closed(s.at(), r)
		case "leave":
			e.Leave(s.at(), r)
		default:
			return fmt.Errorf("%s is no event", what)
		}
		s.decide()
	}
	if o["bad"] != "" {
		return fmt.Errorf("%s is no value", o["bad"])
	}
	return nil
}

func (s *script) arrive(name string, o options) {
	if s.places[name] == 0 {
		s.places[name] = uint64(len(s.places) + 1)
	}
	r := &Request{Owner: name, Place: s.places[name], MaxWait: o.time("maxwait")}
	r.Draw.Cost = refill.Cost{1, o.int("tokens"), 0}
	if o["deadline"] != "" {
		r.Deadline = o.time("deadline")
	}
	s.busy[name] = r
	s.e.Arrive(s.at(), r)
	d := s.e.Decide()
	if r.Going() && !slices.Contains(d.Go, r) {
		d.Go = append([]*Request{r}, d.Go...)
	}
	s.e.out.Go, s.e.out.Reject, s.e.out.Changes = d.Go, d.Reject, d.Changes
	s.decide()
	if ahead, in := s.e.Joined(); r.Waiting() {
		fmt.Fprintf(&s.out, "  %v %s waits behind %d, for %v\n", s.now, name, ahead, in)
	}
}

// options are what follows the names of requests. What is no value is noted under
// "bad".
type options map[string]string

func (o options) int(key string) int64 {
	n, err := strconv.ParseInt(o[key], 10, 64)
	if err != nil && o[key] != "" {
		o["bad"] = o[key]
	}
	return n
}

func (o options) time(key string) time.Duration {
	d, err := time.ParseDuration(o[key])
	if err != nil && o[key] != "" {
		o["bad"] = o[key]
	}
	return d
}
