// Package dayfile keeps on disk how much of each daily limit was spent, so that
// the count survives a restart and all processes of a machine share it.
//
// It knows sums of tokens, by limit and by when they are back. It does not know
// what a limit allows, when a day ends or which request spent what.
//
// # Files
//
// Next to the state file stand a journal (.journal), the lock (.lock), the queue
// for the lock once a process has waited (.next) and, while the state file is
// being replaced, its next version (.tmp). A process holds the lock while it
// looks at the sums or changes them. It appends each change to the journal at
// once. It writes the state file, and empties the journal, after it has been idle
// for 20 ms, when the journal grows long, and at once when there is no state
// file. The lock and the queue are never removed: a process may be about to open
// them. To forget what was spent, remove the state file and the journal.
//
// Files are created readable by their owner only. A file that is not a regular
// one, such as a symbolic link or a pipe, or that belongs to another user, is an
// error: it is neither read, written nor replaced. A state file that is a regular
// one but not understood is replaced. After an error a process counts on its own,
// in memory, and adds what it has spent to the file once that works again.
//
// # What survives
//
// When a process is killed, at any instant, everything it added in calls of
// [File.With] that have returned is in the journal or the state file.
//
// When the machine loses power, the state file holds either its old or its new
// contents, never a part: it is synced to disk under another name, renamed, and
// its folder is synced. The journal is synced before another process gets the
// lock, and 20 ms after the first change that is not. What is lost is therefore
// what was spent in about the last 20 ms, plus the time the disk takes. A process
// that ends sooner leaves that to the next one, or to the operating system, which
// takes about 30 s on Linux. On Windows folders cannot be synced: there a rename
// may be lost, and with it what was spent since the one before. On network file
// systems none of this holds unless their locks do.
package dayfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Busy is how long to wait when another process holds the file's lock.
const Busy = 2 * time.Millisecond

const (
	// turn is how often the process that holds the lock looks whether another
	// one waits for it.
	turn = 5 * time.Millisecond
	// linger is for how many turns the lock is kept although nobody uses it: the
	// next request finds it held. It is also after how many the journal is synced.
	linger = 4
	// stuck is how long a process waits for the lock before it says so.
	stuck = 10 * time.Second
	// longJournal is at how many bytes the journal is merged into the state file,
	// or at the length of the state file if that is more: so merging costs as much
	// as appending does, however large the file is.
	longJournal = 64 << 10
)

// A File is the state file of a path. It is safe for concurrent use.
type File struct {
	path string
	warn func(error)
	lock *lock

	mu      sync.Mutex
	held    bool      // this process holds lock, and entries is what is on disk
	yield   bool      // the lock is about to be released because another process waits
	working bool      // tick uses the disk without holding mu
	idle    int       // turns since the last With
	refused time.Time // when the lock was first found taken, in a row
	asked   time.Time // when it was last

	entries Entries
	disk    disk

	told    map[trouble]string // what was told and still holds
	untold  []error
	telling bool // a goroutine tells what is untold
}

// files are those in use, by absolute path.
var files struct {
	sync.Mutex
	byPath map[string]*File
}

// Open returns the file of a path. Within a process all calls with the same path
// return the same File, which keeps the warn of the first. Open does not touch
// the disk; the first With does.
//
// warn must not be nil. It is called once for each trouble, again if the trouble
// comes back after it had gone, in the order in which they occur and never two at
// once. It is called in a goroutine that holds no lock, so it may do anything,
// With included.
func Open(path string, warn func(error)) *File {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	files.Lock()
	defer files.Unlock()
	f := files.byPath[path]
	if f == nil {
		f = newFile(path, warn)
		if files.byPath == nil {
			files.byPath = make(map[string]*File)
		}
		files.byPath[path] = f
	}
	return f
}

func newFile(path string, warn func(error)) *File {
	return &File{
		path:    path,
		warn:    warn,
		lock:    newLock(path),
		entries: Entries{sums: make(sums), unsaved: make(sums)},
		disk:    disk{path: path, long: longJournal},
		told:    make(map[trouble]string),
	}
}

// With calls fn with the entries while this process holds the file's lock, after
// reading what other processes wrote. What fn adds is in the journal when With
// returns. If the file cannot be used, With says so to warn and calls fn with the
// entries as far as this process knows them.
//
// With returns false, without calling fn, if another process holds the lock: try
// again in Busy. now is the wall clock's time. fn must not call With or keep the
// entries, and keeps all other requests of the process waiting.
func (f *File) With(now time.Time, fn func(*Entries)) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.yield || !f.held && !f.acquire(now) {
		return false
	}
	f.idle = 0
	f.entries.now = now.Unix()
	fn(&f.entries)
	if f.held {
		f.note(appending, f.disk.append(&f.entries))
		if !f.working && f.disk.due(&f.entries) {
			f.save(nil)
		}
	}
	return true
}

// acquire takes the lock and reads the file. It returns false if another process
// holds the lock, and true without holding it if the file cannot be used.
func (f *File) acquire(now time.Time) bool {
	ok, err := f.lock.try()
	f.note(queueing, f.lock.queueErr())
	if !ok && err == nil {
		f.wait(now)
		return false
	}
	f.refused, f.asked = time.Time{}, time.Time{}
	f.note(waiting, nil)
	f.note(locking, err)
	if err == nil {
		var odd error
		odd, err = f.disk.load(&f.entries, now)
		f.note(understanding, odd)
		f.note(reading, err)
		if err != nil {
			f.release()
		}
	}
	if err != nil {
		f.entries.sums.forget(now)
		f.entries.unsaved.forget(now)
		return true
	}
	f.held = true
	time.AfterFunc(turn, f.tick)
	return true
}

// wait notes that the lock is taken. A process that was stopped while it held
// the lock keeps all others waiting: somebody has to say so.
func (f *File) wait(now time.Time) {
	if now.Sub(f.asked).Abs() > time.Second { // nobody has waited meanwhile, or the machine slept
		f.refused = now
	}
	f.asked = now
	if now.Sub(f.refused) > stuck {
		f.note(waiting, fmt.Errorf("requests wait: another process has held the lock for more than %v", stuck))
	}
}

// tick is called every turn while this process holds the lock. It syncs, saves
// and releases.
func (f *File) tick() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.idle++
	f.yield = f.lock.wanted()
	f.note(queueing, f.lock.queueErr())
	f.working = true
	switch old := f.disk.tick(); {
	case !f.yield && f.idle >= linger && f.disk.dirty && len(f.entries.unsaved) == 0:
		f.save(&f.mu)
	case old || f.yield:
		f.note(syncing, f.disk.sync(&f.mu))
	}
	f.working = false
	if f.yield || f.idle >= linger {
		f.release()
		return
	}
	time.AfterFunc(turn, f.tick)
}

// save writes the state file. If mu is given, it is free meanwhile.
func (f *File) save(mu *sync.Mutex) {
	err := f.disk.save(&f.entries, mu)
	f.note(writing, err)
	if err == nil {
		f.note(understanding, nil)
	}
}

func (f *File) release() {
	f.disk.close()
	f.lock.release(f.yield)
	f.held, f.yield = false, false
}

// A trouble is what a File fails at.
type trouble int

const (
	locking trouble = iota
	queueing
	waiting
	reading
	understanding
	appending
	syncing
	writing
)

// note has warn told of an error, unless it was and has not gone meanwhile.
func (f *File) note(t trouble, err error) {
	switch {
	case err == nil:
		delete(f.told, t)
		return
	case f.told[t] == err.Error():
		return
	}
	f.told[t] = err.Error()
	// An error of the operating system names the file.
	if pe, le := (*os.PathError)(nil), (*os.LinkError)(nil); !errors.As(err, &pe) && !errors.As(err, &le) {
		err = fmt.Errorf("%s: %w", f.path, err)
	}
	f.untold = append(f.untold, fmt.Errorf("tollgate: state file: %w", err))
	if !f.telling {
		f.telling = true
		go f.tell()
	}
}

// tell tells warn what is untold.
func (f *File) tell() {
	for {
		f.mu.Lock()
		errs := f.untold
		f.untold = nil
		f.telling = len(errs) > 0
		f.mu.Unlock()
		if len(errs) == 0 {
			return
		}
		for _, err := range errs {
			f.warn(err)
		}
	}
}
