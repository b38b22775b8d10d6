package zoo

import (
	"context"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
)

// ask sends one request from time at on, and returns the status and the header
// of that name.
func ask(t *testing.T, g *gateway, at time.Duration, header string) (int, string) {
	t.Helper()
	time.Sleep(at - g.now())
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://zoo.example/0", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := g.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	if date, want := resp.Header.Get("Date"), time.Now().Add(-2*time.Millisecond).UTC().Format(http.TimeFormat); date != want {
		t.Errorf("Date: %s, want %s", date, want)
	}
	return resp.StatusCode, resp.Header.Get(header)
}

// A window of 10 s begins at second 3; two requests at 4.5 s leave 8.498 s.
func TestHints(t *testing.T) {
	for _, test := range []struct {
		hint         Hint
		header, want string
	}{
		{Exact, "Retry-After", "9"},
		{Float, "Retry-After", "8.498"},
		{Truncated, "Retry-After", "8"},
		{NoHint, "Retry-After", ""},
		{OneSecond, "Retry-After", "1"},
		{WholePer, "Retry-After", "10"},
		{WrongWindow, "Retry-After", "6"}, // those begin at 10.25 s
		{Epoch, "X-RateLimit-Reset", "946684813"},
		{Date, "Retry-After", "Sat, 01 Jan 2000 00:00:13 GMT"},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newGateway(Server{Counts: Fixed, N: 1, Per: 10 * time.Second, Phase: 3 * time.Second,
				Hint: test.hint, HintPhase: 250 * time.Millisecond, Distance: Near}, time.Now())
			if code, _ := ask(t, g, 4500*time.Millisecond-4*time.Millisecond, ""); code != http.StatusOK {
				t.Errorf("%s: the first one got %d", test.hint, code)
			}
			if code, got := ask(t, g, 4500*time.Millisecond, test.header); code != http.StatusTooManyRequests || got != test.want {
				t.Errorf("%s: %d, %s: %q, want %q", test.hint, code, test.header, got, test.want)
			}
		})
	}
}

// A server that shuts refuses everything for so long, and then goes by what it
// has counted.
func TestShut(t *testing.T) {
	for _, counted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			g := newGateway(Server{Counts: Sliding, N: 1, Per: 2 * time.Second, CountRefused: counted,
				Shut: 10 * time.Second, Hint: Exact, Distance: Near}, time.Now())
			type answer struct {
				code int
				hint string
			}
			type step struct {
				at   time.Duration
				want answer
			}
			steps := []step{
				{0, answer{200, ""}},
				{1 * time.Second, answer{429, "10"}},
				{10 * time.Second, answer{429, "1"}},
				{11100 * time.Millisecond, answer{200, ""}},
			}
			if counted {
				steps[2].want.hint = "2"
				steps[3].want = answer{429, "10"}
			}
			for _, s := range steps {
				code, hint := ask(t, g, s.at, "Retry-After")
				if got := (answer{code, hint}); got != s.want {
					t.Errorf("counted %v, at %v: %v, want %v", counted, s.at, got, s.want)
				}
			}
		})
	}
}

// What a play says is what the calls make: ten at a server that allows four.
func TestPlay(t *testing.T) {
	s := Server{Counts: Sliding, N: 4, Per: time.Minute, Hint: Exact, Told: Nothing, Load: AtOnce, Requests: 10, Start: time.Second, Distance: Near, Think: 5 * time.Second}
	for _, test := range []struct {
		name   string
		client Client
		want   Result
	}{
		{"bare", func(server http.RoundTripper, _ tollgate.Quotas) http.RoundTripper { return server },
			Result{Server: s, OK: 4, Lost: 6, Refused: 6, Volley: 6, Makespan: 2 * time.Millisecond}},
		{"hanging", func(http.RoundTripper, tollgate.Quotas) http.RoundTripper { return hanging{} },
			Result{Server: s, Lost: 10}},
	} {
		synctest.Test(t, func(t *testing.T) {
			got := s.Play(test.client)
			got.Log = Log{}
			if got.String() != test.want.String() || got.OK != test.want.OK {
				t.Errorf("%s: got\n%v, want\n%v", test.name, got, test.want)
			}
		})
	}
}

// hanging answers nothing.
type hanging struct{}

func (hanging) RoundTrip(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}
