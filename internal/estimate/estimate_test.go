package estimate

import (
	"testing"

	"example.com/tollgate/internal/refill"
)

func tokens(n int64) refill.Cost { return refill.Cost{1, n, -1} }

func (e *Estimator) of(t *testing.T, d Draw) int64 {
	t.Helper()
	c := e.Cost(d)
	if c[refill.Requests] != d.Cost[refill.Requests] {
		t.Errorf("%+v: %d requests", d, c[refill.Requests])
	}
	return c[refill.Tokens]
}

func TestCost(t *testing.T) {
	var e Estimator
	draw := Draw{Cost: tokens(100)}
	if got := e.of(t, draw); got != 100 {
		t.Errorf("at first %d, want 100", got)
	}
	e.Learn(draw, tokens(200))
	if got := e.of(t, draw); got != 200 {
		t.Errorf("then %d, want 200", got)
	}
	if got := e.of(t, Draw{Cost: tokens(100), Fixed: true}); got != 100 {
		t.Errorf("fixed: %d, want 100", got)
	}
	if got := e.of(t, Draw{Cost: tokens(0)}); got != 0 {
		t.Errorf("of nothing: %d, want 0", got)
	}
}

// A history whose size is known is charged again, as far as it was before; one that
// is not is taken for what others were.
func TestHistory(t *testing.T) {
	var e Estimator
	known := Draw{Cost: tokens(10), Continues: true, History: 1000}
	if got := e.of(t, known); got != 1010 {
		t.Errorf("known, at first: %d, want 1010", got)
	}
	unknown := Draw{Cost: tokens(10), Continues: true}
	if got := e.of(t, unknown); got != 10 {
		t.Errorf("not known, at first: %d, want 10", got)
	}
	for range 3 * memory {
		e.Learn(known, tokens(610)) // thoughts are not read again
	}
	if got := e.of(t, known); got < 609 || got > 620 {
		t.Errorf("known: %d, want about 610", got)
	}
	if got := e.of(t, Draw{Cost: tokens(0), Continues: true, History: 2000}); got < 1190 || got > 1220 {
		t.Errorf("known, and nothing new: %d, want about 1200", got)
	}
	if got := e.of(t, unknown); got != 610 {
		t.Errorf("not known: %d, want 610", got)
	}
	if got := e.of(t, Draw{Cost: tokens(10)}); got != 10 {
		t.Errorf("without a history: %d, want 10", got)
	}
	if got := e.of(t, Draw{Cost: tokens(1 << 61), Continues: true, History: 1 << 62}); got < 1<<61 {
		t.Errorf("more than there is: %d", got)
	}
}

// Answers are expected to be as long as those before.
func TestOutput(t *testing.T) {
	var e Estimator
	if e.Output() != 1 {
		t.Errorf("at first %d, want 1", e.Output())
	}
	if !e.Learn(Draw{}, refill.Cost{-1, -1, 40}) || e.Output() != 40 {
		t.Errorf("then %d, want 40", e.Output())
	}
	if e.Learn(Draw{}, refill.Cost{-1, -1, 40}) {
		t.Error("the same again changes the estimates")
	}
}
