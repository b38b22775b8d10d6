package provider_test

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"example.com/tollgate/provider"
)

// A shape is how an API refuses, and what is read from that: one of
// testdata/refusals.txt.
type shape struct{ name, want, url, response string }

func shapes(t testing.TB) (list []shape) {
	b, err := os.ReadFile("testdata/refusals.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range strings.Split(string(b), "\n=== ")[1:] {
		head, response, _ := strings.Cut(s, "\n\n")
		lines := strings.Split(head, "\n")
		if len(lines) != 4 {
			t.Fatalf("%q has %d lines", lines[0], len(lines))
		}
		list = append(list, shape{lines[0], strings.TrimPrefix(lines[1], "want: "), strings.TrimPrefix(lines[3], "POST "), strings.TrimSuffix(response, "\n")})
	}
	return list
}

// What is made of them is in tollgate's test of the same name.
func TestRefusals(t *testing.T) {
	for _, s := range shapes(t) {
		req, err := http.NewRequest("POST", s.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, body, err := parse(s.response, req)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if r.StatusCode == http.StatusOK {
			continue // not a refusal by its status
		}
		if !provider.For(req).Refuses(r) {
			t.Errorf("%s: not taken for a refusal", s.name)
		}
		got := provider.For(req).Refusal(r, []byte(body))
		if got.None {
			t.Errorf("%s: no refusal after all", s.name)
		}
		wait, never, limits := "-", "no", []string{"-"}
		if got.Hinted {
			wait = got.Wait.String()
		}
		if got.Never {
			never = "yes"
		}
		for i, v := range got.Limits {
			limit := fmt.Sprintf("%v:%d/%v", v.Unit, v.N, v.Per)
			if v.Uncounted {
				limit = fmt.Sprintf("uncounted:%d/%v", v.N, v.Per)
			}
			if v.Model != "" {
				limit += "@" + v.Model
			}
			limits = append(limits[:i], limit)
		}
		if got := fmt.Sprintf("wait=%s never=%s limits=%s", wait, never, strings.Join(limits, ",")); got != s.want {
			t.Errorf("%s: read\n%s, want\n%s", s.name, got, s.want)
		}
	}
}

func parse(text string, req *http.Request) (r *http.Response, body string, err error) {
	_, body, _ = strings.Cut(text, "\n\n")
	r, err = http.ReadResponse(bufio.NewReader(strings.NewReader(text)), req)
	return r, body, err
}

// Whatever a server sends to whichever API, hints are not negative, limits make
// sense and are few.
func FuzzResponse(f *testing.F) {
	for _, s := range shapes(f) {
		f.Add(s.response)
	}
	req := response("api.groq.com", 429).Request
	f.Fuzz(func(t *testing.T, text string) {
		r, body, err := parse(text, req)
		if err != nil {
			t.Skip()
		}
		for _, api := range apis {
			ref, levels := api.Refusal(r, []byte(body)), api.Levels(r)
			check(t, ref)
			if len(ref.Limits) > 16 || len(levels) > 16 {
				t.Errorf("%d violations and %d levels", len(ref.Limits), len(levels))
			}
			for _, l := range levels {
				if l.N < 0 || l.N == 0 && l.Left != 0 || l.Per < 0 || l.Left < -1 || l.Left > l.N || l.Full < -1 {
					t.Errorf("%+v", l)
				}
			}
		}
	})
}

// The first 98 shapes, and what is read from them, stay as they are. What then happens
// is tollgate's to say.
func TestEarlierShapes(t *testing.T) {
	b, err := os.ReadFile("testdata/refusals.txt")
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Split(string(b), "\n=== ")[1:99]
	for i := range list {
		lines := strings.Split(strings.TrimRight(list[i], "\n"), "\n")
		list[i] = strings.Join(slices.Delete(lines, 2, 3), "\n")
	}
	if got := fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(list, "\n=== ")))); got != "c87408e3f080df03d0069a936a372b7abbfd3ee2844fc802d00b9af4a7cc5a22" {
		t.Errorf("they have changed: %s", got)
	}
}
