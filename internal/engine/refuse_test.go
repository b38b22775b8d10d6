package engine

import (
	"time"

	"example.com/tollgate/internal/refill"
)

// refuse has the server say why it has refused a request.
func (w *world) refuse(t *ticket) {
	s := &w.in
	var f Refusal
	f.Wait = pick(s, 0, 0, time.Second, 13*time.Second, time.Minute, 10*time.Minute, 30*time.Hour, 50*365*refill.Day)
	f.Overload = s.next(8) == 1
	f.Never = s.next(16) == 1
	if s.next(3) == 1 {
		v := Named{Unit: pick(s, refill.Requests, refill.Tokens), Per: pick(s, time.Minute, 0, time.Hour, refill.Day)}
		v.N = pick[int64](s, 0, 2, 5, 50)
		f.Limits = append(f.Limits, v)
	}
	w.note("place %d was refused: %+v", t.Place, f)
	w.event(nil, func(now Now) { w.e.Refused(now, t.Request, f) })
	long := len(f.Limits) == 0 && f.Wait == 30*time.Hour || len(f.Limits) > 0 && f.Limits[0].Per >= refill.Day
	fresh := !f.Never && !f.Overload && !long && t.let > w.bare // else it belongs to the one before
	if fresh {
		w.bare = w.mono
	}
	switch wait := min(f.Wait, time.Hour); {
	case f.Never || len(f.Limits) > 0: // what that holds up depends
	case wait > 0:
		w.shut = max(w.shut, w.mono+wait)
	case fresh:
		w.shut = max(w.shut, w.mono+time.Second)
	}
}

// levels has the server say how much is left.
func (w *world) levels() (list []Level) {
	s := &w.in
	for range pick(s, 0, 0, 0, 1, 2) {
		list = append(list, Level{
			Unit: pick(s, refill.Requests, refill.Tokens),
			N:    pick[int64](s, 0, 1, 2, 3, 5, 20, 100),
			Per:  pick(s, time.Minute, 0, 10*time.Second, refill.Day),
			Left: pick[int64](s, -1, 0, 1, 10),
			Full: pick(s, -1, 0, 5*time.Second, time.Minute),
		})
	}
	if len(list) > 0 {
		w.note("... with %+v", list)
	}
	return list
}
