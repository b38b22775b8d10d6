package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"example.com/tollgate"
)

// BenchmarkWaiters measures the memory of 100,000 goroutines in line, heap and
// stacks, each in a fresh process with stacks of a fixed initial size: or
// whichever runs first would pay for both.
//
// A stack doubles when it is full, so what a waiter costs depends on the frames
// below it: on none but Wait itself, or on a caller with 128 bytes of its own.
func BenchmarkWaiters(b *testing.B) {
	for _, caller := range []string{"caller", "bare"} {
		b.Run(caller, func(b *testing.B) {
			var ours, theirs float64
			for b.Loop() {
				ours, theirs = measure(b, "tollgate", caller), measure(b, "rate", caller)
			}
			report(b, "bytes", ours, theirs)
		})
	}
}

const waitersEnv = "TOLLGATE_BENCH_WAITERS"

func measure(b *testing.B, limiter, caller string) (bytes float64) {
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "GODEBUG=adaptivestackstart=0", waitersEnv+"="+limiter+" "+caller)
	out, err := cmd.Output()
	if err == nil {
		_, err = fmt.Sscan(string(out), &bytes)
	}
	if err != nil {
		b.Fatal(err)
	}
	return bytes
}

func TestMain(m *testing.M) {
	var limiter, caller string
	if _, err := fmt.Sscan(os.Getenv(waitersEnv), &limiter, &caller); err != nil {
		os.Exit(m.Run())
	}
	wait := rate.NewLimiter(rate.Every(time.Hour), 1).Wait
	if limiter == "tollgate" {
		b := tollgate.NewBucket(tollgate.Limit{N: 1, Per: time.Hour})
		wait = func(ctx context.Context) error { return b.Take(ctx, 1) }
	}
	fmt.Println(parked(wait, caller == "bare"))
}

// parked returns the bytes that each of 100,000 waiters takes.
func parked(wait func(context.Context) error, bare bool) float64 {
	const n = 100_000
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var begun atomic.Int64
	before := inUse()
	for range n {
		wg.Add(1)
		go func() {
			begun.Add(1)
			if bare {
				_ = wait(ctx)
			} else {
				framed(ctx, wait)
			}
			wg.Done()
		}()
	}
	for begun.Load() < n {
		runtime.Gosched()
	}
	after := inUse() // its collections stop the world: by then all are parked
	cancel()
	wg.Wait()
	return float64(after-before) / n
}

// framed calls wait from a frame of more than 128 bytes.
//
//go:noinline
func framed(ctx context.Context, wait func(context.Context) error) {
	var frame [128]byte
	_ = wait(ctx)
	runtime.KeepAlive(&frame)
	_ = frame[len(os.Args)]
}

func inUse() uint64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
