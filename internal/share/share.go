// Package share is what the processes that share a quota and the store of its
// tokens say to each other. It knows neither requests nor any particular store.
package share

import (
	"time"

	"example.com/tollgate/internal/refill"
)

// A Batch is what a process tells the store of one key, and what it asks for.
//
// The store takes in Reports, in order, and then takes the tokens of the first
// ones of Asks: of each of them all that it draws on every limit, or none, and
// of none after one that has to wait. It is one decision, which nothing that
// other processes do comes between.
type Batch struct {
	// Limits are the key's, as this process knows them, none of them Auto. Two
	// that differ in Unit, in Per or in being of a day's calendar are two
	// limits; those that differ only in N, Burst or Rule are the same one.
	Limits []refill.Limit
	// Midnights are the beginnings of four days where the API is, in order, as
	// times since 1970: of the one before now, of that which now is in, and of
	// the next two.
	Midnights [4]time.Duration
	// Holding is by limit: the tokens that this process holds of it, if it has
	// no Per. A process that has not been heard of for Lease holds none.
	Holding []int64
	Reports []Report
	// Asks are the costs of those at the head of the queue, not more than the
	// process would send at once. What a request costs of a limit is at most
	// its N.
	Asks []refill.Cost
}

// Lease is how long a store takes a process to be alive that it hears nothing of.
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
	Date  time.Duration // Clock: what the server's clock said, since 1970
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
	// sent at Taken.
	Clock
)

// A Reply is what a store answers. Its spans are from when it was made.
type Reply struct {
	Granted int           // so many of Asks have their tokens
	Taken   time.Duration // the store's time of that, more than 0
	Wait    time.Duration // until the next one of Asks is worth asking for again; 0: now, or there is none
	Pause   time.Duration // for so long nothing may be taken
	Limits  []State       // by Batch.Limits
	// Others are limits that are in force and not in Batch.Limits.
	Others []refill.Limit
	// Lost says that the store knew nothing of the key: it is new, or has
	// forgotten it.
	Lost bool
	// Notice is what whoever runs the process should know of the store, though
	// it has answered. nil: nothing.
	Notice error
}

// A State is what a store says of a limit.
type State struct {
	refill.Limit               // as it is in force
	Left         int64         // tokens that could be taken now; less than 0 is a debt
	Full         time.Duration // in which all of them are back if none is taken
	Dry          time.Duration // in which the drain ends; 0: there is none
}

// OnError is what is done with requests while a store does not answer.
type OnError uint8

// The ways.
const (
	FallBack   OnError = iota // each process keeps to its part of the quota
	FailOpen                  // they are sent without regard to the quota
	FailClosed                // they fail
)
