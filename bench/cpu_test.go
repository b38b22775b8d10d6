//go:build unix

package bench

import (
	"syscall"
	"time"
)

// cpu returns the processor time that this process has taken, collections of
// garbage included. What else runs on the machine is not in it.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
