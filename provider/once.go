package provider

import (
	"net/http"
	"strings"
)

// once reports whether a call must not be made again while its fate is unknown:
// its method is not idempotent, and it has no idempotency key.
func once(r *http.Request) bool { return !idempotent(r.Method) && !keyed(r.Header) }

// idempotent reports whether a method has the same effect however often it is
// used: those of RFC 9110, section 9.2.2, and of the others that the IANA has
// registered those that only read. "" is GET.
func idempotent(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete,
		"QUERY", "PROPFIND", "REPORT", "SEARCH":
		return true
	}
	return false
}

// keyed reports whether a request has a key by which the server recognises that it
// gets it for the second time. Idempotency-Key is that of the IETF's draft
// (draft-ietf-httpapi-idempotency-key-header), of Stripe, Adyen, Mollie and many
// more. Others vary its name: X-Idempotency-Key (Mercado Pago), Idempotence-Key
// (YooKassa), Cko-Idempotency-Key (Checkout.com), x-amz-pay-idempotency-key (Amazon
// Pay), X-idempotence-uuid (Wise). So any name will do that has "idempoten" in it. A
// field without a value counts, as it does in net/http: nothing is sent of it.
//
// PayPal's key is PayPal-Request-Id, and that of OASIS Repeatable Requests
// (Azure) Repeatability-Request-ID. X-Request-Id and its like only trace requests.
// A key in the body, such as Square's idempotency_key, is not looked for.
func keyed(h http.Header) bool {
	for name, v := range h {
		if len(name) < len(idempoten) || len(v) > 0 && v[0] == "" {
			continue
		}
		if strings.EqualFold(name, "PayPal-Request-Id") || strings.EqualFold(name, "Repeatability-Request-Id") {
			return true
		}
		for i := 0; i+len(idempoten) <= len(name); i++ {
			if strings.EqualFold(name[i:i+len(idempoten)], idempoten) {
				return true
			}
		}
	}
	return false
}

const idempoten = "idempoten"

// onceAside is once for a call of a model API that is not recognised as one that
// generates: those that only reckon, search or generate in another way are harmless.
func onceAside(r *http.Request) bool {
	if _, last := cutLast(r.URL.Path); reckoning[last] {
		return false
	}
	return once(r)
}

// reckoning are the last segments of the paths of calls that leave nothing behind.
var reckoning = map[string]bool{
	"apply":           true, // Bedrock's guardrails
	"chat":            true,
	"classifications": true,
	"classify":        true,
	"completions":     true, // of agents
	"count-tokens":    true,
	"count_tokens":    true,
	"detokenize":      true,
	"embeddings":      true,
	"embed":           true,
	"generate":        true,
	"input_tokens":    true,
	"moderations":     true,
	"ocr":             true,
	"rerank":          true,
	"search":          true,
	"tokenize":        true,
	"tokenize-text":   true,
	"speech":          true,
	"transcriptions":  true,
	"translations":    true,
}

// creates reports whether a call of a model makes something that a second one
// would make again: uploads, files, batches, caches, fine-tuning jobs and tuned
// models, at every API that has them under these names. One that merely generates
// does not.
func creates(r *http.Request) bool { return creating(r.URL.Path) && once(r) }

func creating(path string) bool {
	switch last := path[strings.LastIndexByte(path, '/')+1:]; last {
	case "files", "batches", "cachedContents", "tunedModels", "tuningJobs", "jobs", "uploads", "batchPredictionJobs":
		return true
	default:
		_, method, _ := strings.Cut(last, ":")
		return strings.HasPrefix(method, "batchGenerate") || strings.HasPrefix(method, "asyncBatch") ||
			method == "predictLongRunning" || strings.Contains(path, "/upload") && (strings.Contains(path, "/upload/") || strings.Contains(path, "/uploads/"))
	}
}
