package redislimit_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate"
	"example.com/tollgate/redislimit"
	"example.com/tollgate/redislimit/internal/redistest"
)

// lease is for how long a process that is not heard of is taken to live, as the
// documentation says.
const lease = 10 * time.Second

// The quota that a process which is stopped shares with one that is not.
const (
	sleeperRate  = 40
	sleeperSlots = 4
)

func sleeperQuota() tollgate.Quota {
	return tollgate.Quota{{N: sleeperRate, Per: time.Second}, tollgate.Concurrency(sleeperSlots)}
}

// hammer calls from more goroutines than may call at once until done is closed.
func hammer(process, url, redisAddr string, done <-chan struct{}) {
	c := redis.NewClient(&redis.Options{Addr: redisAddr})
	defer c.Close()
	client := &http.Client{Transport: &tollgate.Retry{Base: &tollgate.Transport{
		Quotas:  tollgate.Quotas{"*": sleeperQuota()},
		Limiter: redislimit.New(c, redislimit.Options{Timeout: time.Second, Instances: 2}),
		Trace:   &tollgate.Trace{StoreError: func(string, error) {}},
	}}}
	var wg sync.WaitGroup
	for range 2 * sleeperSlots {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				req, _ := http.NewRequest("GET", url, nil)
				req.Header.Set("Process", process)
				resp, err := client.Do(req)
				if err != nil {
					time.Sleep(10 * time.Millisecond) // the test is over
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
}

// sleeper is the process that is stopped.
func sleeper() {
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends
		close(done)
	}()
	hammer("sleeper", os.Getenv("URL"), os.Getenv("REDIS"), done)
}

// A busy server counts what arrives and what is under way.
type busy struct {
	strict
	mu      sync.Mutex
	flying  map[string]int
	most    int            // under way at once
	arrived map[string]int // by process
}

func (b *busy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	process := r.Header.Get("Process")
	b.mu.Lock()
	b.flying[process]++
	b.arrived[process]++
	b.most = max(b.most, b.flying["sleeper"]+b.flying["other"])
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.flying[process]--
		b.mu.Unlock()
	}()
	if ok, wait := b.arrive(process); !ok {
		w.Header().Set("Retry-After", strconv.FormatFloat(wait.Seconds(), 'f', 6, 64))
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	time.Sleep(50 * time.Millisecond)
}

// count returns how many requests of a process have arrived, and how many were
// refused of all.
func (b *busy) count(process string) (arrived, refused int) {
	b.mu.Lock()
	arrived = b.arrived[process]
	b.mu.Unlock()
	b.strict.mu.Lock()
	defer b.strict.mu.Unlock()
	return arrived, b.Refused
}

// A process is stopped for longer than its lease. The other one has the whole quota
// meanwhile, its slots too; when the first goes on, it gets its part again, at most
// one window is refused in all, and no more than the slots are in use at once, but
// for those that it had when it was stopped.
func TestStoppedProcess(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	b := &busy{strict: strict{n: sleeperRate, per: time.Second}, flying: make(map[string]int), arrived: make(map[string]int)}
	s := httptest.NewServer(b)
	defer s.Close()
	done := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(done)
	wg.Go(func() { hammer("other", s.URL, r.Addr(), done) })
	cmd, _ := process(t, "sleeper", "URL="+s.URL, "REDIS="+r.Addr())
	arrived := func(process string) int {
		n, _ := b.count(process)
		return n
	}
	both := func(n int) { // more of each arrive
		one, other := arrived("sleeper"), arrived("other")
		await(t, "both get their parts", func() bool { return arrived("sleeper") >= one+n && arrived("other") >= other+n })
	}
	both(20)
	if err := cmd.Process.Signal(redistest.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	await(t, "the lease is over", func() bool { return time.Since(stopped) > lease+time.Second })
	before, began := arrived("other"), time.Now()
	await(t, "the other one has all", func() bool { return arrived("other") >= before+2*sleeperRate })
	if d := time.Since(began); d > 8*time.Second {
		t.Errorf("the other process needed %v for two windows", d)
	}
	if err := cmd.Process.Signal(redistest.SIGCONT); err != nil {
		t.Fatal(err)
	}
	both(20)
	if _, refused := b.count("sleeper"); refused > sleeperRate {
		t.Errorf("%d refused, want at most a window", refused)
	}
	if b.mu.Lock(); b.most > 2*sleeperSlots {
		t.Errorf("%d under way at once, want at most %d and as many again", b.most, sleeperSlots)
	}
	b.mu.Unlock()
	_, refused := b.count("sleeper")
	both(20)
	if _, again := b.count("sleeper"); again > refused {
		t.Errorf("%d refused long after", again-refused)
	}
}
