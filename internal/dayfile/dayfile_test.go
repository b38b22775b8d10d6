package dayfile

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const id = "api.example.com gemini-2.5-flash requests per 24h0m0s"

// A log keeps what warn is told.
type log struct {
	mu   sync.Mutex
	errs []string
}

func (l *log) warn(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err.Error())
}

// take returns what was told since the last take, in a bubble.
func (l *log) take() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	errs := l.errs
	l.errs = nil
	return errs
}

// silent returns a File of its own, as of a process of its own, that must not warn.
func silent(tb testing.TB, path string) *File {
	return newFile(path, func(err error) { tb.Errorf("warned: %v", err) })
}

// with calls f.With until it is let.
func with(f *File, fn func(*Entries)) {
	for !f.With(time.Now(), fn) {
		time.Sleep(Busy)
	}
}

// settle waits until f has released the lock.
func settle(f *File) {
	for held := true; held; time.Sleep(Busy) {
		f.mu.Lock()
		held = f.held
		f.mu.Unlock()
	}
}

func add(f *File, back, n int64) { with(f, func(e *Entries) { e.Add(id, back, n) }) }

// sum returns what f tells of a limit.
func sum(f *File, id string) map[int64]int64 {
	got := make(map[int64]int64)
	with(f, func(e *Entries) { e.Each(id, func(back, n int64) { got[back] = n }) })
	return got
}

func read(tb testing.TB, path string) string {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Error(err)
	}
	return string(text)
}

func write(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// names returns the names in a folder.
func names(tb testing.TB, dir string) []string {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// now is the time at which a bubble starts, in Unix seconds.
const now = 946684800

// rested is a time after which the lock has been released.
const rested = 10 * turn

func fileText(seq, n int64) string {
	return fmt.Sprintf(`{"version":1,"seq":%d,"spent":{"%s":{"946800000":%d}}}`, seq, id, n)
}

// What is on disk at which time, byte for byte as the version before reads it.
func TestTimes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	synctest.Test(t, func(t *testing.T) {
		f := silent(t, path)
		if got := names(t, dir); got != nil {
			t.Errorf("before the first With there is %v", got)
		}
		if got := sum(f, id); len(got) != 0 {
			t.Errorf("in the beginning there is %v", got)
		}
		if got := names(t, dir); !slices.Equal(got, []string{"state.lock"}) {
			t.Errorf("after a look there is %v", got)
		}
		line := fmt.Sprintf("2 946800000 2 %q\n", id)
		for _, step := range []struct {
			name, state, journal string
			do                   func()
		}{
			{"the first is written to the file", fileText(1, 1), "", func() { add(f, 946800000, 1) }},
			{"the next to the journal", fileText(1, 1), line, func() { add(f, 946800000, 2) }},
			{"nothing", fileText(1, 1), line, func() { add(f, 946800000, 0) }},
			{"used for long", fileText(1, 1), line, func() {
				for range 50 {
					time.Sleep(turn)
					sum(f, id)
				}
			}},
			{"idle", fileText(2, 3), "", func() { time.Sleep(linger * turn); synctest.Wait() }},
		} {
			step.do()
			if got := read(t, path); got != step.state {
				t.Errorf("%s: the file says %s, want %s", step.name, got, step.state)
			}
			if got := read(t, path+".journal"); got != step.journal {
				t.Errorf("%s: the journal says %q, want %q", step.name, got, step.journal)
			}
		}
		if g := silent(t, path); !g.With(time.Now(), func(*Entries) {}) {
			t.Error("an idle process still has the lock")
		}
		if got := names(t, dir); slices.Contains(got, "state.tmp") {
			t.Errorf("left over: %v", got)
		}
	})
}

// Processes that are always busy take turns.
func TestTurns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		var got [3]int64
		var wg sync.WaitGroup
		end := time.Now().Add(time.Second)
		for i := range got {
			f := silent(t, path)
			wg.Go(func() {
				// None asks at the very moment at which another has its turn.
				time.Sleep(time.Duration(i) * 330 * time.Microsecond)
				for time.Now().Before(end) {
					add(f, now+1000, 1)
					got[i]++
					time.Sleep(100 * time.Microsecond)
				}
			})
		}
		wg.Wait()
		total := got[0] + got[1] + got[2]
		for i, n := range got {
			if n < total/6 {
				t.Errorf("process %d was let %d times of %d", i, n, total)
			}
		}
		if n := sum(silent(t, path), id)[now+1000]; n != total {
			t.Errorf("the file says %d, want %d", n, total)
		}
		t.Log(got)
	})
}

// A lone process in use all the time syncs and merges the journal.
func TestLongJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		f := silent(t, path)
		f.disk.long = 1000
		for i := range int64(200) {
			add(f, now+1000, 1)
			time.Sleep(time.Millisecond)
			f.mu.Lock()
			if f.disk.size > 1000 || f.disk.age > linger {
				t.Errorf("after %d the journal has %d bytes that were not synced for %d turns", i+1, f.disk.size, f.disk.age)
			}
			f.mu.Unlock()
		}
		time.Sleep(rested)
		if n := sum(silent(t, path), id)[now+1000]; n != 200 {
			t.Errorf("the file says %d, want 200", n)
		}
	})
}

// Many goroutines of several processes, against a disk that takes its time.
func TestConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	var wg sync.WaitGroup
	for range 3 {
		f := silent(t, path)
		defer settle(f)
		f.disk.long = 500
		for range 8 {
			wg.Go(func() {
				for range 25 {
					add(f, time.Now().Unix()/3600*3600+7200, 2)
					with(f, func(e *Entries) { e.Add("other", time.Now().Unix()+1000, 1) })
				}
			})
		}
	}
	wg.Wait()
	f := silent(t, path)
	defer settle(f)
	n := int64(0)
	for _, m := range sum(f, id) {
		n += m
	}
	if n != 1200 {
		t.Errorf("the file says %d, want 1200", n)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	never := func(error) {}
	f := Open(filepath.Join(dir, "a"), never)
	if Open(filepath.Join(dir, "x", "..", "a"), never) != f {
		t.Error("two Files of one path")
	}
	if Open(filepath.Join(dir, "b"), never) == f {
		t.Error("one File of two paths")
	}
	t.Chdir(dir)
	if Open("a", never) != f {
		t.Error("two Files of one path, one relative")
	}
	if got := names(t, dir); got != nil {
		t.Errorf("Open made %v", got)
	}
}

// What processes that were killed have left behind.
func TestLeftBehind(t *testing.T) {
	line := func(seq, n int64) string { return fmt.Sprintf("%d 946800000 %d %q\n", seq, n, id) }
	for _, test := range []struct {
		name, file, journal string
		want                int64
	}{
		{"nothing", "", "", 0},
		{"a file", fileText(5, 5), "", 5},
		{"a journal", "", line(1, 3) + line(2, 1), 4},
		{"both", fileText(5, 5), line(6, 2) + line(7, -1), 6},
		{"merged but not emptied", fileText(7, 6), line(6, 2) + line(7, -1), 6},
		{"merged in part", fileText(6, 7), line(6, 2) + line(7, -1), 6},
		{"nonsense", fileText(5, 5), "nonsense\n\n6\n6 7\n" + line(6, 2), 7},
		{"zeros", fileText(5, 5), line(6, 2) + strings.Repeat("\x00", 100), 7},
		{"half a line", fileText(5, 5), line(6, 2) + "7 9468", 7},
		{"a digit of a line", fileText(5, 5), line(6, 2) + "7", 7},
		{"only half a line", fileText(5, 5), "7 94", 5},
		{"a line no journal has", fileText(5, 5), "9223372036854775807 946800000 9 \"x\"\n" + line(6, 2), 7},
		{"below zero", fileText(5, 5), line(6, -9) + line(7, 2), 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "state")
			write(t, path+".tmp", "half a fi")
			for name, text := range map[string]string{path: test.file, path + ".journal": test.journal} {
				if text != "" {
					write(t, name, text)
				}
			}
			synctest.Test(t, func(t *testing.T) {
				f := silent(t, path)
				if got := sum(f, id)[946800000]; got != test.want {
					t.Errorf("%d, want %d", got, test.want)
				}
				if got := names(t, dir); slices.Contains(got, "state.tmp") {
					t.Errorf("left over: %v", got)
				}
				// From the journal alone, as if f was killed at once.
				add(f, 946800000, 1)
				kept := filepath.Join(t.TempDir(), "kept")
				write(t, kept, read(t, path))
				write(t, kept+".journal", read(t, path+".journal"))
				if got := sum(silent(t, kept), id)[946800000]; got != test.want+1 {
					t.Errorf("1 more is %d, want %d", got, test.want+1)
				}
				time.Sleep(rested)
				if got := sum(silent(t, path), id)[946800000]; got != test.want+1 {
					t.Errorf("after a rest there are %d, want %d", got, test.want+1)
				}
				if got := read(t, path+".journal"); got != "" {
					t.Errorf("after a rest the journal says %q", got)
				}
			})
		})
	}
}

// A file that makes no sense is replaced, with the journal's lines.
func TestNotUnderstood(t *testing.T) {
	for name, text := range map[string]string{
		"empty":           "",
		"truncated":       fileText(5, 5)[:30],
		"binary":          "\x00\xff",
		"of the future":   `{"version":2}`,
		"of other types":  `{"version":1,"spent":{"a":{"b":"c"}}}`,
		"too large":       `{"version":1,"spent":{"a":{"946800000":9223372036854775808}}}`,
		"no such line":    `{"version":1,"seq":9223372036854775807}`,
		"a negative line": `{"version":1,"seq":-1}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			write(t, path, text)
			write(t, path+".journal", fmt.Sprintf("9 946800000 2 %q\n", id))
			synctest.Test(t, func(t *testing.T) {
				var l log
				f := newFile(path, l.warn)
				add(f, 946800000, 1)
				if got := l.take(); len(got) != 1 || !strings.Contains(got[0], "not understood") {
					t.Errorf("warned %q, want once that it is not understood", got)
				}
				if got, want := read(t, path), fileText(10, 3); got != want {
					t.Errorf("the file says %s, want %s", got, want)
				}
				time.Sleep(rested)
				if got := sum(silent(t, path), id)[946800000]; got != 3 {
					t.Errorf("%d, want 3", got)
				}
			})
		})
	}
	t.Run("in use", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state")
		synctest.Test(t, func(t *testing.T) {
			var l log
			f := newFile(path, l.warn)
			add(f, now+1000, 4)
			for range 2 {
				time.Sleep(rested)
				write(t, path, "?")
				add(f, now+1000, 1)
				if got := l.take(); len(got) != 1 {
					t.Errorf("warned %q, want one", got)
				}
			}
			time.Sleep(rested)
			if got := sum(silent(t, path), id)[now+1000]; got != 6 {
				t.Errorf("%d, want 6: what this process knows", got)
			}
		})
	})
}

// A file that was removed starts anew; one of another process is read.
func TestReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		f, g := silent(t, path), silent(t, path)
		add(f, 946800000, 1)
		add(g, 946800000, 2)
		if got := sum(f, id)[946800000]; got != 3 {
			t.Errorf("%d, want 3", got)
		}
		time.Sleep(rested)
		write(t, path, fileText(100, 7))
		if got := sum(f, id)[946800000]; got != 7 {
			t.Errorf("%d, want 7", got)
		}
		time.Sleep(rested)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if got := sum(f, id)[946800000]; got != 0 {
			t.Errorf("%d, want 0", got)
		}
		add(f, 946800000, 1)
		if got := sum(g, id)[946800000]; got != 1 {
			t.Errorf("%d, want 1", got)
		}
	})
}

// A process that cannot use the file counts on its own, says so once each time,
// and adds what it has spent when it can.
func TestNoFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "folder")
	path := filepath.Join(dir, "state")
	synctest.Test(t, func(t *testing.T) {
		var l log
		f := newFile(path, l.warn)
		known := int64(0)
		for range 2 {
			for i := range int64(3) {
				add(f, now+1000, 2)
				add(f, now+1000, -1)
				if got, want := sum(f, id)[now+1000], known+i+1; got != want {
					t.Errorf("without a folder %d, want %d", got, want)
				}
			}
			if got := l.take(); len(got) != 1 || !strings.HasPrefix(got[0], "tollgate: state file: ") || !strings.Contains(got[0], path) {
				t.Errorf("warned %q, want one", got)
			}
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, path, fileText(3, 1)+"\n")
			for _, f := range []*File{f, silent(t, path)} {
				if got := sum(f, id); !maps.Equal(got, map[int64]int64{946800000: 1, now + 1000: 3}) {
					t.Errorf("with a file %v", got)
				}
				time.Sleep(rested)
			}
			known = 3
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
		if got := l.take(); got != nil {
			t.Errorf("warned %q", got)
		}
	})
}

// With a journal that cannot be written the file is, at once; with a file that
// cannot be written the journal is. Nothing is lost or counted twice.
func TestDiskFails(t *testing.T) {
	t.Run("journal", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state")
		synctest.Test(t, func(t *testing.T) {
			var l log
			f := newFile(path, l.warn)
			add(f, now+1000, 1)
			add(f, now+1000, 1)
			f.disk.journal.Close()
			for range 3 {
				add(f, now+1000, 1)
			}
			if got := l.take(); len(got) == 0 || !strings.Contains(got[0], "state.journal") {
				t.Errorf("warned %q", got)
			}
			for _, f := range []*File{silent(t, path), f} {
				time.Sleep(rested)
				if got := sum(f, id)[now+1000]; got != 5 {
					t.Errorf("%d, want 5", got)
				}
			}
		})
	})
	t.Run("file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state")
		synctest.Test(t, func(t *testing.T) {
			var l log
			f := newFile(path, l.warn)
			sum(f, id)
			tmp := filepath.Join(path+".tmp", "x")
			if err := os.MkdirAll(tmp, 0o700); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				add(f, now+1000, 1)
			}
			if got := l.take(); len(got) != 1 || !strings.Contains(got[0], "state.tmp") {
				t.Errorf("warned %q, want one of state.tmp", got)
			}
			time.Sleep(rested)
			if err := os.RemoveAll(path + ".tmp"); err != nil {
				t.Fatal(err)
			}
			for _, f := range []*File{silent(t, path), f} {
				if got := sum(f, id)[now+1000]; got != 3 {
					t.Errorf("%d, want 3", got)
				}
				time.Sleep(rested)
			}
			if got := read(t, path+".journal"); got != "" {
				t.Errorf("the journal says %q", got)
			}
		})
	})
	t.Run("both", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state")
		synctest.Test(t, func(t *testing.T) {
			var l log
			f := newFile(path, l.warn)
			add(f, now+1000, 1)
			tmp := filepath.Join(path+".tmp", "x")
			if err := os.MkdirAll(tmp, 0o700); err != nil {
				t.Fatal(err)
			}
			f.disk.journal.Close()
			for range 3 {
				add(f, now+1000, 1)
			}
			time.Sleep(rested)
			if err := os.RemoveAll(path + ".tmp"); err != nil {
				t.Fatal(err)
			}
			g := silent(t, path)
			add(g, now+1000, 10) // the numbers of its lines are those that f could not write
			time.Sleep(rested)
			for _, f := range []*File{f, g} {
				if got := sum(f, id)[now+1000]; got != 14 {
					t.Errorf("%d, want 14", got)
				}
				time.Sleep(rested)
			}
			if got := l.take(); len(got) != 2 {
				t.Errorf("warned %q, want of the journal and of the file", got)
			}
		})
	})
}

// Somebody says that a process which was stopped keeps the others waiting.
func TestStuck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		stopped := newLock(path)
		if ok, err := stopped.try(); !ok || err != nil {
			t.Fatal(ok, err)
		}
		var l log
		f := newFile(path, l.warn)
		poll := func(n int, every time.Duration) {
			for range n {
				if f.With(time.Now(), func(*Entries) { t.Error("called without the lock") }) {
					t.Error("With returned true without the lock")
				}
				time.Sleep(every)
			}
		}
		poll(10, time.Hour) // ten requests that gave up at once
		poll(90, 100*time.Millisecond)
		if got := l.take(); got != nil {
			t.Errorf("warned %q after 9 s", got)
		}
		for range 2 {
			poll(100, 100*time.Millisecond)
			if got := l.take(); len(got) != 1 || !strings.Contains(got[0], "another process") {
				t.Errorf("warned %q, want one", got)
			}
			stopped.release(false)
			add(f, now+100000, 1)
			time.Sleep(rested)
			if ok, err := stopped.try(); !ok || err != nil {
				t.Fatal(ok, err)
			}
			poll(90, 100*time.Millisecond)
			if got := l.take(); got != nil {
				t.Errorf("warned %q after 9 s", got)
			}
		}
	})
}

// A warning may use the file, and waits for no one.
func TestWarnUsesFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "state")
	synctest.Test(t, func(t *testing.T) {
		var f *File
		calls := 0
		f = newFile(path, func(error) {
			calls++
			add(f, now+1000, 1)
		})
		f.With(time.Now(), func(*Entries) {})
		synctest.Wait()
		if got := sum(f, id)[now+1000]; got != 1 || calls != 1 {
			t.Errorf("%d added in %d calls, want 1 in 1", got, calls)
		}
	})
}

// A clock that goes wrong by hours, and right again, loses nothing; what a wrong
// Date has booked is gone.
func TestClocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	const far = now + 401*24*3600
	write(t, path, fmt.Sprintf(`{"version":1,"seq":0,"spent":{"%s":{"%d":3,"4102444800":4,"%d":5}}}`, id, far, now+1000))
	write(t, path+".journal", fmt.Sprintf("1 4102444800 9 %q\n", id))
	synctest.Test(t, func(t *testing.T) {
		f := silent(t, path)
		want := map[int64]int64{now + 1000: 5, now + 399*24*3600: 1}
		with(f, func(e *Entries) {
			e.Add(id, far, 1)
			e.Add(id, now+399*24*3600, 1)
		})
		if got := sum(f, id); !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		time.Sleep(rested)
		if got := read(t, path); strings.Contains(got, "4102444800") || strings.Contains(got, fmt.Sprint(far)) {
			t.Errorf("the file says %s", got)
		}
		at := func(hours time.Duration) map[int64]int64 {
			time.Sleep(rested)
			got := make(map[int64]int64)
			f.With(time.Now().Add(hours*time.Hour), func(e *Entries) {
				e.Add("other", now+24*3600, 1) // makes it write
				e.Each(id, func(back, n int64) { got[back] = n })
			})
			return got
		}
		if got := at(12); got[now+1000] != 0 {
			t.Errorf("12 hours later: %v", got)
		}
		if got := at(-12); !maps.Equal(got, want) {
			t.Errorf("12 hours earlier: %v, want %v", got, want)
		}
		if got := at(48); got[now+1000] != 0 {
			t.Errorf("2 days later: %v", got)
		}
		time.Sleep(rested)
		if got := read(t, path); strings.Contains(got, fmt.Sprint(now+1000)) {
			t.Errorf("2 days later the file says %s", got)
		}
	})
}
