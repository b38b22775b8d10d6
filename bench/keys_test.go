package bench

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
)

// A visitor calls hosts that nobody has named before, each a key of its own.
type visitor struct {
	*tollgate.Transport
	hosts int
}

// visit makes a call to a host.
func (v *visitor) visit(ctx context.Context, host int) {
	req := unknown.request(ctx)
	req.Host = "host-" + strconv.Itoa(host) + ".example.org"
	req.URL.Host = req.Host
	v.call(req)
}

// ask makes a call to a model of Gemini.
func (v *visitor) ask(ctx context.Context, model string) {
	req := gemini.request(ctx)
	req.URL.Path = "/v1beta/models/" + model + ":generateContent"
	v.call(req)
}

func (v *visitor) call(req *http.Request) {
	resp, err := v.RoundTrip(req)
	if err != nil {
		panic(err)
	}
	drain(resp.Body)
}

// explore makes a call to each of n new hosts.
func (v *visitor) explore(ctx context.Context, n int) {
	for range n {
		v.hosts++
		v.visit(ctx, v.hosts)
	}
}

// status measures the longest that a request stalls while Status is asked of
// 100,000 keys, and how long the longest takes in as much time when nobody asks:
// the median over rounds of one Status each. Of ten requests one is for a new
// key.
func status(b *testing.B) []figure {
	const keys, rounds = 100_000, 10
	v := &visitor{Transport: limited(unknown, tollgate.Quota{hourly(tollgate.Requests, 1000)})}
	v.explore(b.Context(), keys)
	longest := func(done <-chan struct{}) float64 {
		var most time.Duration
		for i := 0; ; i++ {
			began := time.Now()
			if i%10 == 0 {
				v.explore(b.Context(), 1)
			} else {
				v.visit(b.Context(), 1+i%keys)
			}
			most = max(most, time.Since(began))
			select {
			case <-done:
				return ms(most)
			default:
			}
		}
	}
	var asked, quiet, took []float64
	for range rounds {
		runtime.GC()
		done := make(chan struct{})
		began := time.Now()
		go func() {
			v.Status()
			close(done)
		}()
		asked = append(asked, longest(done))
		passed := time.Since(began)
		took = append(took, ms(passed))

		done = make(chan struct{})
		time.AfterFunc(passed, func() { close(done) })
		quiet = append(quiet, longest(done))
	}
	return []figure{
		{"Status of 100,000 keys", "ms", median(took), ""},
		{"longest stall of a request meanwhile", "ms", median(asked), "a few"},
		{"longest stall of a request when nobody asks", "ms", median(quiet), ""},
	}
}

// forgotten measures what is kept of keys: of 100,000 hosts, and of 1,000 models
// with names of 60 KB, after a call to each, and after an hour in which all but
// one are idle. It is an hour of virtual time, in a process of its own.
func forgotten(b *testing.B) []figure {
	var figures []figure
	for _, c := range []struct{ kind, what string }{{"hosts", "100,000 keys"}, {"models", "1,000 keys of 60 KB"}} {
		kept := child(b, "forget "+c.kind, "-test.run=^TestForget$", 2)
		figures = append(figures,
			figure{c.what + ", heap each while in use", "B", kept[0], ""},
			figure{c.what + ", heap each when idle for an hour", "B", kept[1], "about 0"})
	}
	return figures
}

// TestForget is the part of BenchmarkScale/forgotten that needs virtual time.
func TestForget(t *testing.T) {
	kind, ok := strings.CutPrefix(task(), "forget ")
	if !ok {
		t.Skip("for BenchmarkScale to run")
	}
	synctest.Test(t, func(t *testing.T) {
		base := unknown
		if kind == "models" {
			base = gemini
		}
		v := &visitor{Transport: limited(base, tollgate.Quota{tollgate.RPM(10)})}
		v.visit(t.Context(), 0)
		before := inUse()
		n := 100_000.0
		if kind == "models" {
			n = 1000
			for i := range int(n) {
				v.ask(t.Context(), strings.Repeat("x", 60_000)+strconv.Itoa(i))
			}
		} else {
			v.explore(t.Context(), int(n))
		}
		inUsed := inUse()
		time.Sleep(time.Hour)
		v.visit(t.Context(), 0) // what happens only when something happens has its chance
		v.Status()
		time.Sleep(time.Hour)
		after := inUse()
		fmt.Println((float64(inUsed)-float64(before))/n, (float64(after)-float64(before))/n)
		runtime.KeepAlive(v)
	})
}
