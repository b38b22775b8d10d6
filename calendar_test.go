package tollgate_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/tollgate"
	"example.com/tollgate/internal/workload"
	"example.com/tollgate/quotatest"
)

// auto returns a client that keeps to q in the way that the API is known for.
func auto(q ...tollgate.Limit) func(http.RoundTripper) http.RoundTripper {
	return func(server http.RoundTripper) http.RoundTripper {
		return &tollgate.Retry{Base: &tollgate.Transport{Base: server, Quotas: tollgate.Quotas{"*": q}}}
	}
}

// startAt moves the bubble's clock to so long after a full minute.
func startAt(d time.Duration) {
	time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute + d)))
}

// At the server's full minute everything is back at once, wherever that is.
func TestCalendarMinute(t *testing.T) {
	for _, start := range []time.Duration{0, 20 * time.Second, 50 * time.Second} {
		for _, skew := range []time.Duration{-3 * time.Second, 0, 300 * time.Millisecond, 990 * time.Millisecond, 2 * time.Second, 90 * time.Second} {
			t.Run(fmt.Sprintf("%v, skew %v", start, skew), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					startAt(start)
					server := &quotatest.Server{
						Limits:  map[string][]quotatest.Limit{"*": {quotatest.RPM(10)}},
						Latency: workload.Jitter,
						Skew:    skew,
					}
					r := workload.Calls(server, make([]time.Duration, 20), auto(tollgate.RPM(10)))
					if r.OK != 20 || r.Refused != 0 {
						t.Fatalf("%d ok, %d refused; want 20 and 0", r.OK, r.Refused)
					}
					calls := server.Calls()
					boundary := calls[9].At.Add(skew).Truncate(time.Minute).Add(time.Minute)
					first, last := calls[10].At.Add(skew).Sub(boundary), calls[19].At.Add(skew).Sub(boundary)
					t.Logf("the second ten came %.2f to %.2f s after the boundary", first.Seconds(), last.Seconds())
					if last > 2500*time.Millisecond {
						t.Errorf("the last one came %v after the boundary", last)
					}
				})
			})
		}
	}
}

// A server that has no such minutes is noticed by its first refusals.
func TestCalendarFallsBack(t *testing.T) {
	for _, count := range []quotatest.Counting{quotatest.Sliding, quotatest.Bucket} {
		for _, start := range []time.Duration{0, time.Second / 2, 20 * time.Second, 59 * time.Second} {
			t.Run(fmt.Sprintf("%v, %v", count, start), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					startAt(start)
					server := &quotatest.Server{
						Limits:  map[string][]quotatest.Limit{"*": {{N: 30, Per: time.Minute, Count: count}}},
						Latency: workload.Jitter,
					}
					var learned []tollgate.LearnInfo
					var mu sync.Mutex
					r := workload.Calls(server, make([]time.Duration, 300), func(server http.RoundTripper) http.RoundTripper {
						return &tollgate.Retry{Base: &tollgate.Transport{
							Base: server, Quotas: tollgate.Quotas{"*": {tollgate.RPM(30)}},
							Trace: &tollgate.Trace{Learned: func(_ *http.Request, i tollgate.LearnInfo) {
								mu.Lock()
								defer mu.Unlock()
								learned = append(learned, i)
							}},
						}}
					})
					ratio := r.Makespan.Seconds() / (9 * time.Minute).Seconds()
					t.Logf("%d ok, %d refused, %v, %.3f of ideal", r.OK, r.Refused, r.Makespan.Round(time.Millisecond), ratio)
					most := 30
					if start == 59*time.Second {
						most = 40 // hints end within the second around a full minute, and are believed once
					}
					if r.OK != 300 || r.Refused > most || ratio > 1.15 {
						t.Errorf("%d ok, %d refused, %.3f of ideal; want 300, at most %d, at most 1.15", r.OK, r.Refused, ratio, most)
					}
					if r.Refused > 0 && (len(learned) != 1 || learned[0].To.Refill != tollgate.Window) {
						t.Errorf("learned %+v, want Window once", learned)
					}
				})
			})
		}
	}
}

// outcome makes so many calls at once and counts what their callers got.
func outcome(c *http.Client, n int) (ok, refused int, limits []*tollgate.LimitError, others []error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			resp, err := c.Post(workload.URL, "application/json", strings.NewReader(workload.Prompt))
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			mu.Lock()
			defer mu.Unlock()
			var limit *tollgate.LimitError
			switch {
			case errors.As(err, &limit):
				limits = append(limits, limit)
			case err != nil:
				others = append(others, err)
			case resp.StatusCode == http.StatusTooManyRequests:
				refused++
			default:
				ok++
			}
		})
		synctest.Wait() // one after the other, at the same time
	}
	wg.Wait()
	return ok, refused, limits, others
}

func pacific(t *testing.T) *time.Location {
	t.Helper()
	l, err := time.LoadLocation("America/Los_Angeles")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// untilMidnight returns how long the Pacific day has still to go.
func untilMidnight(t *testing.T) time.Duration {
	y, m, d := time.Now().In(pacific(t)).Date()
	return time.Until(time.Date(y, m, d+1, 0, 0, 0, 0, pacific(t)))
}

// Who comes too late for the day is told at once when the next one begins.
func TestDaily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(31*time.Hour + 20*time.Second) // 23:00 Pacific would be too easy
		server := &quotatest.Server{
			Limits:  map[string][]quotatest.Limit{"*": {quotatest.RPM(10), quotatest.RPD(50)}},
			Latency: workload.Jitter,
		}
		client := &http.Client{Transport: auto(tollgate.RPM(10), tollgate.RPD(50))(server)}
		began, reset := time.Now(), untilMidnight(t)
		ok, refused, limits, others := outcome(client, 60)
		t.Logf("%d ok, %d rejected, %d refused in %v", ok, len(limits), server.Refused(), time.Since(began).Round(time.Second))
		if ok != 50 || refused+server.Refused() != 0 || len(limits) != 10 || others != nil {
			t.Fatalf("%d ok, %d rejected, %d refused, %v; want 50, 10, 0", ok, len(limits), server.Refused(), others)
		}
		for _, e := range limits {
			if e.Reason != tollgate.DailySpent || e.RetryAfter != reset || e.Limit.Per != 24*time.Hour {
				t.Errorf("%v; want the time to midnight Pacific, %v", e, reset)
			}
		}
		if took := time.Since(began); took > 5*time.Minute {
			t.Errorf("took %v, want at most 5m", took)
		}
		time.Sleep(untilMidnight(t) + 2*time.Second)
		if ok, _, limits, _ := outcome(client, 10); ok != 10 {
			t.Errorf("the next day %d of 10 ok: %v", ok, limits)
		}
		if server.Refused() != 0 {
			t.Errorf("%d refused", server.Refused())
		}
	})
}

// Without configuration the first refusal says it.
func TestDailyUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(10 * time.Hour)
		server := &quotatest.Server{
			Limits:  map[string][]quotatest.Limit{"*": {quotatest.RPD(50)}},
			Latency: workload.Jitter,
		}
		client := &http.Client{Transport: auto()(server)}
		began := time.Now()
		ok, refused, _, others := outcome(client, 60)
		t.Logf("%d ok, %d refused in %v", ok, server.Refused(), time.Since(began).Round(time.Millisecond))
		if ok != 50 || refused != 10 || server.Refused() != 10 || others != nil || time.Since(began) > time.Minute {
			t.Errorf("%d ok, %d refused, server %d, %v in %v; want 50 and 10, within a minute", ok, refused, server.Refused(), others, time.Since(began))
		}
		_, _, limits, _ := outcome(client, 1)
		if len(limits) != 1 || limits[0].Reason != tollgate.DailySpent || limits[0].Limit.N != 50 {
			t.Fatalf("then %v, want a rejection by 50 requests per day", limits)
		}
		if off := limits[0].RetryAfter - untilMidnight(t); off < -time.Second || off > 2*time.Second {
			t.Errorf("%v off midnight Pacific", off)
		}
		time.Sleep(untilMidnight(t) + 2*time.Second)
		if ok, _, limits, _ := outcome(client, 50); ok != 50 {
			t.Errorf("the next day %d of 50 ok: %v", ok, limits)
		}
	})
}

// MaxWait can cover the night, and the day of the change to winter time has 25
// hours.
func TestDailyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2000, 10, 29, 0, 30, 0, 0, pacific(t))))
		server := &quotatest.Server{Limits: map[string][]quotatest.Limit{"*": {quotatest.RPD(1)}}, Latency: workload.Jitter}
		transport := &tollgate.Transport{Base: server, Quotas: tollgate.Quotas{"*": {tollgate.RPD(1)}}, MaxWait: 25 * time.Hour}
		client := &http.Client{Transport: transport}
		began := time.Now()
		ok, _, limits, others := outcome(client, 3)
		if ok != 2 || server.Refused() != 0 || len(limits) != 1 || limits[0].Reason != tollgate.DailySpent || others != nil {
			t.Errorf("%d ok, %d refused, %v, %v; want 2 ok, 0 refused, 1 rejected", ok, server.Refused(), limits, others)
		}
		if took := time.Since(began); took < 24*time.Hour+30*time.Minute || took > 24*time.Hour+31*time.Minute {
			t.Errorf("the second one went after %v, want midnight", took)
		}
	})
}
