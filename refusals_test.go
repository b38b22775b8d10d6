package tollgate_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/provider"
)

// A recorded refusal is one of provider/testdata/refusals.txt.
type recorded struct {
	name, want, then, url, response string
}

func refusals(t *testing.T) (list []recorded) {
	b, err := os.ReadFile("provider/testdata/refusals.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range strings.Split(string(b), "\n=== ")[1:] {
		line := func() (l string) { l, s, _ = strings.Cut(s, "\n"); return l }
		r := recorded{name: line(), want: line(), then: line(), url: strings.TrimPrefix(line(), "POST ")}
		r.response = strings.TrimSuffix(strings.TrimPrefix(s, "\n"), "\n")
		list = append(list, r)
	}
	return list
}

// answer returns the response to a request.
func (r recorded) answer(t *testing.T, req *http.Request) *http.Response {
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(r.response)), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// Every way of refusing, and what is made of it: which limits are drained, until
// when, and whether the request is sent again.
func TestRefusals(t *testing.T) {
	quota := tollgate.Quota{tollgate.RPM(1000), {N: 100_000, Per: 24 * time.Hour}, tollgate.TPM(1_000_000), {Unit: tollgate.Tokens, N: 10_000_000, Per: 24 * time.Hour}}
	yes := map[bool]string{true: "yes", false: "no"}
	dash := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	for _, r := range refusals(t) {
		t.Run(r.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var refused *provider.Refusal
				var calls []time.Time
				var drained []string
				var until time.Duration
				var tr *tollgate.Transport
				look := func() {
					until = time.Until(tr.Status()[0].PausedUntil)
					for _, l := range tr.Status()[0].Limits {
						if l.Left <= 0 {
							drained = append(drained, fmt.Sprintf("%v/%v", l.Unit, l.Per))
						}
					}
				}
				tr = &tollgate.Transport{
					Quotas: tollgate.Quotas{"*": quota},
					Trace: &tollgate.Trace{Refused: func(_ *http.Request, i tollgate.RefusalInfo) {
						if i.Status == http.StatusOK {
							return // an error in the body, of which the fixture says what it comes to
						}
						refused = &i.Refusal
						look()
					}},
					Base: roundTripFunc(func(req *http.Request) (*http.Response, error) {
						calls = append(calls, time.Now())
						if len(calls) == 1 {
							return r.answer(t, req), nil
						}
						return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
					}),
				}
				client := &http.Client{Transport: &tollgate.Retry{Base: tr}}
				resp, err := client.Post(r.url, "application/json", strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"Hello."}]}`))
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil {
					t.Fatal(err)
				}
				want := "want: -"
				if refused == nil {
					look() // at what an error in a stream has come to
				} else {
					var limits []string
					for _, v := range refused.Limits {
						s := fmt.Sprintf("%v:%d/%v", v.Unit, v.N, v.Per)
						if v.Uncounted {
							s = fmt.Sprintf("uncounted:%d/%v", v.N, v.Per)
						}
						if v.Model != "" {
							s += "@" + v.Model
						}
						limits = append(limits, s)
					}
					wait := "-"
					if refused.Hinted {
						wait = refused.Wait.String()
					}
					want = fmt.Sprintf("want: wait=%s never=%s limits=%s", wait, yes[refused.Never], dash(strings.Join(limits, ",")))
				}
				if want != r.want {
					t.Errorf("read\n%s, want\n%s", want, r.want)
				}
				if len(calls) == 1 {
					_, text, _ := strings.Cut(r.response, "\n\n")
					if string(got) != text {
						t.Errorf("the caller got %q, want %q", got, text)
					}
				}
				after := "-"
				if len(calls) > 1 {
					d := calls[1].Sub(calls[0])
					// Of tokens it takes more than the one that is back at once.
					if d >= until && d < until+5*time.Millisecond {
						d = until
					}
					switch after = d.String(); {
					case strings.Contains(r.then, "after=pause") && d >= time.Second && d <= time.Second*5/4:
						after = "pause"
					case strings.Contains(r.then, "after=backoff") && d <= 2*time.Second:
						after = "backoff"
					}
				}
				then := fmt.Sprintf("then: drained=%s after=%s retried=%s", dash(strings.Join(drained, ",")), after, yes[len(calls) > 1])
				if then != r.then {
					t.Errorf("then\n%s, want\n%s", then, r.then)
				}
			})
		})
	}
}

// Whatever comes in a body, of whatever type, compressed or not, in whatever pieces, it
// comes through byte for byte, and an error in it does no harm.
func FuzzStream(f *testing.F) {
	f.Add("data: {\"usageMetadata\":{\"promptTokenCount\":12}}\r\n\r\n", byte(7), byte(0))
	f.Add("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n", byte(1), byte(0))
	f.Add("data: {\"error\":{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\",\"message\":\"Please retry in 9s.\"}}", byte(200), byte(0))
	f.Add(`{"id":"i1","status":"in_progress"}`, byte(3), byte(1))
	f.Add(`{"id":"i1","status":"failed","errors":[{"code":"rate_limit_exceeded"}]}`, byte(3), byte(1))
	f.Add(amazonFrame(`{"message":"Too many tokens."}`, ":exception-type", "throttlingException"), byte(9), byte(2))
	types := []string{"text/event-stream", "application/json", "application/vnd.amazon.eventstream", "application/x-ndjson"}
	for i, encoding := range []string{"gzip", "br", "zstd"} {
		b, err := io.ReadAll(packed(200, encoding, retryJSON)(nil).Body)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b), byte(5), byte(1+4*(i+1)))
	}
	encodings := []string{"", "gzip", "br", "zstd", "deflate"}
	calls := []struct{ method, url string }{
		{"POST", "https://generativelanguage.googleapis.com/v1beta/models/m:streamGenerateContent?alt=sse"},
		{"POST", interactionsURL}, {"GET", interactionsURL + "/i1"},
		{"POST", "https://api.openai.com/v1/chat/completions"}, {"POST", "https://api.anthropic.com/v1/messages"},
		{"POST", "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse-stream"},
	}
	f.Fuzz(func(t *testing.T, text string, size, how byte) {
		header := http.Header{"Content-Type": {types[how%4]}}
		if encoding := encodings[how/4%5]; encoding != "" {
			header.Set("Content-Encoding", encoding)
		}
		tr := &tollgate.Transport{
			Quotas:  tollgate.Quotas{"*": {tollgate.RPM(10), tollgate.TPM(1000)}},
			MaxWait: -1,
			Base: roundTripFunc(func(req *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(strings.NewReader(text)), Request: req}, nil
			}),
		}
		for _, call := range calls {
			req, err := http.NewRequest(call.method, call.url, strings.NewReader(`{"model":"m"}`))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := tr.RoundTrip(req)
			if errors.Is(err, tollgate.ErrLimited) { // one before it was refused
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{resp.Body}, make([]byte, int(size)+1)); err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got.String() != text {
				t.Errorf("%s %s: got %q, want %q", call.method, call.url, got.String(), text)
			}
		}
	})
}
