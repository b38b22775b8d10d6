// Package readahead reads the beginning of a body before the body is passed on,
// for no longer than there is time and memory for. Whoever gets the body then
// reads it from its first byte.
//
// It knows nothing of HTTP. A Read that blocks cannot be taken back, so each one
// runs in a goroutine of its own, which ends when the Read returns: its bytes are
// the body's next ones, whoever asks for them.
package readahead

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"time"
)

// Sizes of what is read at once.
const (
	firstPiece = 4 << 10
	maxPiece   = 64 << 10
)

// maxEmpty is how many Reads in a row may return neither bytes nor an error.
const maxEmpty = 100

// grace is how long Close waits for a Read that is under way, and for the source's
// Close. A source whose data is at hand needs no time; one that is blocked, and not
// even unblocked by Close, such as the body of a request in an http.Server, is left
// to end by itself.
const grace = 100 * time.Millisecond

var errClosed = errors.New("tollgate: read on closed body")

// A Body is a body whose beginning can be read before it is passed on. Its source
// is closed once, however often Close is called. Read and Close may be called at
// the same time; two Reads, or a Read and a Head, may not.
type Body struct {
	src  io.ReadCloser
	size int64   // of the whole body; negative: not known
	mem  *Memory // what the beginning is taken from; nil: it is not counted
	ctx  context.Context
	stop <-chan struct{}

	mu     sync.Mutex
	pieces []piece       // what was read and not passed on yet
	got    int64         // bytes that were read from src so far
	room   int64         // bytes taken from mem that are in no piece
	head   int64         // the same of those for beginnings
	err    error         // of src, after the pieces
	raise  func()        // does what the last Read did instead of returning; nil: it has returned
	empty  int           // Reads in a row that returned nothing
	busy   chan struct{} // closed when the Read under way has returned; nil: there is none
	closed chan struct{}
	shut   bool // closed is
}

// A piece is a part of a body: p[from:to] was read and is still to be passed on.
type piece struct {
	p        []byte
	from, to int
	head     bool // it is taken from the memory for beginnings
}

// New returns src as a Body. size is its length, negative if that is not known. A
// Head, and a Read that waits for what a Head has asked for, end with ctx, and when
// stop is closed; nil: never.
func New(ctx context.Context, stop <-chan struct{}, src io.ReadCloser, size int64, mem *Memory) *Body {
	return &Body{src: src, size: size, mem: mem, ctx: ctx, stop: stop, closed: make(chan struct{})}
}

// Read reads on from what has been passed on before.
func (b *Body) Read(p []byte) (int, error) {
	for {
		b.mu.Lock()
		if b.shut {
			b.mu.Unlock()
			return 0, errClosed
		}
		if len(b.pieces) > 0 && b.pieces[0].from < b.pieces[0].to {
			n := b.pass(p)
			b.mu.Unlock()
			return n, nil
		}
		busy, err, raise := b.busy, b.err, b.raise
		b.mu.Unlock()
		switch {
		case busy != nil && len(p) > 0:
			if err := b.wait(busy, nil); err != nil {
				return 0, err
			}
		case busy != nil:
			return 0, nil
		case raise != nil:
			raise()
		case err != nil:
			return 0, err
		default:
			b.mu.Lock()
			b.drop()
			b.mu.Unlock()
			return b.src.Read(p)
		}
	}
}

// pass copies what was read ahead, and gives back its memory.
func (b *Body) pass(p []byte) int {
	c := &b.pieces[0]
	n := copy(p, c.p[c.from:c.to])
	if c.from += n; c.from == c.to && (b.busy == nil || len(b.pieces) > 1) {
		b.free(c)
		b.pieces[0] = piece{}
		b.pieces = b.pieces[1:]
	}
	return n
}

// wait waits for the Read that is under way.
func (b *Body) wait(busy <-chan struct{}, timeout <-chan time.Time) error {
	select {
	case <-busy:
		b.mu.Lock()
		raise := b.raise
		b.mu.Unlock()
		if raise != nil {
			raise()
		}
		return nil
	case <-b.closed:
		return errClosed
	case <-b.ctx.Done():
		return b.ctx.Err()
	case <-b.stop:
		return context.Canceled
	case <-timeout:
		return errLate
	}
}

var errLate = errors.New("tollgate: body stalls")

// Close closes the source. While a Read is under way it does so in a goroutine, and
// waits a moment for both to end: afterwards no Read of a source that does not block
// is under way, and none will be.
func (b *Body) Close() error {
	b.mu.Lock()
	if b.shut {
		b.mu.Unlock()
		return nil
	}
	b.shut = true
	close(b.closed)
	busy := b.busy
	if busy == nil {
		b.drop()
	}
	b.mu.Unlock()
	if busy == nil {
		return b.src.Close()
	}
	ended := make(chan error, 1)
	go func() { ended <- b.src.Close() }()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	var err error
	for range 2 {
		select {
		case err = <-ended:
		case <-busy:
			busy = nil
		case <-timer.C:
			return err
		}
	}
	return err
}

// Begun reports whether anything of the source was read, or is being read.
func (b *Body) Begun() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.got > 0 || b.busy != nil || b.err != nil || b.empty > 0
}

// Length returns how many bytes were read so far, and how many there are in all,
// negative if that is not known.
func (b *Body) Length() (got, size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == io.EOF {
		return b.got, b.got
	}
	return b.got, b.size
}

// fetch starts a Read of at most so many bytes, unless one is under way. It returns
// nil if there is no memory for it.
func (b *Body) fetch(most int64) <-chan struct{} {
	if b.busy != nil {
		return b.busy
	}
	n := len(b.pieces)
	if (n == 0 || b.pieces[n-1].to == len(b.pieces[n-1].p)) && !b.grow(most) {
		return nil
	}
	last := b.pieces[len(b.pieces)-1]
	busy := make(chan struct{})
	b.busy = busy
	go b.read(last.p[last.to:], busy)
	return busy
}

// read reads the next bytes into the last piece. A Read that panics, or ends its
// goroutine, does so again in that of whoever asks for its bytes.
func (b *Body) read(p []byte, busy chan struct{}) {
	n, err, returned := 0, error(nil), false
	defer func() {
		var raise func()
		if v := recover(); v != nil {
			raise = func() { panic(v) }
		} else if !returned {
			raise = runtime.Goexit
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		defer close(busy)
		b.pieces[len(b.pieces)-1].to += n
		b.got += int64(n)
		b.err, b.busy, b.raise = err, nil, raise
		if n > 0 {
			b.empty = 0
		} else if b.empty++; b.empty > maxEmpty && err == nil {
			b.err = io.ErrNoProgress
		}
		if b.shut {
			b.drop()
		}
	}()
	n, err = b.src.Read(p)
	returned = true
}
