package dayfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	// past is how long after they are back tokens are still told of: the server's
	// clock may be behind.
	past = time.Hour
	// keep is how long after that they stay in the file: a clock that was set
	// forward, and back again, loses nothing.
	keep = 24 * time.Hour
	// ahead is how far ahead tokens may be back. What is back later was booked by
	// a wrong clock.
	ahead = 400 * 24 * time.Hour
)

// Entries are how many tokens were spent, by limit (id) and by when they are
// back (Unix seconds).
type Entries struct {
	now     int64 // of the With that is under way
	sums    sums
	unsaved sums // changes of sums that are not on disk
}

// Each calls fn with every sum of a limit that is above 0, in no particular
// order. Sums that were back more than an hour ago are left out.
func (e *Entries) Each(id string, fn func(back, n int64)) {
	for back, n := range e.sums[valid(id)] {
		if back >= e.now-seconds(past) && back <= e.now+seconds(ahead) {
			fn(back, n)
		}
	}
}

// Add adds n tokens, or takes them off if n < 0. The sum is at least 0 and at
// most the largest int64. Nothing is added if back is more than 400 days ahead.
func (e *Entries) Add(id string, back, n int64) {
	if back > e.now+seconds(ahead) {
		return
	}
	id = valid(id)
	// What is noted is by how much the sum has changed, so that it is the same
	// whether it is replayed in one step or in many.
	e.unsaved.set(id, back, plus(e.unsaved[id][back], e.sums.add(id, back, n)))
}

// valid returns an id as JSON gives it back.
func valid(id string) string { return strings.ToValidUTF8(id, "\ufffd") }

// seconds is for spans, which are whole.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// sums are numbers other than 0, by limit and by when they are back.
type sums map[string]map[int64]int64

func (s sums) set(id string, back, n int64) {
	switch of := s[id]; {
	case n != 0 && of == nil:
		s[id] = map[int64]int64{back: n}
	case n != 0:
		of[back] = n
	case len(of) == 1:
		if of[back] != 0 {
			delete(s, id)
		}
	default:
		delete(of, back)
	}
}

// add adds n to a sum, which stays at least 0, and returns by how much it changed.
func (s sums) add(id string, back, n int64) int64 {
	was := s[id][back]
	sum := max(0, plus(was, n))
	s.set(id, back, sum)
	return sum - was
}

// addAll adds all changes.
func (s sums) addAll(changes sums) {
	for id, of := range changes {
		for back, n := range of {
			s.add(id, back, n)
		}
	}
}

// forget deletes what is back since long, or will be too late to be true.
func (s sums) forget(now time.Time) {
	first, last := now.Add(-past-keep).Unix(), now.Add(ahead).Unix()
	for id, of := range s {
		maps.DeleteFunc(of, func(back, _ int64) bool { return back < first || back > last })
		if len(of) == 0 {
			delete(s, id)
		}
	}
}

// plus returns a + b, or the nearest there is.
func plus(a, b int64) int64 {
	switch sum := a + b; {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	default:
		return sum
	}
}

// contents is what the state file says.
type contents struct {
	Version int   `json:"version"`
	Seq     int64 `json:"seq"` // the last line of the journal that is merged into Spent
	Spent   sums  `json:"spent"`
}

const (
	version = 1
	maxSeq  = math.MaxInt64 / 2 // more cannot have been written
)

func encode(seq int64, spent sums) ([]byte, error) {
	return json.Marshal(contents{version, seq, spent})
}

// decode reads a state file.
func decode(text []byte) (seq int64, spent sums, err error) {
	var c contents
	if err := json.Unmarshal(text, &c); err != nil {
		return 0, nil, err
	}
	if c.Version != version {
		return 0, nil, fmt.Errorf("it has version %d, not %d", c.Version, version)
	}
	if c.Seq < 0 || c.Seq > maxSeq {
		return 0, nil, fmt.Errorf("no journal has a line %d", c.Seq)
	}
	spent = make(sums)
	for id, of := range c.Spent {
		for back, n := range of {
			spent.add(id, back, n) // not if it is negative
		}
	}
	return c.Seq, spent, nil
}

// appendLine appends a line of the journal.
func appendLine(b []byte, seq, back, n int64, id string) []byte {
	for _, i := range [...]int64{seq, back, n} {
		b = append(strconv.AppendInt(b, i, 10), ' ')
	}
	return append(strconv.AppendQuote(b, id), '\n')
}

// replay adds the lines of a journal after seq to spent. It returns the last seq.
// Lines that make no sense were cut short, and are left out.
func replay(journal []byte, seq int64, spent sums) int64 {
	for line := range bytes.Lines(journal) {
		at, rest, err := number(line)
		if err != nil || at <= seq || at > maxSeq {
			continue
		}
		back, rest, err1 := number(rest)
		n, rest, err2 := number(rest)
		id, err3 := strconv.Unquote(string(bytes.TrimSuffix(rest, []byte("\n"))))
		if errors.Join(err1, err2, err3) != nil {
			continue
		}
		spent.add(valid(id), back, n)
		seq = at
	}
	return seq
}

// number reads a number and the space after it.
func number(line []byte) (n int64, rest []byte, err error) {
	digits, rest, _ := bytes.Cut(line, []byte(" "))
	n, err = strconv.ParseInt(string(digits), 10, 64)
	return n, rest, err
}
