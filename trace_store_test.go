package tollgate_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/share"
)

// A failing store answers or fails, as err is nil or not.
type failing struct{ err error }

func (f *failing) Exchange(_ context.Context, b share.Batch) (share.Reply, error) {
	if f.err != nil {
		return share.Reply{}, f.err
	}
	return share.Reply{Granted: len(b.Asks), Taken: 1}, nil
}

// Without a Trace the log tells of a store that does not answer, once for all keys:
// as an error if that does not pass by itself, else as a warning.
func TestStoreErrorIsLogged(t *testing.T) {
	was := slog.Default()
	defer slog.SetDefault(was)
	for _, c := range []struct {
		trace  bool
		config bool
		want   string
	}{
		{false, false, "level=WARN msg=\"tollgate: Redis unreachable: refused; keeping to 1/4 of the quota\" key=a.example.com\n"},
		{false, true, "level=ERROR msg=\"tollgate: Redis unreachable: refused (an error of configuration: it does not pass by itself); keeping to 1/4 of the quota\" key=a.example.com\n"},
		{true, false, "level=WARN msg=\"tollgate: Redis unreachable: refused; keeping to 1/4 of the quota\" key=a.example.com\n"},
		{true, true, "level=ERROR msg=\"tollgate: Redis unreachable: refused (an error of configuration: it does not pass by itself); keeping to 1/4 of the quota\" key=a.example.com\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}}))
			store := &failing{}
			shared := &limiter.Shared{Instances: 4, Store: func(string) limiter.Store { return store }}
			tr := &tollgate.Transport{
				Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
				}),
				Quotas: tollgate.Quotas{"*": {tollgate.RPM(1000)}}, Limiter: shared,
			}
			if slog.SetDefault(log); c.trace {
				tr.Trace = tollgate.LogTrace(log)
				slog.SetDefault(was)
			}
			all := func() {
				for _, host := range []string{"a", "b", "c", "a"} {
					req, _ := http.NewRequest("GET", "http://"+host+".example.com/", nil)
					resp, err := tr.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
			}
			o := shared.NewOutage("Redis", limiter.Trouble{})
			o.Settle(limiter.Trouble{What: "unreachable: refused", Config: c.config, Err: errors.New("refused")})
			store.err = o
			all()
			all()
			if got := out.String(); !strings.Contains(got, c.want) || strings.Count(got, "store") > 0 || strings.Count(got, "Redis") != 1 {
				t.Errorf("logged %s\nwant %s", got, c.want)
			}
			o.End()
			store.err = nil
			all()
			all()
			if got := out.String(); strings.Count(got, "level=INFO msg=\"tollgate: store of shared tokens answers\"") != 1 {
				t.Errorf("logged %s\nwant its end once", got)
			}
			time.Sleep(time.Minute)
		})
	}
}
