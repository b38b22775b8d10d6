// Package redislimit shares the quotas of a tollgate.Transport between
// machines, through Redis or Valkey:
//
//	t := &tollgate.Transport{
//		Quotas:  quotas,
//		Limiter: redislimit.New(redis.NewClient(&redis.Options{Addr: "localhost:6379"}), redislimit.Options{}),
//	}
//
// All that have the same Redis, the same Prefix and the same key keep to its quota
// together, in equal parts where they wait. (A key is a model's name: two APIs
// that have models of one name need a Prefix each.) Tokens are counted by the clock of Redis, in one script
// call per decision; what is kept of a key is one value of Redis of a few
// kilobytes, which expires. It runs on Redis 5 and later, on Redis Cluster and on
// Valkey.
//
// # Redis in operation
//
// The user of Redis needs these permissions, and no others:
//
//	ACL SETUSER tollgate on >password ~tollgate:* +eval +evalsha +time +hmget +hset +hdel +getrange +setrange +pexpire +del
//	ACL SETUSER tollgate +cluster|slots +asking # for a ClusterClient
//	ACL SETUSER tollgate +ping # for a Ring
//
// Set maxmemory-policy to noeviction. A Redis that is full then refuses, which is
// told, and each process does what OnError says. With any other policy, the
// volatile ones first of all, Redis may evict the state of a quota in use. The next
// exchange notices that, Trace.StoreError is told, and the processes tell Redis
// again what they have spent.
//
// A restart that loses the state costs at most one window of refusals. What ended
// processes have spent of a day is lost with it: where days are limited, switch on
// the append-only file (appendfsync everysec loses a second) or snapshots (lose what
// came after the last one).
//
// Redis replicates asynchronously. After a failover, to a replica that has missed
// the last writes or to an empty server, at most one window is refused. Use
// redis.NewFailoverClient with Sentinel.
//
// A process that stands still for longer than ten seconds loses the tokens of
// Concurrency that it holds; it takes new ones when it goes on. Those that its open
// requests had are in use twice until these end.
//
// A quota is one key, and so in one slot of a Cluster, which may be moved at any
// time. When a shard of a redis.Ring dies, its quotas are counted by each process
// alone until the ring has noticed it, and anew from then on.
//
// For TLS set the client's TLSConfig.
//
// # When Redis does not answer
//
// One attempt at a time finds out whether Redis answers again, twice a second at
// first and every five seconds after a while, however many keys there are. It makes
// a connection of its own, so that the error names the cause. Trace.StoreError is
// called once, and with nil at the end:
//
//	tollgate: Redis unreachable: connection refused; keeping to 1/8 of the quota
//
// By default slog is told: at level Error where the configuration has to change
// (permissions, a password, a full memory, a replica, TLS, scripts disabled), else at
// level Warn. redis.IsPermissionError, errors.Is and errors.As see the error behind
// it.
//
// go-redis logs by itself, to stderr, a line for each connection that it fails to
// make: as many as an outage has met exchanges under way, at most twice the PoolSize of
// the client. Its logger belongs to the program, and this package leaves it as it
// is: redis.SetLogger sets another one.
package redislimit

import (
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/share"
)

// Options say how a quota is shared. All processes that share it should have the
// same.
type Options struct {
	// Prefix is that of every key in Redis. "": "tollgate:".
	Prefix string

	// OnError says what becomes of requests while Redis does not answer. The
	// zero value is FallBack.
	OnError OnError

	// Instances is how many processes share the quota, for FallBack: each keeps
	// to the quota divided by it. 0 counts as 1: each process keeps to the whole
	// quota, and N of them send N times as much. The first outage says so.
	Instances int

	// Timeout is that of each call to Redis, whatever those of the client are.
	// 0: 100 ms. Longer ones delay nobody longer than once: from then on, until
	// Redis answers again, OnError says what is done.
	Timeout time.Duration
}

// OnError is what is done with requests while Redis does not answer. Whenever
// that changes, Trace.StoreError is called.
type OnError = share.OnError

// The ways.
const (
	FallBack   = share.FallBack   // each process keeps to its part of the quota, by Instances
	FailOpen   = share.FailOpen   // requests are sent without regard to the quota
	FailClosed = share.FailClosed // requests fail
)

// New returns what goes into the Limiter field of a Transport. It panics if there
// is no client.
func New(c redis.UniversalClient, o Options) *limiter.Shared {
	if c == nil {
		panic("tollgate: redislimit.New without a client")
	}
	if o.Prefix == "" {
		o.Prefix = "tollgate:"
	}
	if o.Timeout <= 0 {
		o.Timeout = 100 * time.Millisecond
	}
	h := &health{client: c, shared: &limiter.Shared{OnError: o.OnError, Instances: o.Instances, Timeout: o.Timeout}}
	h.shared.Store = func(key string) limiter.Store { return &guard{health: h, store: newStore(c, o.Prefix, key)} }
	return h.shared
}
