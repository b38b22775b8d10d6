package tollgate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
)

// everything returns a Trace each of whose functions calls f with its name and what
// it was told, one at a time.
func everything(f func(name string, args []any)) *tollgate.Trace {
	t, mu := new(tollgate.Trace), new(sync.Mutex)
	v := reflect.ValueOf(t).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		v.Field(i).Set(reflect.MakeFunc(v.Field(i).Type(), func(args []reflect.Value) []reflect.Value {
			list := make([]any, len(args))
			for i, a := range args {
				list[i] = a.Interface()
			}
			mu.Lock()
			defer mu.Unlock()
			f(name, list)
			return nil
		}))
	}
	return t
}

// geminiSays is a Gemini API that answers with the n-th of the statuses, and the last
// one for ever: 429 asks for 7 s, 503 for 5 s, and 200 states its cost.
func geminiSays(statuses ...int) http.RoundTripper {
	var n atomic.Int32
	return says(func(_ *http.Request, h http.Header) (int, string) {
		status := statuses[min(int(n.Add(1))-1, len(statuses)-1)]
		switch status {
		case 200:
			return 200, `{"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":3}}`
		case 418: // a refusal within
			return 200, `{"error":{"code":429,"message":"Please retry in 7s.","status":"RESOURCE_EXHAUSTED"}}`
		case 429:
			return 429, `{"error":{"code":429,"message":"Please retry in 7s.","status":"RESOURCE_EXHAUSTED"}}`
		}
		h.Set("Retry-After", "5")
		return status, "{}"
	})
}

// What is called in which order, for attempts of every kind.
func TestTraceOrder(t *testing.T) {
	for _, test := range []struct {
		name     string
		statuses []int
		want     string
	}{
		{"accepted", []int{200}, "Sending Settled Done"},
		{"refused, then accepted", []int{429, 200}, "Sending Refused Learned Paused Done Retrying Waiting Resumed Sending Settled Done"},
		{"overloaded, then accepted", []int{503, 200}, "Sending Refused Paused Done Retrying Waiting Resumed Sending Settled Done"},
		{"failed, then accepted", []int{500, 200}, "Sending Done Retrying Sending Settled Done"},
		{"refused within", []int{418}, "Sending Refused Learned Paused Done"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var told []string
			trace := everything(func(name string, _ []any) { told = append(told, name) })
			tr := &tollgate.Transport{Base: geminiSays(test.statuses...), Trace: trace, Quotas: tollgate.Quotas{"*": {tollgate.TPM(1000)}}}
			call(t, &tollgate.Retry{Base: tr}, "POST", flash, `{"contents":[{"parts":[{"text":"Hello."}]}]}`)
			if got := strings.Join(told, " "); got != test.want {
				t.Errorf("%s: told\n%s, want\n%s", test.name, got, test.want)
			}
		})
	}
}

// What each function is told.
func TestTraceTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		told := map[string][]any{}
		var mu sync.Mutex
		trace := everything(func(name string, args []any) {
			mu.Lock()
			defer mu.Unlock()
			told[name] = append(told[name], args)
		})
		base := geminiSays(200, 503, 200)
		var fails atomic.Bool
		tr := &tollgate.Transport{
			Trace:  trace,
			Quotas: tollgate.Quotas{"gemini-2.5-flash": {tollgate.TPM(1000), {N: 3, Per: time.Minute, Refill: tollgate.Window}}},
			Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				time.Sleep(300 * time.Millisecond)
				if fails.Load() {
					return nil, io.EOF
				}
				return base.RoundTrip(r)
			}),
		}
		send := func(ctx context.Context) error {
			req := order(tollgate.WithTokens(ctx, 9), t, flash)
			resp, err := tr.RoundTrip(req)
			if err != nil {
				return err
			}
			time.Sleep(200 * time.Millisecond)
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				return err
			}
			return resp.Body.Close()
		}
		last := func(name string) []any {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if len(told[name]) == 0 {
				t.Fatalf("%s was not called", name)
			}
			return told[name][len(told[name])-1].([]any)
		}
		const key = "gemini-2.5-flash"
		if err := send(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := last("Done")[1]; got != (tollgate.DoneInfo{Key: key, Status: 200, AtServer: 300 * time.Millisecond, Total: 500 * time.Millisecond}) {
			t.Errorf("Done was told %+v", got)
		}
		if got := last("Settled")[1:]; !reflect.DeepEqual(got, []any{key, tollgate.Cost{1, 9, 1}, tollgate.Cost{1, 7, 3}}) {
			t.Errorf("Settled was told %+v", got)
		}
		if err := send(t.Context()); err != nil { // 503
			t.Fatal(err)
		}
		if got := last("Paused"); !reflect.DeepEqual(got, []any{key, began.Add(5*time.Second + 800*time.Millisecond).UTC(), "the server is overloaded"}) {
			t.Errorf("Paused was told %v", got)
		}
		if err := send(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait := 5*time.Second - 200*time.Millisecond
		if got := last("Waiting")[1]; got != (tollgate.WaitInfo{Key: key, Estimate: wait, Waiting: 1, Next: wait}) {
			t.Errorf("Waiting was told %+v", got)
		}
		if got := last("Sending")[1]; got != (tollgate.SendInfo{Key: key, Waited: wait}) {
			t.Errorf("Sending was told %+v", got)
		}
		if got := last("Resumed"); !reflect.DeepEqual(got, []any{key}) {
			t.Errorf("Resumed was told %v", got)
		}
		for range 3 { // those ahead of the last
			go func() { _ = send(t.Context()) }()
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2*time.Second, cancel)
		if err := send(ctx); err != context.Canceled {
			t.Errorf("%v, want context.Canceled undisguised", err)
		}
		got := last("Abandoned")[1].(tollgate.WaitInfo)
		if got.Key != key || got.Ahead != 3 || got.Waiting != 4 || got.Waited != 2*time.Second || got.Next <= 0 || got.Next > got.Estimate {
			t.Errorf("Abandoned was told %+v", got)
		}
		// The base fails.
		time.Sleep(3 * time.Minute)
		fails.Store(true)
		if err := send(t.Context()); err != io.EOF {
			t.Error(err)
		}
		if got := last("Done")[1]; got != (tollgate.DoneInfo{Key: key, Err: io.EOF, AtServer: 300 * time.Millisecond, Total: 300 * time.Millisecond}) {
			t.Errorf("Done was told %+v", got)
		}
	})
}

// A context that ends has the slot come back at once, and tells of the end when the
// body is closed: there is no caller before to tell it on behalf of.
func TestTraceSlotOfContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := 0
		tr := &tollgate.Transport{
			Base: roundTripFunc(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Body: &readCloser{Reader: strings.NewReader("answer")}}, nil
			}),
			Quotas: tollgate.Quotas{"*": {tollgate.Concurrency(1)}},
			Trace:  &tollgate.Trace{Done: func(*http.Request, tollgate.DoneInfo) { done++ }},
		}
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := tr.RoundTrip(order(ctx, t, flash))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		synctest.Wait()
		if n := tr.Status()[0].InFlight; n != 0 || done != 0 {
			t.Errorf("%d in flight, told of %d ends", n, done)
		}
		resp.Body.Close()
		if done != 1 {
			t.Errorf("told of %d ends, want 1", done)
		}
	})
}

// A panic in any function goes to the caller, and neither a slot nor a place in the
// queue is lost. The functions may use the Transport: no lock is held.
func TestTracePanics(t *testing.T) {
	names := reflect.TypeFor[tollgate.Trace]()
	for i := range names.NumField() {
		name := names.Field(i).Name
		if name == "StoreError" || name == "StateError" || name == "Exchanged" {
			continue // on goroutines of their own
		}
		synctest.Test(t, func(t *testing.T) {
			called, panics := 0, true
			var tr *tollgate.Transport
			trace := everything(func(is string, _ []any) {
				tr.Status()
				if is == name {
					if called++; panics {
						panic("in " + name)
					}
				}
			})
			bodies := []*readCloser{}
			base := geminiSays(200, 429, 200, 500, 200)
			tr = &tollgate.Transport{
				Trace:  trace,
				Quotas: tollgate.Quotas{"gemini-2.5-flash": {tollgate.Concurrency(1), tollgate.TPM(1000), {N: 4, Per: time.Minute, Refill: tollgate.Window}}},
				Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
					resp, err := base.RoundTrip(r)
					if err == nil {
						bodies = append(bodies, &readCloser{Reader: resp.Body})
						resp.Body = bodies[len(bodies)-1]
					}
					return resp, err
				}),
			}
			retry := &tollgate.Retry{Base: tr}
			url := flash
			send := func(timeout time.Duration) {
				defer func() {
					if x := recover(); x != nil && x != "in "+name {
						panic(x)
					}
				}()
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				if resp, err := retry.RoundTrip(order(ctx, t, url)); err == nil {
					defer resp.Body.Close()
					io.Copy(io.Discard, resp.Body)
				}
			}
			for range 6 {
				send(time.Hour)
			}
			send(time.Second) // rejected
			url = "https://nobody-knows.example.com/"
			send(time.Hour)
			url = flash
			// One holds the slot, another waits for it in vain.
			panics = false
			time.Sleep(time.Hour)
			held, err := retry.RoundTrip(order(t.Context(), t, flash))
			if err != nil {
				t.Fatal(err)
			}
			panics = true
			send(time.Second)
			panics = false
			held.Body.Close()
			if called == 0 {
				t.Errorf("%s was not called", name)
			}
			time.Sleep(time.Hour)
			for _, st := range tr.Status() {
				if st.InFlight != 0 || st.Waiting != 0 {
					t.Errorf("after a panic in %s: %v", name, st)
				}
			}
			for i, b := range bodies {
				if b.closed.Load() == 0 {
					t.Errorf("after a panic in %s the body of answer %d is open", name, i)
				}
			}
		})
	}
}

// Joined, both are told of everything, the first one first; and of what one of them
// has no function for, the other is.
func TestJoinTraces(t *testing.T) {
	var told []string
	tell := func(who string) *tollgate.Trace {
		return everything(func(name string, args []any) { told = append(told, fmt.Sprint(who, " ", name, " ", len(args))) })
	}
	a, b := tell("a"), tell("b")
	if tollgate.JoinTraces(nil, b) != b || tollgate.JoinTraces(a, nil) != a || tollgate.JoinTraces(nil, nil) != nil {
		t.Error("joined with nil, it is not the other one")
	}
	for _, test := range []struct {
		a, b *tollgate.Trace
		want string
	}{
		{a, b, "[a %[1]s %[2]d b %[1]s %[2]d]"},
		{a, &tollgate.Trace{}, "[a %[1]s %[2]d]"},
		{&tollgate.Trace{}, b, "[b %[1]s %[2]d]"},
	} {
		joined := reflect.ValueOf(tollgate.JoinTraces(test.a, test.b)).Elem()
		for i := range joined.NumField() {
			f := joined.Field(i)
			args := make([]reflect.Value, f.Type().NumIn())
			for i := range args {
				args[i] = reflect.Zero(f.Type().In(i))
			}
			told = nil
			f.Call(args)
			if want := fmt.Sprintf(test.want, joined.Type().Field(i).Name, len(args)); fmt.Sprint(told) != want {
				t.Errorf("told %v, want %s", told, want)
			}
		}
	}
	if joined := tollgate.JoinTraces(&tollgate.Trace{}, &tollgate.Trace{}); joined.Done != nil {
		t.Error("a function where neither has one")
	}
}

// Functions that are nil cost no allocation.
func TestTraceNilCostsNothing(t *testing.T) {
	allocs := func(trace *tollgate.Trace) float64 {
		tr := &tollgate.Transport{Base: roundTripFunc(ok), Trace: trace, Quotas: tollgate.Quotas{"*": {tollgate.RPS(1e9)}}}
		req := order(t.Context(), t, "https://api.example.com/")
		req.Body, req.GetBody = nil, nil
		return testing.AllocsPerRun(200, func() {
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		})
	}
	var without, empty float64
	for range 10 { // the race detector has pools lose what they hold, now and then
		if without, empty = allocs(nil), allocs(&tollgate.Trace{}); empty <= without {
			return
		}
	}
	t.Errorf("%v allocations with an empty Trace, %v without one", empty, without)
}

// logged returns the lines that f has LogTrace write, at the given level and above.
func logged(level slog.Level, f func(*tollgate.Trace)) []string {
	var b bytes.Buffer
	f(tollgate.LogTrace(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))))
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// A long wait is told of once in ten seconds for each key, however many wait.
func TestLogTraceWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := logged(slog.LevelInfo, func(trace *tollgate.Trace) {
			tr := &tollgate.Transport{Base: roundTripFunc(ok), Trace: trace, Quotas: tollgate.Quotas{
				"*":                {{N: 1, Per: 4200 * time.Millisecond, Refill: tollgate.Window}},
				"fast.example.com": {tollgate.RPS(1)},
			}}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			send := func(host string, n int) {
				for range n {
					go func() {
						if resp, err := tr.RoundTrip(order(ctx, t, "https://"+host+"/secret?key=secret")); err == nil {
							resp.Body.Close()
						}
					}()
					synctest.Wait()
				}
			}
			send("slow.example.com", 38) // one goes, 37 wait
			send("other.example.com", 4)
			send("fast.example.com", 9) // the last one waits for 8 s
			time.Sleep(9 * time.Second)
			send("slow.example.com", 3)
			time.Sleep(2 * time.Second)
			send("slow.example.com", 2)
			time.Sleep(10 * time.Minute)
			synctest.Wait()
		})
		want := []string{
			`level=INFO msg="slow.example.com: 3 waiting, next in 4.3s" key=slow.example.com`,
			`level=INFO msg="other.example.com: 3 waiting, next in 4.3s" key=other.example.com`,
			`level=INFO msg="slow.example.com: 39 waiting, next in 1.7s" key=slow.example.com`,
		}
		if !reflect.DeepEqual(lines, want) {
			t.Errorf("logged\n%s, want\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
		}
	})
}

// What is logged at which level, and that no line has a path, a query or a header.
func TestLogTraceLines(t *testing.T) {
	req := order(context.Background(), t, "https://api.example.com/secret?key=secret", "Authorization", "secret")
	lines := logged(slog.LevelDebug, func(trace *tollgate.Trace) {
		change := func(from, to tollgate.Limit) {
			trace.Learned(req, tollgate.LearnInfo{Key: "m", Change: tollgate.Change{From: from, To: to}})
		}
		change(tollgate.Limit{}, tollgate.RPM(5))
		change(tollgate.RPM(10), tollgate.RPM(5))
		change(tollgate.RPM(10), tollgate.Limit{N: 10, Per: time.Minute, Refill: tollgate.Steady})
		change(tollgate.RPM(10), tollgate.Limit{N: 10, Per: time.Hour})
		trace.Retrying(req, tollgate.RetryInfo{Key: "m", Attempt: 2, Cause: &url.Error{Op: "Post", URL: "https://h/secret", Err: io.EOF}, Wait: time.Second})
		trace.Refused(req, tollgate.RefusalInfo{Key: "m", Status: 429})
		trace.Rejected(req, &tollgate.LimitError{Key: "m", Limit: tollgate.RPM(10), Reason: tollgate.PastDeadline, RetryAfter: 21 * time.Second})
		trace.Waiting(req, tollgate.WaitInfo{Key: "m", Ahead: 3, Estimate: 1<<63 - 1, Waiting: 4})
		trace.Abandoned(req, tollgate.WaitInfo{Key: "m", Waited: 2 * time.Second})
		trace.Sending(req, tollgate.SendInfo{Key: "m"})
		trace.Settled(req, "m", tollgate.Cost{1, 20, 0}, tollgate.Cost{1, 30, 7})
		trace.Done(req, tollgate.DoneInfo{Key: "m", Err: fmt.Errorf("call: %w", &url.Error{Op: "Post", URL: "https://h/secret", Err: io.EOF})})
		trace.Resumed("m\nm")
		trace.StateError(errors.New("tollgate: state file: day: gone"))
		trace.StoreError("m", io.EOF)
		trace.StoreError("m", nil)
	})
	const about = "key=m method=POST host=api.example.com"
	want := []string{
		`level=INFO msg="limit learned: 5 requests per minute" refill=auto ` + about,
		`level=INFO msg="limit corrected: 10 → 5 requests per minute" refill=auto ` + about,
		`level=INFO msg="limit corrected: 10 requests per minute, by the rule auto → steady" refill=steady ` + about,
		`level=INFO msg="limit corrected: 10 requests per minute → 10 requests per hour" refill=auto ` + about,
		`level=INFO msg="request is sent again" attempt=2 cause=EOF wait=1s ` + about,
		`level=WARN msg="server refused request" status=429 hint=0s ` + about,
		`level=WARN msg="request was not sent" reason="its turn comes after its deadline" retry_after=21s error="tollgate: m: 10 requests per minute are used up, free again in 21s, after the request's deadline" ` + about,
		`level=DEBUG msg="request waits for quota" ahead=3 estimate=unknown ` + about,
		`level=DEBUG msg="request was abandoned in the queue" waited=2s ` + about,
		`level=DEBUG msg="request is sent" waited=0s ` + about,
		`level=DEBUG msg="cost is known" estimated_tokens=20 tokens=30 estimated_output_tokens=0 output_tokens=7 ` + about,
		`level=DEBUG msg="attempt is over" status=0 at_server=0s total=0s error=EOF ` + about,
		`level=INFO msg="\"m\\nm\": requests are sent again" key="m\nm"`,
		`level=WARN msg="tollgate: state file: day: gone"`,
		`level=WARN msg=EOF key=m`,
		`level=INFO msg="tollgate: store of shared tokens answers" key=m`,
	}
	for i, line := range lines {
		if i >= len(want) || line != want[i] {
			t.Errorf("logged\n%s, want\n%s", line, want[min(i, len(want)-1)])
		}
		if strings.Contains(line, "secret") {
			t.Errorf("a secret in %s", line)
		}
	}
	if len(lines) != len(want) {
		t.Errorf("%d lines, want %d", len(lines), len(want))
	}
}

// Who waits for another request to end cannot be told for how long.
func TestTraceWaitsForSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told tollgate.WaitInfo
		tr := &tollgate.Transport{
			Base: roundTripFunc(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Body: &readCloser{Reader: strings.NewReader("answer")}}, nil
			}),
			Quotas: tollgate.Quotas{"*": {tollgate.Concurrency(1)}},
			Trace:  &tollgate.Trace{Waiting: func(_ *http.Request, i tollgate.WaitInfo) { told = i }},
		}
		resp, err := tr.RoundTrip(order(t.Context(), t, flash))
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Minute, func() { resp.Body.Close() })
		second, err := tr.RoundTrip(order(t.Context(), t, flash))
		if err != nil {
			t.Fatal(err)
		}
		second.Body.Close()
		if never := time.Duration(1<<63 - 1); told != (tollgate.WaitInfo{Key: "gemini-2.5-flash", Waiting: 1, Estimate: never, Next: never}) {
			t.Errorf("Waiting was told %+v", told)
		}
	})
}
