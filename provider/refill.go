package provider

import "fmt"

// Refill is the rule by which spent tokens come back.
type Refill uint8

const (
	// Auto is the rule that the API is known for, else Window.
	Auto Refill = iota
	// Window returns each token Per after it was spent at the server. Never
	// more than N are spent in any span of Per, which every server that allows
	// N per Per accepts, whether it counts in fixed windows of any phase, in
	// sliding windows or with a token bucket of capacity N.
	Window
	// Steady refills continuously, N in every Per: the textbook token bucket,
	// for servers that have one themselves.
	Steady
	// Calendar returns all tokens at once, when the server's clock passes a
	// multiple of Per; those of a day, at midnight where the API's days begin.
	Calendar
)

func (r Refill) String() string {
	switch r {
	case Auto:
		return "auto"
	case Window:
		return "window"
	case Steady:
		return "steady"
	case Calendar:
		return "calendar"
	}
	return fmt.Sprintf("Refill(%d)", uint8(r))
}

// MarshalText returns the rule as a word.
func (r Refill) MarshalText() ([]byte, error) {
	if r > Calendar {
		return nil, fmt.Errorf("provider: no rule has the number %d", uint8(r))
	}
	return []byte(r.String()), nil
}

// UnmarshalText reads what MarshalText returns.
func (r *Refill) UnmarshalText(text []byte) error {
	for x := Auto; x <= Calendar; x++ {
		if x.String() == string(text) {
			*r = x
			return nil
		}
	}
	return fmt.Errorf("provider: no rule is called %q", text)
}
