// Package zoo makes rate-limited servers at random, each from a seed, and plays
// a client against them in virtual time. It measures what a client does with a
// server that it does not know: which requests are lost, how many are refused,
// and how long it takes.
//
// It knows how servers count and how they refuse. It does not know how clients
// wait: a client is any http.RoundTripper. Its counters are its own, independent
// of those of the client under test.
package zoo

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"example.com/tollgate"
)

// A Server is one kind of server, one place of the client, and the calls that the
// client makes. New makes it from its seed.
type Server struct {
	Seed uint64

	Counts       Counting
	N            int64         // requests
	Per          time.Duration // in how long
	Phase        time.Duration // after time 0, when a fixed window begins; less than Per
	CountRefused bool          // refused requests count like accepted ones
	Shut         time.Duration // how long everything is refused after a refusal; 0: it is not

	Hint      Hint
	HintPhase time.Duration // that of the windows that WrongWindow speaks of

	Told Told

	Load     Load
	Requests int
	Burst    int           // requests of one burst; Load is Bursts
	Start    time.Duration // time of the first request

	Distance Distance
	Think    time.Duration // most that an accepted request takes to answer; 0: none takes any
}

// Counting is how a server counts requests.
type Counting string

// The ways of counting.
const (
	Fixed         Counting = "fixed"      // N in each window of Per
	Sliding       Counting = "sliding"    // N in the last Per
	Bucket        Counting = "bucket N"   // a token bucket of capacity N, refilled by N a Per
	QuarterBucket Counting = "bucket N/4" // one of capacity N/4
	LeakyBucket   Counting = "bucket 1"   // one of capacity 1: evenly spaced requests only
	Counter       Counting = "counter"    // the sliding-window counter of HAProxy and Cloudflare
)

// Hint is what a refusal says of when to come again.
type Hint string

// The hints.
const (
	Exact       Hint = "exact"        // Retry-After in seconds, rounded up
	Float       Hint = "float"        // Retry-After in seconds with three decimals, rounded up
	Truncated   Hint = "truncated"    // Retry-After in seconds, rounded down: too short
	NoHint      Hint = "none"         // nothing
	OneSecond   Hint = "1 s"          // Retry-After: 1, always
	WholePer    Hint = "whole Per"    // Retry-After: Per, always
	WrongWindow Hint = "wrong window" // Retry-After until the end of a fixed window that the server does not have
	Epoch       Hint = "epoch"        // X-RateLimit-Reset in seconds since 1970, rounded up
	Date        Hint = "date"         // Retry-After as a date, rounded up
)

// Told is what the client was told of the limit.
type Told string

// What the client may have been told.
const (
	Truth   Told = "truth"
	Nothing Told = "nothing"
	TooMuch Told = "4N"
	Half    Told = "N/2"
)

// Load is when the requests are wanted.
type Load string

// The loads.
const (
	AtOnce  Load = "at once"
	Poisson Load = "Poisson" // at 90% of the limit
	Bursts  Load = "bursts"  // of N/2, N or 2N requests, at 90% of the limit
)

// Distance is how long messages travel, each way.
type Distance string

// The distances.
const (
	Near   Distance = "2 ms"
	Jitter Distance = "jitter" // exponential, with a mean of 60 ms
	Tail   Distance = "tail"   // 20 ms at least, half take 40 ms, one in 50 more than 1 s; 3 s at most
)

const maxRequests = 400

// New returns the server of a seed.
func New(seed uint64) Server {
	r := rand.New(rand.NewPCG(0, seed))
	s := Server{
		Seed:         seed,
		Counts:       pick(r, Fixed, Sliding, pick(r, Bucket, QuarterBucket, LeakyBucket), Counter),
		N:            int64(between(r, 2, 301)),
		Per:          time.Second * pick[time.Duration](r, 1, 2, 5, 10, 15, 20, 30, 60),
		CountRefused: pick(r, false, true),
		Shut:         pick(r, 0, 0, 0, 0, 0, 0, 10*time.Second, time.Minute),
		Hint:         pick(r, Exact, Float, Truncated, NoHint, OneSecond, WholePer, WrongWindow, Epoch, Date),
		Told:         pick(r, Truth, Nothing, TooMuch, Half),
		Load:         pick(r, AtOnce, Poisson, Bursts),
		Start:        time.Duration(r.Int64N(int64(time.Minute))),
		Distance:     pick(r, Near, Jitter, Tail),
		Think:        pick(r, 0, 20*time.Second),
	}
	s.Phase = time.Duration(r.Int64N(int64(s.Per)))
	s.HintPhase = time.Duration(r.Int64N(int64(s.Per)))
	s.Burst = max(1, int(s.N*pick[int64](r, 1, 2, 4)/2))
	// So many requests as fill one and a half Pers to two minutes.
	pers := between(r, 1.5, max(4, 2*time.Minute.Seconds()/s.Per.Seconds()))
	s.Requests = max(8, min(int(float64(s.N)*pers), max(maxRequests, 2*int(s.N))))
	return s
}

// between returns a random number of [least, most) whose logarithm is evenly
// distributed.
func between(r *rand.Rand, least, most float64) float64 {
	return least * math.Pow(most/least, r.Float64())
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// String names the server by its seed, and says what it is.
func (s Server) String() string {
	b := fmt.Sprintf("%d: %s %d/%v", s.Seed, s.Counts, s.N, s.Per)
	if s.CountRefused {
		b += ", counts refused"
	}
	if s.Shut > 0 {
		b += fmt.Sprintf(", shuts %v", s.Shut)
	}
	b += fmt.Sprintf(", hint %s; told %s; %d %s", s.Hint, s.Told, s.Requests, s.Load)
	if s.Load == Bursts {
		b += fmt.Sprintf(" of %d", s.Burst)
	}
	b += "; " + string(s.Distance)
	if s.Think > 0 {
		b += fmt.Sprintf(", answers in up to %v", s.Think)
	}
	return b
}

// Axes are the names that Axis knows.
var Axes = []string{"counts", "refused", "shut", "hint", "told", "load", "distance", "think", "per", "n"}

// Axis returns where the server stands on an axis, "" if there is no such axis.
func (s Server) Axis(name string) string {
	switch name {
	case "counts":
		return string(s.Counts)
	case "refused":
		if s.CountRefused {
			return "refused count"
		}
		return "refused free"
	case "shut":
		return fmt.Sprintf("shut %v", s.Shut)
	case "hint":
		return "hint " + string(s.Hint)
	case "told":
		return "told " + string(s.Told)
	case "load":
		return string(s.Load)
	case "distance":
		return string(s.Distance)
	case "think":
		return fmt.Sprintf("think %v", s.Think)
	case "per":
		return fmt.Sprintf("%2.0f s", s.Per.Seconds())
	case "n":
		for _, most := range []int64{10, 50} {
			if s.N <= most {
				return fmt.Sprintf("N <= %d", most)
			}
		}
		return "N > 50"
	}
	return ""
}

// Group returns where the server stands on several axes, whose names are
// separated by commas.
func (s Server) Group(axes string) string {
	var list []string
	for name := range strings.SplitSeq(axes, ",") {
		list = append(list, s.Axis(name))
	}
	return strings.Join(list, ", ")
}

// Wanted returns when each request is wanted, since the first.
func (s Server) Wanted() []time.Duration {
	r := rand.New(rand.NewPCG(1, s.Seed))
	gap := float64(s.Per) / float64(s.N) / 0.9
	at := make([]time.Duration, s.Requests)
	for i := range at[1:] {
		switch s.Load {
		case Poisson:
			at[i+1] = at[i] + time.Duration(r.ExpFloat64()*gap)
		case Bursts:
			at[i+1] = time.Duration(float64((i+1)/s.Burst*s.Burst) * gap)
		}
	}
	return at
}

// Quotas returns what the client is told.
func (s Server) Quotas() tollgate.Quotas {
	n := s.N
	switch s.Told {
	case Nothing:
		return nil
	case TooMuch:
		n *= 4
	case Half:
		n = max(1, n/2)
	}
	return tollgate.Quotas{"*": {{N: n, Per: s.Per}}}
}

// Ideal returns the time from the first request to the last in the shortest
// schedule that no server refuses that allows N a Per, or in the shortest that
// this server accepts if that takes longer: a bucket of a smaller capacity or a
// counter may want more. It is that of requests which are all wanted at once.
func (s Server) Ideal() time.Duration {
	safe := time.Duration((int64(s.Requests)-1)/s.N) * s.Per
	c, now := counterOf(s), s.Start
	for range s.Requests { // no other schedule is ahead of this one at any time
		now = c.ready(now)
		c.count(now)
	}
	return max(safe, now-s.Start)
}

// Attainable returns the time from the first request to the last for a client
// that believes what it was told until the first refusal, and knows everything
// from then on. It is that of requests which are all wanted at once, and at least
// Ideal. Where a refusal shuts the server for a minute it may be many times that,
// and no client is to blame.
func (s Server) Attainable() time.Duration {
	c, now, last, left := counterOf(s), s.Start, s.Start, s.Requests
	accept := func() {
		c.count(now)
		last = now
		left--
	}
	refused := false
	for left > 0 && !refused {
		for range min(s.volley(), left) {
			switch {
			case !refused && c.ready(now) <= now:
				accept()
				continue
			case s.CountRefused:
				c.count(now)
			}
			refused = true
		}
		if refused {
			now += s.Shut
		} else {
			now += s.Per
		}
	}
	for left > 0 {
		now = c.ready(now)
		accept()
	}
	return max(s.Ideal(), last-s.Start)
}

// volley returns how many requests the client may send at once, as it was told.
func (s Server) volley() int {
	for _, quota := range s.Quotas() {
		return int(quota[0].N)
	}
	return s.Requests
}

// Names returns the names of the first n servers of each of the given seeds: the
// seeds of the servers themselves.
func Names(n int, seeds ...uint64) []uint64 {
	var names []uint64
	for _, seed := range seeds {
		for i := range uint64(n) {
			names = append(names, seed*1_000_000+i)
		}
	}
	return names
}
