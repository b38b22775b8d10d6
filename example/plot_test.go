package main

import (
	"bytes"
	"image/png"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/plot/vg"
)

// TestPlot draws both steps, and counts what is drawn of each call.
func TestPlot(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "timeline.svg")
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"-n=5", "-rpm=3", "-plot", file, minute}, &stdout, &stderr, env(""))
	if code != 0 || stderr.Len() > 0 || !strings.Contains(stdout.String(), "\nThe picture is in "+file+".\n") {
		t.Fatalf("exit code %d: %s%s", code, &stdout, &stderr)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	svg := string(b)
	// One of each is in the legend.
	for style, want := range map[string]int{
		"fill:#1A7F37":   1 + 3 + 5,       // done
		"stroke:#D1242F": 2 * (1 + 2 + 0), // refused, two strokes each
		"fill:#2F6FD0":   1 + 5 + 5,       // at the API
		"fill:#CFD6E0":   1 + 5 + 5,       // waiting, if only for the processor
		"fill:#D9A441":   1 + 1 + 1,       // left of the minute
		"stroke:#24292F": 1 + 0 + 1,       // left in the bucket
	} {
		if got := strings.Count(svg, style); got != want {
			t.Errorf("%s: %d times, want %d", style, got, want)
		}
	}
	for _, text := range []string{"Without tollgate: 3 done, 2 refused", "With tollgate: 5 done, 0 refused", "seconds", "requests left"} {
		if !strings.Contains(svg, text) {
			t.Errorf("no %q", text)
		}
	}
}

// twoCalls is a step of two calls, the second of which is refused and then sent
// again in the next minute.
func twoCalls() *timeline {
	s := newTimeline(2)
	s.calls[0].attempts = []attempt{{sent: 1, answered: 2 * time.Second, status: http.StatusOK}}
	s.calls[1].attempts = []attempt{
		{sent: 2, answered: time.Second, status: http.StatusTooManyRequests},
		{sent: 11 * time.Second, answered: 12 * time.Second, status: http.StatusOK},
	}
	return s
}

func TestPNG(t *testing.T) {
	file := filepath.Join(t.TempDir(), "timeline.png")
	if err := save(file, 1, twoCalls(), newTimeline(0)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	if w := img.Bounds().Dx(); w != int(pictureWidth/vg.Inch*dotsPerInch) {
		t.Errorf("%d pixels wide", w)
	}
	if err := save(filepath.Join(file, "timeline.png"), 1, twoCalls(), newTimeline(0)); err == nil {
		t.Error("a file below a file was written")
	}
}

func TestCount(t *testing.T) {
	s := twoCalls()
	s.count(1, 10*time.Second, 10*time.Second)
	want := []level{{0, 1}, {1, 0}, {10 * time.Second, 1}, {11 * time.Second, 0}, {20 * time.Second, 1}}
	if !slices.Equal(s.api, want) {
		t.Errorf("%v, want %v", s.api, want)
	}
}

func TestSteps(t *testing.T) {
	got := steps([]level{{0, 2}, {time.Second, -1}, {3 * time.Second, 2}}, 2*time.Second)
	if len(got) != 3 || got[0].Y != 2 || got[1].Y != 0 || got[2].X != 2 || got[2].Y != 0 {
		t.Errorf("%v", got)
	}
	if got := steps(nil, time.Second); got != nil {
		t.Errorf("%v", got)
	}
}
