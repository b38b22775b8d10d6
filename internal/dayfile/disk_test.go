package dayfile

import (
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// What is added while the file is written stays in the journal.
func TestAddWhileSaving(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	e := Entries{now: now, unsaved: make(sums)}
	d := disk{path: path, long: longJournal}
	load := func(d *disk, e *Entries) {
		if odd, err := d.load(e, time.Unix(now, 0)); odd != nil || err != nil {
			t.Fatal(odd, err)
		}
	}
	add := func() {
		e.Add(id, now, 1)
		if err := d.append(&e); err != nil {
			t.Error(err)
		}
	}
	load(&d, &e)
	meanwhile := 0
	for i := range int64(30) {
		var mu sync.Mutex
		mu.Lock()
		add()
		var wg sync.WaitGroup
		wg.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			add()
		})
		if err := d.save(&e, &mu); err != nil {
			t.Fatal(err)
		}
		if d.dirty {
			meanwhile++
		}
		mu.Unlock()
		wg.Wait()
		if d.age = linger; i%2 == 0 { // syncing leaves mu as it was, and is done once
			mu.Lock()
			if err := d.sync(&mu); err != nil || d.unsynced {
				t.Errorf("synced: %v, %v", !d.unsynced, err)
			}
			mu.Unlock()
		}
		var left Entries // to a process that starts when this one is killed
		other := disk{path: path}
		load(&other, &left)
		other.close()
		if got := left.sums[id][now]; got != 2*i+2 {
			t.Fatalf("on disk there are %d, want %d", got, 2*i+2)
		}
	}
	d.close()
	t.Logf("added while the file was written: %d of 30", meanwhile)
}
