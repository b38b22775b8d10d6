package dayfile

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// What a request pays: a look at what was spent and a line in the journal, with
// the file of a program that has one key, and one that has many.
func BenchmarkWith(b *testing.B) {
	for _, keys := range []int{1, 1000} {
		fill := func(b *testing.B) *File {
			f := silent(b, filepath.Join(b.TempDir(), "state"))
			b.Cleanup(func() { settle(f) })
			with(f, func(e *Entries) {
				for i := range keys {
					for hour := range int64(25) { // a Window
						e.Add(fmt.Sprintf("%s %d", id, i), time.Now().Unix()+hour*3600, 10)
					}
				}
			})
			return f
		}
		call := func(f *File, n int64) {
			wall := time.Now()
			for !f.With(wall, func(e *Entries) {
				e.Each(id+" 0", func(int64, int64) {})
				if n > 0 {
					e.Add(id+" 0", wall.Unix()/3600*3600+86400, n)
				}
			}) {
				time.Sleep(Busy)
			}
		}
		b.Run(fmt.Sprintf("keys=%d/held/look", keys), func(b *testing.B) {
			f := fill(b)
			for b.Loop() {
				call(f, 0)
			}
		})
		b.Run(fmt.Sprintf("keys=%d/held/add", keys), func(b *testing.B) {
			f := fill(b)
			for b.Loop() {
				call(f, 1)
			}
		})
		b.Run(fmt.Sprintf("keys=%d/held/parallel", keys), func(b *testing.B) {
			f := fill(b)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					call(f, 1)
				}
			})
		})
		b.Run(fmt.Sprintf("keys=%d/released", keys), func(b *testing.B) { // after a pause
			f := fill(b)
			for b.Loop() {
				call(f, 1)
				b.StopTimer()
				settle(f)
				b.StartTimer()
			}
		})
		b.Run(fmt.Sprintf("keys=%d/start", keys), func(b *testing.B) { // of a process, with a long journal
			f := fill(b)
			settle(f)
			var lines []byte
			for seq := int64(1); len(lines) < longJournal; seq++ {
				lines = appendLine(lines, f.disk.seq+seq, time.Now().Unix(), 1, id)
			}
			write(b, f.path+".journal", string(lines))
			for b.Loop() {
				d := disk{path: f.path}
				if odd, err := d.load(&Entries{}, time.Now()); odd != nil || err != nil {
					b.Fatal(odd, err)
				}
				d.close()
			}
		})
	}
}
