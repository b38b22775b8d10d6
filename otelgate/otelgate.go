// Package otelgate reports what a tollgate.Transport does as metrics of
// OpenTelemetry. It knows nothing of exporters: the MeterProvider does.
//
// The names follow those that ASP.NET Core has for its rate limiter
// (aspnetcore.rate_limiting, the only stable convention for one so far):
//
//	tollgate.client.requests                {request}  counter   result
//	tollgate.client.request.time_in_queue   s          histogram result
//	tollgate.client.queued_requests         {request}  level
//	tollgate.client.active_requests         {request}  level
//	tollgate.client.refusals                {refusal}  counter   limit, hint, status
//	tollgate.client.retries                 {retry}    counter   error.type
//	tollgate.client.tokens                  {token}    counter   unit, kind
//	tollgate.estimate.ratio                 1          histogram unit
//	tollgate.limit.requests.capacity        {request}  level     per
//	tollgate.limit.requests.available       {request}  level     per
//	tollgate.limit.tokens.capacity          {token}    level     unit, per
//	tollgate.limit.tokens.available         {token}    level     unit, per
//	tollgate.limit.changes                  {change}   counter   direction
//	tollgate.pause.remaining                s          level
//	tollgate.store.exchange.duration        s          histogram error
//	tollgate.store.degraded                            level
//
// All but the last two have the attribute tollgate.key as well; the others are
// tollgate.result, tollgate.limit and so on, and http.response.status_code. Keys
// beyond the first [MaxKeys] are reported together, as "other". No attribute has a
// path, a query, a prompt, a user or an API key in it.
package otelgate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"example.com/tollgate"
	"example.com/tollgate/internal/limiter"
)

// MaxKeys is how many keys are reported each by its name.
const MaxKeys = 100

// Other is what all further keys are reported as.
const Other = "other"

// name is that of the meter.
const name = "example.com/tollgate/otelgate"

// A watch is what is reported of one Transport.
type watch struct {
	transport *tollgate.Transport
	keys      keys
	degraded  atomic.Int64

	requests, refusals, retries, tokens, changes metric.Int64Counter
	inQueue, ratio, exchange                     metric.Float64Histogram
	queued, active, degradation                  metric.Int64ObservableUpDownCounter
	pause                                        metric.Float64ObservableGauge
	capacity, available                          [2]metric.Int64ObservableUpDownCounter // of requests, of tokens
}

// Watch has t report to the meters of a provider. It joins its own Trace to that of
// t, and therefore has to be called before t is used. stop ends the reports of
// levels; the other metrics go on for as long as t is used.
//
// Its error is the provider's, which refuses an instrument.
func Watch(t *tollgate.Transport, p metric.MeterProvider) (stop func(), err error) {
	w := &watch{transport: t}
	m := p.Meter(name)
	if err := w.instruments(m); err != nil {
		return nil, fmt.Errorf("otelgate: %w", err)
	}
	r, err := m.RegisterCallback(w.observe, w.queued, w.active, w.degradation, w.pause,
		w.capacity[0], w.capacity[1], w.available[0], w.available[1])
	if err != nil {
		return nil, fmt.Errorf("otelgate: %w", err)
	}
	t.Trace = tollgate.JoinTraces(t.Trace, w.trace(t.Trace))
	return func() { _ = r.Unregister() }, nil // it fails if that was done before
}

// seconds are the bounds of histograms of times: a queue may last for minutes.
var seconds = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600}

func (w *watch) instruments(m metric.Meter) error {
	var errs []error
	counter := func(name, unit, text string) metric.Int64Counter {
		c, err := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(text))
		errs = append(errs, err)
		return c
	}
	histogram := func(name, unit, text string, bounds []float64) metric.Float64Histogram {
		h, err := m.Float64Histogram(name, metric.WithUnit(unit), metric.WithDescription(text), metric.WithExplicitBucketBoundaries(bounds...))
		errs = append(errs, err)
		return h
	}
	level := func(name, unit, text string) metric.Int64ObservableUpDownCounter {
		c, err := m.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
		errs = append(errs, err)
		return c
	}
	w.requests = counter("tollgate.client.requests", "{request}", "Attempts at requests, by what became of them.")
	w.inQueue = histogram("tollgate.client.request.time_in_queue", "s", "Time that attempts spent in the queue.", seconds)
	w.queued = level("tollgate.client.queued_requests", "{request}", "Requests in the queue.")
	w.active = level("tollgate.client.active_requests", "{request}", "Requests that were sent and whose response's body is not closed yet.")
	w.refusals = counter("tollgate.client.refusals", "{refusal}", "Refusals by the server.")
	w.retries = counter("tollgate.client.retries", "{retry}", "Attempts after the first one.")
	w.tokens = counter("tollgate.client.tokens", "{token}", "Tokens of requests whose response has stated them: as estimated before, and as settled.")
	w.ratio = histogram("tollgate.estimate.ratio", "1", "Tokens that a response has stated, for each one that was estimated.", []float64{0.1, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 4, 10})
	w.capacity[0] = level("tollgate.limit.requests.capacity", "{request}", "Requests that a limit allows.")
	w.available[0] = level("tollgate.limit.requests.available", "{request}", "Requests that a limit would let go now; less than 0 is a debt.")
	w.capacity[1] = level("tollgate.limit.tokens.capacity", "{token}", "Tokens that a limit allows.")
	w.available[1] = level("tollgate.limit.tokens.available", "{token}", "Tokens that a limit would let go now; less than 0 is a debt.")
	w.changes = counter("tollgate.limit.changes", "{change}", "Limits that were learned, lowered or raised.")
	w.exchange = histogram("tollgate.store.exchange.duration", "s", "Time that exchanges with the store of shared quotas took.", seconds)
	w.degradation = level("tollgate.store.degraded", "", "1 while the store of shared quotas does not answer, else 0.")
	pause, err := m.Float64ObservableGauge("tollgate.pause.remaining", metric.WithUnit("s"), metric.WithDescription("Time until the end of a pause in which nothing is sent."))
	w.pause = pause
	return errors.Join(append(errs, err)...)
}

// key is the attribute of a key.
func (w *watch) key(key string) attribute.KeyValue {
	return attribute.String("tollgate.key", w.keys.name(key))
}

// trace returns the functions that count what happens. other is the Trace that
// there is beside it.
func (w *watch) trace(other *tollgate.Trace) *tollgate.Trace {
	add := func(r *http.Request, c metric.Int64Counter, key string, attrs ...attribute.KeyValue) {
		c.Add(r.Context(), 1, metric.WithAttributes(append(attrs, w.key(key))...))
	}
	queued := func(r *http.Request, key string, in time.Duration, result attribute.KeyValue) {
		w.inQueue.Record(r.Context(), in.Seconds(), metric.WithAttributes(w.key(key), result))
		add(r, w.requests, key, result)
	}
	t := &tollgate.Trace{
		Sending:   func(r *http.Request, i tollgate.SendInfo) { queued(r, i.Key, i.Waited, acquired) },
		Abandoned: func(r *http.Request, i tollgate.WaitInfo) { queued(r, i.Key, i.Waited, canceled) },
		Rejected:  func(r *http.Request, e *tollgate.LimitError) { add(r, w.requests, e.Key, rejected) },
		Refused: func(r *http.Request, i tollgate.RefusalInfo) {
			add(r, w.refusals, i.Key, exceeded(i), attribute.Bool("tollgate.hint", i.Refusal.Hinted), attribute.Int("http.response.status_code", i.Status))
		},
		Retrying: func(r *http.Request, i tollgate.RetryInfo) { add(r, w.retries, i.Key, cause(i)) },
		Settled:  w.settled,
		Learned:  func(r *http.Request, i tollgate.LearnInfo) { add(r, w.changes, i.Key, direction(i.Change)) },
		Exchanged: func(key string, took time.Duration, err error) {
			w.exchange.Record(context.Background(), took.Seconds(), metric.WithAttributes(attribute.Bool("tollgate.error", err != nil)))
		},
	}
	log := tollgate.LogTrace(slog.Default()).StoreError // which is called if nobody else is
	if other != nil && other.StoreError != nil {
		log = func(string, error) {}
	}
	t.StoreError = func(key string, err error) {
		switch {
		case err == nil:
			w.degraded.Store(0)
		case errors.As(err, new(*limiter.Outage)):
			w.degraded.Store(1)
		}
		log(key, err)
	}
	return t
}

func (w *watch) settled(r *http.Request, key string, estimate, actual tollgate.Cost) {
	for unit := tollgate.Tokens; unit <= tollgate.OutputTokens; unit++ {
		is := attribute.String("tollgate.unit", unit.String())
		w.tokens.Add(r.Context(), estimate[unit], metric.WithAttributes(w.key(key), is, attribute.String("tollgate.kind", "estimated")))
		w.tokens.Add(r.Context(), actual[unit], metric.WithAttributes(w.key(key), is, attribute.String("tollgate.kind", "settled")))
		if estimate[unit] > 0 {
			w.ratio.Record(r.Context(), float64(actual[unit])/float64(estimate[unit]), metric.WithAttributes(w.key(key), is))
		}
	}
}

// The results of attempts to have a request sent.
var (
	acquired = attribute.String("tollgate.result", "acquired")
	canceled = attribute.String("tollgate.result", "request_canceled")
	rejected = attribute.String("tollgate.result", "rejected")
)

// exceeded says which limit was: what the server states is not to be trusted with
// the number of values.
func exceeded(i tollgate.RefusalInfo) attribute.KeyValue {
	is := "not_stated"
	if len(i.Refusal.Limits) > 0 {
		switch v := i.Refusal.Limits[0]; {
		case v.Uncounted:
			is = "other"
		default:
			is = strings.ReplaceAll(v.Unit.String(), " ", "_") + spanOf(v.Per)
		}
	}
	return attribute.String("tollgate.limit", is)
}

// spanOf is how a limit's span is called.
func spanOf(per time.Duration) string {
	switch {
	case per <= 0:
		return ""
	case per <= time.Second:
		return "_per_second"
	case per <= time.Minute:
		return "_per_minute"
	case per <= time.Hour:
		return "_per_hour"
	}
	return "_per_day"
}

// cause is the attribute error.type of the semantic conventions: a status, or what
// kind of error there was.
func cause(i tollgate.RetryInfo) attribute.KeyValue {
	kind := fmt.Sprintf("%T", i.Cause)
	var timeout interface{ Timeout() bool }
	switch {
	case i.Status > 0:
		kind = strconv.Itoa(i.Status)
	case errors.As(i.Cause, &timeout) && timeout.Timeout():
		kind = "timeout"
	}
	return attribute.String("error.type", kind)
}

func direction(c tollgate.Change) attribute.KeyValue {
	is := "other" // by another rule, or in another span
	switch {
	case c.From == tollgate.Limit{}:
		is = "learned"
	case c.To.N < c.From.N:
		is = "lowered"
	case c.To.N > c.From.N:
		is = "raised"
	}
	return attribute.String("tollgate.direction", is)
}

// observe reports the levels. Those of keys that are reported together add up.
func (w *watch) observe(_ context.Context, o metric.Observer) error {
	type limit struct {
		key, unit string
		tokens    int
		per       time.Duration
	}
	type level struct {
		queued, active int64
		pause          float64
	}
	levels := map[string]level{}
	limits := map[limit][2]int64{}
	for _, s := range w.transport.Status() {
		key := w.keys.name(s.Key)
		l := levels[key]
		l.queued, l.active = l.queued+int64(s.Waiting), l.active+int64(s.InFlight)
		l.pause = max(l.pause, time.Until(s.PausedUntil).Seconds())
		levels[key] = l
		for _, x := range s.Limits {
			is := limit{key: key, unit: x.Unit.String(), per: x.Per}
			if x.Unit != tollgate.Requests {
				is.tokens = 1
			}
			n := limits[is]
			limits[is] = [2]int64{n[0] + x.N, n[1] + x.Left}
		}
	}
	for key, l := range levels {
		is := metric.WithAttributes(attribute.String("tollgate.key", key))
		o.ObserveInt64(w.queued, l.queued, is)
		o.ObserveInt64(w.active, l.active, is)
		o.ObserveFloat64(w.pause, max(l.pause, 0), is)
	}
	for l, n := range limits {
		attrs := []attribute.KeyValue{attribute.String("tollgate.key", l.key), attribute.String("tollgate.per", l.per.String())}
		if l.tokens == 1 {
			attrs = append(attrs, attribute.String("tollgate.unit", l.unit))
		}
		o.ObserveInt64(w.capacity[l.tokens], n[0], metric.WithAttributes(attrs...))
		o.ObserveInt64(w.available[l.tokens], n[1], metric.WithAttributes(attrs...))
	}
	o.ObserveInt64(w.degradation, w.degraded.Load())
	return nil
}

// keys are those that are reported each by its name: the first ones. The zero value
// has none yet.
type keys struct {
	mu   sync.Mutex
	have map[string]string
}

// maxName is how much of a key is reported, in bytes.
const maxName = 128

// name returns what a key is reported as.
func (k *keys) name(key string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if name, ok := k.have[key]; ok {
		return name
	}
	if len(k.have) == MaxKeys {
		return Other
	}
	if k.have == nil {
		k.have = make(map[string]string)
	}
	name := key
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "")
	}
	k.have[strings.Clone(key)] = name
	return name
}
