package provider_test

import (
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/tollgate/provider"
)

// recordings is a folder of recorded exchanges, not a part of this repository.
// Its recorded-headers.jsonl.gz has a JSON object a line, its
// try-again-tuples.csv what messages of refusals said.
const recordings = "TOLLGATE_RECORDINGS"

func recording(t *testing.T, name string) io.Reader {
	dir := os.Getenv(recordings)
	if dir == "" {
		t.Skip(recordings + " names no folder")
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// unread are headers of which nothing is made, by a part of their names.
var unread = []struct{ part, why string }{
	{"query-cost", "what the call cost, which its usage says too"},
	{"abusepenalty", "no limit"},
	{"anthropic-ratelimit-tokens", "beside input-tokens and output-tokens: the sum of input and output tokens, which are stated each"},
	{"project-", "the project's, beside the model's own: two limits of a unit and a Per are not told apart"},
	{"input-images", "images are no Unit"},
	{"audio-seconds", "seconds are no Unit"},
	{"ocr-pages", "pages are no Unit"},
	{"input-characters", "characters are no Unit"},
	{"tokens-month", "a month has no beginning that is known"},
	{"monthly-call-limit", "does not say what is left, nor when it is back"},
	{"x-should-retry", "for clients that do not know of refusals"},
}

// Of every header of recorded exchanges that is about limits something is made,
// or it is known why not.
func TestRecorded(t *testing.T) {
	z, err := gzip.NewReader(recording(t, "recorded-headers.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	var exchanges, levels, understood int
	why := map[string]int{}
	for d := json.NewDecoder(z); ; exchanges++ {
		var e struct {
			Host, Path string
			Code       int
			Headers    map[string]string
		}
		if err := d.Decode(&e); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest("POST", "https://"+strings.NewReplacer("<", "", ">", "").Replace(e.Host)+e.Path, nil)
		if err != nil {
			t.Fatal(err)
		}
		api := provider.For(req)
		read := func(header, value string) ([]provider.Level, provider.Refusal) {
			r := &http.Response{StatusCode: e.Code, Header: http.Header{}, Request: req}
			for k, v := range e.Headers {
				r.Header.Set(k, v)
			}
			if r.Header.Set(header, value); value == "" {
				r.Header.Del(header)
			}
			var ref provider.Refusal
			if r.StatusCode == e.Code && api.Refuses(r) {
				ref = api.Refusal(r, nil)
			}
			return api.Levels(r), ref
		}
		all, refusal := read("", "")
		levels += len(all)
		for k, v := range e.Headers {
			k := strings.ToLower(k)
			if !strings.Contains(k, "ratelimit") && !strings.Contains(k, "rate-limit") && !strings.Contains(k, "call-limit") && !strings.Contains(k, "retry") {
				continue
			}
			without, refusal1 := read(k, "")
			other, refusal2 := read(k, "3600")
			if !reflect.DeepEqual(without, all) || !reflect.DeepEqual(other, all) || !reflect.DeepEqual(refusal1, refusal) || !reflect.DeepEqual(refusal2, refusal) {
				understood++ // it makes a difference
				continue
			}
			i := slices.IndexFunc(unread, func(u struct{ part, why string }) bool { return strings.Contains(k, u.part) })
			switch {
			case i >= 0:
				why[unread[i].part+": "+unread[i].why]++
			case v == "-1":
				why["-1: it does not say"]++
			case strings.HasPrefix(k, "retry-after") && e.Code == 200:
				why["retry-after on a 200: not heeded"]++
			case k == "retry-after-ms" && v == "0":
				why["retry-after-ms of 0: Retry-After says more"]++
			case strings.Contains(k, "-remaining") || strings.Contains(k, "-reset") || strings.Contains(k, "-renewalperiod"):
				limit := strings.NewReplacer("-remaining", "-limit", "-reset", "-limit", "-renewalperiod", "-limit").Replace(k)
				if e.Headers[limit] == "" || e.Headers[limit] == "-1" {
					why["remaining and reset without a limit"]++
				} else {
					t.Errorf("%s: %s: %s is not understood", e.Host, k, v)
				}
			default:
				t.Errorf("%s: %s: %s is not understood", e.Host, k, v)
			}
		}
	}
	t.Logf("%d exchanges, %d levels, %d headers understood; not read:", exchanges, levels, understood)
	for _, k := range slices.Sorted(maps.Keys(why)) {
		t.Logf("%5d  %s", why[k], k)
	}
}

// What a message accounts for comes to the wait that it states.
func TestRecordedWaits(t *testing.T) {
	rows, err := csv.NewReader(recording(t, "try-again-tuples.csv")).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	for _, row := range rows[1:] {
		seconds, err := strconv.ParseFloat(row[5], 64)
		if err != nil {
			t.Fatalf("%v: %v", row, err)
		}
		stated := time.Duration(seconds * float64(time.Second))
		text := fmt.Sprintf("Rate limit reached on tokens per min (TPM): Limit %s, Used %s, Requested %s.", row[2], row[3], row[4])
		r := response("api.openai.com", 429)
		if got := provider.OpenAI.Refusal(r, []byte(text)); !got.Hinted || (got.Wait-stated).Abs() > 10*time.Millisecond {
			t.Errorf("%v: %v, stated %v", row, got.Wait, stated)
		}
		n++
	}
	t.Logf("%d waits within 10 ms", n)
}
