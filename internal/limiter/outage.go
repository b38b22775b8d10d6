package limiter

import (
	"fmt"
	"sync"
	"sync/atomic"

	"example.com/tollgate/internal/share"
)

// A Trouble says why a store does not answer.
type Trouble struct {
	// What follows the store's name in a sentence: "unreachable: connection refused".
	What string
	// Config says that it is an error of configuration, which does not pass by
	// itself.
	Config bool
	// Err is the error behind it. nil: there is none that says more.
	Err error
}

// An Outage is the error of a store that does not answer. All keys that suffer
// from the same trouble have the same Outage, so that it is told once.
type Outage struct {
	store  string
	shared *Shared
	known  chan struct{} // closed when the trouble is known as well as it will be

	mu       sync.Mutex
	trouble  Trouble
	settled  bool // known is closed
	over     bool
	replaced bool // another one goes on where it was
}

// NewOutage returns an Outage of a store, named as in a sentence, whose trouble is
// not certain yet: Settle has to be called.
func (s *Shared) NewOutage(store string, t Trouble) *Outage {
	return &Outage{store: store, shared: s, trouble: t, known: make(chan struct{})}
}

// Settle says what the trouble is, and reports whether that was open.
func (o *Outage) Settle(t Trouble) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.settled {
		return false
	}
	o.trouble, o.settled = t, true
	close(o.known)
	return true
}

// End says that the store answers again.
func (o *Outage) End() {
	o.mu.Lock()
	o.over = true
	o.mu.Unlock()
}

// Replace says that another Outage goes on where this one was.
func (o *Outage) Replace() {
	o.mu.Lock()
	o.over, o.replaced = true, true
	o.mu.Unlock()
}

// Config reports whether it is an error of configuration.
func (o *Outage) Config() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.trouble.Config
}

func (o *Outage) Error() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	what := o.trouble.What
	if o.trouble.Config {
		what += " (an error of configuration: it does not pass by itself)"
	}
	return o.store + " " + what
}

// Unwrap returns the error behind it.
func (o *Outage) Unwrap() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.trouble.Err
}

func (o *Outage) state() (over, replaced bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.over, o.replaced
}

// meanwhile returns what is done while the store does not answer, in words.
func (s *Shared) meanwhile() string {
	switch {
	case s.OnError == share.FailOpen:
		return "sending without regard to the quota"
	case s.OnError == share.FailClosed:
		return "rejecting requests"
	case s.Instances > 1:
		return fmt.Sprintf("keeping to 1/%d of the quota", s.Instances)
	}
	return "keeping to the whole quota"
}

// explanation says what it means that Instances is 0, the first time.
func (s *Shared) explanation() string {
	if s.OnError != share.FallBack || s.Instances > 0 || atomic.AddUint32(&s.explained, 1) > 1 {
		return ""
	}
	return ", as does every other process that shares it: Options.Instances is 0, which counts as 1 process"
}

// Outages are those that somebody was told of, one time each whatever the number
// of keys. The zero value is that of nobody who was told anything.
type Outages struct {
	mu   sync.Mutex
	told map[*Outage]bool // whether that is done
}

// begin tells of an outage, unless that has been done or is about to be.
func (t *Outages) begin(o *Outage, tell func(error)) {
	t.mu.Lock()
	for old := range t.told {
		if _, replaced := old.state(); replaced {
			delete(t.told, old)
		}
	}
	if _, ok := t.told[o]; ok {
		t.mu.Unlock()
		return
	}
	if t.told == nil {
		t.told = make(map[*Outage]bool)
	}
	t.told[o] = false
	t.mu.Unlock()
	<-o.known
	if _, replaced := o.state(); replaced {
		return
	}
	tell(fmt.Errorf("tollgate: %w; %s%s", o, o.shared.meanwhile(), o.shared.explanation()))
	t.mu.Lock()
	t.told[o] = true
	t.mu.Unlock()
	t.end(tell)
}

// end tells of each outage that is over.
func (t *Outages) end(tell func(error)) {
	over := 0
	t.mu.Lock()
	for o, told := range t.told {
		ended, replaced := o.state()
		if told && ended {
			delete(t.told, o)
			if !replaced {
				over++
			}
		}
	}
	t.mu.Unlock()
	for range over {
		tell(nil)
	}
}
