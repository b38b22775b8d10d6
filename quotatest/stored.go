package quotatest

import (
	"net/http"
	"path"
	"time"
)

// A stored interaction is one that GET can ask for, and that others can go on from.
type stored struct {
	query
	done      time.Time // when it is complete, by the caller's clock
	cancelled bool
}

// status returns how far it is.
func (i *stored) status(now time.Time) string {
	switch {
	case i.cancelled:
		return cancelled
	case now.Before(i.done):
		return inProgress
	}
	return completed
}

// store keeps an interaction that is complete after so long.
func (s *Server) store(q *query, think time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.interactions == nil {
		s.interactions = make(map[string]*stored)
	}
	s.interactions[interactionID(q.n)] = &stored{query: *q, done: time.Now().Add(think)}
}

// recall adds what came before to an interaction that goes on from another one: the
// server has it, and reads it again.
func (s *Server) recall(q *query) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.interactions[q.previous]
	if q.lost = i == nil; q.lost {
		return
	}
	q.prompt += i.prompt
	if i.status(time.Now()) == completed {
		q.prompt += spoken
	}
	q.cost[Tokens] = q.prompt
}

// interaction answers what has to do with an interaction that was started before:
// to ask for it, to cancel it, to delete it. ok is false if it is something else.
func (s *Server) interaction(r *http.Request) (a answer, think time.Duration, ok bool) {
	var d interactions
	dir, id := path.Split(path.Clean(r.URL.Path))
	cancel := id == "cancel" && r.Method == http.MethodPost
	if cancel {
		dir, id = path.Split(path.Clean(dir))
	}
	if path.Base(dir) != createInteraction || !cancel && r.Method != http.MethodGet && r.Method != http.MethodDelete {
		return a, 0, false
	}
	if !s.allowed(r) {
		return d.badKey(), 0, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, now := s.interactions[id], time.Now()
	switch {
	case i == nil:
		return d.noInteraction(id), 0, true
	case r.Method == http.MethodDelete:
		delete(s.interactions, id)
		return success(object{}), 0, true
	case cancel && !i.background:
		return d.failure(http.StatusBadRequest, "Only what runs in the background can be cancelled."), 0, true
	case cancel && now.Before(i.done):
		i.cancelled = true
	case r.URL.Query().Get("stream") == "true" && !i.cancelled: // the events come as they happen
		return streamInteraction(&i.query, r.URL.Query().Get("last_event_id")), max(i.done.Sub(now), 0), true
	}
	return success(newInteraction(&i.query, i.status(now))), 0, true
}
