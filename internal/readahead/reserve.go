package readahead

import "time"

// Most returns how many bytes of the body can be read ahead if nothing else needs
// memory, at most n.
func (b *Body) Most(n int64) int64 {
	if b.size >= 0 {
		n = min(n, b.size)
	}
	return b.mem.most(n)
}

// Release gives back the memory that was reserved and is not needed: no Head will
// be asked for any more.
func (b *Body) Release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spare()
}

// Reserve takes memory for the first n bytes of the body, of which that for
// beginnings was reserved before or not. It reports whether there is as much.
func (b *Body) Reserve(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n -= b.held(); n <= 0 {
		return true
	}
	if !b.mem.take(n) {
		return false
	}
	b.room += n
	return true
}

// ReserveHead takes memory for the first few kilobytes of the body, or for n bytes
// if that is less. It returns how many bytes there is memory for.
func (b *Body) ReserveHead(n int64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = b.mem.takeHead(min(n, firstPiece))
	b.head += n
	return n
}

// Await is Reserve that waits until there is as much, for at most the given time,
// 0: any. Its error is ErrFull, the context's, or context.Canceled for stop.
func (b *Body) Await(n int64, most time.Duration) error {
	b.mu.Lock()
	n -= b.held()
	b.mu.Unlock()
	if n <= 0 || b.mem == nil {
		return nil
	}
	if err := b.mem.await(b.ctx, b.stop, most, n); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.room += n
	return nil
}

// held returns for how many bytes of the body there is memory.
func (b *Body) held() int64 {
	n := b.room + b.head
	for i := range b.pieces {
		n += int64(len(b.pieces[i].p))
	}
	return n
}

// grow adds a piece of at most so many bytes: as many as there are already, up to a
// bound. It reports whether there is memory for it.
func (b *Body) grow(most int64) bool {
	size := min(max(b.got, firstPiece), maxPiece, most)
	switch {
	case b.head > 0:
		size = min(size, b.head)
		b.head -= size
		b.pieces = append(b.pieces, piece{p: make([]byte, size), head: true})
		return true
	case b.room > 0:
		size = min(size, b.room)
	case b.mem.take(size):
		b.room = size
	default:
		return false
	}
	b.room -= size
	b.pieces = append(b.pieces, piece{p: make([]byte, size)})
	return true
}

// free gives back the memory of a piece.
func (b *Body) free(c *piece) {
	if c.head {
		b.mem.put(0, int64(len(c.p)))
	} else {
		b.mem.put(int64(len(c.p)), 0)
	}
}

// drop gives back all memory.
func (b *Body) drop() {
	for i := range b.pieces {
		b.free(&b.pieces[i])
	}
	b.pieces = nil
	b.spare()
}

// spare gives back the memory that is in no piece.
func (b *Body) spare() {
	b.mem.put(b.room, b.head)
	b.room, b.head = 0, 0
}
