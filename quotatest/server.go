// Package quotatest is a Gemini API for tests: it answers every prompt with
// the same words, but enforces its quotas as the real one does, with the same
// refusals.
//
// A [Server] is an [http.Handler], to be reached through real sockets,
//
//	api := httptest.NewServer(&quotatest.Server{Limits: limits})
//	client, err := genai.NewClient(ctx, &genai.ClientConfig{
//		APIKey:      "any",
//		HTTPOptions: genai.HTTPOptions{BaseURL: api.URL},
//	})
//
// and an [http.RoundTripper], to be reached without any. The latter works in
// the bubbles of testing/synctest, where a test that waits for a quota takes no
// time at all.
package quotatest

import (
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Server is a fake Gemini API. Its zero value answers every call and refuses
// none.
//
// It has the methods generateContent, streamGenerateContent and countTokens of
// any model, under any host and path prefix, and lists and describes models.
// Everything else is not found. countTokens draws on no quota; the others do,
// even if their body is broken or Script has them fail, as on the real API.
//
// A Server is safe for simultaneous use by multiple goroutines. Its fields must
// not change after the first call. The functions among them may be called by
// several goroutines at once; a request they are given has a body to be read.
type Server struct {
	// Limits are the quotas by model: a call is accepted when every limit of
	// its model has room, and draws on all of them or none. "*" is for the
	// models without an entry, each of which is counted on its own. A model
	// with neither is not limited.
	Limits map[string][]Limit

	// Latency returns how long a request takes to get to the server or a
	// response to get back; it is called once for each. Only RoundTrip heeds
	// it. A request given up on its way there arrives all the same. If nil, they
	// take no time.
	Latency func() time.Duration

	// Think returns the time from counting a call to sending the headers of
	// its response. If nil, it is none. Refusals are sent at once.
	Think func(*http.Request) time.Duration

	// Skew is the server's clock minus the caller's. It moves the Date headers
	// and the windows of Fixed limits.
	Skew time.Duration

	// Script returns the HTTP status to answer the n-th call with instead of
	// 200, or 0 for none; n is the call's index in Calls. It is not asked about
	// calls that are refused or have no such model or key. A call that it makes
	// fail draws on the quota all the same. If nil, all calls succeed.
	Script func(n int, r *http.Request) int

	// Tokens returns how many tokens a text of a prompt is. If nil, it is one
	// for every 4 characters, rounded up. What is not text costs nothing.
	Tokens func(text string) int64

	// CountRefused makes refused calls draw on the quota like the others: a
	// caller who hammers is kept out. If false, they draw on none.
	CountRefused bool

	// Models are the names of the models there are, without "models/". Calls
	// to others get a 404. If nil, every model exists.
	Models []string

	// APIKey is the key that calls must have, in the header x-goog-api-key or
	// the query parameter key. Those with another get a 400. If empty, any key
	// will do, or none.
	APIKey string

	mu     sync.Mutex
	quotas map[string]quota
	calls  []Call
}

// A Call is a call to one of the methods of a model.
type Call struct {
	At     time.Time // when it was counted, by the caller's clock
	Model  string    // without "models/"
	Method string    // such as generateContent
	Status int       // the HTTP status it was answered with, even if nobody was left to hear it
	Tokens int64     // of its prompt
}

// Calls returns the calls to model methods so far, in the order in which they
// arrived.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Accepted returns how many calls were answered with 200, countTokens included.
func (s *Server) Accepted() int { return s.answered(http.StatusOK) }

// Refused returns how many calls were answered with 429, by the quota or by
// Script.
func (s *Server) Refused() int { return s.answered(http.StatusTooManyRequests) }

func (s *Server) answered(status int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if c.Status == status {
			n++
		}
	}
	return n
}

// serve decides on a request that has arrived with the given body. The answer
// is to be sent when the server has thought about it for so long.
func (s *Server) serve(r *http.Request, body []byte) (a answer, think time.Duration) {
	model, method := target(r)
	if method == "" {
		return s.browse(r), 0
	}
	prompt, err := parse(body)
	allowed, exists := s.allowed(r), s.exists(model)
	c := Call{Model: model, Method: method, Tokens: prompt.tokens(s.Tokens)}
	n, over, wait := s.count(c, allowed && exists && method != countTokens)
	switch {
	case !allowed:
		a = badKey()
	case !exists:
		a = noModel(model)
	case len(over) > 0:
		a = refusal(model, over, wait)
	default:
		a = s.perform(n, c, r, body, err)
		if s.Think != nil {
			think = s.Think(replay(r, body))
		}
	}
	a.events = events(r, method)
	s.mu.Lock()
	s.calls[n].Status = a.status
	s.mu.Unlock()
	return a, think
}

// count records a call and has it draw on the quota. It returns the call's
// number and, for one to be refused, the limits in its way and for how long.
func (s *Server) count(c Call, draws bool) (n int, over []Limit, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.At = time.Now()
	if draws {
		now := time.Duration(c.At.Add(s.Skew).UnixNano())
		over, wait = s.quota(c.Model).take(now, c.Tokens, s.CountRefused)
	}
	s.calls = append(s.calls, c)
	return len(s.calls) - 1, over, wait
}

// quota returns what counts the calls to a model.
func (s *Server) quota(model string) quota {
	q, ok := s.quotas[model]
	if !ok {
		limits, ok := s.Limits[model]
		if !ok {
			limits = s.Limits["*"]
		}
		q = newQuota(limits)
		if s.quotas == nil {
			s.quotas = make(map[string]quota)
		}
		s.quotas[model] = q
	}
	return q
}

// perform answers the n-th call, which the quota allows. broken is what is
// wrong with its body.
func (s *Server) perform(n int, c Call, r *http.Request, body []byte, broken error) answer {
	if s.Script != nil {
		if status := s.Script(n, replay(r, body)); status != 0 && status != http.StatusOK {
			return failure(status, blame(status))
		}
	}
	switch {
	case broken != nil:
		return failure(http.StatusBadRequest, "Invalid JSON payload received: "+broken.Error())
	case c.Method == countTokens:
		return tokenCount(c.Tokens)
	case c.Method == streamGenerateContent:
		return stream(c.Model, c.Tokens, events(r, c.Method))
	}
	return generation(c.Model, c.Tokens)
}

// browse answers what is not a call to a model's method.
func (s *Server) browse(r *http.Request) answer {
	dir, name := path.Split(r.URL.Path)
	list := name == "models"
	info := path.Base(dir) == "models" && name != "" && !strings.Contains(name, ":")
	switch {
	case r.Method != http.MethodGet || !list && !info:
		return failure(http.StatusNotFound, "There is nothing to "+r.Method+" at "+r.URL.Path+".")
	case !s.allowed(r):
		return badKey()
	case list:
		return modelList(s.names())
	case !s.exists(name):
		return noModel(name)
	}
	return modelInfo(name)
}

// names returns the models to list: without Models, those named in Limits.
func (s *Server) names() []string {
	if s.Models != nil {
		return s.Models
	}
	var names []string
	for name := range s.Limits {
		if name != "*" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (s *Server) exists(model string) bool {
	return s.Models == nil || slices.Contains(s.Models, model)
}

func (s *Server) allowed(r *http.Request) bool {
	return s.APIKey == "" ||
		r.Header.Get("X-Goog-Api-Key") == s.APIKey ||
		r.URL.Query().Get("key") == s.APIKey
}
