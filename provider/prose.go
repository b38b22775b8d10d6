package provider

import (
	"regexp"
	"strconv"
	"time"
)

// tryAgain finds when to try again in what a message says: "Please try again in
// 6m0s.", "try again in 634ms".
var tryAgain = regexp.MustCompile(`[Tt]ry again in ([0-9][0-9hms.]{0,40}[hms])`)

// tally finds how a message accounts for a refusal: "Limit 200000, Used 199821,
// Requested 2295".
var tally = regexp.MustCompile(`Limit:? ([0-9]{1,15}), (?:Used:? ([0-9]{1,15}), )?Requested:? ([0-9]{1,15})`)

// counts finds what is counted: "on tokens per min (TPM)", "requests per day (RPD)".
var counts = regexp.MustCompile(`(?i)\b(requests|tokens) per (second|min|minute|hour|day)\b|\((R|T)P(S|M|H|D)\)`)

// unpaid finds what no waiting cures.
var unpaid = regexp.MustCompile(`insufficient_quota|billing_hard_limit_reached|billing_not_active|credit balance is too low|(?i:credits?) (?i:are|is|have been) (?i:depleted|exhausted|used up)|spending (?:limit|cap)`)

// prose reads the message of a refusal of OpenAI's kind.
func prose(body []byte) (ref Refusal) {
	if m := tryAgain.FindSubmatch(body); m != nil {
		if d, err := time.ParseDuration(string(m[1])); err == nil {
			ref.Wait, ref.Hinted = d, true
		}
	}
	ref.Never = unpaid.Match(body)
	var v Violation
	if m := counts.FindSubmatch(body); m != nil {
		what, span := string(m[1])+string(m[3]), string(m[2])+string(m[4])
		if what[0]|0x20 == 't' {
			v.Unit = Tokens
		}
		v.Per = spans[span[0]|0x20]
	}
	m := tally.FindSubmatch(body)
	if m == nil {
		if v.Per != 0 {
			ref.Limits = []Violation{v}
		}
		return ref
	}
	v.N = whole(m[1])
	over := whole(m[2]) + whole(m[3]) - v.N
	ref.Limits = []Violation{v}
	ref.Never = ref.Never || whole(m[3]) > v.N
	if !ref.Hinted && over > 0 && v.N > 0 && v.Per > 0 {
		ref.Wait, ref.Hinted = duration(float64(over)/float64(v.N), v.Per), true
	}
	return ref
}

var spans = map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}

func whole(digits []byte) int64 {
	n, _ := strconv.ParseInt(string(digits), 10, 64)
	return n
}
