package tollgate_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/provider"
)

// A status as a person reads it, and as a program reads it again.
func TestStatusJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status := 200
		tr := &tollgate.Transport{
			Quotas: tollgate.Quotas{"api.example.com": {
				{N: 10, Per: time.Minute, Refill: tollgate.Window},
				tollgate.Concurrency(4),
				{N: 500, Per: 90 * time.Minute, Refill: tollgate.Steady, Burst: 50},
				tollgate.RPD(5000),
			}},
			Base: says(func(_ *http.Request, h http.Header) (int, string) {
				if status == 503 {
					h.Set("Retry-After", "20")
				}
				return status, "{}"
			}),
		}
		call(t, tr, "GET", "https://api.example.com/", "")
		got, err := json.Marshal(tr.Status()[0])
		if err != nil {
			t.Fatal(err)
		}
		const idle = `{"key":"api.example.com","limits":[` +
			`{"unit":"requests","n":10,"per":"1m","refill":"window","left":9,"full":"2000-01-01T00:01:00.03Z"},` +
			`{"unit":"requests","n":4,"left":4},` +
			`{"unit":"requests","n":500,"per":"1h30m","refill":"steady","burst":50,"left":49,"full":"2000-01-01T00:00:10.8054Z"},` +
			`{"unit":"requests","n":5000,"per":"24h","left":4999,"full":"2000-01-02T00:00:43.2Z"}],` +
			`"waiting":0,"in_flight":0}`
		if string(got) != idle {
			t.Errorf("got\n%s, want\n%s", got, idle)
		}
		status = 503
		call(t, tr, "GET", "https://api.example.com/", "")
		st := tr.Status()[0]
		if got, err = json.Marshal(st); err != nil {
			t.Fatal(err)
		}
		if want := `"waiting":0,"in_flight":0,"paused_until":"2000-01-01T00:00:20Z","paused_why":"the server is overloaded"}`; !strings.HasSuffix(string(got), want) {
			t.Errorf("got\n%s, want it to end with\n%s", got, want)
		}
		var again tollgate.Status
		if err := json.Unmarshal(got, &again); err != nil || !reflect.DeepEqual(again, st) {
			t.Errorf("unmarshaled, it is\n%+v, want\n%+v (%v)", again, st, err)
		}
		const line = "api.example.com: 8 of 10 requests per minute left, 4 of 4 requests at once left, 48 of 500 requests per 1h30m0s left, " +
			"4998 of 5000 requests per day left; 0 waiting, 0 in flight; nothing is sent until 2000-01-01 00:00:20 UTC: the server is overloaded"
		if got := st.String(); got != line {
			t.Errorf("got\n%s, want\n%s", got, line)
		}
	})
}

// Every unit and rule is a word, and every span a text, there and back.
func TestStatusRoundTrip(t *testing.T) {
	for unit := range 3 {
		for rule := range 4 {
			for _, per := range []time.Duration{0, 1, time.Millisecond, time.Second, 90 * time.Second, time.Hour, 10*time.Hour + time.Second, 24 * time.Hour} {
				is := tollgate.LimitStatus{Limit: tollgate.Limit{Unit: tollgate.Unit(unit), N: 7, Per: per, Refill: tollgate.Refill(rule), Burst: 2}, Learned: rule > 1, Left: -3}
				if unit > 0 {
					is.Full = time.Unix(1e9, 5).UTC()
				}
				b, err := json.Marshal([]tollgate.LimitStatus{is})
				if err != nil {
					t.Fatal(err)
				}
				var back []tollgate.LimitStatus
				if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, []tollgate.LimitStatus{is}) {
					t.Errorf("%s is\n%+v, want\n%+v (%v)", b, back, is, err)
				}
				if strings.Contains(string(b), "0001-01-01") {
					t.Errorf("a zero time in %s", b)
				}
			}
		}
	}
	for _, bad := range []string{`{"unit":"apples"}`, `{"refill":"never"}`, `{"per":"soon"}`, `{"n":"x"}`} {
		if err := json.Unmarshal([]byte(bad), new(tollgate.LimitStatus)); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
	for _, bad := range []any{provider.Unit(7), provider.Refill(9)} {
		if b, err := json.Marshal(bad); err == nil {
			t.Errorf("%v became %s", bad, b)
		}
	}
}

// What a line says: what is learned, what is owed, that nothing is known, and why
// nothing is sent.
func TestStatusString(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		status tollgate.Status
		want   string
	}{
		{tollgate.Status{Key: "api.example.com"}, "api.example.com: no limit is known; 0 waiting, 0 in flight"},
		{tollgate.Status{Key: "two\nlines", Waiting: 3, InFlight: 2, Limits: []tollgate.LimitStatus{
			{Limit: tollgate.TPM(1000), Left: -20}, {Limit: tollgate.RPM(5), Left: 5, Learned: true},
		}}, `"two\nlines": -20 of 1000 tokens per minute left, 5 of 5 requests per minute left (learned); 3 waiting, 2 in flight`},
		{tollgate.Status{Key: "m", PausedUntil: at, PausedWhy: "the server refuses requests"},
			"m: no limit is known; 0 waiting, 0 in flight; nothing is sent until 2026-01-02 03:04:05 UTC: the server refuses requests"},
	} {
		if got := test.status.String(); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

// A million keys are listed while requests go on: what a request takes meanwhile,
// beside what it takes otherwise.
func BenchmarkStatusMillion(b *testing.B) {
	const keys = 1_000_000
	tr := &tollgate.Transport{
		Quotas: tollgate.Quotas{"*": {{N: 1000, Per: time.Hour, Refill: tollgate.Window}}},
		Base:   roundTripFunc(ok),
	}
	send := func(i int) time.Duration {
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://h%d.example.com/", i), nil)
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		resp, err := tr.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
		return time.Since(began)
	}
	for i := range keys {
		send(i)
	}
	report := func(name string, took []time.Duration) {
		slices.Sort(took)
		for _, p := range []struct {
			name string
			part float64
		}{{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}} {
			b.ReportMetric(float64(took[int(float64(len(took)-1)*p.part)])/1e3, name+"-"+p.name+"-µs")
		}
	}
	var alone []time.Duration
	for i := range 100_000 {
		alone = append(alone, send(i*7919%(2*keys))) // half of them are new
	}
	var meanwhile []time.Duration
	var listing time.Duration
	for b.Loop() {
		done := make(chan int)
		began := time.Now()
		go func() { done <- len(tr.Status()) }()
		for i, n := 0, 0; n == 0; i++ {
			meanwhile = append(meanwhile, send(i*104729%(2*keys)))
			select {
			case n = <-done:
				if n < keys {
					b.Fatalf("%d keys listed", n)
				}
			default:
			}
		}
		listing += time.Since(began)
	}
	report("alone", alone)
	report("meanwhile", meanwhile)
	b.ReportMetric(float64(listing.Milliseconds())/float64(b.N), "listing-ms")
	b.ReportMetric(float64(len(meanwhile))/float64(b.N), "requests-meanwhile")
}
