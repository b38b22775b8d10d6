package dayfile

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// A lock is held by one process at a time. Processes that find it taken queue
// for it, or the one that has it could starve the others.
type lock struct {
	held *flock.Flock
	next *flock.Flock // whoever holds it gets held next

	mu      sync.Mutex
	inTurn  bool        // another process has or wants held: try only in turn
	queued  bool        // this process holds next
	leaving *time.Timer // gives next up
	err     error       // why the last try to get next failed
}

// patience is for how long a process is the next one without trying again. Then
// its request has given up, and would keep others out.
const patience = 50 * time.Millisecond

func newLock(path string) *lock {
	open := flock.SetFlag(os.O_RDWR | os.O_CREATE | openFlags)
	return &lock{held: flock.New(path+".lock", open), next: flock.New(path+".next", open)}
}

// try tries to get the lock: at once if nobody is known to want it, else in turn.
func (l *lock) try() (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inTurn && !l.queued {
		if l.queued, l.err = tryFlock(l.next); l.queued {
			l.leaving = time.AfterFunc(patience, l.leave)
		} else if l.err == nil {
			return false, nil
		} // else do without: the queue is for fairness only
	}
	ok, err := tryFlock(l.held)
	l.inTurn = !ok && err == nil
	if !ok {
		return false, err
	}
	l.dequeue()
	return true, nil
}

// wanted reports whether another process is the next one, or may be.
func (l *lock) wanted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := os.Lstat(l.next.Path()); errors.Is(err, fs.ErrNotExist) {
		return false // nobody has ever waited
	}
	var free bool
	if free, l.err = tryFlock(l.next); free {
		_ = l.next.Unlock()
	}
	return !free
}

// release releases the lock. wanted says that another process is to have it.
func (l *lock) release(wanted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inTurn = wanted
	_ = l.held.Unlock()
}

// queueErr returns what is wrong with the queue.
func (l *lock) queueErr() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *lock) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dequeue()
}

func (l *lock) dequeue() {
	if l.queued {
		l.queued = false
		l.leaving.Stop()
		_ = l.next.Unlock()
	}
}

// tryFlock locks a file if it is free and regular.
func tryFlock(l *flock.Flock) (bool, error) {
	if info, err := os.Lstat(l.Path()); err == nil && !info.Mode().IsRegular() {
		return false, notRegular(l.Path())
	}
	ok, err := l.TryLock()
	if !ok {
		return false, err
	}
	locked, err1 := l.Stat()
	named, err2 := os.Lstat(l.Path())
	switch {
	case err1 == nil && err2 == nil && locked.Mode().IsRegular() && os.SameFile(locked, named):
		return true, nil
	case err2 == nil && !named.Mode().IsRegular():
		err = notRegular(l.Path())
	}
	_ = l.Unlock() // it was removed or replaced meanwhile
	return false, err
}
