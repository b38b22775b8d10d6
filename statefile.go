package tollgate

import (
	"bytes"
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
// says. What is spent goes to a journal at once, which a process that ends in
// the next moment leaves behind, and to the file in the background. The lock is
// kept until then: a request waits for another process to write, but not for
// its own.
type stateFile struct {
	path string
	warn func(error)
	lock *flock.Flock
	next *flock.Flock // whoever holds it gets lock next: else one could starve the other

	mu      sync.Mutex
	inTurn  bool        // another process has or wants lock
	queued  bool        // we hold next
	held    bool        // we hold lock
	writing bool        // a goroutine writes what is new
	idle    *time.Timer // releases lock if nothing else is; nil: something else will
	yield   bool        // we are about to release it, since another process waits
	dirty   bool        // something is new
	text    []byte      // of the file that is in memory
	spent   spending
	seq     int64    // of the last entry in the journal
	fresh   []byte   // entries that are not in the journal yet
	log     *os.File // the journal, while lock is held
	wrong   string   // what was last warned of
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

// with calls f, which may look at what was spent and add to it. with returns
// false if that has to wait for another process.
func (s *stateFile) with(now time.Time, f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.yield || !s.held && !s.acquire() {
		return false
	}
	if !s.held {
		s.held = true
		s.read(now)
	}
	f()
	if len(s.fresh) > 0 {
		s.record()
		s.dirty = true
	}
	switch {
	case s.writing:
	case s.dirty:
		s.writing = true
		go s.write()
	case s.idle == nil:
		s.release()
	}
	return true
}

// add notes n more tokens as spent.
func (s *stateFile) add(id string, back, n int64) {
	s.spent.add(id, back, n)
	s.seq++
	s.fresh = fmt.Appendf(s.fresh, "%d %d %d %q\n", s.seq, back, n, id)
}

// record writes what was added to the journal.
func (s *stateFile) record() {
	var err error
	if s.log == nil {
		s.log, err = os.OpenFile(s.journal(), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	}
	if err == nil {
		_, err = s.log.Write(s.fresh)
	}
	if err != nil {
		s.complain(err)
	}
	s.fresh = s.fresh[:0]
}

func (s *stateFile) journal() string { return s.path + ".journal" }

// replay adds what a process has left in the journal.
func (s *stateFile) replay() {
	text, err := os.ReadFile(s.journal())
	if err != nil {
		return // there is none
	}
	for line := range bytes.Lines(text) {
		var seq, back, n int64
		var id string
		if _, err := fmt.Sscanf(string(line), "%d %d %d %q\n", &seq, &back, &n, &id); err != nil || seq <= s.seq {
			continue // half a line, or in the file already
		}
		s.spent.add(id, back, n)
		s.seq, s.dirty = seq, true
	}
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

func (s *stateFile) release() {
	if s.idle != nil {
		s.idle.Stop()
		s.idle = nil
	}
	if s.log != nil {
		_ = s.log.Close()
		s.log = nil
	}
	s.held, s.yield = false, false
	_ = s.lock.Unlock()
}

// linger is how long the lock is kept when nothing is left to be written, and
// nobody waits: the next request finds it held.
const linger = 20 * time.Millisecond

// rest releases the lock when it has lingered.
func (s *stateFile) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held && !s.writing {
		s.release()
	}
}

// read reads the file, and the journal. What cannot be read is as if it were not
// there, but for what this process has spent itself.
func (s *stateFile) read(now time.Time) {
	defer s.replay()
	text, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.text, s.spent, s.seq = nil, make(spending), 0
		return
	case err == nil && s.text != nil && bytes.Equal(text, s.text):
		return // its other marks, time and size and number, may be those of a newer one
	}
	var file contents
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err == nil && file.Version != stateVersion {
		err = fmt.Errorf("it has version %d, not %d", file.Version, stateVersion)
	}
	s.text = text
	if err != nil {
		s.complain(fmt.Errorf("not understood, starting a new one: %w", err))
	} else {
		s.spent, s.seq = file.Spent, file.Seq
	}
	if s.spent == nil {
		s.spent = make(spending)
	}
	s.spent.forget(now)
}

// contents is what the file says.
type contents struct {
	Version int      `json:"version"`
	Seq     int64    `json:"seq"` // of the last entry of the journal that is in it
	Spent   spending `json:"spent"`
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

// write writes what is new until nothing is.
func (s *stateFile) write() {
	for {
		s.mu.Lock()
		if !s.dirty {
			s.writing = false
			if s.yield {
				s.release()
			} else if s.idle == nil {
				s.idle = time.AfterFunc(linger, s.rest)
			} else {
				s.idle.Reset(linger)
			}
			s.mu.Unlock()
			return
		}
		s.dirty = false
		s.spent.forget(time.Now())
		seq := s.seq
		text, err := json.Marshal(contents{stateVersion, seq, s.spent})
		s.mu.Unlock()
		if err == nil {
			err = replace(s.path, text)
		}
		alone, _ := s.next.TryLock()
		if alone {
			_ = s.next.Unlock()
		}
		s.mu.Lock()
		switch {
		case err != nil:
			s.complain(err)
			text = nil
		case seq == s.seq && s.log != nil:
			_ = s.log.Truncate(0)
		}
		s.text, s.yield = text, !alone
		s.inTurn = s.inTurn || s.yield
		s.mu.Unlock()
	}
}

// replace writes a file in such a way that it is there as it was or as it is
// to be, whatever happens meanwhile.
func replace(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
