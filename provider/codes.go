package provider

import "strings"

// A sign is what the code of an error means.
type sign uint8

const (
	rate    sign = 1 << iota // a limit was exceeded
	busy                     // the server has too much to do
	unpaid                   // no waiting helps
	capped                   // a limit of usage, which no waiting helps unless it says when it is back
	gradual                  // the rate grew too fast
	daily                    // the limit is a day's
)

// codeField reports whether a field has a code for a value, which says in a word
// or a number what went wrong. Names are in lower case, of letters and digits.
func codeField(name string) bool {
	switch name {
	case "code", "type", "status", "statuscode", "reason", "error", "errorcode", "errortype", "errcode", "errno", "name", "kind", "eventtype", "object", "subcode", "errorname", "limittype", "policyname":
		return true
	}
	return false
}

// signs are the codes that no rule is needed for.
var signs = map[string]sign{
	"429": rate, "498": rate, "420": rate, "slowdown": rate | gradual, "requestlimit": rate,
	"503": busy, "529": busy, "modelnotreadyexception": busy,

	"billingnotactive": unpaid, "billinghardlimitreached": unpaid, "exceededcurrentquotaerror": unpaid, "insufficientquota": unpaid,
	"insufficientbalance": unpaid, "insufficientfunds": unpaid, "insufficientuserquota": unpaid, "arrearage": unpaid,

	// Z.ai, https://docs.z.ai/api-reference/api-code: balance, plan; concurrency,
	// frequency, a day's calls, traffic, a plan's hours, weeks and months.
	"1112": unpaid, "1113": unpaid, "1309": unpaid, "1311": unpaid,
	"1302": rate, "1303": rate, "1304": rate | daily, "1305": rate, "1308": rate, "1310": rate | daily,
}

// signOf reads a code in any case, of words that are put together in any way.
func signOf(value []byte) (s sign) {
	var buf [maxWord]byte
	n := plain64(&buf, value)
	if len(value) > 2*maxWord || n == 0 {
		return 0 // prose
	}
	if s, ok := signs[string(buf[:n])]; ok {
		return s
	}
	code := string(buf[:n])
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(code, w) {
				return true
			}
		}
		return false
	}
	over := has("exceed", "exhaust", "deplet", "reached", "insufficient", "required", "usedup", "toolow")
	switch {
	case over && has("spend", "credit", "balance", "billing", "budget", "payment", "prepaid", "prepayment", "wallet") && !has("complexity", "loadbalanc"):
		return unpaid
	case over && has("usagelimit", "usagecap"):
		return rate | capped
	case has("slowdown"):
		return rate | gradual
	case has("ratelimit", "toomanyrequest", "toomanytoken", "throttl", "resourceexhausted", "quotaexceeded", "quotaexhausted", "exceededquota", "concurrencylimit", "capacityexceeded", "complexitybudget"),
		has("limitexceeded") && !has("context", "length", "size", "storage", "payload", "depth", "maxtoken"):
		if has("storage") {
			return 0
		}
		s = rate
		if has("daily", "perday") {
			s |= daily
		}
		return s
	case has("overload", "unavailable", "capacity", "serverbusy", "servicebusy", "toobusy"):
		return busy
	}
	return 0
}
