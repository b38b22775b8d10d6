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
// that have models of one name need a Prefix each.) Tokens are counted by the clock
// of Redis, in one script call per decision. What is kept of a key is a hash and a
// string for each limit, a few kilobytes together, which expire. It runs on Redis 5
// and later, on Redis Cluster and on Valkey.
//
// # What is promised
//
// While Redis answers, no more than N is used in any Per, and no slot of Concurrency
// twice, however many processes come and go and whatever messages are lost, repeated,
// delayed or overtake each other: what a process tells is numbered and told again
// until it is answered. Each of these faults costs at most one more N, once:
//
//   - Redis is emptied, restarted without its data, fails over to a replica that has
//     missed the last writes, or has its clock set back by more than two seconds.
//     The next exchange of each process finds that out, and it tells again what it
//     has spent; one that is idle does so within half a Per, five minutes at most
//     (where a Per is ten seconds or longer).
//     What ended processes have spent is not known any more.
//   - The clock of Redis is set forward: tokens are back that much too early. Slots
//     stay with those who hold them.
//   - Redis does not answer, with FallBack and the right Instances: processes that
//     had more than their part just before keep it for that Per. What is sent
//     meanwhile is told when Redis is back.
//   - A process stands still for longer than ten seconds while it holds slots.
//
// Where a limit's Per is shorter than a few seconds, what is let go and not written
// yet may be counted as over if Redis hears nothing of the process for as long. A
// process that has died holds its slots for ten seconds, for twenty if nobody was
// heard of meanwhile.
//
// Processes that wait have equal parts, in turn (start-time fair queuing in units of
// the scarcest limit). One that comes earlier may use what is idle, and owes nothing
// for it. Priorities and tenants order the queue of each process; between processes
// each counts the same, whatever waits in it.
//
// Processes may be configured with different numbers: the lowest is in force for
// all, which Status and Trace.Learned tell, as long as one that has it was heard of
// in the last minute. Limits of another Per hold for all in the same way. What the
// server states last holds for all too, and ends with those who know of it.
//
// The key has the version of the state's format in it: processes of a release that
// has another one share a quota among themselves, so that a rolling deploy may use
// up to twice the quota until it is done.
//
// A grant takes one or two exchanges, of 40 to 60 µs of Redis each where few
// processes wait. What falls due within a round trip is granted ahead: the network
// may be slow.
//
// # Redis in operation
//
// The user of Redis needs these permissions, and no others:
//
//	ACL SETUSER tollgate on >password ~tollgate:* +del +eval +evalsha +getrange +hdel +hmget +hset +pexpire +setrange +time
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
// The keys of a quota are in one slot of a Cluster, which may be moved at any time. When a shard of a redis.Ring dies, its quotas are counted by each process
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
	// Redis answers again, OnError says what is done. Meanwhile calls are given
	// more time: a Redis that is far away is found out to be.
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
