//go:build unix && !aix && !solaris

package dayfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// What is no regular file is refused: never followed, never waited for, never
// replaced.
func TestNotRegular(t *testing.T) {
	for _, name := range []string{"", ".journal", ".lock"} {
		for kind, mk := range map[string]func(path string) error{
			"link":          func(path string) error { return os.Symlink(filepath.Join(filepath.Dir(path), "target"), path) },
			"dangling link": func(path string) error { return os.Symlink("nowhere", path) },
			"pipe":          func(path string) error { return syscall.Mkfifo(path, 0o600) },
			"folder":        func(path string) error { return os.Mkdir(path, 0o700) },
		} {
			t.Run("state"+name+" is a "+kind, func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "state")
				write(t, filepath.Join(dir, "target"), fileText(1, 5))
				if err := mk(path + name); err != nil {
					t.Fatal(err)
				}
				before, err := os.Lstat(path + name)
				if err != nil {
					t.Fatal(err)
				}
				synctest.Test(t, func(t *testing.T) {
					var l log
					f := newFile(path, l.warn)
					for i := range int64(3) {
						add(f, 946800000, 1)
						if got := sum(f, id)[946800000]; got != i+1 {
							t.Errorf("%d, want %d: what it has spent itself", got, i+1)
						}
						time.Sleep(rested)
					}
					if got := l.take(); len(got) != 1 || !strings.Contains(got[0], "not a regular file") || !strings.Contains(got[0], path+name) {
						t.Errorf("warned %q, want one of %s", got, path+name)
					}
					if got := read(t, filepath.Join(dir, "target")); got != fileText(1, 5) {
						t.Errorf("the link was followed: %s", got)
					}
					if _, err := os.Lstat(filepath.Join(dir, "nowhere")); err == nil {
						t.Error("the link was followed")
					}
					if after, err := os.Lstat(path + name); err != nil || !os.SameFile(before, after) {
						t.Errorf("replaced: %v", err)
					}
					if err := os.Remove(path + name); err != nil {
						t.Fatal(err)
					}
					sum(f, id)
					time.Sleep(rested)
					if got := sum(silent(t, path), id)[946800000]; got != 3 {
						t.Errorf("once it is gone %d, want 3", got)
					}
				})
			})
		}
	}
}

// Without a queue there is still the lock; a temporary file is not written through.
func TestOddHelpers(t *testing.T) {
	t.Run("queue", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state")
		if err := syscall.Mkfifo(path+".next", 0o600); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			var l log
			f, g := newFile(path, l.warn), newFile(path, func(error) {})
			for range 20 {
				add(f, now+1000, 1)
				add(g, now+1000, 1)
			}
			if got := sum(f, id)[now+1000]; got != 40 {
				t.Errorf("%d, want 40", got)
			}
			if got := l.take(); len(got) != 1 || !strings.Contains(got[0], path+".next") {
				t.Errorf("warned %q, want one of the queue", got)
			}
		})
	})
	t.Run("temporary file", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "state")
		write(t, filepath.Join(dir, "target"), "target")
		if err := os.Symlink("target", path+".tmp"); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			add(silent(t, path), 946800000, 1)
			if got, want := read(t, path), fileText(1, 1); got != want {
				t.Errorf("the file says %s, want %s", got, want)
			}
			if got := read(t, filepath.Join(dir, "target")); got != "target" {
				t.Errorf("the link was followed: %s", got)
			}
			time.Sleep(rested)
		})
	})
}

// A file that is not ours is an error and stays as it is.
func TestNotOurs(t *testing.T) {
	for _, name := range []string{"", ".journal"} {
		t.Run("state"+name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "state")
			text := fileText(1, 5)
			if name != "" {
				text = fmt.Sprintf("2 946800000 3 %q\n", id)
			}
			write(t, path+name, text)
			want, undo := "permission denied", os.Chmod
			if os.Geteuid() == 0 { // may read everything
				want = "another user"
				undo = func(path string, _ os.FileMode) error { return os.Chown(path, 0, 0) }
				if err := os.Chown(path+name, 12345, 12345); err != nil {
					t.Skip(err)
				}
			} else if err := os.Chmod(path+name, 0); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				var l log
				f := newFile(path, l.warn)
				for range 3 {
					add(f, 946800000, 1)
					time.Sleep(rested)
				}
				if got := l.take(); len(got) != 1 || !strings.Contains(got[0], want) {
					t.Errorf("warned %q, want one: %s", got, want)
				}
				if err := undo(path+name, 0o600); err != nil {
					t.Fatal(err)
				}
				if got := read(t, path+name); got != text {
					t.Errorf("now it says %q", got)
				}
				n := int64(8)
				if name != "" {
					n = 6
				}
				if got := sum(f, id)[946800000]; got != n {
					t.Errorf("once it is ours %d, want %d", got, n)
				}
				time.Sleep(rested)
				if got := names(t, dir); len(got) > 4 || strings.Contains(strings.Join(got, " "), "tmp") {
					t.Errorf("left over: %v", got)
				}
			})
		})
	}
}
