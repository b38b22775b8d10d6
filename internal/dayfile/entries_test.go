package dayfile

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

const most, least = math.MaxInt64, math.MinInt64

func TestAdd(t *testing.T) {
	for _, test := range []struct {
		adds []int64
		want int64
	}{
		{[]int64{1, 2}, 3},
		{[]int64{3, -1}, 2},
		{[]int64{3, -3}, 0},
		{[]int64{3, -5, 1}, 1},
		{[]int64{-5}, 0},
		{[]int64{most, most}, most},
		{[]int64{most, 1, -1}, most - 1},
		{[]int64{1, least, 2}, 2},
		{[]int64{most, most, least, 7}, 7},
	} {
		t.Run(fmt.Sprint(test.adds), func(t *testing.T) {
			for _, at := range []string{"in one With", "in many", "in many processes"} {
				path := filepath.Join(t.TempDir(), "state")
				synctest.Test(t, func(t *testing.T) {
					f := silent(t, path)
					sum(f, id)
					f.disk.text = []byte("there") // so that all goes to the journal
					if at == "in one With" {
						with(f, func(e *Entries) {
							for _, n := range test.adds {
								e.Add(id, now+1000, n)
							}
						})
					} else {
						for _, n := range test.adds {
							if at == "in many processes" {
								time.Sleep(rested)
								f = silent(t, path)
							}
							add(f, now+1000, n)
						}
					}
					if got := sum(f, id)[now+1000]; got != test.want {
						t.Errorf("%s: %d, want %d", at, got, test.want)
					}
					time.Sleep(rested)
					if got := sum(silent(t, path), id)[now+1000]; got != test.want {
						t.Errorf("%s: the file says %d, want %d", at, got, test.want)
					}
				})
			}
		})
	}
}

// Limits are kept apart, whatever their names.
func TestIDs(t *testing.T) {
	ids := []string{"", " ", "a", "a b", "a\nb", `"`, `\`, "\x00", "ü", "<&>", "\u2028", "7 7 7 \"x\"\n"}
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		for range 2 {
			f := silent(t, path)
			for i, id := range ids {
				with(f, func(e *Entries) { e.Add(id, now+1000, int64(i+1)) })
			}
			with(f, func(e *Entries) { e.Add("bad \xff\xfe", now+1000, 50) })
			time.Sleep(rested)
		}
		f := silent(t, path)
		for i, id := range ids {
			if got := sum(f, id)[now+1000]; got != int64(2*i+2) {
				t.Errorf("%q: %d, want %d", id, got, 2*i+2)
			}
		}
		if got := sum(f, "bad \xff\xfe")[now+1000]; got != 100 {
			t.Errorf("an id that is not UTF-8: %d, want 100", got)
		}
	})
}

// The journal and the file say the same as a map does.
func TestModel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	r := rand.New(rand.NewPCG(1, 2))
	synctest.Test(t, func(t *testing.T) {
		want := make(sums)
		files := []*File{silent(t, path), silent(t, path), silent(t, path)}
		for _, f := range files {
			f.disk.long = 300
		}
		for range 1500 {
			i := r.IntN(len(files))
			if r.IntN(20) == 0 {
				time.Sleep(rested)
				files[i] = silent(t, path)
			}
			with(files[i], func(e *Entries) {
				for range r.IntN(3) {
					id, back, n := fmt.Sprint(r.IntN(3)), now+100000+r.Int64N(3), r.Int64N(20)-8
					want.add(id, back, n)
					e.Add(id, back, n)
				}
				if !reflect.DeepEqual(e.sums, want) {
					t.Fatalf("%v, want %v", e.sums, want)
				}
			})
		}
	})
}

// Whatever the files say, sums are above 0 and nothing panics; and what is read
// is what is written.
func FuzzRead(f *testing.F) {
	f.Add([]byte(fileText(5, 5)), []byte("6 946800000 2 \"a\"\n7 946800000 -1 \"a\"\n"))
	f.Add([]byte(`{"version":1,"spent":{"a":{"1":9223372036854775807,"01":1}}}`), []byte("1 1 9223372036854775807 \"a\"\n2 1"))
	f.Fuzz(func(t *testing.T, file, journal []byte) {
		seq, spent, err := decode(file)
		if err != nil {
			seq, spent = 0, make(sums)
		}
		last := replay(journal, seq, spent)
		if last < seq || last > maxSeq {
			t.Errorf("line %d after %d", last, seq)
		}
		for id, of := range spent {
			for back, n := range of {
				if n <= 0 {
					t.Errorf("%q: %d at %d", id, n, back)
				}
			}
			if len(of) == 0 {
				t.Errorf("%q: nothing", id)
			}
		}
		text, err := encode(last, spent)
		if err != nil {
			t.Fatal(err)
		}
		if seq, again, err := decode(text); err != nil || seq != last || !reflect.DeepEqual(again, spent) {
			t.Errorf("%v becomes %v: %v", spent, again, err)
		}
	})
}

// The version before reads what this one writes to the journal.
func TestLine(t *testing.T) {
	for _, id := range []string{id, "", "a\nb \"c\" ü"} {
		line := appendLine(nil, 7, -5, most, id)
		var seq, back, n int64
		var got string
		if _, err := fmt.Sscanf(string(line), "%d %d %d %q\n", &seq, &back, &n, &got); err != nil || seq != 7 || back != -5 || n != most || got != id {
			t.Errorf("%q is %d %d %d %q: %v", line, seq, back, n, got, err)
		}
	}
}
