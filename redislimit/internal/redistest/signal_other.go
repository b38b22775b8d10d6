//go:build !unix

package redistest

import "syscall"

// Windows has no such signals: to send one is an error, which fails the test.
const (
	sigStop = syscall.Signal(0x13)
	sigCont = syscall.Signal(0x12)
)
