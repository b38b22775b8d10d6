//go:build !unix

package redistest

import "syscall"

// Signals that Windows does not have: to send one is an error, which fails the test.
const (
	SIGSTOP = syscall.Signal(0x13)
	SIGCONT = syscall.Signal(0x12)
)
