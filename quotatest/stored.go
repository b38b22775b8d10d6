package quotatest

import (
	"net/http"
	"path"
	"sync"
	"time"
)

// An archive has the interactions that were stored.
type archive struct {
	mu   sync.Mutex
	byID map[string]*stored
}

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
func (s *archive) store(q *query, think time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = make(map[string]*stored)
	}
	s.byID[interactionID(q.n)] = &stored{query: *q, done: time.Now().Add(think)}
}

// recall adds what came before to an interaction that goes on from another one: the
// server has it, and reads it again.
func (s *archive) recall(q *query) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.byID[q.previous]
	if q.lost = i == nil; q.lost {
		return
	}
	q.prompt += i.prompt
	if i.status(time.Now()) == completed {
		q.prompt += spoken
	}
	q.cost[Tokens] = q.prompt
}

// storedID returns the id of the interaction that a request asks for, which was
// started before: cancel is true if it is to be cancelled. ok is false if the request is
// about something else.
func storedID(r *http.Request) (id string, cancel, ok bool) {
	dir, id := path.Split(path.Clean(r.URL.Path))
	cancel = id == "cancel" && r.Method == http.MethodPost
	if cancel {
		dir, id = path.Split(path.Clean(dir))
	}
	return id, cancel, path.Base(dir) == createInteraction && (cancel || r.Method == http.MethodGet || r.Method == http.MethodDelete)
}

// answer gets, cancels or deletes an interaction.
func (s *archive) answer(r *http.Request, id string, cancel bool) (a answer, think time.Duration) {
	var d interactions
	s.mu.Lock()
	defer s.mu.Unlock()
	i, now := s.byID[id], time.Now()
	switch {
	case i == nil:
		return d.noInteraction(id), 0
	case r.Method == http.MethodDelete:
		delete(s.byID, id)
		return success(object{}), 0
	case cancel && !i.background:
		return d.failure(http.StatusBadRequest, "Only what runs in the background can be cancelled."), 0
	case cancel && now.Before(i.done):
		i.cancelled = true
	case r.URL.Query().Get("stream") == "true" && !i.cancelled: // the events come as they happen
		return streamInteraction(&i.query, r.URL.Query().Get("last_event_id")), max(i.done.Sub(now), 0)
	}
	return success(newInteraction(&i.query, i.status(now))), 0
}
