package receipt

import (
	"fmt"
	"testing"

	"example.com/tollgate/internal/limiter"
	"example.com/tollgate/internal/refill"
)

func TestBook(t *testing.T) {
	var b Book
	if _, ok := b.Cost("h", "i"); ok || b.Request("h", "i") != nil {
		t.Error("an empty book has something")
	}
	r, cost := new(limiter.Request), refill.Cost{-1, 5, 7}
	b.Open("h", "i", r)
	if b.Request("h", "i") != r || b.Request("other", "i") != nil || b.Request("h", "j") != nil {
		t.Error("an open request is found elsewhere, or not")
	}
	if _, ok := b.Cost("h", "i"); ok {
		t.Error("an open request has a cost")
	}
	b.Done("h", "i", cost)
	if got, ok := b.Cost("h", "i"); !ok || got != cost || b.Request("h", "i") != nil {
		t.Errorf("settled: %v, %v", got, ok)
	}
	b.Done("h", "i", refill.Cost{-1, 6, 7})
	if got, _ := b.Cost("h", "i"); got[1] != 6 {
		t.Errorf("settled again: %v", got)
	}
}

// The oldest are forgotten, whatever comes.
func TestBookIsBounded(t *testing.T) {
	var b Book
	id := func(i int) string { return fmt.Sprint("i", i) }
	for i := range 3 * most {
		b.Open("h", id(i), new(limiter.Request))
		b.Done("h", id(i), refill.Cost{-1, int64(i), -1})
		b.Open("g", id(i), new(limiter.Request))
	}
	if len(b.open.of) > most || len(b.open.order) != most || len(b.done.of) != most || len(b.done.order) != most {
		t.Errorf("%d and %d of %d are remembered", len(b.open.of), len(b.done.of), most)
	}
	for i, want := range map[int]bool{3*most - 1: true, 2 * most: true, 2*most - 1: false, 0: false} {
		if c, ok := b.Cost("h", id(i)); ok != want || ok && c[1] != int64(i) {
			t.Errorf("%d: %v, %v, want %v", i, c, ok, want)
		}
	}
	if b.Request("g", id(3*most-1)) == nil || b.Request("g", id(0)) != nil {
		t.Error("the wrong open requests are remembered")
	}
}
