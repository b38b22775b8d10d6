//go:build !unix

package bench

import "time"

var began = time.Now()

// cpu stands in for the processor time by the time that has passed.
func cpu() time.Duration { return time.Since(began) }
