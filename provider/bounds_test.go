package provider_test

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"example.com/tollgate/provider"
)

// maxBody is all that is read of a body. Headers may have 1 MiB with net/http.
const maxBody = 64 << 10

// hostile are the worst that a server can send in a body of the given size and
// headers of 16 times that.
func hostile(body int) map[string]*http.Response {
	header := 16 * body
	fill := func(before, s, after string, size int) string {
		return before + strings.Repeat(s, (size-len(before)-len(after))/len(s)) + after
	}
	list := map[string]*http.Response{}
	add := func(name, text string) {
		r := response("api.openai.com", 429)
		r.Status = text // where the test finds it
		list[name] = r
	}
	add("arrays in arrays", fill(`{"error":`, "[", "", body))
	add("objects in objects", fill("", `{"error":`, "", body))
	add("many errors", fill("[", "{},", "{}]", body))
	add("many details", fill(`{"error":{"details":[`, "{},", "{}]}}", body))
	add("many details, each with a delay", fill(`{"error":{"details":[`, `{"retryDelay":"1s"},`, "{}]}}", body))
	add("many violations", fill(`{"error":{"details":[{"violations":[`, "{},", "{}]}]}}", body))
	add("many violations in many details", fill(`{"error":{"details":[`, `{"violations":[{},{},{},{},{},{},{}]},`, "{}]}}", body))
	add("a long message", fill(`{"error":{"message":"`, "retry in 1", `"}}`, body))
	add("a message of escapes", fill(`{"error":{"message":"`, `\u0001`, `"}}`, body))
	add("a message of what is no UTF-8", fill(`{"error":{"message":"`, "\xff", `"}}`, body))
	add("many fields", fill(`{"error":{`, `"a":1,`, `"b":1}}`, body))
	add("a long number", fill(`{"error":{"details":[{"retryDelay":"`, "9", `s"}]}}`, body))
	add("digits", fill("try again in ", "9", "s", body))
	add("spans", fill("", "retry in 1 minuteand 1 minute, 1 minute ", "", body))
	add("nearly prose", fill("", "try again in 1", "", body))
	add("accounts", fill("", "Limit 1, Used 1, Requested ", "", body))
	add("capitals", fill("", "TOKENS PER ", "", body))
	add("beginnings", fill("", `try again in 1try retry after 1.requested limit 1, used 1, requested please wait 1.credits are 1 tokens per (tp number of requests has exceeded your per-1 calls / past the per free-models-per-rate limit of 1 per 1 exceeded the rate limit too many requests per day, `, "", body))
	add("calls", fill("", "1 API call", "", body))
	add("many hints", fill(`{"error":{`, `"retry_after_ms":0,`, `"b":1}}`, body))
	add("many names that are nearly hints", fill(`{`, `"retry_afterx":1,`, `"b":1}`, body))
	add("many codes", fill(`{"error":{`, `"code":"aaaaaaaaaaaaaaaaaaaaaaaaaaaa",`, `"b":1}}`, body))
	add("many messages", fill(`{"errors":[`, `{"message":"\\u0001"},`, `{}]}`, body))
	add("strings without end", fill(`{"error":`, `"\\`, "", body))
	add("backslashes", fill(`{"error":"`, `\`, `"}`, body))
	add("quotes with backslashes", fill(`{"error":"`, `\\"`, `"}`, body))
	add("limits that models share", fill("", "(for limit ", "", body))
	list["many families"] = families(body)
	list["a long list"] = response("api.example.com", 429, "RateLimit-Policy", fill("", `"a";q=1;w=1,`, "", header), "RateLimit", fill("", `a;`, "", header))
	list["a list of parameters"] = response("api.example.com", 429, "RateLimit", fill(`"a"`, `;b=1`, "", 4<<10))
	list["names without end"] = response("api.example.com", 429, "RateLimit", fill("", `"a";`, "", 4<<10))
	list["long numbers"] = response("api.example.com", 429, "Retry-After", fill("", "9", "", header), "X-RateLimit-Reset", fill("", "9", "", header), "X-RateLimit-Limit-Requests", fill("", "9", "", header), "X-RateLimit-Reset-Requests", fill("", "1h", "", header))
	many := response("api.example.com", 429)
	for range body / 16 {
		many.Header.Add("RateLimit", `"a";r=0;t=1`)
		many.Header.Add("RateLimit-Policy", `"a";q=1;w=1`)
	}
	list["many fields of one name"] = many
	return list
}

var apis = []provider.API{provider.Gemini, provider.OpenAI, provider.Anthropic, provider.Bedrock, provider.Cohere, provider.HTTP,
	provider.For(httptest.NewRequest("GET", "https://www.googleapis.com/drive/v3/files", nil)), provider.For(httptest.NewRequest("GET", "https://api.github.com/user", nil))}

// read is all that is read of a response, as a refusal and as an error in a 200.
func read(api provider.API, r *http.Response, body []byte) (provider.Refusal, []provider.Level) {
	api.Refuses(r)
	api.Event(r, "error", body)
	return api.Refusal(r, body), api.Levels(r)
}

// However hostile, what a server sends costs little memory.
func TestBounds(t *testing.T) {
	for name, r := range hostile(maxBody) {
		for _, api := range apis {
			body := []byte(r.Status)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			ref, levels := read(api, r, body)
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
				t.Errorf("%s: %s allocates %d bytes, want at most 1 MiB", name, api.Name(), n)
			}
			if len(ref.Limits) > 16 || len(levels) > 16 {
				t.Errorf("%s: %s has %d violations and %d levels", name, api.Name(), len(ref.Limits), len(levels))
			}
		}
	}
}

// What is twice as long makes at most twice the work: none of it is done again
// and again. The clock of a busy machine would tell nothing; BenchmarkHostile
// does on an idle one.
func TestWork(t *testing.T) {
	whole := hostile(maxBody)
	for name, r := range hostile(maxBody / 2) {
		for _, api := range apis {
			work := func(r *http.Response) float64 {
				body := []byte(r.Status)
				return testing.AllocsPerRun(1, func() { read(api, r, body) })
			}
			half, all := math.Inf(1), math.Inf(1)
			for range 5 { // sync.Pool forgets at random under the race detector
				half, all = min(half, work(r)), min(all, work(whole[name]))
				if all <= 2*half+16 {
					break
				}
			}
			if all > 2*half+16 {
				t.Errorf("%s: %s makes %v allocations, and %v of half of it", name, api.Name(), all, half)
			}
		}
	}
}

// BenchmarkHostile shows that it costs little time as well.
func BenchmarkHostile(b *testing.B) {
	for name, r := range hostile(maxBody) {
		for _, api := range apis {
			b.Run(name+"/"+api.Name(), func(b *testing.B) {
				body := []byte(r.Status)
				b.ReportAllocs()
				for b.Loop() {
					read(api, r, body)
				}
			})
		}
	}
}

// families has as many fields about limits as there is room for.
func families(size int) *http.Response {
	r := response("api.example.com", 429)
	for i := range size / 64 {
		for _, kind := range []string{"Limit", "Remaining", "Reset"} {
			r.Header.Set(fmt.Sprintf("X-Ratelimit-%s-Thing%d", kind, i), "5")
		}
	}
	return r
}
