package tollgate

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/refill"
)

// Status is a snapshot of one key. Its JSON is for people as much as for programs:
// units and rules are words, durations are text as time.ParseDuration reads it, and
// what is zero is left out. It can be unmarshaled again.
type Status struct {
	Key         string        `json:"key"`
	Limits      []LimitStatus `json:"limits,omitempty"`      // in no order
	Waiting     int           `json:"waiting"`               // requests in the queue
	InFlight    int           `json:"in_flight"`             // requests sent whose response body is not closed yet
	PausedUntil time.Time     `json:"paused_until,omitzero"` // nothing is sent until then; zero: there is no pause
	PausedWhy   string        `json:"paused_why,omitempty"`  // a phrase such as "the server refuses requests"
}

// LimitStatus is a snapshot of one limit.
type LimitStatus struct {
	Limit
	Learned bool      // the server has stated it, nobody else
	Left    int64     // tokens that could be taken now; less than 0 is a debt
	Full    time.Time // when all of them are back if none is taken; zero: they are, or it is not known yet
}

func statusOf(l *limiter.Limiter) Status {
	is, now := l.Status()
	s := Status{Key: l.Key(), Waiting: is.Waiting, InFlight: is.InFlight}
	if is.PausedUntil > 0 {
		s.PausedUntil, s.PausedWhy = limiter.At(now, is.PausedUntil), whys[is.Why]
	}
	for _, x := range is.Limits {
		y := LimitStatus{Limit: limitOf(x.Limit), Learned: x.Learned, Left: x.Left}
		if x.Full != refill.Never && x.Full > now.Mono {
			y.Full = limiter.At(now, x.Full)
		}
		s.Limits = append(s.Limits, y)
	}
	return s
}

// String returns one line: what is left of each limit, who waits, and why nothing is
// sent.
func (s Status) String() string {
	parts := make([]string, 0, len(s.Limits))
	for _, l := range s.Limits {
		parts = append(parts, l.String())
	}
	if len(parts) == 0 {
		parts = append(parts, "no limit is known")
	}
	line := fmt.Sprintf("%s: %s; %d waiting, %d in flight", limiter.Quote(s.Key), strings.Join(parts, ", "), s.Waiting, s.InFlight)
	if !s.PausedUntil.IsZero() {
		line += fmt.Sprintf("; nothing is sent until %s: %s", s.PausedUntil.Format("2006-01-02 15:04:05 MST"), s.PausedWhy)
	}
	return line
}

// String returns what is left: "3 of 10 requests per minute left (learned)".
func (l LimitStatus) String() string {
	s := fmt.Sprintf("%d of %v left", l.Left, l.Limit)
	if l.Learned {
		s += " (learned)"
	}
	return s
}

// limitJSON is a LimitStatus as JSON has it.
type limitJSON struct {
	Unit    Unit      `json:"unit"`
	N       int64     `json:"n"`
	Per     string    `json:"per,omitempty"` // empty: at once
	Refill  Refill    `json:"refill,omitzero"`
	Burst   int64     `json:"burst,omitzero"`
	Left    int64     `json:"left"`
	Learned bool      `json:"learned,omitzero"`
	Full    time.Time `json:"full,omitzero"`
}

// MarshalJSON implements json.Marshaler.
func (l LimitStatus) MarshalJSON() ([]byte, error) {
	x := limitJSON{l.Unit, l.N, "", l.Refill, l.Burst, l.Left, l.Learned, l.Full}
	if l.Per != 0 {
		x.Per = brief(l.Per)
	}
	return json.Marshal(x)
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *LimitStatus) UnmarshalJSON(b []byte) error {
	var x limitJSON
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	var per time.Duration
	if x.Per != "" {
		var err error
		if per, err = time.ParseDuration(x.Per); err != nil {
			return fmt.Errorf("tollgate: per: %w", err)
		}
	}
	*l = LimitStatus{Limit{x.Unit, x.N, per, x.Refill, x.Burst}, x.Learned, x.Left, x.Full}
	return nil
}

// brief returns a duration without the zeros at its end: "1m" for 1m0s.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
