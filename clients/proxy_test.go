package clients

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/quotatest"
)

func Example_reverseProxy() {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "https", Host: "generativelanguage.googleapis.com"})
			r.Out.Header.Set("X-Goog-Api-Key", os.Getenv("GEMINI_API_KEY"))
		},
		Transport: &tollgate.Retry{Base: &tollgate.Transport{
			Quotas:  tollgate.Quotas{"gemini-2.5-flash": {tollgate.RPM(10)}},
			MaxWait: time.Minute,
			Reject:  tollgate.Reject429,
			Priority: func(r *http.Request) tollgate.Priority {
				return tollgate.Priority{Tenant: r.Header.Get("X-Tenant")}
			},
		}},
		FlushInterval: -1, // streams pass as they come
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.Body, _ = r.GetBody()
		proxy.ServeHTTP(w, r)
	})

	call := httptest.NewRequest("POST", "/v1beta/models/gemini-2.5-flash:generateContent", strings.NewReader("{}"))
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, call)
	fmt.Println(answer.Code)
	// Output: 200
}

// A call behind a proxy is tried again after a 429 if its body can be had again, and
// only then.
func TestReverseProxyRetries(t *testing.T) {
	for _, test := range []struct {
		again bool
		want  int
	}{{true, http.StatusOK}, {false, http.StatusTooManyRequests}} {
		synctest.Test(t, func(t *testing.T) {
			api := &quotatest.Server{Script: func(n int, _ *http.Request) int {
				if n == 0 {
					return http.StatusTooManyRequests
				}
				return 0
			}}
			proxy := &httputil.ReverseProxy{
				Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "https", Host: "example.com"}) },
				Transport: &tollgate.Retry{Base: &tollgate.Transport{Base: api}},
			}
			call := httptest.NewRequest("POST", "/v1beta/models/gemini-2.5-flash:generateContent", strings.NewReader("{}"))
			if test.again {
				call.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("{}")), nil }
			}
			answer := httptest.NewRecorder()
			proxy.ServeHTTP(answer, call)
			if answer.Code != test.want {
				t.Errorf("body again %v: status %d, want %d", test.again, answer.Code, test.want)
			}
		})
	}
}
