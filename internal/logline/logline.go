// Package logline has what the lines of a log say of requests: nothing that may be a
// secret, and long waits no more often than is of use. It knows nothing of limits.
package logline

import (
	"errors"
	"log/slog"
	"math"
	"net/url"
	"sync"
	"time"
)

// Time is an attribute for a time that may not be known: the largest Duration.
func Time(name string, d time.Duration) slog.Attr {
	if d == math.MaxInt64 {
		return slog.String(name, "unknown")
	}
	return slog.Duration(name, d)
}

// Cause returns the text of an error without the URL that a url.Error states, whose
// path and query may hold a secret.
func Cause(err error) string {
	if u := (*url.Error)(nil); errors.As(err, &u) && u.Err != nil {
		err = u.Err
	}
	return err.Error()
}

// A Seldom says yes at most once in a time for each key. It is safe for concurrent
// use.
type Seldom struct {
	Every time.Duration

	mu   sync.Mutex
	last map[string]time.Time // when it said yes
}

// many is how many keys it knows of. While there are as many to which it said yes
// within the time, it says no to others.
const many = 1024

// Now reports whether it is time to say something of a key.
func (s *Seldom) Now(key string) bool {
	t := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, ok := s.last[key]; ok && t.Sub(last) < s.Every {
		return false
	}
	if len(s.last) >= many {
		for k, last := range s.last {
			if t.Sub(last) >= s.Every {
				delete(s.last, k)
			}
		}
		if len(s.last) >= many {
			return false
		}
	}
	if s.last == nil {
		s.last = make(map[string]time.Time)
	}
	s.last[key] = t
	return true
}
