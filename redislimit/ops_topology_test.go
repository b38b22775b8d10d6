package redislimit_test

import (
	"context"
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

// replica starts a replica that has all that its master has.
func replica(t *testing.T, master *redistest.Server) *redistest.Server {
	t.Helper()
	r := redistest.Start(t, "--repl-diskless-sync-delay", "0")
	c, m := r.Client(), master.Client()
	defer c.Close()
	defer m.Close()
	host, port, _ := strings.Cut(master.Addr(), ":")
	if err := errors.Join(m.ConfigSet(t.Context(), "repl-diskless-sync-delay", "0").Err(), c.ReplicaOf(t.Context(), host, port).Err()); err != nil {
		t.Fatal(err)
	}
	await(t, "the replica is in sync", func() bool {
		return strings.Contains(c.Info(t.Context(), "replication").Val(), "master_link_status:up")
	})
	return r
}

// After a failover to a replica that has missed the last writes, or to a server that
// knows nothing, every request gets done, and at most one window is refused.
func TestFailover(t *testing.T) {
	for name, next := range map[string]func(t *testing.T, master *redistest.Server) (s *redistest.Server, promote func()){
		"to a replica that lost writes": func(t *testing.T, master *redistest.Server) (*redistest.Server, func()) {
			r := replica(t, master)
			return r, func() {
				c := r.Client()
				defer c.Close()
				if err := c.ReplicaOf(context.Background(), "NO", "ONE").Err(); err != nil {
					t.Error(err)
				}
				time.Sleep(500 * time.Millisecond) // what is written in them is lost
			}
		},
		"to an empty one": func(t *testing.T, _ *redistest.Server) (*redistest.Server, func()) {
			return redistest.Start(t), func() {}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			master := redistest.Start(t)
			s, promote := next(t, master)
			p := redistest.NewProxy(t, master.Addr())
			server := &strict{n: 60, per: time.Second}
			ok, watches := batch{server: server, clients: 4, each: 60, options: redislimit.Options{Instances: 4, Timeout: late}, connect: func() redis.UniversalClient {
				return redis.NewClient(&redis.Options{Addr: p.Addr()})
			}, happens: func() {
				time.Sleep(1300 * time.Millisecond)
				promote()
				p.To(s.Addr())
				master.Kill()
			}}.run(t)
			t.Logf("%d ok, %d refused, %.2f of ideal", ok, server.Refused, server.Took.Seconds()/3)
			if ok != 240 || server.Refused > server.n {
				t.Errorf("want 240 ok and at most %d refused", server.n)
			}
			c := s.Client()
			defer c.Close()
			if n := exchanges(t, c); n == 0 {
				t.Error("nobody has asked the new server")
			}
			for _, w := range watches {
				if lost, found := w.counts(); lost != found {
					t.Errorf("lost %d times and found %d times", lost, found)
				}
			}
		})
	}
}

// Real sentinels fail over while the quota is in use: an error that passes.
func TestSentinel(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica(t, master)
	sentinel := redistest.Sentinel(t, "quota", master)
	server := &strict{n: 50, per: time.Second}
	c := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "quota", SentinelAddrs: []string{sentinel.Addr()}})
	call, log := caller(t, c, redislimit.Options{Instances: 1}, server, tollgate.Quota{{N: 50, Per: time.Second}})
	if err := call("k"); err != nil {
		t.Fatal(err)
	}
	master.Kill()
	await(t, "the outage is told, and then its end", func() bool {
		if err := call("k"); err != nil {
			t.Fatal(err)
		}
		return len(log.all(slog.LevelInfo)) >= 2
	})
	if server.Refused > server.n {
		t.Errorf("%d refused, want at most a window", server.Refused)
	}
	if told := log.all(slog.LevelInfo); len(told) != 2 || told[0].Level != slog.LevelWarn || told[1].Level != slog.LevelInfo {
		t.Errorf("told:\n%s", log.text(slog.LevelInfo))
	}
}

// A slot of a cluster is moved from one server to another and back while its quota
// is in use: nobody notices.
func TestMovedSlot(t *testing.T) {
	t.Parallel()
	c := redistest.Cluster(t)
	const key = "tollgate:{api.example.com}"
	moved := 0
	move := func() {
		ctx := t.Context()
		slot := int(c.ClusterKeySlot(ctx, key).Val())
		from, err := c.MasterForKey(ctx, key)
		if err != nil {
			t.Error(err)
			return
		}
		var to *redis.Client
		var all []*redis.Client
		for _, addr := range c.Options().Addrs {
			n := redis.NewClient(&redis.Options{Addr: addr})
			defer n.Close()
			all = append(all, n)
			if addr != from.Options().Addr {
				to = n
			}
		}
		source, target := from.Do(ctx, "CLUSTER", "MYID").Val(), to.Do(ctx, "CLUSTER", "MYID").Val()
		if err := errors.Join(
			to.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", source).Err(),
			from.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", target).Err(),
		); err != nil {
			t.Error(err)
			return
		}
		time.Sleep(200 * time.Millisecond) // served by the old one
		host, port, _ := strings.Cut(to.Options().Addr, ":")
		for _, k := range from.ClusterGetKeysInSlot(ctx, slot, 100).Val() {
			if err := from.Migrate(ctx, host, port, k, 0, 5*time.Second).Err(); err != nil {
				t.Error(err)
			}
			moved++
		}
		time.Sleep(200 * time.Millisecond) // asked for at the new one
		for _, n := range append([]*redis.Client{to, from}, all...) {
			if err := n.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", target).Err(); err != nil {
				t.Error(err)
			}
		}
		c.ReloadState(ctx)
		await(t, "the client knows", func() bool {
			n, err := c.MasterForKey(ctx, key)
			return err == nil && n.Options().Addr == to.Options().Addr
		})
	}
	for _, a := range c.Options().Addrs { // the user that the documentation asks for
		n := addr(a)
		setUser(t, n, "tollgate", rules(t, "redislimit.go")[0], rules(t, "redislimit.go")[1])
		n.Close()
	}
	server := &strict{n: 50, per: time.Second}
	ok, watches := batch{server: server, clients: 3, each: 50, options: redislimit.Options{Timeout: late}, connect: func() redis.UniversalClient {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Options().Addrs, Username: "tollgate", Password: "password"})
	}, happens: func() {
		for range 3 {
			time.Sleep(200 * time.Millisecond)
			move()
		}
	}}.run(t)
	if ok != 150 || server.Refused > 0 || moved < 3 {
		t.Errorf("%d ok, %d refused, the state was moved %d times; want 150, none and 3", ok, server.Refused, moved)
	}
	for _, w := range watches {
		if lost, _ := w.counts(); lost > 0 {
			t.Error("Redis was thought to be lost")
		}
	}
}

// One server of a cluster goes: that is told by its name, and quotas on the others
// are shared as before.
func TestClusterNode(t *testing.T) {
	t.Parallel()
	c := redistest.Cluster(t)
	ctx := t.Context()
	keys := make(map[string]string) // by address
	for i := 0; len(keys) < 3; i++ {
		key := fmt.Sprint("key", i)
		n, err := c.MasterForKey(ctx, "tollgate:{"+key+".example.com}")
		if err != nil {
			t.Fatal(err)
		}
		keys[n.Options().Addr] = key
		if err := n.ConfigSet(ctx, "cluster-require-full-coverage", "no").Err(); err != nil {
			t.Fatal(err)
		}
	}
	addrs := c.Options().Addrs
	dying, living := keys[addrs[0]], keys[addrs[1]]
	call, log := caller(t, redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs}), redislimit.Options{Instances: 2, Timeout: 500 * time.Millisecond}, always{}, plenty)
	if err := errors.Join(call(dying), call(living)); err != nil {
		t.Fatal(err)
	}
	gone := addr(addrs[0])
	defer gone.Close()
	gone.ShutdownNoSave(ctx)
	await(t, "the outage is told", func() bool {
		if err := errors.Join(call(dying), call(living)); err != nil {
			t.Fatal(err)
		}
		return len(log.all(slog.LevelWarn)) > 0
	})
	for range 20 {
		if err := errors.Join(call(dying), call(living)); err != nil {
			t.Fatal(err)
		}
	}
	want := "tollgate: Redis at " + addrs[0] + " unreachable: connection refused; keeping to 1/2 of the quota"
	if told := log.all(slog.LevelInfo); len(told) != 1 || told[0].Message != want {
		t.Errorf("told:\n%s", log.text(slog.LevelInfo))
	}
}

// One shard of a ring dies: the quotas on the other are shared as before, those on
// the dead one after the ring has given its keys to the other; that is told once,
// and at most one window is refused.
func TestRing(t *testing.T) {
	t.Parallel()
	shards := map[string]*redistest.Server{"a": redistest.Start(t), "b": redistest.Start(t)}
	o := &redis.RingOptions{Addrs: map[string]string{"a": shards["a"].Addr(), "b": shards["b"].Addr()}, HeartbeatFrequency: 300 * time.Millisecond}
	ring := redis.NewRing(o)
	keys := make(map[string][]string) // by address
	for i := 0; len(keys[o.Addrs["a"]]) < 10 || len(keys[o.Addrs["b"]]) < 10; i++ {
		key := fmt.Sprint("key", i)
		n, err := ring.GetShardClientForKey("tollgate:{" + key + ".example.com}")
		if err != nil {
			t.Fatal(err)
		}
		keys[n.Options().Addr] = append(keys[n.Options().Addr], key)
	}
	dying, living := keys[o.Addrs["a"]][:10], keys[o.Addrs["b"]][:10]
	server := &strict{n: 30, per: time.Second}
	call, log := caller(t, ring, redislimit.Options{Instances: 2, Timeout: 200 * time.Millisecond}, server, tollgate.Quota{{N: 3, Per: time.Second}})
	all := func(keys []string) {
		t.Helper()
		for _, k := range keys {
			if err := call(k); err != nil {
				t.Fatal(err)
			}
		}
	}
	all(dying)
	all(living)
	shards["a"].Kill()
	await(t, "the outage is told, and then its end", func() bool {
		all(dying)
		all(living)
		return len(log.all(slog.LevelInfo)) >= 2
	})
	told := log.all(slog.LevelInfo)
	want := "tollgate: Redis at " + o.Addrs["a"] + " unreachable: connection refused; keeping to 1/2 of the quota"
	if len(told) != 2 || told[0].Message != want || told[1].Level != slog.LevelInfo {
		t.Errorf("told:\n%s", log.text(slog.LevelInfo))
	}
	if server.Refused > server.n {
		t.Errorf("%d refused, want at most a window", server.Refused)
	}
}
