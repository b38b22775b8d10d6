package dayfile

import (
	"errors"
	"io/fs"
	"os"
)

var (
	errNotRegular = errors.New("not a regular file")
	errForeign    = errors.New("belongs to another user")
	errReplaced   = errors.New("replaced while it was opened")
)

func notRegular(path string) error { return &fs.PathError{Op: "open", Path: path, Err: errNotRegular} }

// open opens a regular file of this user. It follows no link and waits for no
// reader or writer. tmp is a name that is free, for this process to try things.
func open(path string, flag int, tmp string) (*os.File, error) {
	before, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0:
		flag |= os.O_EXCL // follows no link
	case err != nil:
		return nil, err
	case !before.Mode().IsRegular():
		return nil, notRegular(path)
	default:
		flag &^= os.O_CREATE
	}
	f, err := os.OpenFile(path, flag|openFlags, 0o600)
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	switch {
	case err != nil:
	case !after.Mode().IsRegular():
		err = notRegular(path)
	case before != nil && !os.SameFile(before, after):
		err = &fs.PathError{Op: "open", Path: path, Err: errReplaced}
	case foreign(after, tmp):
		err = &fs.PathError{Op: "open", Path: path, Err: errForeign}
	default:
		return f, nil
	}
	f.Close()
	return nil, err
}
