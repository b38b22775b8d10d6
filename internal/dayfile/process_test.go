package dayfile

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const env = "TOLLGATE_TEST_DAYFILE"

// later is when what the processes of these tests spend is back.
var later = time.Now().Unix() + 20*3600

// TestMain is the processes that tests start, too.
func TestMain(m *testing.M) {
	args := os.Getenv(env)
	if args == "" {
		os.Exit(m.Run())
	}
	var kind, path string
	var back int64
	if _, err := fmt.Sscanf(args, "%s %d %q", &kind, &back, &path); err != nil {
		panic(err)
	}
	f := Open(path, func(err error) { fmt.Println(err); os.Exit(3) })
	switch kind {
	case "one": // request, and the end
		add(f, back, 1)
	case "day": // of 100 tokens, that all want
		for spent := false; !spent; {
			with(f, func(e *Entries) {
				n := int64(0)
				e.Each(id, func(_, m int64) { n += m })
				if spent = n >= 100; !spent {
					e.Add(id, back, 1)
					fmt.Print(".")
				}
			})
		}
	case "endless": // work, one dot for each token
		f.disk.long = 300
		for range 20_000 {
			add(f, back, 1)
			if _, err := os.Stdout.WriteString("."); err != nil {
				return
			}
		}
	}
}

// process returns a process of the given kind.
func process(t *testing.T, kind, path string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	// Else the race detector has each process sleep for a second at its end.
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", fmt.Sprintf("%s=%s %d %q", env, kind, later, path))
	return cmd
}

// Processes that end at once after their only request leave the file and no
// more than that takes, and all that they have spent.
func TestShortLived(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	for i := range int64(10) {
		if out, err := process(t, "one", path).CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%v: %s", err, out)
		}
		if got := names(t, dir); !slices.Contains(got, "state") || slices.ContainsFunc(got, func(s string) bool {
			return !slices.Contains([]string{"state", "state.journal", "state.lock", "state.next"}, s)
		}) {
			t.Errorf("after %d there is %v", i+1, got)
		}
	}
	f := silent(t, path)
	defer settle(f)
	if got := sum(f, id)[later]; got != 10 {
		t.Errorf("the file says %d, want 10", got)
	}
}

// Processes that run at once spend together what one may.
func TestProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for range 4 {
		cmd := process(t, "day", path)
		wg.Go(func() {
			out, err := cmd.CombinedOutput()
			if err != nil || strings.Trim(string(out), ".") != "" {
				t.Errorf("%v: %s", err, out)
			}
			mu.Lock()
			defer mu.Unlock()
			total += len(out)
		})
	}
	wg.Wait()
	if total != 100 {
		t.Errorf("4 processes spent %d, want 100", total)
	}
}

// Processes are killed at random moments, most of them while they write the
// file. What they had added is there, and at most what each was just adding.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	least, most, tmps := int64(0), int64(0), 0
	for range rounds {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for range 3 {
			cmd := process(t, "endless", path)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			n := rand.Int64N(40)
			spin := rand.IntN(200_000)
			wg.Go(func() {
				r := bufio.NewReader(out)
				var acked int64
				for ; acked < n; acked++ {
					if b, err := r.ReadByte(); err != nil || b != '.' {
						break
					}
				}
				for range spin { // somewhere into the next ones
					mu.Lock()
					mu.Unlock() //nolint:staticcheck // it is to take time
				}
				if err := cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
				rest, err := io.ReadAll(r)
				_ = cmd.Wait()
				if s := strings.Trim(string(rest), "."); err != nil || s != "" {
					t.Errorf("%v: %s", err, s)
				}
				acked += int64(len(rest))
				mu.Lock()
				defer mu.Unlock()
				least += acked
				most += acked + 1
			})
		}
		wg.Wait()
		if slices.Contains(names(t, dir), "state.tmp") {
			tmps++
		}
		f := silent(t, path)
		got := sum(f, id)[later]
		if got < least || got > most {
			t.Fatalf("the file says %d, want %d to %d", got, least, most)
		}
		settle(f)
		least, most = got, got
		if got := names(t, dir); slices.Contains(got, "state.tmp") {
			t.Errorf("left over: %v", got)
		}
		if text := read(t, path+".journal"); text != "" {
			t.Errorf("left over: %q", text)
		}
	}
	t.Logf("%d tokens; killed while the file was written: %d of %d", least, tmps, rounds)
}
