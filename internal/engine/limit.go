package engine

import (
	"math"
	"slices"
	"time"

	"example.com/tollgate/internal/estimate"
	"example.com/tollgate/internal/queue"
	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
)

// A limit is a bucket and what was learned of it.
type limit struct {
	*refill.Bucket
	config  refill.Limit    // as it was configured; of no meaning if it was learned
	most    int64           // its N as it was configured
	stated  int64           // its N as it was configured or stated last: it may be less by now
	learned bool            // nobody but the server has stated it
	others  bool            // nobody but other processes is configured with it
	void    bool            // those have gone
	told    int64           // its N as the server has told this process; share.None: it has not
	news    bool            // that the store does not know yet
	set     bool            // it was configured anew, and the store does not know yet
	epoch   int64           // share.State.Epoch of adopted
	adopted int64           // its N as another process has set it last
	dormant bool            // not configured any more: see Requota
	foreign int64           // of its tokens without a Per, how many are held by requests let go before there was the limit
	booked  map[int64]int64 // of what a journal says of it, by when that is back: what is counted here

	// What refusals that nothing explains have shown: see inforce.go.
	upset   time.Duration // when the last one came that was not the consequence of another
	excused time.Duration // until when there is an explanation
	calm    time.Duration // since when there has been none, or the limit grew
	slow    bool          // tokens come back more slowly after a drain: at its usual pace they were refused as well
	even    bool          // the server suffers no bursts
	trial   *trial        // nil: there is none
}

func (l *limit) n() int64 { return l.Limit().N }

// claim is the N that this process is configured with; share.None: it is not.
func (l *limit) claim() int64 {
	if l.learned || l.others {
		return share.None
	}
	if l.epoch > 0 && !l.set {
		return l.adopted
	}
	return l.config.N
}

// draws returns how many tokens a request of cost c takes.
func (l *limit) draws(c *refill.Cost) int64 {
	if l.void {
		return 0
	}
	return l.Share(c[l.Limit().Unit])
}

// daily reports whether it is a limit of a day or more.
func (l *limit) daily() bool { return l.Limit().Per >= refill.Day }

// A limits is all that is known of the limits of a key.
type limits struct {
	list      []*limit
	dormant   []*limit // what is spent is counted all the same
	clock     *refill.Clock
	estimates estimate.Estimator
	parts     int64          // that each is divided into
	past      *refill.Bucket // what was sent while no limit of requests is known; nil: one is
	coming    int64          // requests let go that are not at the server yet
}

func newLimits(local time.Duration, parts int64) limits {
	return limits{clock: refill.NewClock(local), parts: parts}
}

// remember keeps what is sent from now on for a limit of requests that is learned
// later.
func (ls *limits) remember() {
	ls.past = refill.NewBucket(refill.Limit{N: math.MaxInt64 / 2, Per: time.Minute}, true, nil)
}

func (ls *limits) add(t time.Duration, l refill.Limit) *limit {
	x := &limit{Bucket: refill.NewBucket(l, false, ls.clock), config: l, most: l.N, stated: l.N, told: share.None, upset: -refill.Never}
	x.Divide(t, ls.parts)
	x.excused = refill.After(t, l.Per) // what was sent before may count
	ls.list = append(ls.list, x)
	return x
}

// ready returns when all limits have room for a request of cost c, as far as
// that can be said; refill.Never: it depends on what is on its way.
func (ls *limits) ready(t time.Duration, c *refill.Cost) time.Duration {
	at := t
	for _, l := range ls.list {
		if n := l.draws(c); n > 0 {
			at = max(at, l.Ready(t, n))
		}
	}
	return at
}

// dry returns until when a limit is drained that a request of cost c draws on.
func (ls *limits) dry(c *refill.Cost) time.Duration {
	at := -refill.Never
	for _, l := range ls.list {
		if l.draws(c) > 0 {
			at = max(at, l.Dry())
		}
	}
	return at
}

func (ls *limits) take(t time.Duration, r *Request) {
	r.draws(ls)
	for _, d := range r.drawn {
		if d.n > 0 {
			d.Take(t, d.n)
			d.counts(t, d.n)
		}
	}
	ls.coming += r.cost[refill.Requests]
}

// arrive counts the tokens of a request as spent at the given time.
func (ls *limits) arrive(at time.Duration, r *Request) {
	ls.coming -= r.cost[refill.Requests]
	if ls.past != nil {
		ls.past.Take(at, r.cost[refill.Requests])
		ls.past.Spend(at, r.cost[refill.Requests])
	}
	for _, d := range r.drawn {
		if d.n > 0 {
			d.Spend(at, d.n)
		}
	}
}

// slots reports whether there are tokens that come back when a body is closed.
func (ls *limits) slots() bool {
	for _, l := range ls.list {
		if l.Limit().Per == 0 {
			return true
		}
	}
	return false
}

// holds reports whether some of them are taken.
func (ls *limits) holds() bool {
	return slices.ContainsFunc(ls.list, func(l *limit) bool { return l.Held() > 0 })
}

// daily reports whether there is one of a day or more.
func (ls *limits) daily() bool { return slices.ContainsFunc(ls.list, (*limit).daily) }

// full returns when everything is back if nothing is taken.
func (ls *limits) full(t time.Duration) time.Duration {
	at := t
	for _, list := range [2][]*limit{ls.list, ls.dormant} {
		for _, l := range list {
			at = max(at, l.Full(t))
		}
	}
	return at
}

// scale returns the time in which the slowest limit of requests of less than a
// day returns a token, and its Per; the largest of each.
func (ls *limits) scale() (gap, per time.Duration) {
	for _, l := range ls.list {
		if x := l.Limit(); x.Unit == refill.Requests && x.Per > 0 && x.Per < refill.Day && x.N > 0 {
			gap, per = max(gap, x.Gap()), max(per, x.Per)
		}
	}
	if per == 0 {
		return time.Second, maxPause / 2
	}
	return gap, per
}

// gap returns how far apart requests are if all that the slowest limit of requests
// of less than a day allows are sent evenly, and how many that are; 0: none is
// known.
func (ls *limits) gap() (gap time.Duration, n int64) {
	for _, l := range ls.list {
		if x := l.Limit(); x.Unit == refill.Requests && x.Per > 0 && x.Per < refill.Day && x.N > 0 && x.Gap() > gap {
			gap, n = x.Gap(), x.N
		}
	}
	return gap, n
}

// restate has limits of requests that refusals have lowered be as they were
// stated: from now on it is the spacing that keeps to what they are worth.
func (ls *limits) restate(t time.Duration) {
	for _, l := range ls.list {
		if l.Limit().Unit == refill.Requests && l.Limit().Per > 0 && !l.daily() {
			l.trial = nil
			if l.n() < l.ceiling() {
				l.Resize(t, l.ceiling())
			}
		}
	}
}

// rate returns how far apart requests are at the rate that is used now: that of the
// slowest limit of requests, or of those sent in the last minute.
func (ls *limits) rate(t time.Duration) time.Duration {
	if gap, n := ls.gap(); n > 0 {
		return gap
	}
	sent := int64(1)
	if ls.past != nil {
		ls.past.Spent(t, func(_ time.Duration, n int64) { sent += n })
	}
	return time.Minute / time.Duration(sent)
}

// longest returns the longest wait that a limit of less than a day explains, at
// least an hour.
func (ls *limits) longest() time.Duration {
	most := maxHint
	for _, l := range ls.list {
		if !l.daily() {
			most = max(most, l.Limit().Per)
		}
	}
	return most
}

// only returns which limit a refusal must be about that names none; nil: that
// cannot be told.
func (ls *limits) only() (found *limit) {
	for _, l := range ls.list {
		if x := l.Limit(); x.Per > 0 && x.Per < refill.Day {
			if found != nil || x.Unit != refill.Requests {
				return nil
			}
			found = l
		}
	}
	return found
}

func (ls *limits) index(l *limit) int { return slices.Index(ls.list, l) }

// The numbers of a queue.Weight. Tokens are kept as they are charged to a limit
// of less than a day and to one of a day, which are capped in different places.
const (
	wRequests = iota
	wTokens
	wEstimated // before they are corrected
	wOutput
	wAnswers // of the usual length
	wDailyTokens
	wDailyEstimated
	wWaiters // how many they are: one may draw no request, or several
)

// weigh returns what a request is in the queue's sums: it is capped as it will be
// when it is let go, and corrections of estimates do not change it.
func (ls *limits) weigh(d estimate.Draw) (w queue.Weight) {
	short, long := ls.caps()
	w[wRequests] = min(d.Cost[refill.Requests], short[refill.Requests])
	n, factor := d.Cost[refill.Tokens], 1.0
	at := 0
	if !d.Fixed {
		factor, at = ls.estimates.Factor(), wEstimated-wTokens
	}
	w[wTokens+at] = cap64(n, short[refill.Tokens], factor)
	w[wDailyTokens+at] = cap64(n, long[refill.Tokens], factor)
	w[wWaiters] = 1
	if out := d.Cost[refill.OutputTokens]; out > ls.estimates.Output() || d.Said.Has(refill.OutputTokens) {
		w[wOutput] = min(out, short[refill.OutputTokens])
	} else {
		w[wAnswers] = 1
	}
	return w
}

func cap64(n, most int64, factor float64) int64 {
	if float64(n)*factor <= float64(most) {
		return n
	}
	return max(1, int64(float64(most)/factor))
}

// caps returns the most that one request draws, by unit: of limits of less than a
// day and of the others.
func (ls *limits) caps() (short, long [refill.Units]int64) {
	for u := range short {
		short[u], long[u] = math.MaxInt64, math.MaxInt64
	}
	for _, l := range ls.list {
		if to := &short; !l.daily() {
			to[l.Limit().Unit] = min(to[l.Limit().Unit], max(l.n(), 1))
		} else {
			long[l.Limit().Unit] = min(long[l.Limit().Unit], max(l.n(), 1))
		}
	}
	return short, long
}

// asked returns what a sum of weights comes to of a limit. Each request takes all
// of it at the most.
func (ls *limits) asked(l *limit, w *queue.Weight) int64 {
	var n int64
	switch l.Limit().Unit {
	case refill.Tokens:
		if n = w[wTokens] + int64(float64(w[wEstimated])*ls.estimates.Factor()); l.daily() {
			n = w[wDailyTokens] + int64(float64(w[wDailyEstimated])*ls.estimates.Factor())
		}
	case refill.OutputTokens:
		n = w[wOutput] + w[wAnswers]*ls.estimates.Output()
	default:
		return w[wRequests]
	}
	if most := float64(w[wWaiters]) * float64(max(l.n(), 1)); float64(n) > most {
		return int64(most)
	}
	return n
}

// turn estimates when the last of what weighs w will have been let go, not before
// from, and which limit takes the longest; nil: none does.
func (ls *limits) turn(t, from time.Duration, w *queue.Weight) (turn time.Duration, slowest *limit) {
	turn = from
	for _, l := range ls.list {
		if n := ls.asked(l, w); n > 0 {
			if l.n() == 0 {
				return refill.Never, l
			}
			if at := l.Turn(t, n); at > turn || slowest == nil && at == turn {
				turn, slowest = at, l
			}
		}
	}
	return turn, slowest
}
