package tollgate

import (
	"context"
	"time"

	"example.com/tollgate/provider"
)

// A Store keeps the tokens of one key where several processes take them, such as
// a database: see package redislimit. [NewShared] makes a Limiter of it, which
// does all else: the line, the pauses, what is learned.
//
// A store has a clock of its own, and the only one that counts: what it is told
// was so long ago, and what it tells is so far ahead.
type Store interface {
	// Exchange takes in b.Reports, in order, and then takes the tokens of the
	// first ones of b.Asks: of each of them all that it draws on every limit,
	// or none, and of none after one that has to wait. It is one decision, which
	// nothing that other processes do comes between.
	//
	// After an error it is not known whether the exchange has taken place, and
	// its reports are not repeated.
	Exchange(ctx context.Context, b Batch) (Reply, error)
}

// A Batch is what a process tells a Store, and what it asks for.
type Batch struct {
	// Limits are the key's, as this process knows them, none of them Auto. Two
	// that differ in Unit, in Per or in being of a day's calendar are two
	// limits; those that differ only in N, Burst or Refill are the same one.
	Limits []Limit
	// Midnights are the beginnings of four days where the API is, in order: of
	// the one before now, of that which now is in, and of the next two.
	Midnights [4]time.Time
	// Holding is by limit: the tokens that this process holds of it, if it has
	// no Per. A process that has not been heard of for Lease holds none.
	Holding []int64
	Reports []Report
	// Asks are the costs of those at the head of the line, not more than the
	// process would send at once. What a request costs of a limit is at most
	// its N.
	Asks []provider.Cost
}

// Lease is how long a Store takes a process to be alive that it hears nothing of.
const Lease = 10 * time.Second

// A Report says what has become of tokens.
type Report struct {
	Event Event
	Limit int           // which one of Batch.Limits; Pause and Clock: of no meaning
	N     int64         // how many tokens
	Taken time.Duration // Reply.Taken of when they were taken; 0: they were not
	Ago   time.Duration // how long before the exchange that was
	For   time.Duration // Drain, Pause: from then on
	Anew  bool          // Drain: everything is back at its end, and not one at a time
	Date  time.Time     // Clock: what the server's clock said
}

// An Event is what a Report is of.
type Event uint8

// The events.
const (
	// Spent: N tokens have reached the server by then at the latest. Those that
	// were taken and of which nothing is heard are thought to have done so a
	// second later.
	Spent Event = iota
	// Unspent: N tokens that were taken will never reach it.
	Unspent
	// Settled: N more tokens have reached the server by then than were taken,
	// or fewer if N is less than 0. That may leave a debt.
	Settled
	// Level: the server said then that it had N tokens left. There are no more.
	Level
	// Drain: the server said then that there are none for so long.
	Drain
	// Limited: the limit is in force as it stands in Batch.Limits, whatever is
	// known of it: the server has stated it, or refusals have shown it.
	Limited
	// Pause: nothing may be taken for so long, whatever it draws on.
	Pause
	// Clock: a response arrived then whose Date was as given, to a request
	// let through at Taken.
	Clock
)

// A Reply is what a Store answers.
type Reply struct {
	Granted int           // so many of Asks have their tokens
	Taken   time.Duration // the store's time of that, more than 0
	Wait    time.Duration // until the next one of Asks is worth asking for again; 0: now, or there is none
	Pause   time.Duration // for so long nothing may be taken
	Limits  []LimitNews   // by Batch.Limits
	// Others are limits that are in force and not in Batch.Limits.
	Others []Limit
	// Lost says that the store knew nothing of the key: it is new, or has
	// forgotten it.
	Lost bool
}

// LimitNews is what a Store says of a limit.
type LimitNews struct {
	Limit               // as it is in force
	Left  int64         // tokens that could be taken now; less than 0 is a debt
	Full  time.Duration // in which all of them are back if none is taken
	Dry   time.Duration // in which the drain ends; 0: there is none
}
