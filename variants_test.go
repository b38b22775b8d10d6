package tollgate_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"example.com/tollgate"
)

const (
	plainURL  = "https://api.example.com/v1/things"
	openAIURL = "https://api.openai.com/v1/responses"
	geminiURL = "https://generativelanguage.googleapis.com/v1beta/models/m%2Dx:generateContent"
	bothFor   = "requests/1m, tokens/1m | "
	atOnce    = "nothing | - | not again | at once"
	pause     = "nothing | ~1s | again after ~1s | at once"
	pauseIn   = "nothing | ~1s | not again | after ~1s"
)

// waits is what becomes of a refusal of all that a minute has, with a hint.
func waits(d string) string { return bothFor + d + " | again after " + d + " | at once" }

// waitsIn is that of a refusal inside a 200.
func waitsIn(d string) string { return bothFor + d + " | not again | after " + d }

// lines returns what answers with a stream as it is.
func lines(s string) func(*http.Request) *http.Response { return of(200, "text/event-stream", s) }

// hourly is a quota of a span that no header names.
var hourly = tollgate.Quota{{N: 5000, Per: time.Hour}}

// variants are other spellings of the kinds, and what looks like one but is none.
var variants = []kind{
	{part: 1, name: "behind a base path, quota_exceeded", url: "https://proxy.example.com/gem/v1alpha/interactions", answer: of(429, "application/json", `{"error":{"message":"No more.","code":"quota_exceeded"}}`),
		want: "requests/24h | the day ends | not again | rejected, back in 8h"},
	{part: 1, name: "too_many_requests", url: interactionsURL, answer: of(429, "application/json", `{"error":{"code":"too_many_requests","message":"x"}}`), want: pause},
	{part: 1, name: "CRLF, event name, followed", url: interactionsURL, answer: lines("event: error\r\ndata: {\"event_type\":\"error\",\"error\":{\"message\":\"Please retry in 30s.\",\"code\":\"too_many_requests\"}}\r\n\r\ndata: [DONE]\r\n\r\n"), want: waitsIn("30s")},
	{part: 1, name: "text that looks like an error", url: interactionsURL, answer: events(`{"event_type":"step.delta","delta":{"text":"{\"error\":{\"code\":\"rate_limit_exceeded\"}}"}}`, `[DONE]`), want: atOnce},
	{part: 1, name: "a delta that holds an error", url: interactionsURL, answer: events(`{"event_type":"step.delta","delta":{"arguments":{"error":{"code":"rate_limit_exceeded","message":"Please retry in 30s."}}}}`, `[DONE]`), want: atOnce},
	{part: 1, name: "invalid request in a stream", url: interactionsURL, answer: events(`{"event_type":"error","error":{"code":"invalid_request","message":"bad"}}`, `[DONE]`), want: atOnce},

	{part: 2, name: "response.failed, CR only", url: openAIURL, answer: lines("event: response.failed\rdata: {\"type\":\"response.failed\",\"response\":{\"id\":\"r\",\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"Please try again in 14.036s.\"}}}\r\r"), want: waitsIn("14.036s")},
	{part: 2, name: "response.failed, BOM, long, error last", url: openAIURL, answer: lines("\ufeffdata: {\"type\":\"response.failed\",\"response\":{\"instructions\":\"" + strings.Repeat("a ", 20000) + "\",\"error\":{\"message\":\"Please try again in 14.036s.\",\"code\":\"rate_limit_exceeded\"}}}\n\n"), want: waitsIn("14.036s")},
	{part: 2, name: "response.failed, long, error first", url: openAIURL, answer: lines("data: {\"response\":{\"error\":{\"message\":\"Please try again in 14.036s.\",\"code\":\"rate_limit_exceeded\"},\"instructions\":\"" + strings.Repeat("a ", 30000) + "\"},\"type\":\"response.failed\"}\n\ndata: [DONE]\n\n"), want: waitsIn("14.036s")},
	{part: 2, name: "response.failed, server error", url: openAIURL, answer: events(`{"type":"response.failed","response":{"error":{"code":"server_error","message":"An error occurred."}}}`), want: atOnce},
	{part: 2, name: "response.completed whose error is null", url: openAIURL, answer: events(`{"type":"response.completed","response":{"error":null,"output":[{"text":"rate_limit_exceeded, try again in 3s"}]}}`), want: atOnce},
	{part: 2, name: "data over two lines", url: openAIURL, answer: lines("event: error\ndata: {\"type\":\"error\",\ndata: \"code\":\"rate_limit_exceeded\",\"message\":\"Please try again in 5s.\"}\n\n"), want: waitsIn("5s")},
	{part: 2, name: "no space after data:", url: openAIURL, answer: lines(":hi\n\nid:1\ndata:{\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"Please try again in 5s.\"}\n\n"), want: waitsIn("5s")},
	{part: 2, name: "an end without an empty line", url: openAIURL, answer: lines("data: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"Please try again in 5s.\"}"), want: waitsIn("5s")},
	{part: 2, name: "code as a string of a number", url: openAIURL, answer: events(`{"choices":[]}`, `{"error":{"code":"429","message":"Please try again in 5s."}}`, `{"choices":[]}`, `[DONE]`), want: waitsIn("5s")},
	{part: 2, name: "status RESOURCE_EXHAUSTED in a stream", url: "https://generativelanguage.googleapis.com/v1beta/models/m:streamGenerateContent?alt=sse", answer: events(`{"candidates":[]}`, `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"Please retry in 5s."}}`), want: waitsIn("5s")},
	{part: 2, name: "LiteLLM, throttling_error", url: "https://l.example.com/v1/chat/completions", answer: events(`{"error":{"message":"litellm.RateLimitError: Please try again in 5s.","type":"throttling_error","param":null,"code":"429"}}`, `[DONE]`), want: waitsIn("5s")},
	{part: 2, name: "rateLimitExceeded in camel case, a string alone", url: "https://l.example.com/v1/chat/completions", answer: events(`{"error":"Rate limit exceeded, try again in 5s","status":429}`), want: waitsIn("5s")},
	{part: 2, name: "status_code 429 at the top", url: plainURL, answer: of(200, "application/json", `{"status_code":429,"error":"Too many requests. Retry in 5 seconds."}`), want: waitsIn("5s")},
	{part: 2, name: "spaces and newlines before", url: plainURL, answer: of(200, "application/json; charset=utf-8", "\n\n  {\n  \"error\" : {\n \"code\" : \"rate_limit_exceeded\", \"retry_after\": 5}}\n"), want: waitsIn("5s")},
	{part: 2, name: "BOM", url: plainURL, answer: of(200, "application/json", "\ufeff{\"error\":{\"code\":\"rate_limit_exceeded\",\"retry_after\":5}}"), want: waitsIn("5s")},
	{part: 2, name: "problem+json in a 200", url: plainURL, answer: of(200, "application/vnd.api+json", `{"errors":[{"status":"429","code":"rate_limited","detail":"Try again in 5 seconds."}]}`), want: waitsIn("5s")},
	{part: 2, name: "a list of errors in data", url: plainURL, answer: of(200, "application/json", `{"data":{"errors":[{"code":"rate_limit_exceeded","retry_after":4}]}}`), want: atOnce},
	{part: 2, name: "another error alone", url: plainURL, answer: of(200, "application/json", `{"error":{"code":"not_found","message":"retry after 4 seconds"}}`), want: atOnce},
	{part: 2, name: "error null", url: plainURL, answer: of(200, "application/json", `{"error":null,"code":"rate_limit_exceeded","retry_after":4}`), want: atOnce},
	{part: 2, name: "a code and a message", url: plainURL, answer: of(200, "application/json", `{"code":429,"message":"Too many requests. Retry in 5 seconds."}`), want: waitsIn("5s")},
	{part: 2, name: "a long message before the error", url: plainURL, answer: of(200, "application/json", `{"message":"`+strings.Repeat("Too many. ", 20)+`","error":{"code":"rate_limit_exceeded","retry_after":5}}`), want: waitsIn("5s")},
	{part: 2, name: "success false", url: plainURL, answer: of(200, "application/json", `{"success":false,"code":"RATE_LIMITED","retry_after":5}`), want: waitsIn("5s")},
	{part: 2, name: "Apigee, a fault", url: plainURL, answer: of(200, "application/json", `{"fault":{"faultstring":"Rate limit quota violation.","detail":{"errorcode":"policies.ratelimit.QuotaViolation"}}}`), want: pauseIn},
	{part: 2, name: "success, and texts about errors", url: plainURL, answer: of(200, "application/json", `{"success":true,"message":"rate limit raised, try again in 5s","data":{"code":429}}`), want: atOnce},
	{part: 2, name: "ok", url: plainURL, answer: of(200, "application/json", `{"ok":true,"warning":"rate_limited"}`), want: atOnce},
	{part: 2, name: "a message that is one", url: plainURL, answer: of(200, "application/json", `{"message":"Too many requests were made. Try again in 5 seconds."}`), want: atOnce},
	{part: 2, name: "a status that is one", url: plainURL, answer: of(200, "application/json", `{"status":"throttled","message":"Try again in 5 seconds."}`), want: atOnce},
	{part: 2, name: "a page of a log", url: plainURL, answer: of(200, "application/json", `{"status":200,"entries":[{"code":429,"error":{"code":"rate_limit_exceeded"}}]}`), want: atOnce},
	{part: 2, name: "a thing with a code", url: plainURL, answer: of(200, "application/json", `{"code":429,"message":"Too many requests","name":"HTTP status","items":[]}`), want: atOnce},
	{part: 2, name: "a list of things", url: plainURL, answer: of(200, "application/json", `[{"code":429,"message":"Too many requests"},{"code":404,"message":"Not found"}]`), want: atOnce},
	{part: 2, name: "Shopify, a batch", url: "https://s.myshopify.com/admin/api/2026-01/graphql.json", answer: of(200, "application/json", `[{"errors":[{"message":"Throttled","extensions":{"code":"THROTTLED"}}],"extensions":{"cost":{"requestedQueryCost":110,"throttleStatus":{"currentlyAvailable":10,"restoreRate":50}}}}]`), want: waitsIn("2s")},
	{part: 2, name: "a message of chat about limits", url: "https://api.openai.com/v1/chat/completions", answer: of(200, "application/json", `{"id":"c","choices":[{"message":{"content":"error: rate_limit_exceeded, try again in 5s"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}`), want: "nothing | - | not again | at once"},
	{part: 2, name: "an event stream of one's own that reports errors", url: plainURL, answer: events(`{"level":"info","log":{"error":{"code":"rate_limit_exceeded","message":"try again in 5s"}}}`), want: atOnce},
	{part: 2, name: "Shopify, extensions first", url: "https://s.myshopify.com/admin/api/2026-01/graphql.json", answer: of(200, "application/json", `{"extensions":{"cost":{"throttleStatus":{"restoreRate":50.0,"currentlyAvailable":10,"maximumAvailable":1000.0},"actualQueryCost":null,"requestedQueryCost":110}},"errors":[{"extensions":{"documentation":"x","code":"THROTTLED"},"message":"Throttled"}]}`), want: waitsIn("2s")},
	{part: 2, name: "Shopify, data null first", url: "https://s.myshopify.com/admin/api/2026-01/graphql.json", answer: of(200, "application/json", `{"data":null,"errors":[{"message":"Throttled","extensions":{"code":"THROTTLED"}}],"extensions":{"cost":{"requestedQueryCost":110,"actualQueryCost":null,"throttleStatus":{"maximumAvailable":1000.0,"currentlyAvailable":10,"restoreRate":50.0}}}}`), want: waitsIn("2s")},
	{part: 2, name: "Bedrock, event-type last, others before", url: "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse-stream", answer: of(200, "application/vnd.amazon.eventstream", amazonFrame(`{"contentBlockIndex":0}`, ":event-type", "contentBlockDelta")+amazonFrame(`{"message":"x"}`, ":exception-type", "ThrottlingException", ":content-type", "application/json", ":message-type", "exception")), want: pauseIn},
	{part: 2, name: "Bedrock, validationException", url: "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse-stream", answer: of(200, "application/vnd.amazon.eventstream", amazonFrame(`{"message":"x"}`, ":message-type", "exception", ":exception-type", "validationException")), want: atOnce},

	{part: 3, name: "GitHub, enterprise host, primary, no text", url: "https://github.corp.example/api/v3/repos/o/r", answer: of(403, "application/json", `{"message":"API rate limit exceeded for user ID 1."}`, "X-Ratelimit-Limit", "5000", "X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "946684830"), want: waits("30s")},
	{part: 3, name: "GitHub, secondary, text alone", url: "https://api.github.com/repos/o/r", answer: of(403, "application/json", `{"documentation_url":"x","message":"You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}`, "X-Ratelimit-Remaining", "4000"), want: waits("1m")},
	{part: 3, name: "a 403 with Retry-After of maintenance-less host", url: plainURL, answer: of(403, "application/json", `{"message":"Forbidden"}`), want: atOnce},
	{part: 3, name: "YouTube, quotaExceeded", url: "https://youtube.googleapis.com/youtube/v3/search", answer: of(403, "application/json", `{"error":{"errors":[{"domain":"youtube.quota","reason":"quotaExceeded"}],"code":403,"message":"x"}}`), want: "requests/24h | the day ends | not again | rejected, back in 8h"},
	{part: 3, name: "Drive, insufficientPermissions", url: "https://www.googleapis.com/drive/v3/files", answer: of(403, "application/json", `{"error":{"errors":[{"domain":"global","reason":"insufficientFilePermissions"}],"code":403,"message":"rateLimitExceeded is not it"}}`), want: atOnce},
	{part: 3, name: "Google, rateLimitExceeded second of two", url: "https://gmail.googleapis.com/gmail/v1/users/me", answer: of(403, "application/json", `{"error":{"code":403,"message":"x","errors":[{"reason":"rateLimitExceeded","domain":"usageLimits"}]}}`), want: pause},
	{part: 3, name: "Google, ErrorInfo RATE_LIMIT_EXCEEDED", url: "https://gmail.googleapis.com/gmail/v1/users/me", answer: of(403, "application/json", `{"error":{"code":403,"message":"x","status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"RATE_LIMIT_EXCEEDED"}]}}`), want: pause},

	{part: 4, name: "0 left, ISO with an offset", url: plainURL, answer: of(429, "application/json", `{}`, "X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "2000-01-01T02:00:30+02:00"), want: waits("30s")},
	{part: 4, name: "ISO without a zone", url: plainURL, answer: of(429, "application/json", `{}`, "X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "2000-01-01T00:00:30"), want: waits("30s")},
	{part: 4, name: "ISO with a space", url: plainURL, answer: of(429, "application/json", `{}`, "X-Ratelimit-Reset", "2000-01-01 00:00:30Z"), want: waits("30s")},
	{part: 4, name: "ISO with a fraction", url: plainURL, answer: of(429, "application/json", `{}`, "X-Ratelimit-Reset", "2000-01-01T00:00:30.500Z"), want: waits("30.5s")},
	{part: 4, name: "ISO, offset without a colon", url: plainURL, answer: of(429, "application/json", `{}`, "X-Ratelimit-Reset", "2000-01-01T00:00:30+0000"), want: waits("30s")},
	{part: 4, name: "epoch ms", url: plainURL, answer: of(429, "application/json", `{}`, "X-Ratelimit-Reset", "946684830000"), want: waits("30s")},
	{part: 4, name: "epoch float", url: plainURL, answer: of(429, "application/json", `{}`, "X-Ratelimit-Reset", "946684830.5"), want: waits("30.5s")},
	{part: 4, name: "IMF date", url: plainURL, answer: of(429, "application/json", `{}`, "X-Ratelimit-Reset", "Sat, 01 Jan 2000 00:00:30 GMT"), want: waits("30s")},
	{part: 4, name: "Retry-After in RFC 850, skewed", url: plainURL, answer: of(429, "application/json", `{}`, "Date", "Saturday, 01-Jan-00 05:00:00 GMT", "Retry-After", "Saturday, 01-Jan-00 05:00:09 GMT"), want: waits("9s")},
	{part: 4, name: "Retry-After in asctime, skewed", url: plainURL, answer: of(429, "application/json", `{}`, "Date", "Sat Jan  1 05:00:00 2000", "Retry-After", "Sat Jan  1 05:00:09 2000"), want: waits("9s")},
	{part: 4, name: "epoch, skewed clock", url: plainURL, answer: of(429, "application/json", `{}`, "Date", "Sat, 01 Jan 2000 05:00:00 GMT", "X-Ratelimit-Reset", "946702809"), want: waits("9s")},
	{part: 4, name: "Retry-After ISO, skewed", url: plainURL, answer: of(429, "application/json", `{}`, "Date", "Sat, 01 Jan 2000 05:00:00 GMT", "Retry-After", "2000-01-01T05:00:09Z"), want: waits("9s")},
	{part: 4, name: "Retry-After epoch", url: plainURL, answer: of(429, "application/json", `{}`, "Retry-After", "946684830"), want: waits("30s")},
	{part: 4, name: "Retry-After, 30 seconds", url: plainURL, answer: of(429, "", ``, "Retry-After", "30 seconds"), want: waits("30s")},
	{part: 4, name: "Retry-After, 1500ms", url: plainURL, answer: of(429, "", ``, "Retry-After", "1500ms"), want: waits("1.5s")},
	{part: 4, name: "Retry-After, 2 minutes", url: plainURL, answer: of(429, "", ``, "Retry-After", "2 minutes"), want: waits("2m")},
	{part: 4, name: "Retry-After negative", url: plainURL, answer: of(429, "", ``, "Retry-After", "-5"), want: pause},
	{part: 4, name: "x-ms-retry-after-ms float", url: plainURL, answer: of(429, "", ``, "X-Ms-Retry-After-Ms", "8000.0"), want: waits("8s")},
	{part: 4, name: "prefixed by words", url: plainURL, answer: of(429, "", ``, "X-Acme-Api-Ratelimit-Remaining", "0", "X-Acme-Api-Ratelimit-Reset", "45"), want: waits("45s")},
	{part: 4, name: "x-rate-limit", url: plainURL, answer: of(429, "", ``, "X-Rate-Limit-Limit", "15", "X-Rate-Limit-Remaining", "0", "X-Rate-Limit-Reset", "946684845"), want: waits("45s")},
	{part: 4, name: "Ratelimit-Reset on a 200 with some left", url: plainURL, answer: of(200, "application/json", `{}`, "Ratelimit-Limit", "100", "Ratelimit-Remaining", "1", "Ratelimit-Reset", "45"), want: atOnce},
	{part: 4, name: "Retry-After on a 200", url: plainURL, answer: of(200, "application/json", `{}`, "Retry-After", "45", "X-Ms-Retry-After-Ms", "8000"), want: atOnce},
	{part: 4, name: "reset-after on a 200, 0 left", url: plainURL, answer: of(200, "application/json", `{}`, "X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset-After", "45"), want: "nothing | 45s | not again | after 45s"},
	{part: 4, name: "0.0 left on a 200", url: plainURL, answer: of(200, "application/json", `{}`, "Ratelimit-Remaining", "0.0", "Ratelimit-Reset", "45"), want: "nothing | 45s | not again | after 45s"},
	{part: 4, name: "0 left, epoch ms on a 200", url: plainURL, answer: of(200, "application/json", `{}`, "X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "946684845000"), want: "nothing | 45s | not again | after 45s"},
	{part: 4, name: "remaining of 5000 an hour, ietf", url: plainURL, answer: of(200, "application/json", `{}`, "Ratelimit-Limit", "5000, 5000;w=3600", "Ratelimit-Remaining", "0", "Ratelimit-Reset", "1800"), quota: tollgate.Quota{{N: 5000, Per: time.Hour}}, want: "requests/1h | - | not again | after 30m"},
	{part: 4, name: "draft, 0 left", url: plainURL, answer: of(200, "application/json", `{}`, "Ratelimit-Policy", `"d";q=5000;w=3600`, "Ratelimit", `"d";r=0;t=1800`), quota: tollgate.Quota{{N: 5000, Per: time.Hour}}, want: "requests/1h | - | not again | after 30m"},

	{part: 4, name: "lower-case h2, GitHub 200", url: "https://api.github.com/x", answer: of(200, "application/json", `{}`, "x-ratelimit-limit", "5000", "x-ratelimit-remaining", "0", "x-ratelimit-reset", "946686600"), quota: hourly, want: "requests/1h | - | not again | after 30m"},
	{part: 4, name: "docker, 200", url: plainURL, answer: of(200, "application/json", `{}`, "Ratelimit-Limit", "100;w=21600", "Ratelimit-Remaining", "0;w=21600"), quota: tollgate.Quota{{N: 100, Per: 6 * time.Hour}}, want: "requests/6h | - | not again | after 6h0m10.8s"},
	{part: 4, name: "-1 left", url: plainURL, answer: of(200, "application/json", `{}`, "X-Ratelimit-Remaining", "-1", "X-Ratelimit-Reset", "45"), want: atOnce},
	{part: 4, name: "0 left of unlimited", url: plainURL, answer: of(200, "application/json", `{}`, "X-Ratelimit-Limit", "0", "X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "0"), want: atOnce},
	{part: 4, name: "reset past", url: plainURL, answer: of(200, "application/json", `{}`, "X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "946684700"), want: atOnce},
	{part: 5, name: "22 h as a date", url: plainURL, answer: of(429, "", ``, "Retry-After", "Sat, 01 Jan 2000 22:00:00 GMT"), want: "nothing | 22h | not again | rejected, back in 22h"},
	{part: 5, name: "22 h in prose", url: plainURL, answer: of(429, "application/json", `{"message":"try again in 22h0m0s"}`), want: "nothing | 22h | not again | rejected, back in 22h"},
	{part: 5, name: "day, retryDelay hours", url: geminiURL, answer: of(429, "application/json", `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"x","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"19800s"},{"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel"}]}]}}`), want: "requests/24h | 5h30m1s | not again | rejected, back in 5h30m1s"},
	{part: 5, name: "key of an hour, 50 min", url: plainURL, quota: hourly, answer: of(429, "", ``, "Retry-After", "3000"), want: "requests/1h | 50m | again after 50m | after 720ms"},
	{part: 8, name: "for limit, capital", url: chatURL, answer: body429(`{"error":{"message":"Rate limit reached for gpt-5-codex (For limit gpt-5) in organization o on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s.","code":"rate_limit_exceeded"}}`), want: "requests/1m | 20s | again after 20s | after 20s"},
	{part: 8, name: "audio seconds per hour", url: chatURL, answer: body429(`{"error":{"message":"Rate limit reached for model whisper on seconds of audio per hour (ASPH): Limit 7200, Used 7200, Requested 60. Please try again in 30s.","code":"rate_limit_exceeded"}}`), want: waits("30s")},
	{part: 9, name: "slow_down in 503", url: chatURL, answer: of(503, "application/json", `{"error":{"code":"slow_down","message":"Slow down"}}`), want: pause},
	{part: 9, name: "slow_down as type, in a stream", url: chatURL, answer: events(`{"error":{"type":"slow_down","message":"x"}}`, `[DONE]`), want: pauseIn},
	{part: 3, name: "498 token expired", url: plainURL, answer: of(498, "application/json", `{"error":"Invalid token"}`), want: atOnce},
	{part: 3, name: "403 from a WAF", url: plainURL, answer: of(403, "text/html", `<html>Forbidden. Rate limit policy applies.</html>`), want: atOnce},
	{part: 3, name: "403, remaining 0 and reset, RateLimit", url: plainURL, answer: of(403, "application/json", `{}`, "Ratelimit-Remaining", "0", "Ratelimit-Reset", "30"), want: waits("30s")},
	{part: 3, name: "accessNotConfigured", url: "https://www.googleapis.com/drive/v3/files", answer: of(403, "application/json", `{"error":{"errors":[{"domain":"usageLimits","reason":"accessNotConfigured","message":"Access Not Configured. Quota of the API is 0"}],"code":403,"message":"enable it and retry in 5 minutes"}}`), want: atOnce},
	{part: 3, name: "403 insufficient quota words", url: "https://www.googleapis.com/drive/v3/files", answer: of(403, "application/json", `{"error":{"errors":[{"reason":"storageQuotaExceeded"}],"code":403,"message":"storage"}}`), want: atOnce},
	{part: 2, name: "tool arguments", url: chatURL, answer: events(`{"id":"c","choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{\"error\":{\"code\":\"rate_limit_exceeded\"}}"}}]}}]}`, `[DONE]`), want: atOnce},
	{part: 2, name: "tool_use input as objects", url: "https://api.anthropic.com/v1/messages", answer: of(200, "application/json", `{"type":"message","content":[{"type":"tool_use","input":{"error":{"type":"rate_limit_error"},"retry_after":5}}],"usage":{"input_tokens":1,"output_tokens":1}}`), want: atOnce},
	{part: 2, name: "response.output holds an error", url: openAIURL, answer: events(`{"type":"response.completed","response":{"status":"completed","error":null,"output":[{"type":"mcp_call","error":{"code":"rate_limit_exceeded","message":"try again in 5s"}}]}}`), want: atOnce},
	{part: 2, name: "Anthropic, error after pings, CR", url: "https://api.anthropic.com/v1/messages", answer: lines("event: ping\rdata: {\"type\": \"ping\"}\r\revent: error\rdata: {\"error\":{\"message\":\"x\",\"type\":\"rate_limit_error\"},\"type\":\"error\"}\r\r"), want: pauseIn},
	{part: 6, name: "DAILY policy", url: "https://api.hubapi.com/x", answer: body429(`{"policyName":"DAILY","errorType":"RATE_LIMIT","status":"error","message":"x"}`), want: "requests/24h | the day ends | not again | rejected, back in 24h"},
	{part: 6, name: "Z.ai via anthropic path", url: "https://api.z.ai/api/anthropic/v1/messages", answer: body429(`{"type":"error","error":{"type":"rate_limit_error","code":"1113","message":"x"}}`), want: atOnce},
	{part: 6, name: "extra usage with should retry", url: "https://api.anthropic.com/v1/messages", answer: of(429, "application/json", `{"type":"error","error":{"type":"rate_limit_error","message":"Extra usage is required for long context requests."}}`, "X-Should-Retry", "true", "Retry-After", "5"), want: atOnce},
	{part: 1, name: "background with errors[]", url: interactionsURL, answer: of(200, "application/json", `{"id":"i","status":"failed","errors":[{"code":"rate_limit_exceeded","message":"Please retry in 30s."}]}`), want: waitsIn("30s")},
	{part: 1, name: "503", url: interactionsURL, answer: of(503, "application/json", `{"error":{"code":"service_unavailable","message":"x"}}`), want: "nothing | - | again after ~1s | at once"},
}

// body429 returns what refuses with a body alone.
func body429(b string) func(*http.Request) *http.Response { return of(429, "application/json", b) }

// Bodies alone: when to try again, what no waiting cures, and how it is packed.
func init() {
	for _, v := range []struct{ body, wait string }{
		{`{"retry_after":"5"}`, "5s"}, {`{"retryAfter":5}`, "5s"}, {`{"retryAfterMs":5000}`, "5s"}, {`{"retry_after_ms":"5000"}`, "5s"},
		{`{"retry-after":5}`, "5s"}, {`{"error":{"retry_after_seconds":5}}`, "5s"}, {`{"error":{"details":{"retry_after":5}}}`, "5s"},
		{`{"parameters":{"retry_after":5}}`, "5s"}, {`{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 5","parameters":{"retry_after":5}}`, "5s"},
		{`{"retryAfterSeconds":5.0}`, "5s"}, {`{"retry_after":"5s"}`, "5s"}, {`[{"retry_after":5}]`, "5s"}, {`{"errors":[{"retry_after":5}]}`, "5s"},
		{`{"error":{"message":"x","metadata":{"retry_after_seconds":5}}}`, "5s"}, {`{"RetryAfter":5}`, "5s"}, {`{"retry_in":5}`, "5s"}, {`{"wait_seconds":5}`, "5s"},
		{`{"message":"Please wait 5 seconds before retrying."}`, "5s"}, {`{"detail":"Request was throttled. Expected available in 5 seconds."}`, "5s"},
		{`{"message":"Try again in 1 minute and 5 seconds"}`, "1m5s"}, {`{"message":"Please retry after 2 minutes, 3 seconds and 40 ms."}`, "2m3.04s"}, {`{"message":"Please wait 1 minute, 5 seconds."}`, "1m5s"}, {`{"message":"Try again in 5 seconds and 3 others wait."}`, "5s"}, {`{"message":"try again in 1 min and check 3 things"}`, "1m"}, {`{"message":"try again in 1m5.5s"}`, "1m5.5s"}, {"\ufeff" + `{"retry_after":5}`, "5s"},
	} {
		variants = append(variants, kind{part: 4, name: v.body, url: plainURL, answer: body429(v.body), want: waits(v.wait)})
	}
	for _, b := range []string{
		`{"error":{"code":1113,"message":"x"}}`, `{"error":{"code":"1113","message":"Insufficient balance or no resource package. Please recharge."}}`, `{"code":"1113","msg":"余额不足或无可用资源包,请充值。"}`, `{"error":{"message":"您的账户已欠费,请充值"}}`,
		`{"error":{"type":"rate_limit_error","message":"extra usage is required for requests with long context."}}`,
		`{"error":{"type":"rate_limit_exceeded","code":"credit_balance_exhausted"}}`, `{"error":{"type":"requests","code":"organization_spend_limit_exceeded"}}`, `{"error":{"code":"PROJECT_SPEND_LIMIT_EXCEEDED"}}`,
		`{"error":{"type":"insufficient_quota","code":null,"message":"x"}}`, `{"error":{"message":"Limit 10000, Used 0, Requested ~12903. Please try again in 5s.","code":"rate_limit_exceeded","type":"tokens"}}`,
		`{"error":{"message":"Request too large: Limit 10,000, Requested 12,903","code":"rate_limit_exceeded","type":"tokens"}}`, `[{"error":{"code":"insufficient_quota"}}]`,
	} {
		u := "https://api.openai.com/v1/chat/completions"
		if strings.Contains(b, "1113") || strings.Contains(b, "欠费") {
			u = "https://open.bigmodel.cn/api/paas/v4/chat/completions"
		}
		variants = append(variants, kind{part: 6, name: b, url: u, answer: body429(b), want: atOnce})
	}
	for _, b := range []string{`{"error":{"code":"1302","message":"x"}}`, `{"error":{"code":"1305","message":"该模型当前访问量过大"}}`, `{"error":{"code":"rate_limit_exceeded","message":"See your balance and billing page for limits."}}`, `{"request_id":"1113","error":{"code":"1302"}}`} {
		variants = append(variants, kind{part: 6, name: b, url: "https://open.bigmodel.cn/api/paas/v4/chat/completions", answer: body429(b), want: pause})
	}
	for _, e := range []string{"GZIP", "x-gzip", "Br", "ZSTD"} {
		inner := map[string]string{"GZIP": "gzip", "x-gzip": "gzip", "Br": "br", "ZSTD": "zstd"}[e]
		variants = append(variants, kind{part: 7, name: e, answer: func(r *http.Request) *http.Response {
			resp := packed(429, inner, retryJSON)(r)
			resp.Header.Set("Content-Encoding", e)
			return resp
		}, want: waits("1.5s")})
	}
	for i := range variants {
		if variants[i].url == "" {
			variants[i].url = plainURL
		}
	}
}

// TestKindsVaried sends what real servers send that means the same as the kinds in
// other words, and what must not be taken for one.
func TestKindsVaried(t *testing.T) {
	for _, k := range variants {
		for _, slow := range []bool{false, true} {
			of := k
			if slow { // a byte at a time
				of.answer = func(r *http.Request) *http.Response {
					resp := k.answer(r)
					resp.Body = io.NopCloser(iotest.OneByteReader(resp.Body))
					return resp
				}
			}
			var got string
			synctest.Test(t, func(t *testing.T) { got = fate(t, of) })
			if got != k.want {
				t.Errorf("%d, %s, a byte at a time: %v:\n%s, want\n%s", k.part, k.name, slow, got, k.want)
			}
		}
	}
}

// TestKindsUnchanged has the caller get the bytes that were sent, whatever is read
// in them.
func TestKindsUnchanged(t *testing.T) {
	for _, k := range variants {
		want, err := io.ReadAll(k.answer(nil).Body)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			tr := &tollgate.Transport{
				Quotas: tollgate.Quotas{"*": {tollgate.RPM(1000), tollgate.TPM(1_000_000)}},
				Base:   roundTripFunc(func(r *http.Request) (*http.Response, error) { return k.answer(r), nil }),
			}
			resp, err := (&http.Client{Transport: tr}).Post(k.url, "application/json", strings.NewReader(`{"model":"m"}`))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); err != nil || string(got) != string(want) {
				t.Errorf("%d, %s: the caller got %q, %v, want %q", k.part, k.name, got, err, want)
			}
		})
	}
}
