package limiter

import (
	"math/rand/v2"
	"time"

	"example.com/tollgate/internal/dayfile"
	"example.com/tollgate/internal/engine"
	"example.com/tollgate/internal/refill"
)

// Options say what a limiter keeps.
type Options struct {
	Limits    []refill.Limit
	File      *dayfile.File                       // nil: what was spent of a day is not written down
	Name      string                              // under which it is
	Shared    *Shared                             // nil: the quota is nobody else's
	Tell      func(error)                         // called when the store no longer answers, and with nil when it does again; nil: not
	Told      *Outages                            // of all keys that Tell is one for; nil: this one alone
	Named     bool                                // the key is configured by name: it is never forgotten
	Exchanged func(took time.Duration, err error) // called after each exchange with the store; nil: nothing
	Memory    *engine.Memory                      // what was learned of the key before; nil: nothing
	// Version is that of the quotas that Limits are of. Later ones have higher ones.
	Version uint64
	Owner   any // for Limiter.Owner
}

// New returns the limiter of a key.
func New(key string, o Options) *Limiter {
	l := &Limiter{key: key, file: o.File, name: o.Name, owner: o.Owner, at: refill.Never, tellAt: refill.Never}
	l.onTimer, l.onTeller = l.ring, l.told
	l.named.Store(o.Named)
	l.version.Store(o.Version)
	c := engine.Config{Limits: o.Limits, Journal: o.File != nil, Seed: rand.Uint64()}
	if s := o.Shared; s != nil {
		l.store = s.Store(key)
		l.shared, l.tell, l.outages, l.exchanged = s, o.Tell, o.Told, o.Exchanged
		if l.outages == nil {
			l.outages = new(Outages)
		}
		c.Shared = &engine.Shared{OnError: s.OnError, Instances: int64(max(s.Instances, 1)), Timeout: s.timeout()}
	}
	if c.Memory = o.Memory; c.Memory != nil {
		l.tokens.Store(true) // for all that is known
	}
	for _, x := range o.Limits {
		l.counts(x)
	}
	n := Now()
	l.looked, l.ahead = n.Mono, n.Wall-n.Mono
	l.engine = engine.New(n, c)
	return l
}
