package dayfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A disk is a state file and its journal. All of it needs the lock.
type disk struct {
	path string
	long int64 // from how many bytes a journal is long

	text     []byte   // of the state file as it is; nil: there is none, or it is of no use
	journal  *os.File // nil: not opened yet
	size     int64    // of the lines in journal
	seq      int64    // of the last line
	line     []byte   // scratch
	dirty    bool     // text lacks some of what was spent
	unsynced bool     // the journal has lines that are not synced
	age      int      // for how many turns
}

func (d *disk) tmp() string { return d.path + ".tmp" }

// load reads the file and the journal into e. It returns in odd why it makes no
// sense of the file, which will be replaced, and in err why the file cannot be
// used. Then e is as it was.
func (d *disk) load(e *Entries, now time.Time) (odd, err error) {
	// A process may have been killed before it renamed it.
	if err := os.Remove(d.tmp()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	text, err := d.read()
	if err != nil {
		return nil, err
	}
	lines, err := d.readJournal()
	if err != nil {
		return nil, err
	}
	seq, spent := int64(0), make(sums)
	known := false // spent includes what is unsaved
	switch {
	case text == nil:
	case d.text != nil && !d.dirty && len(e.unsaved) == 0 && bytes.Equal(text, d.text):
		// Its other marks, time and size and number, may be those of a newer one.
		seq, spent, known = d.seq, e.sums, true
	default:
		if seq, spent, odd = decode(text); odd != nil {
			odd = fmt.Errorf("not understood, starting a new one: %w", odd)
			text, seq, spent, known = nil, d.seq, e.sums, true
		}
	}
	d.text, d.seq = text, replay(lines, seq, spent)
	if !known {
		spent.addAll(e.unsaved)
	}
	spent.forget(now)
	d.dirty = len(lines) > 0 || text == nil && len(spent) > 0
	e.unsaved.forget(now)
	e.sums = spent
	return odd, nil
}

// read returns what the state file says: nil if there is none.
func (d *disk) read() ([]byte, error) {
	f, err := open(d.path, os.O_RDONLY, d.tmp())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if text == nil {
		text = []byte{}
	}
	return text, err
}

// readJournal opens the journal, if there is one, and returns its lines.
func (d *disk) readJournal() ([]byte, error) {
	f, err := open(d.path+".journal", os.O_RDWR, d.tmp())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	lines := text[:bytes.LastIndexByte(text, '\n')+1] // what was cut short is written over
	d.journal, d.size = f, int64(len(lines))
	d.unsynced = d.size > 0 // for all we know
	return lines, nil
}

// append writes what is unsaved to the journal.
func (d *disk) append(e *Entries) error {
	if len(e.unsaved) == 0 {
		return nil
	}
	d.dirty = true
	d.line = d.line[:0]
	for id, of := range e.unsaved {
		for back, n := range of {
			d.seq++ // used up even if that fails: part of it may be on disk
			d.line = appendLine(d.line, d.seq, back, n, id)
		}
	}
	if d.journal == nil {
		f, err := open(d.path+".journal", os.O_RDWR|os.O_CREATE, d.tmp())
		if err != nil {
			return err
		}
		d.journal, d.size = f, 0
	}
	// Not by O_APPEND, which on Windows makes a file that cannot be truncated.
	if _, err := d.journal.WriteAt(d.line, d.size); err != nil {
		_ = d.journal.Truncate(d.size)
		return err
	}
	d.size += int64(len(d.line))
	d.unsynced = true
	clear(e.unsaved)
	return nil
}

// due reports whether the state file has to be written at once: there is none,
// which short-lived processes would leave so, or the journal is no place.
func (d *disk) due(e *Entries) bool {
	return d.dirty && (d.text == nil || len(e.unsaved) > 0 || d.size > max(d.long, int64(len(d.text))))
}

// save writes the state file and empties the journal. If mu is given, it is
// free meanwhile, and the journal is left alone if it grows. Then nothing may be
// unsaved at first: it would be in the file, and go to the journal too.
func (d *disk) save(e *Entries, mu *sync.Mutex) error {
	text, err := encode(d.seq, e.sums)
	if err != nil {
		return err
	}
	seq := d.seq
	if mu != nil {
		mu.Unlock()
	}
	var unsure error
	if err = replace(d.path, d.tmp(), text); err == nil {
		unsure = syncFolder(filepath.Dir(d.path))
	}
	if mu != nil {
		mu.Lock()
	}
	if err != nil {
		return err
	}
	d.text = text
	if d.seq != seq {
		return unsure
	}
	d.dirty, d.unsynced, d.age = false, false, 0
	clear(e.unsaved)
	if d.journal != nil {
		if err := d.journal.Truncate(0); err != nil {
			return err
		}
		d.size = 0
	}
	return unsure
}

// tick is called every turn. It reports whether the journal has waited to be
// synced for long enough.
func (d *disk) tick() bool {
	if d.unsynced {
		d.age++
	}
	return d.age >= linger
}

// sync syncs the journal. mu is free meanwhile.
func (d *disk) sync(mu *sync.Mutex) error {
	d.age = 0
	if !d.unsynced {
		return nil
	}
	seq, journal := d.seq, d.journal
	mu.Unlock()
	err := journal.Sync()
	mu.Lock()
	d.unsynced = d.seq != seq
	return err
}

// close is called before the lock is released.
func (d *disk) close() {
	if d.journal != nil {
		_ = d.journal.Close()
		d.journal = nil
	}
	d.size, d.unsynced, d.age = 0, false, 0
}

// replace writes a file in such a way that it is there as it was or as it is to
// be, whatever happens meanwhile. tmp must not exist.
func replace(path, tmp string, text []byte) error {
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
	}
	return err
}
