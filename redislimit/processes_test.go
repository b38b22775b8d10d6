package redislimit_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate"
	"example.com/tollgate/redislimit"
	"example.com/tollgate/redislimit/internal/redistest"
)

// role says what a process of a test's own is: a server or a client.
const role = "TOLLGATE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "server":
		serve()
	case "client":
		call()
	case "sleeper":
		sleeper()
	default:
		os.Exit(m.Run())
	}
}

// The quota of all processes, a minute's in short.
const (
	quota     = 600
	span      = 3 * time.Second
	processes = 8
	requests  = 5 * quota
)

// A strict server lets no span of time have more than a quota, counting what
// arrives, to the nanosecond.
type strict struct {
	n   int
	per time.Duration

	mu       sync.Mutex
	arrived  []time.Time
	Accepted int
	Refused  int
	By       []map[string]int // of each quota in turn, how many by process
	Took     time.Duration    // from the first one accepted to the last
	first    time.Time
}

// arrive reports whether a request is accepted, else when the next one would be.
func (s *strict) arrive(process string) (ok bool, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.arrived) > 0 && now.Sub(s.arrived[0]) >= s.per {
		s.arrived = s.arrived[1:]
	}
	if len(s.arrived) >= s.n {
		s.Refused++
		return false, s.per - now.Sub(s.arrived[0])
	}
	s.arrived = append(s.arrived, now)
	if s.Accepted == 0 {
		s.first = now
	}
	if s.Accepted%s.n == 0 {
		s.By = append(s.By, make(map[string]int))
	}
	s.Accepted++
	s.By[len(s.By)-1][process]++
	s.Took = now.Sub(s.first)
	return true, 0
}

func (s *strict) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	enough := s.Accepted >= requests
	s.mu.Unlock()
	if enough {
		w.WriteHeader(http.StatusGone)
		return
	}
	if ok, wait := s.arrive(r.Header.Get("Process")); !ok {
		w.Header().Set("Retry-After", strconv.FormatFloat(wait.Seconds(), 'f', 6, 64))
		w.WriteHeader(http.StatusTooManyRequests)
	}
}

// serve is the server's process.
func serve() {
	s := &strict{n: quota, per: span}
	mux := http.NewServeMux()
	mux.Handle("/", s)
	var here sync.WaitGroup
	here.Add(processes)
	mux.HandleFunc("/begin", func(http.ResponseWriter, *http.Request) {
		here.Done()
		here.Wait()
	})
	mux.HandleFunc("/result", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(s)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go func() { panic(http.Serve(l, mux)) }()
	io.Copy(io.Discard, os.Stdin) // until the test ends
}

// call is a client's process: it calls as often as it may, many at a time.
func call() {
	c := redis.NewClient(&redis.Options{Addr: os.Getenv("REDIS")})
	base := &http.Transport{MaxIdleConnsPerHost: 100}
	client := &http.Client{Transport: &tollgate.Retry{Base: &tollgate.Transport{
		Base:    base,
		Quotas:  tollgate.Quotas{"*": {{N: quota, Per: span}}},
		Limiter: redislimit.New(c, redislimit.Options{Timeout: time.Second}),
	}}}
	if _, err := (&http.Client{}).Get(os.Getenv("URL") + "/begin"); err != nil {
		panic(err)
	}
	delay, err := time.ParseDuration(os.Getenv("DELAY"))
	if err != nil {
		panic(err)
	}
	time.Sleep(delay)
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			for {
				req, _ := http.NewRequest("GET", os.Getenv("URL"), nil)
				req.Header.Set("Process", os.Getenv("PROCESS"))
				resp, err := client.Do(req)
				if err != nil {
					panic(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					return
				}
			}
		})
	}
	wg.Wait()
}

// process starts this program in a role, which ends with the test.
func process(t *testing.T, as string, env ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, role+"="+as)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, out
}

// Eight processes share a quota: a strict server in another one refuses none, no
// time is lost, and each gets its part, also where one of them comes before the
// others, or while they wait already.
func TestProcesses(t *testing.T) {
	for name, delay := range map[string]func(i int) time.Duration{
		"at once": func(int) time.Duration { return 0 },
		"one early": func(i int) time.Duration {
			return time.Duration(min(i, 1)) * 500 * time.Millisecond
		},
		"one in the middle": func(i int) time.Duration {
			return time.Duration(max(i-6, 0)) * (span + span/2)
		},
	} {
		t.Run(name, func(t *testing.T) { together(t, delay) })
	}
}

func together(t *testing.T, delay func(i int) time.Duration) {
	s := redistest.Start(t)
	_, out := process(t, "server")
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + strings.TrimSpace(addr)
	var wg sync.WaitGroup
	for i := range processes {
		cmd, _ := process(t, "client", "URL="+url, "REDIS="+s.Addr(), fmt.Sprintf("PROCESS=%d", i), "DELAY="+delay(i).String())
		wg.Go(func() {
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	resp, err := http.Get(url + "/result")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var r strict
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		t.Fatal(err)
	}
	c := s.Client()
	defer c.Close()
	n := exchanges(t, c)
	ideal := (requests/quota - 1) * span
	ratio := r.Took.Seconds() / ideal.Seconds()
	t.Logf("%d accepted, %d refused, %.3f of ideal, %.2f calls of Redis a grant", r.Accepted, r.Refused, ratio, float64(n)/float64(r.Accepted))
	slowest, uneven := 1.05, 0.2
	if race { // nine processes that take several times as long as they should
		slowest, uneven = 1.5, 0.9
	}
	if r.Accepted != requests || r.Refused > 0 || ratio > slowest {
		t.Errorf("want %d accepted, none refused, at most %.2f of ideal", requests, slowest)
	}
	sums, judged := make([]float64, processes), 0.0
	for w, by := range r.By {
		t.Logf("quota %d: %v", w+1, by)
		if w == 0 || time.Duration(w)*span < delay(processes-1) {
			continue // who comes first may have it all
		}
		judged++
		for i := range processes {
			part := float64(by[strconv.Itoa(i)]) / (quota / processes)
			sums[i] += part
			if most := 3 * uneven; part < 1-most || part > 1+most { // a busy machine holds up one or the other
				t.Errorf("quota %d: process %d had %.2f of the mean", w+1, i, part)
			}
		}
	}
	for i, sum := range sums {
		if part := sum / judged; part < 1-uneven || part > 1+uneven {
			t.Errorf("process %d had %.2f of the mean", i, part)
		}
	}
	if n > 2*requests {
		t.Errorf("%d calls of Redis, want at most 2 a grant", n)
	}
}

// exchanges returns how many scripts Redis has run.
func exchanges(t *testing.T, c redis.UniversalClient) (n int) {
	t.Helper()
	for _, line := range strings.Split(c.Info(t.Context(), "commandstats").Val(), "\n") {
		if stats, ok := strings.CutPrefix(line, "cmdstat_eval"); ok {
			_, stats, _ = strings.Cut(stats, "calls=")
			stats, _, _ = strings.Cut(stats, ",")
			k, _ := strconv.Atoi(stats)
			n += k
		}
	}
	return n
}
