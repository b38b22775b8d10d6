package otelgate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/metric"

	"example.com/tollgate"
	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/share"
	"example.com/tollgate/otelgate"
	"example.com/tollgate/quotatest"
)

// A scrape is what Prometheus sees.
type scrape []*dto.MetricFamily

// watched returns t's metrics as Prometheus would scrape them.
func watched(t *testing.T, tr *tollgate.Transport) func() scrape {
	t.Helper()
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
	if err != nil {
		t.Fatal(err)
	}
	stop, err := otelgate.Watch(tr, sdk.NewMeterProvider(sdk.WithReader(exporter)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return func() scrape {
		list, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
}

// sum adds up a metric whose labels are as given, in pairs: the value of a counter or
// level, the number of values in a histogram.
func (s scrape) sum(name string, labels ...string) (sum float64) {
	for _, f := range s {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			match := true
			for i := 0; i < len(labels); i += 2 {
				match = match && slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == labels[i] && l.GetValue() == labels[i+1] })
			}
			if match {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

const flash = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent"

// call makes a call with a context.
func call(ctx context.Context, rt http.RoundTripper, url string) error {
	req, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(`{"contents":[{"parts":[{"text":"Tell me a story about a magic backpack."}]}]}`))
	if err != nil {
		return err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// What is scraped agrees with what the server has counted, over 2,000 requests of
// which some are refused, some fail and are sent again, some are rejected and some
// are given up in the queue.
func TestAgreesWithServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &quotatest.Server{
			Limits:  map[string][]quotatest.Limit{"*": {{N: 100, Per: time.Minute, Count: quotatest.Fixed}}},
			Latency: func() time.Duration { return 20 * time.Millisecond },
			Script: func(n int, _ *http.Request) int {
				if n%23 == 0 {
					return http.StatusServiceUnavailable
				}
				return 0
			},
		}
		tr := &tollgate.Transport{
			Base:    server,
			Quotas:  tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(130), tollgate.TPM(1_000_000)}},
			MaxWait: 15 * time.Minute,
		}
		now := watched(t, tr)
		retry := &tollgate.Retry{Base: tr}
		var mu sync.Mutex
		var ok, rejected, abandoned, other int
		var wg sync.WaitGroup
		for i := range 2000 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%50 == 7 {
					time.AfterFunc(30*time.Second+time.Duration(i)*time.Millisecond, cancel)
				}
				err := call(ctx, retry, flash)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					ok++
				case errors.Is(err, tollgate.ErrLimited):
					rejected++
				case errors.Is(err, context.Canceled):
					abandoned++
				default:
					other++
					t.Error(err)
				}
			})
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s, is := now(), tr.Status()[0]; s.sum("tollgate_client_queued_requests") != float64(is.Waiting) || is.Waiting == 0 ||
			s.sum("tollgate_client_active_requests") != float64(is.InFlight) {
			t.Errorf("%v queued, %v active, want %d and %d", s.sum("tollgate_client_queued_requests"), s.sum("tollgate_client_active_requests"), is.Waiting, is.InFlight)
		}
		wg.Wait()
		s := now()
		calls := server.Calls()
		t.Logf("%d ok, %d rejected, %d given up, %d other; the server has seen %d and refused %d", ok, rejected, abandoned, other, len(calls), server.Refused())
		refused, failed := server.Refused(), len(calls)-server.Refused()-server.Accepted()
		if refused == 0 || failed == 0 || rejected == 0 || abandoned == 0 {
			t.Errorf("%d refused, %d failed, %d rejected, %d abandoned: want some of each", refused, failed, rejected, abandoned)
		}
		for _, test := range []struct {
			name   string
			labels []string
			want   int
		}{
			{"tollgate_client_requests_total", []string{"tollgate_result", "acquired"}, len(calls)},
			{"tollgate_client_requests_total", []string{"tollgate_result", "rejected"}, rejected},
			{"tollgate_client_requests_total", []string{"tollgate_result", "request_canceled"}, abandoned},
			{"tollgate_client_request_time_in_queue_seconds", []string{"tollgate_result", "acquired"}, len(calls)},
			{"tollgate_client_refusals_total", []string{"http_response_status_code", "429"}, refused},
			{"tollgate_client_refusals_total", []string{"http_response_status_code", "429", "tollgate_hint", "true", "tollgate_limit", "requests_per_minute"}, refused},
			{"tollgate_client_refusals_total", []string{"http_response_status_code", "503"}, failed},
			{"tollgate_client_retries_total", nil, refused + failed},
			{"tollgate_client_retries_total", []string{"error_type", "503"}, failed},
			{"tollgate_estimate_ratio", []string{"tollgate_unit", "tokens"}, ok},
			{"tollgate_client_queued_requests", nil, 0},
			{"tollgate_client_active_requests", nil, 0},
			{"tollgate_store_degraded", nil, 0},
		} {
			if got := s.sum(test.name, test.labels...); got != float64(test.want) {
				t.Errorf("%s%v is %v, want %d", test.name, test.labels, got, test.want)
			}
		}
		if s.sum("tollgate_client_tokens_total", "tollgate_kind", "settled") == 0 || s.sum("tollgate_limit_changes_total") == 0 ||
			s.sum("tollgate_limit_tokens_capacity") != 1_000_000 {
			t.Errorf("tokens settled %v, limits changed %v", s.sum("tollgate_client_tokens_total", "tollgate_kind", "settled"), s.sum("tollgate_limit_changes_total"))
		}
	})
}

// However many keys there are, a hundred are reported by name. Their levels add up.
func TestKeysAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &tollgate.Transport{Base: &quotatest.Server{}, Quotas: tollgate.Quotas{"*": {tollgate.RPM(5)}}}
		now := watched(t, tr)
		for i := range 300 {
			if err := call(t.Context(), tr, fmt.Sprintf("https://example.com/models/m%d%s:generateContent?key=secret", i, strings.Repeat("x", 200))); err != nil {
				t.Fatal(err)
			}
		}
		s := now()
		if n := s.sum("tollgate_client_requests_total", "tollgate_key", otelgate.Other); n != 200 {
			t.Errorf("%v requests of other keys, want 200", n)
		}
		if n := s.sum("tollgate_limit_requests_capacity", "tollgate_key", otelgate.Other); n != 1000 {
			t.Errorf("other keys allow %v, want 1000", n)
		}
		for _, f := range s {
			if !strings.HasPrefix(f.GetName(), "tollgate_") {
				continue
			}
			keys := map[string]bool{}
			for _, m := range f.Metric {
				for _, l := range m.Label {
					if l.GetName() == "tollgate_key" {
						keys[l.GetValue()] = true
					}
					if strings.Contains(l.GetValue(), "secret") || strings.Contains(l.GetValue(), "/models/") || len(l.GetValue()) > 128 {
						t.Errorf("%s has the label %s=%q", f.GetName(), l.GetName(), l.GetValue())
					}
				}
			}
			if len(keys) > otelgate.MaxKeys+1 {
				t.Errorf("%s has %d keys", f.GetName(), len(keys))
			}
		}
	})
}

// A pause is reported as long as it lasts.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &tollgate.Transport{Base: &quotatest.Server{Script: func(int, *http.Request) int { return http.StatusTooManyRequests }}}
		now := watched(t, tr)
		if err := call(t.Context(), tr, flash); err != nil {
			t.Fatal(err)
		}
		if n := now().sum("tollgate_pause_remaining_seconds"); n <= 0 {
			t.Errorf("%v s of a pause are left", n)
		}
		time.Sleep(time.Hour)
		if n := now().sum("tollgate_pause_remaining_seconds"); n != 0 {
			t.Errorf("%v s of a pause are left after it", n)
		}
	})
}

// The Trace that was there before is still told of everything.
func TestTraceIsJoined(t *testing.T) {
	sent := 0
	tr := &tollgate.Transport{
		Base:  &quotatest.Server{},
		Trace: &tollgate.Trace{Sending: func(*http.Request, tollgate.SendInfo) { sent++ }},
	}
	now := watched(t, tr)
	if err := call(t.Context(), tr, flash); err != nil {
		t.Fatal(err)
	}
	if n := now().sum("tollgate_client_requests_total"); n != 1 || sent != 1 {
		t.Errorf("%v counted, %d told of, want 1", n, sent)
	}
}

// The dashboard and the alerts name metrics and labels that there are.
func TestFilesNameMetrics(t *testing.T) {
	tr := &tollgate.Transport{Base: &quotatest.Server{}, Quotas: tollgate.Quotas{"*": {tollgate.RPM(5), tollgate.TPM(1000)}}}
	now := watched(t, tr)
	if err := call(t.Context(), tr, flash); err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{
		// Those that nothing has happened for yet.
		"tollgate_client_refusals_total": true, "tollgate_client_retries_total": true, "tollgate_limit_changes_total": true,
		"tollgate_store_exchange_duration_seconds": true, "tollgate_estimate_ratio": true,
	}
	for _, f := range now() {
		have[f.GetName()] = true
	}
	metric := regexp.MustCompile(`tollgate_(client|limit|store|estimate|pause)[a-z_]*`)
	for _, file := range []string{"dashboard.json", "alerts.yml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names := metric.FindAllString(string(text), -1)
		if len(names) < 3 {
			t.Errorf("%s names %v", file, names)
		}
		for _, name := range names {
			if base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count"); !have[base] {
				t.Errorf("%s names %s", file, name)
			}
		}
		if file == "dashboard.json" && !json.Valid(text) {
			t.Errorf("%s is no JSON", file)
		}
	}
}

// A flaky is a store that grants everything, unless it is away.
type flaky struct{ away atomic.Bool }

func (f *flaky) Exchange(_ context.Context, b share.Batch) (share.Reply, error) {
	if f.away.Load() {
		return share.Reply{}, errors.New("gone fishing")
	}
	return share.Reply{Generation: 1, Now: time.Hour, Taken: time.Hour, Granted: len(b.Asks), Limits: make([]share.State, len(b.Limits))}, nil
}

// The store's exchanges are timed, and it is reported while it does not answer.
func TestStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store flaky
		var told []error
		tr := &tollgate.Transport{
			Base:    &quotatest.Server{},
			Quotas:  tollgate.Quotas{"*": {tollgate.RPM(5)}},
			Limiter: &limiter.Shared{Store: func(string) limiter.Store { return &store }},
			Trace:   &tollgate.Trace{StoreError: func(_ string, err error) { told = append(told, err) }},
		}
		now := watched(t, tr)
		do := func() {
			if err := call(t.Context(), tr, flash); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		do()
		s := now()
		if s.sum("tollgate_store_degraded") != 0 || s.sum("tollgate_store_exchange_duration_seconds", "tollgate_error", "false") == 0 {
			t.Errorf("degraded %v after %v exchanges", s.sum("tollgate_store_degraded"), s.sum("tollgate_store_exchange_duration_seconds"))
		}
		store.away.Store(true)
		do()
		if s := now(); s.sum("tollgate_store_degraded") != 1 || s.sum("tollgate_store_exchange_duration_seconds", "tollgate_error", "true") == 0 {
			t.Errorf("degraded %v, %v exchanges failed", s.sum("tollgate_store_degraded"), s.sum("tollgate_store_exchange_duration_seconds", "tollgate_error", "true"))
		}
		store.away.Store(false)
		do()
		if s := now(); s.sum("tollgate_store_degraded") != 0 || len(told) != 2 {
			t.Errorf("degraded %v; told %v", s.sum("tollgate_store_degraded"), told)
		}
	})
}
