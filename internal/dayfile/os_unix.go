//go:build unix

package dayfile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// openFlags make open fail at a symbolic link, and not wait at a pipe.
const openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// foreign reports whether a file belongs to another user. Some file systems,
// SMB and NFS among them, give all files an owner of their choice: there a file
// that this process makes at tmp, which must be free, tells who it is.
func foreign(info fs.FileInfo, tmp string) bool {
	owner := info.Sys().(*syscall.Stat_t).Uid
	if int64(owner) == int64(os.Geteuid()) {
		return false
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return true
	}
	made, err := f.Stat()
	f.Close()
	return errors.Join(err, os.Remove(tmp)) != nil || made.Sys().(*syscall.Stat_t).Uid != owner
}

// syncFolder makes a rename in a folder survive a power failure.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err = f.Sync(); errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		return nil // not every file system has that
	}
	return err
}
