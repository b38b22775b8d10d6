// The program example makes more calls of the Gemini API at once than its quota
// allows, first without tollgate and then with it, and shows what becomes of
// them.
//
// It calls the real API if GEMINI_API_KEY is set, in real minutes, and else a
// fake one that it brings along, whose minutes are short.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	log.SetOutput(io.Discard) // the SDK warns of environment variables that play no part here
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second Ctrl-C need not be patient
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.Getenv))
}

// run is the program. It returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) int {
	c, err := parse(args, stdout, getenv)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "example:", err)
		return 2
	}
	text := stdout
	if c.json {
		text = stderr
	}
	sum, err := challenge(ctx, c, text, stderr)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "example: interrupted")
		return 130
	case err != nil:
		fmt.Fprintln(stderr, "example:", err)
		return 1
	}
	if c.json {
		if err := json.NewEncoder(stdout).Encode(sum); err != nil {
			fmt.Fprintln(stderr, "example:", err)
			return 1
		}
	}
	if failed := sum.Without.Failed + sum.With.Failed; failed > 0 {
		fmt.Fprintln(stderr, "example: calls that failed:", failed)
		return 1
	}
	return 0
}

// A config is what the flags and the environment say.
type config struct {
	n, rpm int
	model  string
	minute time.Duration // of the API
	key    string        // to the real API; empty: use the fake one
	json   bool
	plot   string // file to draw to; empty: none
}

const usage = `usage: go run ./example [flags]

Makes calls of the Gemini API, all at once, without tollgate and then with it.
Uses the real API if GEMINI_API_KEY is set, else a fake one with short minutes.

`

// parse reads the command line. Where that asks for help, it writes it to w.
func parse(args []string, w io.Writer, getenv func(string) string) (config, error) {
	c := config{key: strings.TrimSpace(getenv("GEMINI_API_KEY"))}
	f := flag.NewFlagSet("example", flag.ContinueOnError)
	f.IntVar(&c.n, "n", 20, "number of `calls` in each step")
	f.StringVar(&c.model, "model", "gemini-2.5-flash", "`name` of the model to call")
	f.IntVar(&c.rpm, "rpm", 10, "`requests` that the model's quota allows per minute")
	f.DurationVar(&c.minute, "minute", 3*time.Second, "`length` of a minute of the fake API, 1s to 1m")
	f.BoolVar(&c.json, "json", false, "write a summary to standard output, all else to standard error")
	f.StringVar(&c.plot, "plot", "", "draw what becomes of the calls to a `file`, .png or .svg; the fake API then takes a while for each")
	fake := f.Bool("fake", false, "use the fake API even if there is a key")
	f.SetOutput(io.Discard)
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		f.SetOutput(w)
		fmt.Fprint(w, usage)
		f.PrintDefaults()
		return c, err
	} else if err != nil {
		return c, fmt.Errorf("%w (-h lists the flags)", err)
	}
	if *fake {
		c.key = ""
	}
	short := false
	f.Visit(func(f *flag.Flag) { short = short || f.Name == "minute" })
	switch {
	case f.NArg() > 0:
		return c, fmt.Errorf("unexpected argument %q (-h lists the flags)", f.Arg(0))
	case c.n < 1:
		return c, fmt.Errorf("-n %d: there must be at least 1 call", c.n)
	case c.rpm < 1:
		return c, fmt.Errorf("-rpm %d: there must be at least 1 request per minute", c.rpm)
	case c.model == "":
		return c, errors.New("-model: the name is empty")
	case c.minute < time.Second || c.minute > time.Minute:
		return c, fmt.Errorf("-minute %v: a minute lasts from 1s to 1m", c.minute)
	case c.plot != "" && formats[filepath.Ext(c.plot)] == nil:
		return c, fmt.Errorf("-plot %q: the name must end in .png or .svg", c.plot)
	case c.key != "" && short:
		return c, errors.New("-minute: only the fake API has other minutes (-fake uses it in spite of GEMINI_API_KEY)")
	}
	if c.key != "" {
		c.minute = time.Minute
	}
	return c, nil
}

// A summary is what became of the calls.
type summary struct {
	Without counts `json:"without"`
	With    struct {
		counts
		Seconds float64 `json:"seconds"`
	} `json:"with"`
}

// counts is the outcome of a step. With tollgate, a call that is refused may
// still succeed the next time: it counts as both.
type counts struct {
	OK      int `json:"ok"`
	Refused int `json:"refused"`          // how often the API answered 429
	Failed  int `json:"failed,omitempty"` // calls with any other error; with tollgate, with any
}

// challenge shows both steps.
func challenge(ctx context.Context, c config, text, live io.Writer) (sum summary, err error) {
	a, err := connect(ctx, c)
	if err != nil {
		return sum, err
	}
	defer a.close()
	if c.key == "" {
		fmt.Fprintf(text, "This is a fake Gemini API, where a minute lasts %v.\n", c.minute)
		fmt.Fprintln(text, "(With GEMINI_API_KEY set it is the real one.)")
	}
	fmt.Fprintf(text, "In each step: %d calls of %s at once. The quota: %d requests per minute (-rpm).\n", c.n, c.model, c.rpm)
	if left := a.left(); left < min(c.minute/4, 5*time.Second) {
		fmt.Fprintf(text, "The API's minute ends in %v: waiting for the next one.\n", left.Round(100*time.Millisecond))
		if err := wait(ctx, live, left); err != nil {
			return sum, err
		}
	}

	fmt.Fprintln(text, "\nStep 1, without tollgate")
	s, err := a.without(ctx, live)
	if err != nil {
		return sum, err
	}
	sum.Without = s.counts
	without := s.times
	fmt.Fprintf(text, "  %d succeeded, %d refused\n", s.OK, s.Refused)
	if s.OK == 0 {
		return sum, fmt.Errorf("no call succeeded: %s", oneLine(s.anyError().Error()))
	}
	if s.Refused > 0 {
		fmt.Fprintf(text, "  The SDK's error:\n%s\n", excerpt(s.refusal))
	} else if s.Failed == 0 {
		fmt.Fprintln(text, "  (The quota has room for all of them: a larger -n shows more.)")
	}
	s.printFailed(text)

	fmt.Fprintf(text, "\nWaiting %v until the quota is back.\n", c.minute)
	if err := wait(ctx, live, c.minute); err != nil {
		return sum, err
	}

	takes := ""
	if c.ideal() > 0 {
		takes = fmt.Sprintf(" (takes about %v)", c.ideal())
	}
	fmt.Fprintf(text, "\nStep 2, with tollgate%s\n", takes)
	s, err = a.with(ctx, live)
	if err != nil {
		return sum, err
	}
	sum.With.counts = s.counts
	sum.With.Seconds = math.Round(s.took.Seconds()*10) / 10
	for _, w := range waves(s.sent, c.minute/10) {
		fmt.Fprintf(text, "  %5.1fs  %d sent\n", w.at.Seconds(), w.n)
	}
	fmt.Fprintf(text, "  %d succeeded, %d refused, in %.1fs\n", s.OK, s.Refused, s.took.Seconds())
	if s.Refused > 0 {
		fmt.Fprintf(text, "  (The API refuses more than -rpm %d says, or others draw on the same quota.)\n", c.rpm)
	}
	s.printFailed(text)
	if c.plot != "" {
		if err := save(c.plot, c.rpm, without, s.times); err != nil {
			return sum, fmt.Errorf("cannot draw: %w", err)
		}
		fmt.Fprintf(text, "\nThe picture is in %s.\n", c.plot)
	}
	return sum, nil
}

// printFailed shows one of the calls that failed, if any did.
func (s step) printFailed(w io.Writer) {
	if s.Failed > 0 {
		fmt.Fprintf(w, "  %d failed:\n%s\n", s.Failed, excerpt(s.failure))
	}
}

const width = 76 // of a line that quotes an error

// excerpt is the text of one of the SDK's errors in two lines: the first one,
// which says what, and the last one before the details, which says for how long.
func excerpt(err error) string {
	lines := strings.Split(brief(err.Error()), "\n")
	s := "    " + clip(lines[0], width)
	if last := len(lines) - 1; last > 0 {
		s += "\n    " + clip(lines[last], width)
	}
	return s
}

// oneLine is the text of an error in one line, which may be a long one.
func oneLine(text string) string {
	return clip(strings.Join(strings.Fields(brief(text)), " "), 3*width)
}

// brief leaves out the details of one of the SDK's errors.
func brief(text string) string {
	text, _, _ = strings.Cut(text, ", Details: ")
	return strings.TrimSpace(text)
}

// clip cuts a text off after n characters.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
