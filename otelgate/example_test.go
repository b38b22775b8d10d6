package otelgate_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/metric"

	"example.com/tollgate"
	"example.com/tollgate/otelgate"
	"example.com/tollgate/quotatest"
)

// The metrics are exported to Prometheus, which scrapes them from a handler.
func ExampleWatch() {
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	if err != nil {
		log.Fatal(err)
	}
	provider := sdk.NewMeterProvider(sdk.WithReader(exporter))

	t := &tollgate.Transport{
		Base:    &quotatest.Server{}, // instead of a real API
		Quotas:  tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(2)}},
		MaxWait: -1,
	}
	stop, err := otelgate.Watch(t, provider)
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
	client := &http.Client{Transport: &tollgate.Retry{Base: t}}

	for range 3 { // the last one is rejected: it would have to wait
		resp, err := client.Post("https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent", "application/json", strings.NewReader("{}"))
		if err == nil {
			resp.Body.Close()
		}
	}

	metrics := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(metrics.Body.String()) {
		if strings.HasPrefix(line, "tollgate_client_requests_total") || strings.HasPrefix(line, "tollgate_limit_requests") {
			fmt.Print(line)
		}
	}
	// Output:
	// tollgate_client_requests_total{tollgate_key="gemini-2.5-flash",tollgate_result="acquired"} 2
	// tollgate_client_requests_total{tollgate_key="gemini-2.5-flash",tollgate_result="rejected"} 1
	// tollgate_limit_requests_available{tollgate_key="gemini-2.5-flash",tollgate_per="1m0s"} 0
	// tollgate_limit_requests_capacity{tollgate_key="gemini-2.5-flash",tollgate_per="1m0s"} 2
}
