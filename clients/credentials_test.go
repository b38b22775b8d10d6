package clients

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"example.com/tollgate"
)

// A token that was refused is asked for twice at most, above the limits or below, and
// costs no tokens of the quota. One whose server fails is asked for again, also for a
// POST: nothing was sent.
func TestRefusedToken(t *testing.T) {
	var issuing, calls atomic.Int32
	status, answer := http.StatusBadRequest, `{"error":"invalid_grant","error_description":"Token has been expired or revoked."}`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/token" {
			calls.Add(1)
			return
		}
		if issuing.Add(1) > 2 && status >= 500 {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"access_token":"a","token_type":"Bearer","expires_in":3600}`)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	defer srv.Close()
	config := &oauth2.Config{ClientID: "c", Endpoint: oauth2.Endpoint{TokenURL: srv.URL + "/token", AuthStyle: oauth2.AuthStyleInParams}}
	for _, above := range []bool{false, true} {
		source := func() oauth2.TokenSource {
			return config.TokenSource(context.WithValue(t.Context(), oauth2.HTTPClient, srv.Client()), &oauth2.Token{RefreshToken: "r", Expiry: time.Unix(1, 0)})
		}
		tr := &tollgate.Transport{Base: srv.Client().Transport, Quotas: tollgate.Quotas{"*": {{N: 5, Per: time.Hour, Refill: tollgate.Window}}}}
		post := func() error {
			var base http.RoundTripper = tr
			if above {
				base = &oauth2.Transport{Source: source(), Base: tr}
			} else {
				tr.Base = &oauth2.Transport{Source: source(), Base: srv.Client().Transport}
			}
			issuing.Store(0)
			resp, err := (&http.Client{Transport: &tollgate.Retry{Base: base}}).Post(srv.URL+"/things", "application/json", strings.NewReader("{}"))
			if err == nil {
				resp.Body.Close()
			}
			return err
		}
		err := post()
		var refused *oauth2.RetrieveError
		if !errors.As(err, &refused) || refused.ErrorCode != "invalid_grant" {
			t.Errorf("%v", err)
		}
		if n := issuing.Load(); n > 2 || calls.Load() != 0 {
			t.Errorf("above the limits %t: asked for %d tokens, made %d calls", above, n, calls.Load())
		}
		for _, st := range tr.Status() {
			if st.Limits[0].Left != 5 {
				t.Errorf("above the limits %t: %v", above, st)
			}
		}
		status, answer = http.StatusServiceUnavailable, "{}"
		if err := post(); err != nil || calls.Swap(0) != 1 {
			t.Errorf("above the limits %t, a server of tokens that fails: %v", above, err)
		}
		status, answer = http.StatusBadRequest, `{"error":"invalid_grant"}`
	}
}
