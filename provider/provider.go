// Package provider knows how each family of APIs names its models, counts what
// a request costs, states its limits, and refuses. It knows nothing of queues
// and buckets, and depends on the standard library alone.
//
// A file holds what is particular to one API: how its calls are recognised, which
// quota they draw on, what they are charged, how it states limits, refusals and
// usage. Files beside them read what many APIs share: Retry-After and its kin,
// rate limit header fields, error bodies, their prose, prompts, forms.
package provider

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// A Unit is what a limit counts.
type Unit uint8

// The units that limits are stated in.
const (
	Requests Unit = iota
	Tokens
	OutputTokens

	units = 3
)

func (u Unit) String() string {
	switch u {
	case Requests:
		return "requests"
	case Tokens:
		return "tokens"
	case OutputTokens:
		return "output tokens"
	}
	return fmt.Sprintf("Unit(%d)", uint8(u))
}

// MarshalText returns the unit as a word.
func (u Unit) MarshalText() ([]byte, error) {
	if u >= units {
		return nil, fmt.Errorf("provider: no unit has the number %d", uint8(u))
	}
	return []byte(u.String()), nil
}

// UnmarshalText reads what MarshalText returns.
func (u *Unit) UnmarshalText(text []byte) error {
	for x := range Unit(units) {
		if x.String() == string(text) {
			*u = x
			return nil
		}
	}
	return fmt.Errorf("provider: no unit is called %q", text)
}

// A Cost is what a request draws on limits, by Unit.
type Cost [units]int64

// Add adds d to c.
func (c *Cost) Add(d Cost) {
	for u := range c {
		c[u] += d[u]
	}
}

// Sub takes d from c.
func (c *Cost) Sub(d Cost) {
	for u := range c {
		c[u] -= d[u]
	}
}

// An API describes one family of APIs. Its methods are safe for concurrent use.
//
// A custom API embeds [HTTP] or another one in a struct and replaces some of its
// methods. Methods that a later version adds to the interface then come with the
// embedded one.
type API interface {
	// Name returns the family's name, for logs.
	Name() string

	// Call describes a request by its URL and headers. It does not touch the
	// body.
	Call(r *http.Request) Call

	// Read completes a call from the request's body: Key and the number of
	// requests where the call is Open, Continues, and the cost in tokens if
	// tokens is true.
	Read(c *Call, body io.Reader, tokens bool)

	// Refuses reports, from status and headers alone, whether a response may
	// be a refusal. Refusal is called only for such responses.
	Refuses(r *http.Response) bool

	// Refusal reads a refusal. body is the beginning of the response's body,
	// decompressed, at most 64 KiB.
	Refusal(r *http.Response, body []byte) Refusal

	// Levels reads the limits that the headers of a response state, accepted
	// or refused.
	Levels(r *http.Response) []Level

	// Event reads an error in the body of a response with status 200: the data
	// of an event, the payload of a binary message, or a whole JSON body. kind
	// is the event's name or the message's type, "" if there is none. ok is
	// false if the error is not a refusal.
	Event(r *http.Response, kind string, data []byte) (ref Refusal, ok bool)
}

// A Call describes a request: the quota it draws on, and what it costs.
type Call struct {
	// Key names the quota that the request draws on: a model, a deployment or
	// a host. A service tier that has limits of its own follows the model's
	// name after a colon, as in "gpt-5:flex".
	Key string

	// Aside marks a request that a model's quota does not cover, such as a
	// listing. Only a quota of that very Key limits it.
	Aside bool

	// Open reports that the body states the Key, or how many requests it
	// counts for. API.Read fills them in.
	Open bool

	// Boundary separates the parts of a multipart/form-data body, for
	// API.Read. Empty: the body is JSON.
	Boundary string

	// Cost is the estimated cost, by Unit.
	Cost Cost

	// Exact reports that the server charges Cost, whatever Usage says.
	Exact bool

	// Continues reports that the server keeps the prompt's history and charges
	// for it: the body shows only a part of the cost.
	Continues bool

	// Usage lists where the response states the cost. It is shared: do not
	// change it. nil: the response does not state it.
	Usage []Usage

	// Record locates the id under which the server keeps what the call has
	// begun: a later call may poll it or follow it. It is shared. nil: the
	// server keeps nothing.
	Record *Record

	// Polls is the id of what an earlier call has begun: the response says what
	// that one has cost, and why it failed. Empty: this is no such call.
	Polls string

	// Follows is the id of what an earlier call has begun and this one goes on
	// with: the server reads again what that one has read and written. Empty: it
	// is not known.
	Follows string

	// Once reports that the request must not be sent again when its fate is
	// unknown: it may create something, and has no idempotency key. Calls that
	// only generate are not of that kind.
	Once bool

	// Refill is the rule by which the API returns tokens. Auto: not known.
	Refill Refill

	// Zone is where the API's days begin. nil: UTC.
	Zone *time.Location
}

// A Usage locates a number in a response that states a part of the cost. The
// response is a JSON document, an array of documents, or a stream of them; the
// last value in it counts.
//
// Paths of one Unit that end in the same name locate the same figure, which
// streams state in another place than other responses. Different figures of one
// Unit add up.
type Usage struct {
	Path []string // names from the document's root; an array's elements share its path
	Unit Unit
}

// A Record locates, in a response, what the server says of something that it keeps.
// Paths are those of Usage.
type Record struct {
	ID     [][]string // its id: the first one counts
	Status [][]string // how far it is: the last one counts; see Unfinished
}

// Unfinished reports whether a status means that the cost is not final yet.
func Unfinished(status string) bool { return status == "in_progress" || status == "queued" }

// A Refusal states why and for how long a server refuses a request.
type Refusal struct {
	Wait     time.Duration // from the arrival of the response; meaningful if Hinted
	Hinted   bool          // the response says when to try again
	Never    bool          // waiting does not help: no credit, or the request exceeds the limit
	None     bool          // the response is not a refusal: it goes to the caller, nothing is drained
	Overload bool          // the server is busy, the quota is not spent: only this request backs off
	Slower   bool          // the server asks for a rate that grows more slowly
	Limits   []Violation   // the exceeded limits, at most 16; empty: not stated
}

// A Violation is a limit that the server says was exceeded. Zero fields are
// unknown.
type Violation struct {
	Unit      Unit
	N         int64
	Per       time.Duration
	Model     string // the quota's name for the model; several models may share it
	Uncounted bool   // the limit counts something that has no Unit, such as images; Unit is meaningless
}

// A Level is a limit and what is left of it, as the headers of a response state
// them.
type Level struct {
	Unit Unit
	N    int64         // the limit; 0: not stated, and Left is 0
	Per  time.Duration // the limit's span, at most 31 days; 0: not stated
	Left int64         // what is left after this request, from 0 to N; -1: not stated
	Full time.Duration // time until all of it is back, if nothing is taken; -1: not stated
	Name string        // name of a policy that applies only to the requests whose responses state it; "": the limit is the key's own
}

// Daily reports whether the refusal is for a quota of a day or longer: the
// wait it names is not the one until that is back.
func (r Refusal) Daily() bool {
	for _, v := range r.Limits {
		if v.Per >= 24*time.Hour {
			return true
		}
	}
	return false
}

// For returns the API that a request is for, by its host or by its path, so that
// a proxy's base URL will do; HTTP if it is none that is known.
func For(r *http.Request) API {
	host := r.URL.Hostname()
	switch {
	case isGemini(r, host):
		return Gemini
	case isBedrock(r, host):
		return Bedrock
	case isAnthropic(r, host):
		return Anthropic
	case isCohere(host):
		return Cohere
	case isOpenAI(r, host):
		return OpenAI
	case isGoogle(host):
		return googleAPI
	case isGitHub(r, host):
		return gitHub
	}
	return HTTP
}
