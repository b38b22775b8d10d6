package redislimit

import (
	"context"
	_ "embed"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
)

var (
	//go:embed rules.lua
	rules string
	//go:embed exchange.lua
	decision string

	exchange = redis.NewScript(rules + decision)
)

// grace is how long after it was due a process may come for its tokens before
// others have them.
const grace = 250 * time.Millisecond

// A store keeps the tokens of a key in Redis, by its clock.
type store struct {
	client redis.UniversalClient
	keys   []string
	id     string                // of this process, and of this key in it
	lease  time.Duration         // of what it holds
	now    func() (micros int64) // in tests; nil: the clock of Redis
}

func newStore(c redis.UniversalClient, prefix, key string) *store {
	// The braces have all of a cluster's keys of a quota in one place, were there
	// ever more than one. A brace in the key itself must not move them.
	tag := strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D").Replace(key)
	return &store{client: c, keys: []string{prefix + "{" + tag + "}"}, id: strconv.FormatUint(rand.Uint64(), 36), lease: share.Lease}
}

func (s *store) Exchange(ctx context.Context, b share.Batch) (share.Reply, error) {
	values, err := exchange.Run(ctx, s.client, s.keys, s.arguments(b)...).Int64Slice()
	if err != nil {
		return share.Reply{}, fmt.Errorf("tollgate: redis: %w", err)
	}
	return read(values, b.Limits)
}

func (s *store) arguments(b share.Batch) []any {
	a := make([]any, 0, 16+6*len(b.Limits)+8*len(b.Reports)+3*len(b.Asks))
	add := func(n ...int64) {
		for _, n := range n {
			a = append(a, n)
		}
	}
	a = append(a, s.id)
	var now int64
	if s.now != nil {
		now = s.now()
	}
	add(now, s.lease.Microseconds(), grace.Microseconds(), int64(len(b.Limits)))
	for _, l := range b.Limits {
		add(int64(l.Unit), l.N, micros(l.Per), int64(l.Rule), l.Burst)
	}
	for _, m := range b.Midnights {
		add(int64(m / time.Microsecond))
	}
	for i := range b.Limits {
		var n int64
		if i < len(b.Holding) {
			n = b.Holding[i]
		}
		add(n)
	}
	add(int64(len(b.Reports)))
	for _, r := range b.Reports {
		var anew int64
		if r.Anew {
			anew = 1
		}
		date := int64(r.Date / time.Microsecond)
		add(int64(r.Event), int64(r.Limit), r.N, r.Taken.Microseconds(), max(r.Ago, 0).Microseconds(), micros(r.For), anew, date)
	}
	add(int64(len(b.Asks)))
	for _, c := range b.Asks {
		add(c[refill.Requests], c[refill.Tokens], c[refill.OutputTokens])
	}
	return a
}

// micros returns d in microseconds, rounded up.
func micros(d time.Duration) int64 {
	return int64((d + time.Microsecond - 1) / time.Microsecond)
}

// read reads what the script replies.
func read(v []int64, limits []refill.Limit) (r share.Reply, err error) {
	next := func() (n int64) {
		if len(v) == 0 {
			err = fmt.Errorf("tollgate: redis: the reply ends early")
			return 0
		}
		n, v = v[0], v[1:]
		return n
	}
	span := func() time.Duration { return time.Duration(next()) * time.Microsecond }
	r.Granted, r.Taken, r.Wait, r.Pause, r.Lost = int(next()), span(), span(), span(), next() != 0
	if n := next(); err == nil && n != int64(len(limits)) {
		return r, fmt.Errorf("tollgate: redis: a reply of %d limits to %d", n, len(limits))
	}
	for _, l := range limits {
		state := share.State{Limit: l}
		state.N, state.Rule, state.Burst = next(), refill.Rule(next()), next()
		state.Left, state.Full, state.Dry = next(), span(), span()
		r.Limits = append(r.Limits, state)
	}
	for n := next(); n > 0 && err == nil; n-- {
		l := refill.Limit{Unit: int(next()), N: next(), Per: span()}
		l.Rule, l.Burst = refill.Rule(next()), next()
		r.Others = append(r.Others, l)
	}
	r.Wait = max(r.Wait, 0)
	return r, err
}
