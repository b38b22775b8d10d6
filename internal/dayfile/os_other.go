//go:build !unix

package dayfile

import "io/fs"

// openFlags is 0: Windows keeps pipes and devices out of folders, and needs a
// privilege to make a symbolic link, which open and tryFlock look for.
const openFlags = 0

// foreign returns false: the folder's access rights decide.
func foreign(fs.FileInfo, string) bool { return false }

// syncFolder does nothing: Windows has no such thing.
func syncFolder(string) error { return nil }
