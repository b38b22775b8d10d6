package tollgate_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
)

// A day of Gemini's that ends at 00:00 UTC, and not at midnight Pacific: it is refused
// once, with a hint of hours, which is believed from then on.
func TestDayThatEndsElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, days = 3, 4
		used := map[time.Time]int{}
		refused := 0
		client := &http.Client{Transport: &tollgate.Retry{Base: &tollgate.Transport{
			Quotas:  tollgate.Quotas{"m": {tollgate.RPD(n)}},
			MaxWait: 1000 * time.Hour,
			Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				day := time.Now().UTC().Truncate(24 * time.Hour)
				h := http.Header{"Content-Type": {"application/json"}, "Date": {time.Now().UTC().Format(http.TimeFormat)}}
				if used[day]++; used[day] <= n {
					return &http.Response{StatusCode: 200, Header: h, Body: io.NopCloser(strings.NewReader("{}")), Request: r}, nil
				}
				refused++
				body := fmt.Sprintf(`{"error":{"code":429,"message":"Please retry in %v.","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier","quotaValue":"%d"}]}]}}`, time.Until(day.Add(24*time.Hour)), n)
				return &http.Response{StatusCode: 429, Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
			}),
		}}}
		time.Sleep(time.Hour)
		done, failed := 0, 0
		for done < n*days {
			resp, err := client.Post("https://generativelanguage.googleapis.com/v1beta/models/m:generateContent", "application/json", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode == 200 {
				done++
			} else if failed++; failed > days {
				t.Fatal("it does not end")
			}
		}
		if refused != 1 || failed != 1 {
			t.Errorf("%d refused, want the one that tells", refused)
		}
		if took := time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); took < 72*time.Hour || took > 72*time.Hour+time.Minute {
			t.Errorf("done after %v, want 72h: when the last day begins", took)
		}
	})
}
