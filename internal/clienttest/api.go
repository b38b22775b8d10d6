package clienttest

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"example.com/tollgate/quotatest"
)

// Gemini returns a Gemini API. It counts in fixed windows, as the real one does.
func Gemini(limits ...quotatest.Limit) API { return model(quotatest.Fixed, limits) }

// OpenAI returns an API that speaks like OpenAI's and Anthropic's, and counts as
// both do.
func OpenAI(limits ...quotatest.Limit) API { return model(quotatest.Bucket, limits) }

func model(count quotatest.Counting, limits []quotatest.Limit) API {
	for i := range limits {
		limits[i].Count = count
	}
	return &quotatest.Server{Limits: map[string][]quotatest.Limit{"*": limits}, APIKey: Key}
}

// Serve starts a server and returns a transport that reaches it under any name.
func Serve(h http.Handler) (rt *http.Transport, stop func()) {
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // connections that were opened in vain
	srv.StartTLS()
	rt = srv.Client().Transport.(*http.Transport).Clone()
	rt.TLSClientConfig.ServerName = "example.com" // the one that the server has a certificate for
	rt.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
	}
	return rt, func() {
		rt.CloseIdleConnections()
		srv.Close()
	}
}

// Main runs the tests of a package whose Examples call real APIs: fake ones
// answer in their place. The keys of the APIs are in the environment.
func Main(m *testing.M, apis map[string]http.Handler) {
	for _, name := range []string{"GEMINI_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GITHUB_TOKEN", "ACCESS_TOKEN"} {
		_ = os.Setenv(name, Key)
	}
	for _, name := range []string{
		"GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GEMINI_BASE_URL",
		"OPENAI_BASE_URL", "OPENAI_MODEL", "ANTHROPIC_BASE_URL",
	} {
		_ = os.Unsetenv(name)
	}
	rt, stop := Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if api := apis[r.Host]; api != nil {
			api.ServeHTTP(w, r)
			return
		}
		http.Error(w, "no API at "+r.Host, http.StatusBadGateway)
	}))
	http.DefaultTransport = rt
	code := m.Run()
	stop()
	os.Exit(code)
}
