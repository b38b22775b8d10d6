package redislimit_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate"
	"example.com/tollgate/redislimit"
	"example.com/tollgate/redislimit/internal/redistest"
)

// fill takes up the memory of Redis until it refuses or done says that it is enough.
func fill(t *testing.T, c *redis.Client, done func() bool) {
	t.Helper()
	value := strings.Repeat("x", 50_000)
	for i := range 10_000 {
		if done() {
			return
		}
		if err := c.Set(t.Context(), fmt.Sprint("fill", i), value, 0).Err(); err != nil {
			if !redis.IsOOMError(err) {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("it has no end")
}

// limitMemory lets Redis have so much more memory than it uses.
func limitMemory(t *testing.T, c *redis.Client, policy string, more int) {
	t.Helper()
	used := 0
	for _, line := range strings.Split(c.Info(t.Context(), "memory").Val(), "\r\n") {
		_, _ = fmt.Sscanf(line, "used_memory:%d", &used)
	}
	if err := errors.Join(c.ConfigSet(t.Context(), "maxmemory-policy", policy).Err(), c.ConfigSet(t.Context(), "maxmemory", fmt.Sprint(used+more)).Err()); err != nil {
		t.Fatal(err)
	}
}

// With noeviction, a Redis that is full is an error of configuration, and each
// process keeps to its part until there is room.
func TestNoEviction(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	admin := s.Client()
	defer admin.Close()
	call, log := caller(t, s.Client(), redislimit.Options{Instances: 4, Timeout: late}, always{}, plenty)
	if err := call("k"); err != nil {
		t.Fatal(err)
	}
	limitMemory(t, admin, "noeviction", -100_000)
	await(t, "the outage is told", func() bool {
		if err := call("k"); err != nil {
			t.Fatal(err)
		}
		return len(log.all(slog.LevelWarn)) > 0
	})
	if err := admin.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of it is told", func() bool {
		if err := call("k"); err != nil {
			t.Fatal(err)
		}
		return len(log.all(slog.LevelInfo)) > 1
	})
	text := log.text(slog.LevelInfo)
	if !strings.HasPrefix(text, "ERROR tollgate: Redis refuses: OOM ") || !strings.Contains(text, "keeping to 1/4 of the quota\nINFO ") || strings.Count(text, "\n") != 2 {
		t.Errorf("told:\n%s", text)
	}
}

// When the state of a key is evicted, that is noticed and told, and what this
// process has spent is told Redis again: no request is refused.
func TestEviction(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	admin := s.Client()
	defer admin.Close()
	server := &strict{n: 20, per: 2 * time.Second}
	call, log := caller(t, s.Client(), redislimit.Options{Timeout: late}, server, tollgate.Quota{{N: 20, Per: 2 * time.Second}})
	for range 15 {
		if err := call("k"); err != nil {
			t.Fatal(err)
		}
	}
	limitMemory(t, admin, "volatile-lru", 2_000_000)
	fill(t, admin, func() bool { return len(admin.Keys(t.Context(), "tollgate:*").Val()) == 0 })
	if left := admin.Keys(t.Context(), "tollgate:*").Val(); len(left) > 0 {
		t.Fatalf("%q was not evicted", left)
	}
	if err := admin.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	for range 15 {
		if err := call("k"); err != nil {
			t.Fatal(err)
		}
	}
	if server.Refused > 0 {
		t.Errorf("%d refused", server.Refused)
	}
	text := log.text(slog.LevelWarn)
	if !strings.Contains(text, "WARN tollgate: Redis has lost the state of tollgate:{k.example.com}") || !strings.Contains(text, "evicted") || strings.Count(text, "\n") != 1 {
		t.Errorf("told:\n%s", text)
	}
}

// The count of a day survives a restart of Redis that keeps what it has on disk,
// for processes that begin after it too.
func TestPersistence(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		save bool
	}{
		"AOF": {args: []string{"--appendonly", "yes", "--appendfsync", "always"}},
		"RDB": {save: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t, c.args...)
			day := tollgate.Quota{tollgate.RPD(5)}
			o := redislimit.Options{Timeout: late, OnError: redislimit.FailClosed}
			before, _ := caller(t, s.Client(), o, always{}, day)
			for range 3 {
				if err := before("k"); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(500 * time.Millisecond) // what was spent is told within 250 ms
			if c.save {
				admin := s.Client()
				defer admin.Close()
				if err := admin.Save(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
			}
			s.Restart()
			after, _ := caller(t, s.Client(), o, always{}, day)
			for range 2 {
				if err := after("k"); err != nil {
					t.Fatal(err)
				}
			}
			var limit *tollgate.LimitError
			if err := after("k"); !errors.As(err, &limit) || limit.Limit.N != 5 {
				t.Errorf("error %v, want the day's limit", err)
			}
		})
	}
}

// A Redis that keeps nothing on disk is told by those who live what they had spent
// of the day; what ended processes had spent is forgotten with it.
func TestNoPersistence(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	day := tollgate.Quota{tollgate.RPD(5)}
	o := redislimit.Options{Timeout: late, OnError: redislimit.FailClosed}
	lives, _ := caller(t, s.Client(), o, always{}, day)
	ended, _ := caller(t, s.Client(), o, always{}, day)
	for range 3 {
		if err := lives("k"); err != nil {
			t.Fatal(err)
		}
	}
	if err := ended("k"); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	await(t, "it is shared again", func() bool { return lives("k") == nil })
	time.Sleep(500 * time.Millisecond) // what was spent is told within 250 ms
	next, _ := caller(t, s.Client(), o, always{}, day)
	_ = next("k")
	var limit *tollgate.LimitError
	if err := next("k"); !errors.As(err, &limit) || limit.Limit.N != 5 {
		t.Errorf("error %v, want the day's limit: 4 of 5 were spent by the one that lives", err)
	}
}

// A quota is shared through TLS by those who trust the server's authority.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca, port := newAuthority(t), freePort(t)
	redistest.Start(t, ca.args(t, port)...)
	server := &strict{n: 10, per: time.Second}
	ok, watches := batch{server: server, clients: 2, each: 15, options: redislimit.Options{Timeout: late}, connect: func() redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port, TLSConfig: trusts(ca)})
	}, happens: func() {}}.run(t)
	if ok != 30 || server.Refused > 0 {
		t.Errorf("%d ok, %d refused; want 30 and none", ok, server.Refused)
	}
	for _, w := range watches {
		if lost, _ := w.counts(); lost > 0 {
			t.Error("Redis was thought to be lost")
		}
	}
}
