package queue

import (
	"fmt"
	"testing"
)

// BenchmarkQueue has one come and one go while so many wait, and asks what is waited
// for ahead of the one that comes.
func BenchmarkQueue(b *testing.B) {
	for _, n := range []int{1, 100, 10_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var q Queue[int]
			place := uint64(0)
			list := make([]Waiter[int], n+1)
			next := func() *Waiter[int] {
				w := &list[place%uint64(len(list))]
				place++
				w.Place, w.Until, w.Weight = place, forever, Weight{1, 100}
				return w
			}
			for range n {
				q.Push(next())
			}
			b.ResetTimer()
			for range b.N {
				w := next()
				q.Ahead(w.Place)
				q.Push(w)
				q.Remove(q.Head())
			}
		})
	}
}
