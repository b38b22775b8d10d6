package dayfile

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// On a file system that chooses the owner of all files they are not another user's.
func TestOwnerOfItsChoice(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	path, tmp := filepath.Join(dir, "state"), filepath.Join(dir, "state.tmp")
	write(t, path, "{}")
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Skip(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if !foreign(info, tmp) {
		t.Error("a file of another user is ours")
	}
	// From here on, what this thread makes belongs to 12345. Its goroutine ends
	// with the thread locked, so that no other one gets it.
	done := make(chan bool)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // which that user could not reach
			t.Error(err)
			return
		}
		if err := syscall.Setfsuid(12345); err != nil {
			t.Error(err)
			return
		}
		if foreign(info, tmp) {
			t.Error("a file that has the owner of all files is another user's")
		}
	}()
	<-done
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left over: %v", got)
	}
}
