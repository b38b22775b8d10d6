package quotatest

import (
	"math"
	"testing"
	"time"
)

func TestSpent(t *testing.T) {
	const s = time.Second
	type step struct {
		at    time.Duration
		draw  int64
		used  int64
		clear time.Duration
	}
	tests := map[Counting][]step{
		Fixed:   {{0, 0, 0, 0}, {1 * s, 3, 3, 9 * s}, {9 * s, 0, 3, 1 * s}, {10 * s, 0, 0, 0}},
		Sliding: {{0, 0, 0, 0}, {1 * s, 3, 3, 10 * s}, {5 * s, 1, 4, 10 * s}, {11 * s, 0, 1, 4 * s}, {15 * s, 0, 0, 0}},
		Bucket:  {{0, 0, 0, 0}, {1 * s, 3, 3, 6 * s}, {2 * s, 0, 3, 5 * s}, {3 * s, 0, 2, 4 * s}, {7 * s, 0, 0, 0}},
		Counter: {{0, 0, 0, 0}, {1 * s, 3, 3, 19 * s}, {10 * s, 0, 3, 10 * s}, {14 * s, 0, 2, 6 * s}, {14 * s, 1, 3, 16 * s}, {20 * s, 0, 1, 10 * s}, {30 * s, 0, 0, 0}, {31 * s, 3, 3, 19 * s}, {50 * s, 0, 0, 0}},
	}
	for count, steps := range tests {
		c := newCounter(Limit{N: 5, Per: 10 * s, Count: count})
		for i, st := range steps {
			if st.draw > 0 {
				c.draw(st.at, st.draw)
			}
			if used, clear := c.spent(st.at); used != st.used || clear != st.clear {
				t.Errorf("counting %v, step %d: %d used for %v, want %d for %v", count, i, used, clear, st.used, st.clear)
			}
		}
	}
}

func TestCounterOfAll(t *testing.T) {
	c := newCounter(Limit{Unit: Tokens, N: math.MaxInt64, Per: 3, Count: Counter})
	c.draw(0, 1)
	if got := c.wait(3, math.MaxInt64); got != 3 {
		t.Errorf("for all that there is, wait for %v", got)
	}
	if got := c.wait(3, 1); got != 0 {
		t.Errorf("for one, wait for %v", got)
	}
}
