package zoo

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
)

var (
	seed    = flag.Uint64("zoo.seed", 0, "play the servers of this seed only")
	servers = flag.Int("zoo.servers", 0, "how many servers of each seed (default 100, with the race detector 10)")
	play    = flag.Uint64("zoo.play", 0, "play the server of this name only, and print what happens")
	each    = flag.Bool("zoo.each", false, "with zoo.play: print each request too")
	status  = flag.Bool("zoo.status", false, "with zoo.play: print the Transport's Status whenever it changes, once a second at most")
	worst   = flag.Int("zoo.worst", 10, "how many of the worst servers to print")
	by      = flag.String("zoo.by", "", "print a row for each place on these axes, separated by commas: counts, refused, shut, hint, told, load, distance, think, per, n")
)

// What is asked of tollgate. Refusals of the first volley, which is sent before
// anything can be known, are a matter of the servers that a seed makes: the mean is
// asked for of those seeds that are played when none is named. Of servers that stay
// shut for a minute once they have refused, no client can do the ideal: makespans
// are compared with what is attainable.
const (
	mostLost     = 0
	mostMean     = 0.20 // refusals a request
	mostLater    = 0.06 // of those that are not of the first volley
	mostP99      = 2.0  // refusals a request, of the servers
	mostSlowness = 1.6  // makespan in terms of what is attainable, at p90 of the servers
)

// fewSlow is how many servers it takes to speak of a p90.
const fewSlow = 30

// seeds are those that are played when none is named.
var seeds = []uint64{1, 2, 3, 4, 5}

func client(server http.RoundTripper, q tollgate.Quotas) http.RoundTripper {
	return &tollgate.Retry{Base: &tollgate.Transport{Base: server, Quotas: q}}
}

// Whatever the server counts and whatever it says: nothing is lost, and few
// requests are refused.
func TestZoo(t *testing.T) {
	if *play != 0 {
		one(t, New(*play))
		return
	}
	list, n := seeds, *servers
	if *seed != 0 {
		list = []uint64{*seed}
	}
	if n == 0 {
		if n = 100; race {
			n = 10
		}
	}
	began := time.Now()
	all := playAll(t, Names(n, list...))
	s := all.Summary()
	t.Logf("seeds %v, %d servers each, in %v\n%v\n\nThe worst:\n%v\nThe slowest where the limit is known:\n%v",
		list, n, time.Since(began).Round(time.Second), s, all.Worst(*worst), all.Slowest(*worst/2))
	if *by != "" {
		t.Logf("by %s\n%s", *by, all.By(*by))
	}
	if s.Lost > mostLost {
		t.Errorf("%d requests lost, want at most %d", s.Lost, mostLost)
	}
	if s.Mean > mostMean && *seed == 0 && !race {
		t.Errorf("%.3f refused a request, want at most %.2f", s.Mean, mostMean)
	}
	if s.Mean-s.Volley > mostLater {
		t.Errorf("%.3f refused a request after the first volley, want at most %.2f", s.Mean-s.Volley, mostLater)
	}
	if s.Refused.P99 > mostP99 {
		t.Errorf("%.2f refused a request at p99 of the servers, want at most %.2f", s.Refused.P99, mostP99)
	}
	if s.Told >= fewSlow && s.Attained.P90 > mostSlowness {
		t.Errorf("makespan is %.2f of what is attainable at p90, want at most %.2f", s.Attained.P90, mostSlowness)
	}
}

// playAll plays the servers of the given names, a bubble each.
func playAll(t *testing.T, names []uint64) Report {
	const part = 20
	all := make(Report, len(names))
	t.Run("servers", func(t *testing.T) {
		for from := 0; from < len(names); from += part {
			t.Run(fmt.Sprint(names[from]), func(t *testing.T) {
				t.Parallel()
				for i := from; i < min(from+part, len(names)); i++ {
					synctest.Test(t, func(*testing.T) { all[i] = New(names[i]).Play(client) })
					all[i].Log = Log{}
				}
			})
		}
	})
	return all
}

// one plays one server and prints what happens.
func one(t *testing.T, s Server) {
	var states []string
	var r Result
	synctest.Test(t, func(*testing.T) {
		transport := &tollgate.Transport{Quotas: s.Quotas()}
		stop := make(chan struct{})
		if *status {
			go watch(transport, s.Start, stop, &states)
		}
		r = s.Play(func(server http.RoundTripper, _ tollgate.Quotas) http.RoundTripper {
			transport.Base = server
			return &tollgate.Retry{Base: transport}
		})
		close(stop)
		synctest.Wait()
	})
	t.Logf("%v\nideal %v\n\n%v", r, s.Ideal(), r.Log)
	if *each {
		t.Logf("\n%s", r.Log.Requests())
	}
	for _, state := range states {
		t.Log(state)
	}
}

// watch notes the Status of a transport once a second, if it is another.
func watch(transport *tollgate.Transport, start time.Duration, stop chan struct{}, states *[]string) {
	began, last := time.Now(), ""
	time.Sleep(start % time.Second)
	for {
		state, err := json.Marshal(transport.Status())
		if err != nil {
			state = []byte(err.Error())
		}
		if string(state) != last {
			last = string(state)
			*states = append(*states, fmt.Sprintf("%.0f: %s", (time.Since(began)-start).Seconds(), state))
		}
		select {
		case <-stop:
			return
		case <-time.After(time.Second):
		}
	}
}
