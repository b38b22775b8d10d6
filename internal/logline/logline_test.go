package logline

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// A key is told of once in the time, and the memory of many keys is bounded.
func TestSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := Seldom{Every: 10 * time.Second}
		said := 0
		for range 100 { // of 30 s
			if s.Now("a") {
				said++
			}
			time.Sleep(300 * time.Millisecond)
		}
		if said != 3 {
			t.Errorf("said yes %d times in 30 s, want 3", said)
		}
		yes := 0
		for i := range 10 * many {
			if s.Now(strconv.Itoa(i)) {
				yes++
			}
		}
		if len(s.last) > many || yes < many-1 {
			t.Errorf("%d keys remembered of %d that it said yes to", len(s.last), yes)
		}
		time.Sleep(10 * time.Second)
		if !s.Now("new") || len(s.last) != 1 {
			t.Errorf("after the time is over %d keys are remembered", len(s.last))
		}
	})
}

// An error's text has no URL in it, however deep that lies.
func TestCause(t *testing.T) {
	u := &url.Error{Op: "Get", URL: "https://host/secret", Err: io.EOF}
	for want, err := range map[string]error{
		"EOF":  fmt.Errorf("call: %w", u),
		"gone": errors.New("gone"),
	} {
		if got := Cause(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	if Cause(&url.Error{Op: "Get", URL: "/"}) == "" {
		t.Error("no text")
	}
}
