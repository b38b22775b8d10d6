package tollgate_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
)

// generated returns a body of so many bytes that names its model at its beginning
// or at its end, as does a JSON encoder that goes by the order of fields.
func generated(size int, first bool) io.Reader {
	begin, end := `{"messages":[{"content":"`, `"}],"model":"gpt-5"}`
	if first {
		begin, end = `{"model":"gpt-5","messages":[{"content":"`, `"}]}`
	}
	text := io.LimitReader(letters{}, int64(size-len(begin)-len(end)))
	return io.MultiReader(strings.NewReader(begin), text, strings.NewReader(end))
}

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

// A held counts the bytes that were read of all bodies and have not been sent.
type held struct{ now, most atomic.Int64 }

func (h *held) add(n int) {
	now := h.now.Add(int64(n))
	for {
		most := h.most.Load()
		if now <= most || h.most.CompareAndSwap(most, now) {
			return
		}
	}
}

// Bodies of all requests that wait hold no more than MaxBuffered, and each request
// waits for its own model, whose quota is kept; every byte arrives.
func TestMaxBuffered(t *testing.T) {
	const (
		n    = 120
		size = 64 << 10
	)
	for _, test := range []struct {
		name          string
		max           int64
		first, length bool
		tokens        bool
		least         int64 // that is held: memory is made use of
	}{
		{"model first", 1 << 20, true, true, false, 512 << 10},
		{"model first, no length", 1 << 20, true, false, false, 200 << 10},
		{"model last", 1 << 20, false, true, false, 512 << 10},
		{"model last, no length", 16 << 20, false, false, false, 512 << 10},
		{"model last, tokens", 1 << 20, false, true, true, 512 << 10},
		{"model first, tokens", 1 << 20, true, true, true, 512 << 10},
		{"default", 0, true, true, false, (n - 20) * size},
		{"less than one", 64 << 10, true, true, true, 8 << 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var h held
				var mu sync.Mutex
				var sent []time.Time
				quota := tollgate.Quota{{N: 10, Per: time.Minute, Refill: tollgate.Window}}
				if test.tokens {
					quota = append(quota, tollgate.Limit{Unit: tollgate.Tokens, N: 1_000_000, Per: time.Minute, Refill: tollgate.Window})
				}
				tr := &tollgate.Transport{
					MaxBuffered: test.max,
					Quotas:      tollgate.Quotas{"gpt-5": quota},
					Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
						mu.Lock()
						sent = append(sent, time.Now())
						mu.Unlock()
						defer r.Body.Close()
						total, buf := 0, make([]byte, 16<<10)
						for {
							n, err := r.Body.Read(buf)
							h.add(-n)
							if total += n; err == io.EOF {
								break
							} else if err != nil {
								t.Error(err)
								break
							}
						}
						if total != size {
							t.Errorf("%d bytes arrived, want %d", total, size)
						}
						return ok(r)
					}),
				}
				var wg sync.WaitGroup
				for range n {
					src := generated(size, test.first)
					req, _ := oneShot(t.Context(), t, chat, readFunc(func(p []byte) (int, error) {
						n, err := src.Read(p)
						h.add(n)
						return n, err
					}))
					if test.length {
						req.ContentLength = size
					}
					wg.Go(func() {
						resp, err := tr.RoundTrip(req)
						if err != nil {
							t.Error(err)
							return
						}
						resp.Body.Close()
					})
				}
				wg.Wait()
				most := test.max
				if most == 0 {
					most = 64 << 20
				}
				if got := h.most.Load(); got > most+16<<10 || got < test.least {
					t.Errorf("at most %d bytes were held, want %d to %d", got, test.least, most)
				}
				for i := range sent {
					if i >= 10 && sent[i].Sub(sent[i-10]) < time.Minute {
						t.Errorf("request %d was sent %v after the tenth before it", i, sent[i].Sub(sent[i-10]))
					}
				}
				t.Logf("%d bytes held at most, took %v", h.most.Load(), sent[n-1].Sub(sent[0]))
				if got := sent[n-1].Sub(sent[0]); got > 12*time.Minute {
					t.Errorf("took %v, want 11 minutes", got)
				}
			})
		})
	}
}

// Where nothing may be held, a request whose model only the body names draws on the
// quota of its host, and its tokens are charged by its length.
func TestMaxBufferedNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &tollgate.Transport{
			MaxBuffered: -1,
			Base:        says(func(*http.Request, http.Header) (int, string) { return 200, "{}" }),
			Quotas:      tollgate.Quotas{"api.openai.com": {tollgate.TPM(10_000_000)}},
		}
		for _, test := range []struct{ length, want int64 }{{3000, 1000 + 2}, {0, 1<<20 + 2}, {30 << 20, 1<<20 + 22<<20/256 + 2}} {
			before := int64(10_000_000)
			if s := tr.Status(); len(s) > 0 {
				before = s[0].Limits[0].Left
			}
			body := &metered{Reader: generated(3000, true)}
			req, _ := oneShot(t.Context(), t, chat, body)
			req.ContentLength = test.length
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if n := body.n.Load(); n != 0 {
				t.Errorf("%d bytes were read", n)
			}
			if s := tr.Status(); len(s) != 1 || s[0].Key != "api.openai.com" || before-s[0].Limits[0].Left != test.want {
				t.Errorf("length %d: status %+v, want %d tokens less than %d", test.length, s, test.want, before)
			}
		}
	})
}

// What is charged for bytes that were not read is settled by the response, and says
// nothing of how good estimates are.
func TestMaxBufferedSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, usage = 1_000_000, `{"usageMetadata":{"promptTokenCount":60}}`
		var tr *tollgate.Transport
		charged := func(req *http.Request) (sent, end int64) {
			before := int64(limit)
			if s := tr.Status(); len(s) > 0 {
				before = s[0].Limits[0].Left
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			sent = before - tr.Status()[0].Limits[0].Left
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Error(err)
			}
			resp.Body.Close()
			return sent, before - tr.Status()[0].Limits[0].Left
		}
		tr = &tollgate.Transport{
			MaxBuffered: -1,
			Base:        says(func(*http.Request, http.Header) (int, string) { return 200, usage }),
			Quotas:      tollgate.Quotas{"gemini-2.5-flash": {tollgate.TPM(limit)}},
		}
		for range 5 {
			req, _ := oneShot(t.Context(), t, flash, generated(30_000, true))
			req.ContentLength = 30_000
			if sent, end := charged(req); sent != 10_000 || end != 60 {
				t.Errorf("charged %d when sent, %d in the end; want 10000 and 60", sent, end)
			}
		}
		req := must(http.NewRequestWithContext(t.Context(), http.MethodPost, flash, strings.NewReader(`{"text":"`+strings.Repeat("a", 300)+`"}`)))
		if sent, _ := charged(req); sent != 100 {
			t.Errorf("300 characters are charged %d tokens, want 100", sent)
		}
	})
}

// A request for whose body there is no memory waits no longer than it may.
func TestMaxBufferedWaits(t *testing.T) {
	for name, test := range map[string]struct {
		maxWait time.Duration
		ctx     time.Duration
		after   time.Duration
		want    error
	}{
		"never":      {-1, time.Hour, 0, tollgate.ErrLimited},
		"MaxWait":    {3 * time.Second, time.Hour, 3 * time.Second, tollgate.ErrLimited},
		"a deadline": {0, 5 * time.Second, 5 * time.Second, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const size = 100 << 10
				tr := &tollgate.Transport{
					MaxBuffered: 160 << 10, // 120 KiB of which are for one body
					MaxWait:     test.maxWait,
					Base:        says(func(*http.Request, http.Header) (int, string) { return 200, "{}" }),
				}
				ctx, cancel := context.WithTimeout(t.Context(), test.ctx)
				defer cancel()
				pr, pw := io.Pipe()
				first := must(http.NewRequestWithContext(t.Context(), http.MethodPost, chat, pr))
				first.ContentLength = size
				var wg sync.WaitGroup
				wg.Go(func() {
					resp, err := tr.RoundTrip(first)
					if err != nil {
						t.Error(err)
						return
					}
					resp.Body.Close()
				})
				synctest.Wait()
				req, body := oneShot(ctx, t, chat, generated(size, false))
				req.ContentLength = size
				began := time.Now()
				if _, err := tr.RoundTrip(req); !errors.Is(err, test.want) {
					t.Errorf("error %v, want %v", err, test.want)
				}
				if got := time.Since(began); got != test.after {
					t.Errorf("took %v, want %v", got, test.after)
				}
				if n := body.closed.Load(); n != 1 {
					t.Errorf("body closed %d times", n)
				}
				pw.Close()
				wg.Wait()
				req, _ = oneShot(t.Context(), t, chat, generated(size, false))
				req.ContentLength = size
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatalf("once there is memory: %v", err)
				}
				resp.Body.Close()
			})
		})
	}
}
