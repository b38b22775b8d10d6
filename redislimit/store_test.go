package redislimit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
	"example.com/tollgate/redislimit/internal/redistest"
)

// fake is the time of stores under test.
type fake struct{ micros int64 }

func (f *fake) now() int64 { return f.micros }

func (f *fake) pass(d time.Duration) { f.micros += d.Microseconds() }

func (f *fake) time() time.Duration { return time.Duration(f.micros) * time.Microsecond }

// A peer is a process that trades with a store.
type peer struct {
	*store
	gen, seq int64
}

func stores(t testing.TB, n int) ([]*peer, *fake, *redis.Client) {
	t.Helper()
	c := redistest.Start(t).Client()
	t.Cleanup(func() { c.Close() })
	f := &fake{micros: 1_700_000_000_000_000}
	var list []*peer
	for range n {
		s := newStore(c, "tollgate:", "k")
		s.now = f.now
		list = append(list, &peer{store: s})
	}
	return list, f, c
}

func trade(t testing.TB, s *peer, b share.Batch) share.Reply {
	t.Helper()
	s.seq++
	b.Generation, b.Seq = s.gen, s.seq
	r, err := s.Exchange(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	s.gen = r.Generation
	return r
}

// claims has a process know limits as it is configured with them.
func claims(limits ...refill.Limit) (list []share.Claim) {
	for _, l := range limits {
		list = append(list, share.Claim{Limit: l, Told: share.None})
	}
	return list
}

func ask(n int, c refill.Cost) (list []refill.Cost) {
	for range n {
		list = append(list, c)
	}
	return list
}

var one = refill.Cost{1}

// At random, against an account of all that was ever spent: never more than N in
// any span, whatever the rule, and never later than it has to be.
func TestStoreSpans(t *testing.T) {
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		for _, rule := range []refill.Rule{refill.Window, refill.Steady} {
			list, f, _ := stores(t, 3)
			limit := refill.Limit{N: 1 + rnd.Int64N(400), Per: time.Duration(1+rnd.IntN(60)) * time.Second, Rule: rule}
			type grant struct {
				taken   time.Duration
				at      int64 // when it was, then when it arrived
				n       int64
				arrives int64
			}
			var flying, arrived []grant
			var wait time.Duration
			for range 400 {
				s := list[rnd.IntN(len(list))]
				b := share.Batch{Limits: claims(limit), Asks: ask(1+rnd.IntN(5), refill.Cost{1 + rnd.Int64N(3)})}
				rest := flying[:0]
				for _, g := range flying {
					switch {
					case g.arrives > f.micros:
						rest = append(rest, g)
					case rnd.IntN(10) == 0:
						b.Reports = append(b.Reports, share.Report{N: g.n, From: g.taken + refill.Flight})
					default:
						b.Reports = append(b.Reports, share.Report{N: g.n, From: g.taken + refill.Flight, At: time.Duration(g.arrives) * time.Microsecond})
						g.at = g.arrives
						arrived = append(arrived, g)
					}
				}
				flying = rest
				r := trade(t, s, b)
				for i := range r.Granted {
					flying = append(flying, grant{taken: r.Taken, at: f.micros, n: min(b.Asks[i][0], limit.N), arrives: f.micros + rnd.Int64N(900_000)})
				}
				if wait = r.Wait; wait > limit.Per+3*time.Second+limit.Per/100 && len(list) == 1 {
					t.Errorf("told to wait for %v", wait)
				}
				if l := r.Limits[0]; l.Left > limit.N {
					t.Fatalf("%d left of %d", l.Left, limit.N)
				}
				f.pass(time.Duration(rnd.Int64N(int64(limit.Per) / 4)))
			}
			for i, first := range arrived {
				var n int64
				for _, g := range arrived {
					if g.at >= first.at && g.at < first.at+limit.Per.Microseconds() {
						n += g.n
					}
				}
				// A bucket of capacity N that refills all the while lets 2N through in a span.
				if most := map[bool]int64{true: limit.N, false: 2 * limit.N}[rule == refill.Window]; n > most {
					t.Fatalf("%v, seed %d: %d in %v from grant %d on, want at most %d", limit, seed, n, limit.Per, i, most)
				}
			}
			if len(arrived) < 100 {
				t.Errorf("%v: only %d grants", limit, len(arrived))
			}
		}
	}
}

// All of a window is back a Per after it was spent, and a slot at the most.
func TestStoreBack(t *testing.T) {
	for _, n := range []int64{1, 10, 5000, 4_000_000} {
		list, f, _ := stores(t, 1)
		limit := refill.Limit{N: n, Per: time.Minute, Rule: refill.Window}
		b := share.Batch{Limits: claims(limit), Asks: []refill.Cost{{n}}}
		r := trade(t, list[0], b)
		if r.Granted != 1 {
			t.Fatalf("%+v", r)
		}
		f.pass(200 * time.Millisecond)
		b.Reports = []share.Report{{N: n, From: r.Taken + refill.Flight, At: f.time() - 100*time.Millisecond}}
		r = trade(t, list[0], b)
		if r.Granted != 0 || r.Wait < 59900*time.Millisecond || r.Wait > 60300*time.Millisecond {
			t.Errorf("of %d, %+v", n, r)
		}
		f.pass(r.Wait)
		b.Reports = nil
		if r = trade(t, list[0], b); r.Granted != 1 {
			t.Errorf("of %d, %+v after the wait", n, r)
		}
	}
}

// Tokens of which nothing is heard have been spent a second later.
func TestStoreUnheard(t *testing.T) {
	list, f, _ := stores(t, 2)
	b := share.Batch{Limits: claims(refill.Limit{N: 5, Per: 10 * time.Second, Rule: refill.Window}), Asks: ask(5, one)}
	trade(t, list[0], b)
	f.pass(10500 * time.Millisecond)
	if r := trade(t, list[1], b); r.Granted != 0 {
		t.Errorf("%+v before all may be back", r)
	}
	f.pass(700 * time.Millisecond)
	if r := trade(t, list[1], b); r.Granted != 5 {
		t.Errorf("%+v when all are back", r)
	}
}

// Who holds tokens of a limit of requests at once and is not heard of any more
// has them no longer.
func TestStoreLease(t *testing.T) {
	list, f, _ := stores(t, 2)
	b := share.Batch{Limits: claims(refill.Limit{N: 3}), Asks: ask(5, one)}
	holds := share.Batch{Limits: claims(refill.Limit{N: 3})}
	holds.Limits[0].Holding = 3
	if r := trade(t, list[0], b); r.Granted != 3 {
		t.Fatalf("%+v", r)
	}
	for range 5 { // it lives
		f.pass(3 * time.Second)
		trade(t, list[0], holds)
		if r := trade(t, list[1], b); r.Granted != 0 {
			t.Fatalf("%+v while they are held", r)
		}
	}
	for range 11 { // others are heard of
		f.pass(time.Second)
		trade(t, list[1], share.Batch{Limits: b.Limits})
	}
	if r := trade(t, list[1], b); r.Granted != 3 {
		t.Errorf("%+v, want the tokens of the one that died", r)
	}
}

// A day begins where the API is, whatever a process's own clock says.
func TestStoreDay(t *testing.T) {
	list, f, _ := stores(t, 2)
	midnight := time.UnixMicro(f.micros).UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
	f.micros = midnight.Add(-time.Minute).UnixMicro()
	days := func(clock time.Duration) (list [4]time.Duration) { // of a process whose clock is off
		day := time.UnixMicro(f.micros).Add(clock).UTC().Truncate(24 * time.Hour)
		for i := range list {
			list[i] = time.Duration(day.AddDate(0, 0, i-1).UnixNano())
		}
		return list
	}
	b := share.Batch{Limits: claims(refill.Limit{N: 2, Per: 24 * time.Hour, Rule: refill.Calendar}), Asks: ask(3, one), Midnights: days(5 * time.Minute)}
	if r := trade(t, list[0], b); r.Granted != 2 || r.Wait != time.Minute {
		t.Errorf("granted %d, wait %v; want 2 and a minute", r.Granted, r.Wait)
	}
	trade(t, list[0], share.Batch{Limits: b.Limits, Midnights: b.Midnights}) // it waits no longer
	f.pass(59 * time.Second)
	b.Midnights = days(-5 * time.Minute)
	if r := trade(t, list[1], b); r.Granted != 0 {
		t.Errorf("%+v before midnight", r)
	}
	f.pass(time.Second)
	b.Midnights = days(-5 * time.Minute)
	if r := trade(t, list[1], b); r.Granted != 2 {
		t.Errorf("%+v after midnight", r)
	}
}

// What one process is told others know with their next call.
func TestStoreNews(t *testing.T) {
	list, f, _ := stores(t, 2)
	configured := refill.Limit{N: 100, Per: time.Minute, Rule: refill.Window}
	lower := configured
	lower.N = 15
	other := refill.Limit{Unit: refill.Tokens, N: 1000, Per: time.Minute, Rule: refill.Steady}
	told := claims(configured, other)
	told[0].Told, told[0].News = lower.N, true
	trade(t, list[0], share.Batch{Limits: told, Reports: []share.Report{
		{Event: share.Level, N: 3, At: f.time()},
		{Event: share.Drain, Limit: 1, At: f.time() + 20*time.Second},
		{Event: share.Pause, At: f.time() + 7*time.Second},
	}})
	r := trade(t, list[1], share.Batch{Limits: claims(configured), Asks: ask(1, one)})
	if r.Granted != 0 || r.Wait != 7*time.Second || r.Pause != 7*time.Second || r.Limits[0].N != 15 || r.Limits[0].Left != 3 || len(r.Others) != 1 || r.Others[0].Limit != other {
		t.Errorf("%+v", r)
	}
	r = trade(t, list[1], share.Batch{Limits: claims(configured, other)})
	if r.Limits[1].Dry != 20*time.Second || r.Limits[1].Left > 0 {
		t.Errorf("%+v", r.Limits[1])
	}
}

// Two processes that keep a limit by different rules have one limit all the same.
func TestStoreRules(t *testing.T) {
	list, f, _ := stores(t, 2)
	limits := []refill.Limit{{N: 10, Per: time.Minute, Rule: refill.Window}, {N: 10, Per: time.Minute, Rule: refill.Steady}}
	granted := 0
	for i := range 20 {
		granted += trade(t, list[i%2], share.Batch{Limits: claims(limits[i%2]), Asks: ask(2, one)}).Granted
		f.pass(100 * time.Millisecond)
	}
	if granted != 10 {
		t.Errorf("%d granted, want 10", granted)
	}
}

// Waiting processes take turns, the one that had the least first, and one that
// has died does not hold up the others.
func TestStoreTurns(t *testing.T) {
	list, f, _ := stores(t, 4)
	b := share.Batch{Limits: claims(refill.Limit{N: 10, Per: 10 * time.Second, Rule: refill.Steady, Burst: 1}), Asks: ask(20, one)}
	had := make([]int, len(list))
	next := make([]int64, len(list)) // when each comes
	calls, grants := 0, 0
	for begin := f.micros; f.micros < begin+200_000_000; {
		i := 0
		for k := range list {
			if k == 3 && had[3] == 5 {
				next[3] = 1 << 62 // it dies
			}
			if next[k] < next[i] {
				i = k
			}
		}
		f.micros = max(f.micros, next[i])
		r := trade(t, list[i], b)
		calls++
		grants += r.Granted
		had[i] += r.Granted
		next[i] = f.micros + max(r.Wait.Microseconds(), 1)
	}
	t.Logf("%v in 200 s, %d calls", had, calls)
	if grants < 190 || calls > 2*grants {
		t.Errorf("%d grants and %d calls, want at least 190 of 200, and at most 2 calls each", grants, calls)
	}
	for _, n := range had[:3] {
		if n < 52 || n > 78 {
			t.Errorf("%v, want equal parts", had)
			break
		}
	}
}

// All that is kept of a key is small, and expires.
func TestStoreMemory(t *testing.T) {
	_, f, c := stores(t, 1)
	ctx := context.Background()
	used := func() (n int64) {
		for _, line := range strings.Split(c.Info(ctx, "memory").Val(), "\r\n") {
			if v, ok := strings.CutPrefix(line, "used_memory:"); ok {
				n, _ = strconv.ParseInt(v, 10, 64)
			}
		}
		return n
	}
	limits := []refill.Limit{{N: 1000, Per: time.Minute, Rule: refill.Window}, {Unit: refill.Tokens, N: 4_000_000, Per: time.Minute, Rule: refill.Window}}
	before := used()
	const keys = 1000
	for k := range keys {
		s := &peer{store: newStore(c, "tollgate:", fmt.Sprint("key ", k))}
		s.now = f.now
		if k == 0 { // one after the other, so that each slot has some
			for range 1100 {
				trade(t, s, share.Batch{Limits: claims(limits...), Asks: []refill.Cost{{1, 4000}}})
				f.pass(60 * time.Millisecond)
			}
		}
	}
	all := c.Keys(ctx, "tollgate:{key 0}*").Val()
	size := 0
	for _, key := range all {
		full := c.Dump(ctx, key).Val()
		size += len(full)
		for k := 1; k < keys; k++ {
			c.Restore(ctx, strings.Replace(key, "key 0", fmt.Sprint("key ", k), 1), time.Minute, full)
		}
	}
	n := used() - before
	t.Logf("%d keys: %.1f MB, %d bytes of state each", keys, float64(n)/1e6, size)
	if n > 20e6 {
		t.Errorf("%d bytes for %d keys, want at most 20 MB", n, keys)
	}
	if len(all) != 3 {
		t.Errorf("keys %q, want the state and a ring for each limit", all)
	}
	for _, key := range all {
		if ttl := c.PTTL(ctx, key).Val(); ttl < 2*time.Minute || ttl > 10*time.Minute {
			t.Errorf("%s expires in %v", key, ttl)
		}
	}
}

// What is not of this package's making is an error, and says so.
func TestStoreErrors(t *testing.T) {
	list, _, c := stores(t, 1)
	ctx := context.Background()
	c.LPush(ctx, list[0].key, "x")
	if _, err := list[0].Exchange(ctx, share.Batch{}); err == nil || !strings.HasPrefix(err.Error(), "tollgate: redis: ") {
		t.Errorf("error %v", err)
	}
	for _, v := range [][]int64{nil, {1, 2}, {0, 1, 2, 3}, {0, 1, 2, 3, 0, 0, 0, 0, 0, 2}, {0, 1, 2, 3, 0, 0, 0, 0, 0, 1, 5}, {0, 1, 2, 3, 0, 0, 0, 0, 1 << 40}} {
		if _, err := read(v, claims(refill.Limit{N: 1})); err == nil {
			t.Errorf("reply %v is taken for one", v)
		}
	}
	if k := newStore(c, "p:", "a{b}%").key; k != "p:{a%7Bb%7D%25}:2" {
		t.Errorf("key %q", k)
	}
}
