package engine

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestModel plays some thousand random worlds.
func TestModel(t *testing.T) {
	t.Parallel()
	n := uint64(6000)
	if testing.Short() {
		n = 400
	}
	for seed := range n {
		if w, err := play(random(seed)); err != nil {
			t.Fatalf("seed %d:\n%s\n%v", seed, strings.Join(w.log, "\n"), err)
		}
	}
}

// random returns the bytes of a world of its own.
func random(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 10))
	data := make([]byte, 30+r.IntN(200))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

// FuzzEngine looks for worlds in which a promise is broken.
func FuzzEngine(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(random(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if w, err := play(data); err != nil {
			t.Fatalf("\n%s\n%v", strings.Join(w.log, "\n"), err)
		}
	})
}
