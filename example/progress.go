package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// watch draws a bar on w and keeps it up to date until stop is called, which
// leaves no trace of it. state returns how far things have come, of max, and
// a remark. If w is not a terminal, nothing is drawn.
func watch(w io.Writer, max int64, state func() (int64, string)) (stop func()) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	bar := progressbar.NewOptions64(max,
		progressbar.OptionSetWriter(f),
		progressbar.OptionSetWidth(30),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionShowDescriptionAtLineEnd(),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionClearOnFinish(),
	)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			n, remark := state()
			_ = bar.Set64(n)
			bar.Describe(remark)
			select {
			case <-tick.C:
			case <-done:
				_ = bar.Clear()
				return
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// remaining says how much time is left, in words; nothing if none is.
func remaining(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return fmt.Sprintf("about %v left", (d + time.Second - 1).Truncate(time.Second))
}

// wait waits for d, and shows how much of it is left.
func wait(ctx context.Context, live io.Writer, d time.Duration) error {
	began := time.Now()
	defer watch(live, int64(d), func() (int64, string) {
		past := time.Since(began)
		return int64(min(past, d)), remaining(d - past)
	})()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
