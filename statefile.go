package tollgate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// A stateFile holds what was spent of limits of a day, for several processes of
// one machine at once.
//
// Who spends has to hold the file's lock, and to have in memory what the file
// says. The lock is kept until what was spent is written, in the background: a
// request waits for another process to write, but not for its own.
type stateFile struct {
	path string
	warn func(error)
	lock *flock.Flock
	next *flock.Flock // whoever holds it gets lock next: else one could starve the other

	mu     sync.Mutex
	inTurn bool        // another process has or wants lock
	queued bool        // we hold next
	held   bool        // we hold lock, until what is new is written
	yield  bool        // and are about to release it, since another process waits
	dirty  bool        // something is new
	seen   os.FileInfo // of the file as it is in memory
	spent  spending
	wrong  string // what was last warned of
}

// spending is how many tokens were spent, by limit and by when they are back,
// in seconds since the Unix epoch.
type spending map[string]map[int64]int64

const stateVersion = 1

// stateFiles are those in use: transports share them.
var stateFiles struct {
	sync.Mutex
	byPath map[string]*stateFile
}

// openState returns the state file of the given path. It is read when it is
// needed; warn is told when that fails.
func openState(path string, warn func(error)) *stateFile {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	stateFiles.Lock()
	defer stateFiles.Unlock()
	s := stateFiles.byPath[path]
	if s == nil {
		s = &stateFile{path: path, warn: warn, lock: flock.New(path + ".lock"), next: flock.New(path + ".next")}
		if stateFiles.byPath == nil {
			stateFiles.byPath = make(map[string]*stateFile)
		}
		stateFiles.byPath[path] = s
	}
	return s
}

// with calls f, which may look at what was spent and change it, and says
// whether it has. with returns false if that has to wait for another process.
func (s *stateFile) with(now time.Time, f func(spending) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.yield || !s.held && !s.acquire() {
		return false
	}
	if !s.held {
		s.read(now)
	}
	changed := f(s.spent)
	s.dirty = s.dirty || changed
	switch {
	case s.held: // the writer releases it
	case changed:
		s.held = true
		go s.write()
	default:
		s.release()
	}
	return true
}

// acquire tries to lock the file: at once if nobody is known to wait for it,
// else in turn. A file that cannot be locked at all is used all the same.
func (s *stateFile) acquire() bool {
	if s.inTurn && !s.queued {
		ok, err := s.next.TryLock()
		if err != nil {
			s.complain(err)
			return true
		}
		if !ok {
			return false
		}
		s.queued = true
		time.AfterFunc(patience, s.leave) // or who has given up would keep others out
	}
	ok, err := s.lock.TryLock()
	if err != nil {
		s.complain(err)
	} else if !ok {
		s.inTurn = true
		return false
	}
	s.inTurn = false
	s.dequeue()
	return true
}

// dequeue gives the place as the next one away.
func (s *stateFile) dequeue() {
	if s.queued {
		s.queued = false
		_ = s.next.Unlock()
	}
}

// patience is how long a process may be the next one without asking again.
const patience = 50 * time.Millisecond

// leave gives up waiting.
func (s *stateFile) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dequeue()
}

// complain warns of what is wrong, once.
func (s *stateFile) complain(err error) {
	if s.wrong != err.Error() {
		s.wrong = err.Error()
		s.warn(fmt.Errorf("tollgate: state file %s: %w", s.path, err))
	}
}

func (s *stateFile) release() { _ = s.lock.Unlock() }

// read reads the file if it is not the one in memory. What cannot be read is
// as if it were not there, but for what this process has spent itself.
func (s *stateFile) read(now time.Time) {
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.seen, s.spent = nil, make(spending)
		return
	case err == nil && s.seen != nil && os.SameFile(info, s.seen) && info.ModTime().Equal(s.seen.ModTime()) && info.Size() == s.seen.Size():
		return
	}
	var file struct {
		Version int
		Spent   spending
	}
	text, err := os.ReadFile(s.path)
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err == nil && file.Version != stateVersion {
		err = fmt.Errorf("it has version %d, not %d", file.Version, stateVersion)
	}
	if s.spent == nil {
		s.spent = make(spending)
	}
	s.seen = info
	if err != nil {
		s.complain(fmt.Errorf("not understood, starting a new one: %w", err))
		return
	}
	s.spent = file.Spent
	if s.spent == nil {
		s.spent = make(spending)
	}
	s.spent.forget(now)
}

func (s spending) add(id string, back, n int64) {
	if s[id] == nil {
		s[id] = make(map[int64]int64)
	}
	s[id][back] = max(0, s[id][back]+n)
}

// forget forgets what is back.
func (s spending) forget(now time.Time) {
	for id, spent := range s {
		maps.DeleteFunc(spent, func(back, n int64) bool { return back < now.Add(-time.Hour).Unix() || n <= 0 })
		if len(spent) == 0 {
			delete(s, id)
		}
	}
}

// write writes what is new until nothing is, and then releases the file; sooner
// if another process waits for it.
func (s *stateFile) write() {
	for {
		s.mu.Lock()
		if !s.dirty {
			s.held, s.yield = false, false
			s.release()
			s.mu.Unlock()
			return
		}
		s.dirty = false
		s.spent.forget(time.Now())
		text, err := json.Marshal(struct {
			Version int      `json:"version"`
			Spent   spending `json:"spent"`
		}{stateVersion, s.spent})
		s.mu.Unlock()
		var info os.FileInfo
		if err == nil {
			info, err = replace(s.path, text)
		}
		alone, _ := s.next.TryLock()
		if alone {
			_ = s.next.Unlock()
		}
		s.mu.Lock()
		if err != nil {
			s.complain(err)
		}
		s.seen, s.yield = info, !alone
		s.inTurn = s.inTurn || s.yield
		s.mu.Unlock()
	}
}

// replace writes a file in such a way that it is there as it was or as it is
// to be, whatever happens meanwhile.
func replace(path string, text []byte) (os.FileInfo, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	return os.Stat(path)
}
