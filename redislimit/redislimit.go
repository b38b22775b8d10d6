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
//	ACL SETUSER tollgate on >password ~tollgate:* +eval +evalsha +get +set +time
//	ACL SETUSER tollgate +cluster|slots +asking # for a ClusterClient
//	ACL SETUSER tollgate +ping # for a Ring
package redislimit

import (
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/share"
)

// Options say how a quota is shared.
type Options struct {
	// Prefix is that of every key in Redis. "": "tollgate:".
	Prefix string

	// OnError says what becomes of requests while Redis does not answer.
	OnError OnError

	// Instances is how many processes share the quota, for FallBack. 0: 1.
	Instances int

	// Timeout is that of each call to Redis. 0: 100 ms. Longer ones delay
	// nobody longer than once: from then on, until it answers again, OnError
	// says what is done.
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
