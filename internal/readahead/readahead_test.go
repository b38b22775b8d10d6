package readahead

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// source is a body that counts its closes.
type source struct {
	io.Reader
	closed atomic.Int32
}

func (s *source) Close() error {
	s.closed.Add(1)
	if c, ok := s.Reader.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func memory(n int64) *Memory {
	m := new(Memory)
	m.SetMax(n)
	return m
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// Whatever a Head has read, and however the source returns its bytes, the body is
// what the source has, and afterwards no memory is in use.
func TestBody(t *testing.T) {
	for name, reader := range map[string]func(io.Reader) io.Reader{
		"as it comes":       func(r io.Reader) io.Reader { return r },
		"a byte each":       iotest.OneByteReader,
		"halves":            iotest.HalfReader,
		"end with the data": iotest.DataErrReader,
	} {
		t.Run(name, func(t *testing.T) {
			bits := 18
			if name == "a byte each" {
				bits = 13
			}
			for range 100 {
				want := random(rand.IntN(1 << rand.IntN(bits)))
				size := int64(-1)
				if rand.IntN(2) == 0 {
					size = int64(len(want))
				}
				m := memory(rand.Int64N(1 << 19))
				s := &source{Reader: reader(bytes.NewReader(want))}
				b := New(t.Context(), nil, s, size, m)
				if rand.IntN(2) == 0 {
					b.Reserve(b.Most(rand.Int64N(1 << 17)))
				} else {
					b.ReserveHead(rand.Int64N(1 << 13))
				}
				most := rand.Int64N(1 << 17)
				h := NewHead(b, Limits{Bytes: most, Silence: time.Hour})
				head, err := io.ReadAll(h)
				h.Close()
				if err != nil || !bytes.HasPrefix(want, head) || int64(len(head)) > most || h.Err() != nil {
					t.Fatalf("head of %d bytes, %v, %v; want %d at most", len(head), err, h.Err(), most)
				}
				switch h.End() {
				case Whole:
					if len(head) != len(want) {
						t.Fatalf("whole with %d bytes of %d", len(head), len(want))
					}
				case Long:
					if int64(len(head)) != most {
						t.Fatalf("long with %d bytes of %d", len(head), most)
					}
				case Full:
				default:
					t.Fatalf("end %d", h.End())
				}
				b.Release()
				if u := m.Used(); u > m.max || u < int64(len(head)) && len(head) > 0 {
					t.Fatalf("%d of %d bytes of memory in use for a head of %d", u, m.max, len(head))
				}
				got, err := io.ReadAll(io.LimitReader(b, rand.Int64N(1<<19)))
				if err != nil || !bytes.HasPrefix(want, got) {
					t.Fatalf("read %d bytes, %v", len(got), err)
				}
				for range 2 {
					if err := b.Close(); err != nil {
						t.Fatal(err)
					}
				}
				if n, u := s.closed.Load(), m.Used(); n != 1 || u != 0 {
					t.Fatalf("closed %d times, %d bytes of memory in use in the end", n, u)
				}
				if _, err := b.Read(make([]byte, 1)); err == nil {
					t.Fatal("a closed body was read")
				}
			}
		})
	}
}

// An error comes after the bytes before it, where the Head has met it too.
func TestBodyBreaksOff(t *testing.T) {
	broken := errors.New("broken off")
	s := &source{Reader: io.MultiReader(bytes.NewReader([]byte("abc")), iotest.ErrReader(broken))}
	b := New(t.Context(), nil, s, -1, nil)
	h := NewHead(b, Limits{Bytes: 100})
	if head, err := io.ReadAll(h); string(head) != "abc" || err != nil || h.End() != Whole {
		t.Errorf("head %q, %v, end %d", head, err, h.End())
	}
	for range 2 {
		got, err := io.ReadAll(b)
		if err != broken || string(got) != "abc" && string(got) != "" {
			t.Errorf("body %q, %v", got, err)
		}
	}
	b.Close()
}

// A source that returns nothing for ever is an error.
func TestBodyEmpty(t *testing.T) {
	b := New(t.Context(), nil, &source{Reader: readFunc(func([]byte) (int, error) { return 0, nil })}, -1, nil)
	if head, err := io.ReadAll(NewHead(b, Limits{Bytes: 100})); len(head) > 0 || err != nil {
		t.Errorf("head %q, %v", head, err)
	}
	if _, err := b.Read(make([]byte, 1)); err != io.ErrNoProgress {
		t.Errorf("error %v", err)
	}
	b.Close()
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// A Head ends when the source is silent, when its time is over, and with its context;
// the Read that is under way then is the body's next one.
func TestHeadEnds(t *testing.T) {
	const s = time.Second
	for name, test := range map[string]struct {
		gaps   []time.Duration // before each byte
		limits Limits
		ctx    time.Duration
		want   string
		after  time.Duration
		end    End
	}{
		"silence":     {[]time.Duration{0, 2 * s, 4 * s}, Limits{Bytes: 9, Silence: 3 * s}, time.Hour, "ab", 5 * s, Late},
		"in all":      {[]time.Duration{0, 2 * s, 4 * s}, Limits{Bytes: 9, Within: 3 * s}, time.Hour, "ab", 3 * s, Late},
		"context":     {[]time.Duration{s, 2 * s}, Limits{Bytes: 9, Silence: 3 * s}, 2 * s, "a", 2 * s, Done},
		"length":      {[]time.Duration{0, s, 2 * s}, Limits{Bytes: 2, Silence: 3 * s}, time.Hour, "ab", s, Long},
		"end of body": {[]time.Duration{0, s}, Limits{Bytes: 9, Silence: 3 * s}, time.Hour, "ab", s, Whole},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), test.ctx)
				defer cancel()
				pr, pw := io.Pipe()
				go func() {
					for i, gap := range test.gaps {
						time.Sleep(gap)
						if _, err := pw.Write([]byte{byte('a' + i)}); err != nil {
							return
						}
					}
					pw.Close()
				}()
				src := &source{Reader: pr}
				b := New(ctx, nil, src, -1, nil)
				began := time.Now()
				h := NewHead(b, test.limits)
				head, err := io.ReadAll(h)
				h.Close()
				if string(head) != test.want || err != nil || time.Since(began) != test.after || h.End() != test.end {
					t.Errorf("head %q, %v after %v, end %d; want %q after %v, end %d", head, err, time.Since(began), h.End(), test.want, test.after, test.end)
				}
				if test.end == Done {
					if h.Err() != context.DeadlineExceeded {
						t.Errorf("error %v", h.Err())
					}
				} else if got, err := io.ReadAll(b); err != nil || string(got) != "abc"[:len(test.gaps)] {
					t.Errorf("body %q, %v", got, err)
				}
				b.Close()
				if n := src.closed.Load(); n != 1 {
					t.Errorf("closed %d times", n)
				}
				time.Sleep(time.Minute) // until the writer notices
			})
		})
	}
}

// Close ends a Read that it unblocks, and waits for one that does not block; it does
// not wait for long for one that nothing unblocks, or for a Close that blocks too.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memory(1 << 20)
		stuck := make(chan struct{})
		src := &locked{Reader: readFunc(func([]byte) (int, error) {
			<-stuck
			return 0, io.EOF
		}), mu: make(chan struct{}, 1)}
		b := New(t.Context(), nil, src, -1, m)
		if _, err := io.ReadAll(NewHead(b, Limits{Bytes: 9, Silence: time.Second})); err != nil {
			t.Error(err)
		}
		reader := make(chan error)
		go func() {
			_, err := b.Read(make([]byte, 1))
			reader <- err
		}()
		synctest.Wait()
		began := time.Now()
		b.Close()
		if got := time.Since(began); got != grace {
			t.Errorf("Close took %v, want %v", got, grace)
		}
		if err := <-reader; err != errClosed {
			t.Errorf("Read in the meantime: %v", err)
		}
		close(stuck)
		synctest.Wait()
		if n := m.Used(); n != 0 || src.closed != 1 {
			t.Errorf("%d bytes in use in the end, closed %d times", n, src.closed)
		}
	})
}

// locked does not close while it is read.
type locked struct {
	io.Reader
	mu     chan struct{}
	closed int
}

func (l *locked) Read(p []byte) (int, error) {
	l.mu <- struct{}{}
	defer func() { <-l.mu }()
	return l.Reader.Read(p)
}

func (l *locked) Close() error {
	l.mu <- struct{}{}
	defer func() { <-l.mu }()
	l.closed++
	return nil
}

// What a Read does instead of returning happens to the one who asks for its bytes.
func TestBodyPanics(t *testing.T) {
	for _, later := range []bool{false, true} {
		b := New(t.Context(), nil, &source{Reader: readFunc(func([]byte) (int, error) { panic("boom") })}, -1, nil)
		func() {
			defer func() {
				if v := recover(); v != "boom" {
					t.Errorf("recovered %v", v)
				}
			}()
			if later {
				b.mu.Lock()
				busy := b.fetch(1)
				b.mu.Unlock()
				<-busy
				_, _ = b.Read(make([]byte, 1))
			} else {
				_, _ = io.ReadAll(NewHead(b, Limits{Bytes: 9}))
			}
		}()
		b.Close()
	}
}

// Those who wait for memory get it in their order, ahead of those who do not wait;
// who gives up leaves none in use.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memory(400)
		if !m.take(300) || m.take(1) || m.takeHead(150) != 100 || m.takeHead(1) != 0 {
			t.Fatal("not three quarters and one")
		}
		if err := m.await(t.Context(), nil, 0, 301); err != ErrFull {
			t.Errorf("more than there is: %v", err)
		}
		var order []int
		var mu sync.Mutex
		for i := range 4 {
			ctx, cancel := context.WithCancel(t.Context())
			most := time.Duration(0)
			switch i {
			case 1:
				time.AfterFunc(time.Second, cancel)
			case 2:
				most = 2 * time.Second
			}
			go func() {
				defer cancel()
				err := m.await(ctx, nil, most, 200)
				mu.Lock()
				defer mu.Unlock()
				if want := map[int]error{1: context.Canceled, 2: ErrFull}[i]; err != want {
					t.Errorf("waiter %d: %v, want %v", i, err, want)
				}
				if err == nil {
					order = append(order, i)
				}
			}()
			synctest.Wait()
		}
		time.Sleep(5 * time.Second)
		m.put(150, 0)
		synctest.Wait()
		if m.take(10) {
			t.Error("taken ahead of those who wait")
		}
		m.put(50, 50)
		synctest.Wait()
		if len(order) != 1 || order[0] != 0 || m.Used() != 350 {
			t.Errorf("went %v, %d in use", order, m.Used())
		}
		m.put(100, 50)
		synctest.Wait()
		m.put(200, 0)
		synctest.Wait()
		if len(order) != 2 || order[1] != 3 || m.Used() != 200 {
			t.Errorf("went %v, %d in use", order, m.Used())
		}
	})
}
