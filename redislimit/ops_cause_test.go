package redislimit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate"
	"example.com/tollgate/redislimit"
	"example.com/tollgate/redislimit/internal/redistest"
)

// addr is a client of an address, as the README makes one.
func addr(a string) *redis.Client { return redis.NewClient(&redis.Options{Addr: a}) }

// What is wrong with Redis is told once, with its cause and with what is done
// meanwhile; what does not pass by itself is told as an error of configuration.
func TestCauses(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	for name, c := range map[string]struct {
		client func(t *testing.T) redis.UniversalClient
		level  slog.Level
		want   string // that the message contains
	}{
		"refused": {func(t *testing.T) redis.UniversalClient {
			return addr("127.0.0.1:" + freePort(t))
		}, slog.LevelWarn, "tollgate: Redis unreachable: connection refused; keeping to 1/8 of the quota"},
		"no such host": {func(*testing.T) redis.UniversalClient {
			return addr("redis.invalid:6379")
		}, slog.LevelWarn, "Redis unreachable: no such host"},
		"no such socket": {func(t *testing.T) redis.UniversalClient {
			return redis.NewClient(&redis.Options{Network: "unix", Addr: t.TempDir() + "/redis.sock"})
		}, slog.LevelWarn, "Redis unreachable: no such file or directory"},
		"silent": {func(t *testing.T) redis.UniversalClient {
			s := redistest.Start(t)
			s.Stop()
			t.Cleanup(s.Continue)
			return addr(s.Addr())
		}, slog.LevelWarn, "Redis unreachable: it accepts connections and does not answer; keeping"},
		"wrong password": {func(t *testing.T) redis.UniversalClient {
			s := redistest.Start(t)
			admin := s.Client()
			defer admin.Close()
			if err := admin.Do(t.Context(), "ACL", "SETUSER", "tollgate", "on", ">right", "~*", "+@all").Err(); err != nil {
				t.Fatal(err)
			}
			return redis.NewClient(&redis.Options{Addr: s.Addr(), Username: "tollgate", Password: "wrong"})
		}, slog.LevelError, "WRONGPASS"},
		"no password": {func(t *testing.T) redis.UniversalClient {
			s := redistest.Start(t)
			admin := s.Client()
			defer admin.Close()
			if err := admin.ConfigSet(t.Context(), "requirepass", "secret").Err(); err != nil {
				t.Fatal(err)
			}
			return addr(s.Addr())
		}, slog.LevelError, "NOAUTH"},
		"no permission": {func(t *testing.T) redis.UniversalClient {
			s := redistest.Start(t)
			admin := s.Client()
			defer admin.Close()
			if err := admin.Do(t.Context(), "ACL", "SETUSER", "tollgate", "on", ">right", "~*", "+get", "+set").Err(); err != nil {
				t.Fatal(err)
			}
			return redis.NewClient(&redis.Options{Addr: s.Addr(), Username: "tollgate", Password: "right"})
		}, slog.LevelError, "NOPERM"},
		"replica": {func(t *testing.T) redis.UniversalClient {
			return addr(redistest.Start(t, "--replicaof", "127.0.0.1 "+freePort(t)).Addr())
		}, slog.LevelError, "READONLY"},
		"stale replica": {func(t *testing.T) redis.UniversalClient {
			s := redistest.Start(t)
			admin := s.Client()
			defer admin.Close()
			admin.ConfigSet(t.Context(), "replica-serve-stale-data", "no")
			if err := admin.ReplicaOf(t.Context(), "127.0.0.1", freePort(t)).Err(); err != nil {
				t.Fatal(err)
			}
			return addr(s.Addr())
		}, slog.LevelWarn, "MASTERDOWN"},
		"no memory": {func(t *testing.T) redis.UniversalClient {
			return addr(redistest.Start(t, "--maxmemory", "100kb", "--maxmemory-policy", "noeviction").Addr())
		}, slog.LevelError, "OOM"},
		"no scripts": {func(t *testing.T) redis.UniversalClient {
			return addr(redistest.Start(t, "--rename-command", "EVALSHA", "", "--rename-command", "EVAL", "").Addr())
		}, slog.LevelError, "scripts are disabled"},
		"a cluster": {func(t *testing.T) redis.UniversalClient {
			return addr(redistest.Start(t, "--cluster-enabled", "yes").Addr())
		}, slog.LevelWarn, "CLUSTERDOWN"},
		"no cluster": {func(t *testing.T) redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{redistest.Start(t).Addr()}})
		}, slog.LevelError, "cluster support disabled"},
		"TLS to a plain port": {func(t *testing.T) redis.UniversalClient {
			return redis.NewClient(&redis.Options{Addr: redistest.Start(t).Addr(), TLSConfig: trusts(ca)})
		}, slog.LevelError, "the client speaks TLS, the server does not"},
		"plain to a port for TLS": {func(t *testing.T) redis.UniversalClient {
			port := freePort(t)
			redistest.Start(t, ca.args(t, port)...)
			return addr("127.0.0.1:" + port)
		}, slog.LevelError, "the server speaks TLS, the client does not"},
		"of an unknown authority": {func(t *testing.T) redis.UniversalClient {
			port := freePort(t)
			redistest.Start(t, ca.args(t, port)...)
			return redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port, TLSConfig: trusts(other)})
		}, slog.LevelError, "certificate signed by unknown authority"},
		"all shards down": {func(t *testing.T) redis.UniversalClient {
			return redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:" + freePort(t)}, HeartbeatFrequency: 10 * time.Millisecond})
		}, slog.LevelWarn, "connection refused"},
		"no node of a cluster": {func(t *testing.T) redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:" + freePort(t)}})
		}, slog.LevelWarn, "Redis unreachable: connection refused"},
		"closed client": {func(t *testing.T) redis.UniversalClient {
			c := addr(redistest.Start(t).Addr())
			c.Close()
			return c
		}, slog.LevelError, "its client is closed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			call, log := caller(t, c.client(t), redislimit.Options{Instances: 8}, always{}, plenty)
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					if err := call(fmt.Sprint("key", i%5)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			await(t, "the outage is told", func() bool { return len(log.all(slog.LevelWarn)) > 0 })
			for i := range 20 { // it is tried again meanwhile
				if err := call(fmt.Sprint("key", i)); err != nil {
					t.Error(err)
				}
				time.Sleep(30 * time.Millisecond)
			}
			told := log.all(slog.LevelInfo)
			if len(told) != 1 {
				t.Fatalf("told %d times:\n%s", len(told), log.text(slog.LevelInfo))
			}
			r := told[0]
			if r.Level != c.level || !strings.Contains(r.Message, c.want) || !strings.Contains(r.Message, "; keeping to 1/8 of the quota") {
				t.Errorf("%v %q, want %v and %q", r.Level, r.Message, c.level, c.want)
			}
			if strings.Contains(r.Message, "context") {
				t.Errorf("%q blames a context", r.Message)
			}
			if config := strings.Contains(r.Message, "error of configuration"); config != (c.level == slog.LevelError) {
				t.Errorf("%q at level %v", r.Message, r.Level)
			}
		})
	}
}

// What is done meanwhile is what OnError says, and what Instances 0 means is told
// once.
func TestMeanwhile(t *testing.T) {
	for want, o := range map[string]redislimit.Options{
		"; keeping to 1/3 of the quota":         {Instances: 3},
		"; keeping to the whole quota, as does": {},
		"; sending without regard to the quota": {OnError: redislimit.FailOpen},
		"; rejecting requests":                  {OnError: redislimit.FailClosed},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			call, log := caller(t, addr(s.Addr()), o, always{}, plenty)
			if err := call("k"); err != nil {
				t.Fatal(err)
			}
			explained := 0
			for i := range 3 {
				s.Kill()
				await(t, "the outage is told, and its cause to each request", func() bool {
					err := call("k")
					if failed := err != nil && strings.Contains(err.Error(), "connection refused"); o.OnError == redislimit.FailClosed && !failed {
						return false
					}
					return len(log.all(slog.LevelWarn)) > i
				})
				s.Restart()
				await(t, "the end of it is told", func() bool {
					_ = call("k")
					return len(log.all(slog.LevelInfo)) == 2*i+2
				})
				switch told := log.all(slog.LevelWarn)[i].Message; {
				case strings.Contains(told, "Options.Instances is 0"):
					explained++
				case i == 0 && !strings.Contains(told, want), i > 0 && !strings.Contains(told, strings.TrimSuffix(want, ", as does")):
					t.Errorf("%q, want %q", told, want)
				}
			}
			if want := o.OnError == redislimit.FallBack && o.Instances == 0; want != (explained == 1) || explained > 1 {
				t.Errorf("what Instances 0 means was told %d times:\n%s", explained, log.text(slog.LevelInfo))
			}
		})
	}
}

// Programs see the error behind what is told, and never that a context is done.
func TestCauseBehind(t *testing.T) {
	for name, c := range map[string]struct {
		client func(t *testing.T) redis.UniversalClient
		is     func(error) bool
	}{
		"refused": {func(t *testing.T) redis.UniversalClient {
			return addr("127.0.0.1:" + freePort(t))
		}, func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }},
		"no permission": {func(t *testing.T) redis.UniversalClient {
			s := redistest.Start(t)
			admin := s.Client()
			defer admin.Close()
			setUser(t, admin, "tollgate", []string{"on", ">password", "~*", "+get"})
			return redis.NewClient(&redis.Options{Addr: s.Addr(), Username: "tollgate", Password: "password"})
		}, redis.IsPermissionError},
		"silent": {func(t *testing.T) redis.UniversalClient {
			s := redistest.Start(t)
			s.Stop()
			t.Cleanup(s.Continue)
			return addr(s.Addr())
		}, func(error) bool { return true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := c.client(t)
			defer client.Close()
			told := make(chan error, 10)
			tr := &tollgate.Transport{
				Base: always{}, Quotas: tollgate.Quotas{"*": plenty},
				Limiter: redislimit.New(client, redislimit.Options{OnError: redislimit.FailClosed}),
				Trace:   &tollgate.Trace{StoreError: func(_ string, err error) { told <- err }},
			}
			var failed error
			await(t, "a request fails", func() bool {
				req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://k.example.com/", nil)
				_, failed = tr.RoundTrip(req) //nolint:bodyclose // there is none
				return failed != nil && c.is(failed)
			})
			if err := <-told; err == nil || !c.is(err) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("told %v", err)
			}
			if errors.Is(failed, context.DeadlineExceeded) {
				t.Errorf("%v says that the caller's context is done", failed)
			}
		})
	}
}

// Timeout holds whatever the client's options are.
func TestTimeoutOfClient(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Stop()
	defer s.Continue()
	c := redis.NewClient(&redis.Options{Addr: s.Addr(), ReadTimeout: time.Hour, MaxRetries: 10})
	call, _ := caller(t, c, redislimit.Options{Timeout: 50 * time.Millisecond}, always{}, plenty)
	if err := call("k"); err != nil { // within a minute
		t.Error(err)
	}
}

// A thousand keys that nobody uses any more do not try a Redis that is away more
// often than one does, and go-redis has little to say about it.
func TestIdleKeys(t *testing.T) {
	t.Parallel()
	p := redistest.NewProxy(t, "127.0.0.1:"+freePort(t)) // it accepts, and closes at once
	const poolSize = 10
	c := redis.NewClient(&redis.Options{Addr: p.Addr(), PoolSize: poolSize})
	gone := "127.0.0.1:" + freePort(t)
	c2 := redis.NewClient(&redis.Options{Addr: gone, PoolSize: poolSize})
	call, log := caller(t, c, redislimit.Options{Instances: 2}, always{}, plenty)
	call2, log2 := caller(t, c2, redislimit.Options{Instances: 2}, always{}, plenty)
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			if err := errors.Join(call(fmt.Sprint("key", i)), call2(fmt.Sprint("key", i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	await(t, "the outages are told", func() bool { return len(log.all(slog.LevelWarn)) > 0 && len(log2.all(slog.LevelWarn)) > 0 })
	time.Sleep(time.Second) // for what go-redis has begun to end
	before, began := p.Accepted(), time.Now()
	time.Sleep(2 * time.Second)
	// A look makes one connection to Redis, and one more to see whether that speaks TLS.
	if n, most := p.Accepted()-before, 4*(1+int(time.Since(began)/(400*time.Millisecond))); n > most {
		t.Errorf("%d connections in %v, want at most %d", n, time.Since(began), most)
	}
	for _, l := range []*logged{log, log2} {
		if told := l.all(slog.LevelInfo); len(told) != 1 {
			t.Errorf("told %d times:\n%s", len(told), l.text(slog.LevelInfo))
		}
	}
	n := goredis.of(gone)
	t.Logf("%d lines of go-redis", n)
	if n > 2*poolSize {
		t.Errorf("go-redis logged %d lines", n)
	}
}
