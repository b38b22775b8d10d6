package upload

import "testing"

// What was not read is charged by its length, and no more than a prompt can have.
func TestUnread(t *testing.T) {
	for _, test := range []struct{ read, size, want int64 }{
		{0, 0, 0},
		{0, 1, 1},
		{0, 3000, 1000},
		{1000, 4000, 1000},
		{4000, 4000, 0},
		{0, 8 << 20, 1 << 20},
		{0, -1, 1 << 20},
		{5000, -1, 1 << 20},
		{8 << 20, -1, 8 << 20 / 256},
		{8 << 20, 20 << 20, 12 << 20 / 256},
		{0, 20 << 20, 1<<20 + 12<<20/256},
		{8<<20 - 3, 20 << 20, 1 + 12<<20/256},
	} {
		if got := unread(test.read, test.size); got != test.want {
			t.Errorf("%d of %d bytes read: %d tokens, want %d", test.read, test.size, got, test.want)
		}
	}
}
