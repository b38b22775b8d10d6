// Package quotatest is a model API for tests: it answers every prompt with the
// same words, but enforces its quotas as the real ones do, with the same
// refusals. It speaks like the APIs of Gemini, the newer one of interactions
// included, of OpenAI and of Anthropic.
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

// A Server is a fake model API. Its zero value answers every call and refuses
// none.
//
// It tells from the path of a call, under any host and prefix, which API it has
// to be:
//   - Gemini has the methods generateContent, streamGenerateContent,
//     embedContent, batchEmbedContents and countTokens of any model, and lists
//     and describes models. Each text of batchEmbedContents is a request.
//   - Its Interactions API has POST …/interactions, also in a stream and in the
//     background. An interaction that is stored can be asked for with GET, in a
//     stream too, cancelled, deleted and gone on from: the tokens of those that
//     came before count again. One in the background takes as long as Think says.
//   - OpenAI has POST …/chat/completions and POST …/responses. The tokens of a
//     call are those of its texts together, and one for each message, and two,
//     and as many as it lets the answer have.
//   - Anthropic has POST …/v1/messages.
//
// Everything else is not found. countTokens draws on no quota; the others do,
// even if their body is broken or Script has them fail, as on the real APIs. Only
// where the body does not name the model there is no quota to draw on.
//
// Responses of OpenAI and Anthropic state in their headers what is left of the
// first limit of each Unit. The real ones count as [Bucket] does; it is for
// Limits to say so.
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
	// and the windows of Fixed and Counter limits.
	Skew time.Duration

	// Script returns the HTTP status to answer the n-th call with instead of
	// 200, or 0 for none; n is the call's index in Calls. It is not asked about
	// calls that are refused or have no such model or key. A call that it makes
	// fail draws on the quota all the same. If nil, all calls succeed.
	Script func(n int, r *http.Request) int

	// Tokens returns how many tokens a text of a prompt is. If nil, it is one
	// for every 4 characters, rounded up. What is not text costs nothing.
	Tokens func(text string) int64

	// ErrorEvents makes the Interactions API refuse calls that stream, or fail
	// them as Script says, by an event in a stream with status 200. Calls has the
	// status that it stands for. If false, the response has that status.
	ErrorEvents bool

	// CountRefused makes refused calls draw on the quota like the others: a
	// caller who hammers is kept out. If false, they draw on none.
	CountRefused bool

	// Models are the names of the models there are, without "models/". Calls
	// to others get a 404. If nil, every model exists.
	Models []string

	// APIKey is the key that calls must have: in the header x-goog-api-key or
	// x-api-key, as a bearer token, or in the query parameter key. Those with
	// another get a 400 from Gemini and a 401 from the others. If empty, any key
	// will do, or none.
	APIKey string

	mu      sync.Mutex
	quotas  map[string]quota
	calls   []Call
	archive archive
}

// A Call is a call to one of the methods of a model.
type Call struct {
	At     time.Time // when it was counted, by the caller's clock
	Model  string    // without "models/"
	Method string    // such as generateContent, chat/completions, responses or messages
	Status int       // the HTTP status it was answered with, even if nobody was left to hear it
	Tokens int64     // what it is on limits of Tokens
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
	d, model, method := route(r)
	if method == "" {
		id, cancel, ok := storedID(r)
		switch {
		case !ok:
			return s.browse(r), 0
		case !s.allowed(r):
			return interactions{}.badKey(), 0
		}
		return s.archive.answer(r, id, cancel)
	}
	q := d.read(method, r.URL, body, s.Tokens)
	q.method = method
	if q.previous != "" {
		s.archive.recall(&q)
	}
	if model != "" { // else the body has it
		q.model = model
	}
	allowed, exists := s.allowed(r), q.model == "" || s.exists(q.model)
	q.free = q.free || !allowed || !exists || q.model == ""
	over, levels := s.count(d, &q)
	switch {
	case !allowed:
		a = d.badKey()
	case !exists:
		a = d.noModel(q.model)
	case len(over) > 0:
		a = d.refusal(&q, over)
	default:
		a = s.perform(d, &q, r, body)
		if s.Think != nil {
			think = s.Think(replay(r, body))
		}
		if q.store && a.status == http.StatusOK {
			s.archive.store(&q, think)
		}
		if q.background && !q.stream {
			think = 0
		}
	}
	s.mu.Lock()
	s.calls[q.n].Status = a.status
	s.mu.Unlock()
	if d, ok := d.(interactions); ok && s.ErrorEvents && q.stream && a.status >= http.StatusTooManyRequests {
		a = d.inStream(&q, a)
	}
	a.events = a.events || q.events
	return a.with(levels), think
}

// count records a call and has it draw on the quota. It returns the limits in
// its way and the headers that say what is left.
func (s *Server) count(d dialect, q *query) (over []excess, levels http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	q.n, q.at = len(s.calls), now.Add(s.Skew)
	s.calls = append(s.calls, Call{At: now, Model: q.model, Method: q.method, Tokens: q.cost[Tokens]})
	if q.free {
		return nil, nil
	}
	quota := s.quota(q.model)
	over = quota.take(time.Duration(q.at.UnixNano()), q.cost, s.CountRefused)
	return over, d.levels(quota, q.at)
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

// perform answers a call that the quota allows.
func (s *Server) perform(d dialect, q *query, r *http.Request, body []byte) answer {
	if s.Script != nil {
		if status := s.Script(q.n, replay(r, body)); status != 0 && status != http.StatusOK {
			return d.failure(status, blame(status))
		}
	}
	switch {
	case q.broken != nil:
		return d.failure(http.StatusBadRequest, "Invalid JSON payload received: "+q.broken.Error())
	case q.lost:
		return d.failure(http.StatusNotFound, "Interaction "+q.previous+" is not found.")
	}
	return d.reply(q)
}

// browse answers what is not a call to a model's method.
func (s *Server) browse(r *http.Request) answer {
	dir, name := path.Split(r.URL.Path)
	list := name == "models"
	info := path.Base(dir) == "models" && name != "" && !strings.Contains(name, ":")
	switch {
	case r.Method != http.MethodGet || !list && !info:
		return gemini{}.failure(http.StatusNotFound, "There is nothing to "+r.Method+" at "+r.URL.Path+".")
	case !s.allowed(r):
		return gemini{}.badKey()
	case list:
		return modelList(s.names())
	case !s.exists(name):
		return gemini{}.noModel(name)
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
		r.Header.Get("X-Api-Key") == s.APIKey ||
		r.Header.Get("Authorization") == "Bearer "+s.APIKey ||
		r.URL.Query().Get("key") == s.APIKey
}
