// Package share is what the processes that share a quota and the store of its
// tokens say to each other. It knows neither requests nor any particular store.
//
// A store may forget everything, and messages may be lost, repeated and delayed.
// What a store keeps of a key has a Generation: who tells it something that goes
// with another one is told so, and tells everything again that still counts. The
// exchanges of a process have numbers: what one tells is told again, with the same
// number, until it is answered, and the store heeds it once.
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
//
// Points in time are by the store's clock, as far as the process knows it.
type Batch struct {
	// Generation is that of the store's state as the process knows it, which
	// Reports go with. 0: it knows none, and has nothing to tell.
	Generation int64
	// Seq numbers the process's exchanges from 1 on. One with the number of the
	// last one is a repetition: it is answered, and changes nothing.
	Seq int64
	// Limits are the key's, as this process knows them, none of them Auto. Two
	// that differ in Unit, in Per or in being of a day's calendar are two limits.
	Limits []Claim
	// Midnights are the beginnings of four days where the API is, in order, as
	// times since 1970: of the one before now, of that which now is in, and of
	// the next two.
	Midnights [4]time.Duration
	Reports   []Report
	// Asks are the costs of those at the head of the queue, not more than the
	// process would send at once. What a request costs of a limit is at most
	// its N.
	Asks []refill.Cost
	// Ahead is for how long tokens are granted that fall due only then.
	Ahead time.Duration
	// Detail asks for State.Back.
	Detail bool
}

// A Claim is a limit as a process knows it.
type Claim struct {
	refill.Limit       // N is as the process is configured; None: others are
	Told         int64 // as the server has stated it; None: it has not
	News         bool  // that was not told the store before
	Set          bool  // N is another one than the process was configured with before: it holds for all
	Epoch        int64 // State.Epoch of when N was taken over from the store
	Holding      int64 // the tokens that the process holds of it, if it has no Per
}

// None is the N of a limit that is not.
const None = -1

// Lease is how long a store takes a process to be alive that it hears nothing of:
// it then holds no tokens.
const Lease = 10 * time.Second

// A Report says what has become of tokens.
type Report struct {
	Event Event
	Limit int           // which one of Batch.Limits; Pause and Clock: of no meaning
	N     int64         // how many tokens
	From  time.Duration // Move: when they were counted as spent, 0: they were not; Clock: when the request was sent
	At    time.Duration // when that was, or will be; Move: 0: they never will
	Anew  bool          // Drain: everything is back at its end, and not one at a time
	Date  time.Duration // Clock: what the server's clock said, since 1970
}

// An Event is what a Report is of.
type Event uint8

// The events.
const (
	// Move: N tokens that count as spent at From have reached the server by At at
	// the latest, or will. Those that are granted count as spent Flight later.
	Move Event = iota
	// Level: the server said then that it had N tokens left. There are no more.
	Level
	// Drain: there are none until then.
	Drain
	// Pause: nothing may be taken until then, whatever it draws on.
	Pause
	// Clock: a response arrived then whose Date was as given, to a request
	// sent at From.
	Clock
)

// A Reply is what a store answers. Its spans are from when it was made.
type Reply struct {
	Generation int64
	// Lost says that the batch goes with a state that the store does not have any
	// more. Nothing of it was heeded, and nothing else is said but Now.
	Lost    bool
	Now     time.Duration   // the store's time, more than 0
	Taken   time.Duration   // when the tokens were taken: before Now if the batch is a repetition
	Granted int             // so many of Asks have their tokens
	Due     []time.Duration // by those: when it may go, from Taken on; empty: at once
	Wait    time.Duration   // until the next one of Asks is worth asking for again; 0: now, or there is none
	Pause   time.Duration   // for so long nothing may be taken
	Rivals  int             // other processes that wait
	Limits  []State         // by Batch.Limits
	// Others are limits that are in force and not in Batch.Limits.
	Others []State
	// Notice is what whoever runs the process should know of the store, though
	// it has answered. nil: nothing.
	Notice error
}

// A State is what a store says of a limit.
type State struct {
	refill.Limit               // as it is in force; N None: it is not any more
	Most         int64         // the lowest N that a process is configured with; None: none is
	Epoch        int64         // of the last one that was Set: claims of an earlier one do not count
	Left         int64         // tokens that could be taken now; less than 0 is a debt
	Full         time.Duration // in which all of them are back if none is taken
	Dry          time.Duration // in which the drain ends; 0: there is none
	Back         []Back        // when what is gone is back; empty: it is back evenly until Full
}

// A Back says how many tokens are back by then, in all.
type Back struct {
	In time.Duration
	N  int64
}

// OnError is what is done with requests while a store does not answer.
type OnError uint8

// The ways.
const (
	FallBack   OnError = iota // each process keeps to its part of the quota
	FailOpen                  // they are sent without regard to the quota
	FailClosed                // they fail
)
