package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"example.com/tollgate"
)

// BenchmarkWaiters measures the memory of 100,000 goroutines that wait for a
// bucket, heap and stacks, each in a fresh process with stacks of a fixed
// initial size: or whichever runs first would pay for both.
//
// A stack doubles when it is full, so what a waiter costs depends on the frames
// below it: on none but Wait itself, or on a caller with 128 bytes of its own.
func BenchmarkWaiters(b *testing.B) {
	for _, caller := range []string{"caller", "bare"} {
		b.Run(caller, func(b *testing.B) {
			var ours, theirs float64
			for b.Loop() {
				ours, theirs = parked(b, "tollgate", caller, many)[0], parked(b, "rate", caller, many)[0]
			}
			report(b, "bytes", ours, theirs)
		})
	}
}

// waiters measures the requests that wait at a Transport, as BenchmarkWaiters
// does: the memory and the processor time of each, its goroutine included, and
// whether ten times as many take ten times as much.
func waiters(b *testing.B) []figure {
	some, more := parked(b, "transport", "caller", many), parked(b, "transport", "caller", 10*many)
	return []figure{
		{"100,000 waiters, memory each", "B", some[0], "5500"},
		{"1,000,000 waiters, memory each", "B", more[0], "5500"},
		{"100,000 waiters, CPU each", "µs", some[1], ""},
		{"1,000,000 waiters, CPU each", "µs", more[1], "as 100,000"},
	}
}

// parked returns the bytes and the microseconds of processor time that each of n
// waiters takes.
func parked(b *testing.B, limiter, caller string, n int) []float64 {
	return child(b, fmt.Sprintf("park %s %s %d", limiter, caller, n), "", 2)
}

// taskEnv says what a process that child started is for.
const taskEnv = "TOLLGATE_BENCH_TASK"

func task() string { return os.Getenv(taskEnv) }

// child runs a task in a process of its own, which prints n numbers.
func child(b *testing.B, task, arg string, n int) []float64 {
	cmd := exec.CommandContext(b.Context(), os.Args[0], arg)
	cmd.Env = append(os.Environ(), "GODEBUG=adaptivestackstart=0", taskEnv+"="+task)
	out, err := cmd.Output()
	numbers := make([]float64, n)
	for i, field := range strings.Fields(string(out)) {
		if i < n && err == nil {
			_, err = fmt.Sscan(field, &numbers[i])
		}
	}
	if err != nil {
		b.Fatalf("%s: %v\n%s", task, err, out)
	}
	return numbers
}

func TestMain(m *testing.M) {
	var limiter, caller string
	var n int
	if _, err := fmt.Sscanf(task(), "park %s %s %d", &limiter, &caller, &n); err != nil {
		os.Exit(m.Run())
	}
	park(limiter, caller == "bare", n)
}

// park prints what n waiters take. They come in batches, each of which has
// nearly all of its goroutines wait before the next one comes: a moment when all
// come at once is BenchmarkScale/join's.
func park(limiter string, bare bool, n int) {
	ctx, cancel := context.WithCancel(context.Background())
	var wait func(context.Context) error
	switch limiter {
	case "tollgate":
		b := tollgate.NewBucket(tollgate.Limit{N: 1, Per: time.Hour})
		wait = func(ctx context.Context) error { return b.Take(ctx, 1) }
	case "rate":
		wait = rate.NewLimiter(rate.Every(time.Hour), 1).Wait
	case "transport":
		t := limited(unknown, tollgate.Quota{hourly(tollgate.Requests, 1)})
		req := unknown.request(ctx) // the caller's memory: all have the same
		wait = func(context.Context) error {
			resp, err := t.RoundTrip(req)
			if err == nil {
				drain(resp.Body)
			}
			return err
		}
	}
	var wg sync.WaitGroup
	var begun atomic.Int64
	before, began := inUse(), cpu()
	for i := range n {
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
		for i%1000 == 999 && begun.Load() <= int64(i) {
			runtime.Gosched()
		}
	}
	busy := cpu() - began
	after := inUse() // its collections stop the world: by then all are parked
	cancel()
	wg.Wait()
	fmt.Println(float64(after-before)/float64(n), us(busy)/float64(n))
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
