package redislimit

import (
	"context"
	_ "embed"
	"encoding/binary"
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
const grace = 500 * time.Millisecond

// version is that of the state's format: processes that know another one do not
// meet.
const version = ":2"

// A store keeps the tokens of a key in Redis, by its clock.
type store struct {
	client redis.UniversalClient
	key    string
	id     string                // of this process, and of this key in it
	lease  time.Duration         // of what it holds
	now    func() (micros int64) // in tests; nil: the clock of Redis
}

func newStore(c redis.UniversalClient, prefix, key string) *store {
	// The braces have all of a cluster's keys of a quota in one place. A brace in
	// the key itself must not move them.
	tag := strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D").Replace(key)
	return &store{client: c, key: prefix + "{" + tag + "}" + version, id: strconv.FormatUint(rand.Uint64(), 36), lease: share.Lease}
}

func (s *store) Exchange(ctx context.Context, b share.Batch) (share.Reply, error) {
	values, err := exchange.Run(ctx, s.client, s.keys(b.Limits), s.id, s.arguments(b)).Int64Slice()
	if err != nil {
		return share.Reply{}, fmt.Errorf("tollgate: redis: %w", err)
	}
	return read(values, b.Limits)
}

// keys returns that of the state and those of the limits' rings.
func (s *store) keys(list []share.Claim) []string {
	keys := append(make([]string, 0, 1+len(list)), s.key)
	for _, l := range list {
		day := 0
		if l.Rule == refill.Calendar && l.Per >= refill.Day {
			day = 1
		}
		keys = append(keys, fmt.Sprintf("%s:%d:%d:%d", s.key, l.Unit, micros(l.Per), day))
	}
	return keys
}

// numbers is a list of integers in the form of MessagePack, which the script reads
// in one go.
type numbers struct {
	data []byte
	n    uint32
}

func (a *numbers) add(list ...int64) {
	for _, n := range list {
		a.n++
		a.data = binary.BigEndian.AppendUint64(append(a.data, 0xd3), uint64(n))
	}
}

func (a *numbers) bytes() []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0xdd}, a.n), a.data...)
}

func (s *store) arguments(b share.Batch) []byte {
	a := &numbers{data: make([]byte, 0, 9*(16+10*len(b.Limits)+6*len(b.Reports)+8))}
	var now int64
	if s.now != nil {
		now = s.now()
	}
	a.add(now, s.lease.Microseconds(), (grace + b.Ahead).Microseconds(), b.Generation, b.Seq, b.Ahead.Microseconds(), number(b.Detail))
	for _, m := range b.Midnights {
		a.add(m.Microseconds())
	}
	a.add(int64(len(b.Limits)))
	for _, l := range b.Limits {
		a.add(int64(l.Unit), micros(l.Per), l.N, l.Told, number(l.News), number(l.Set), l.Epoch, int64(l.Rule), l.Burst, l.Holding)
	}
	a.add(int64(len(b.Reports)))
	for _, r := range b.Reports {
		x := number(r.Anew)
		if r.Event == share.Clock {
			x = r.Date.Microseconds()
		}
		a.add(int64(r.Event), int64(r.Limit), r.N, r.From.Microseconds(), micros(r.At), x)
	}
	var runs int64
	for i, c := range b.Asks {
		if i == 0 || c != b.Asks[i-1] {
			runs++
		}
	}
	a.add(runs)
	for i := 0; i < len(b.Asks); {
		k := i
		for k < len(b.Asks) && b.Asks[k] == b.Asks[i] {
			k++
		}
		c := b.Asks[i]
		a.add(int64(k-i), c[refill.Requests], c[refill.Tokens], c[refill.OutputTokens])
		i = k
	}
	return a.bytes()
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// micros returns d in microseconds, rounded up.
func micros(d time.Duration) int64 {
	return int64((d + time.Microsecond - 1) / time.Microsecond)
}

// read reads what the script replies.
func read(v []int64, limits []share.Claim) (r share.Reply, err error) {
	next := func() (n int64) {
		if len(v) == 0 {
			err = fmt.Errorf("tollgate: redis: the reply ends early")
			return 0
		}
		n, v = v[0], v[1:]
		return n
	}
	span := func() time.Duration { return time.Duration(next()) * time.Microsecond }
	r.Lost, r.Generation, r.Now = next() != 0, next(), span()
	if r.Lost {
		return r, err
	}
	r.Taken, r.Granted, r.Wait, r.Pause, r.Rivals = span(), int(next()), max(span(), 0), span(), int(next())
	for n := next(); n > 0 && err == nil; n-- {
		r.Due = append(r.Due, span())
	}
	if n := next(); err == nil && n != int64(len(limits)) {
		return r, fmt.Errorf("tollgate: redis: a reply of %d limits to %d", n, len(limits))
	}
	for _, l := range limits {
		state := share.State{Limit: l.Limit}
		state.N, state.Most, state.Epoch, state.Rule, state.Burst = next(), next(), next(), refill.Rule(next()), next()
		state.Left, state.Full, state.Dry = next(), span(), span()
		for n := next(); n > 0 && err == nil; n-- {
			state.Back = append(state.Back, share.Back{In: span(), N: next()})
		}
		r.Limits = append(r.Limits, state)
	}
	for n := next(); n > 0 && err == nil; n-- {
		l := refill.Limit{Unit: int(next()), N: next(), Per: span()}
		l.Rule, l.Burst = refill.Rule(next()), next()
		r.Others = append(r.Others, share.State{Limit: l, Most: next()})
	}
	return r, err
}
