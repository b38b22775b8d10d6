//go:build unix

package redistest

import "syscall"

// Signals that have a process stand still, and go on.
const (
	SIGSTOP = syscall.SIGSTOP
	SIGCONT = syscall.SIGCONT
)
