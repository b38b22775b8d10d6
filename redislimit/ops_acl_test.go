package redislimit_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate"
	"example.com/tollgate/redislimit"
	"example.com/tollgate/redislimit/internal/redistest"
)

// rules are those of the user that the documentation says is enough: what follows
// the user's name in its commands, the first for every client, the second for a
// cluster as well, the third for a ring.
func rules(t *testing.T, file string) (list [3][]string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)ACL SETUSER tollgate ([^#\n]*)`).FindAllSubmatch(text, -1)
	if len(found) != len(list) {
		t.Fatalf("%s has %d commands for an ACL, want %d", file, len(found), len(list))
	}
	for i, m := range found {
		list[i] = strings.Fields(string(m[1]))
	}
	return list
}

// setUser makes a user of an ACL.
func setUser(t *testing.T, c *redis.Client, name string, rules ...[]string) {
	t.Helper()
	args := []any{"ACL", "SETUSER", name}
	for _, list := range rules {
		for _, r := range list {
			args = append(args, r)
		}
	}
	if err := c.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
}

// A user who may do what the documentation says shares quotas; one who lacks any of
// it does not, and is told so.
func TestACL(t *testing.T) {
	all := rules(t, "redislimit.go")
	if readme := rules(t, "README.md"); fmt.Sprint(readme) != fmt.Sprint(all) {
		t.Errorf("the README says %q, the package comment %q", readme, all)
	}
	documented := all[0]
	commands := []string{"+eval", "+evalsha"}
	for _, file := range []string{"rules.lua", "exchange.lua"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`redis\.call\('([A-Z]+)'`).FindAllSubmatch(text, -1) {
			commands = append(commands, "+"+strings.ToLower(string(m[1])))
		}
	}
	slices.Sort(commands)
	if commands = slices.Compact(commands); !slices.Equal(commands, documented[3:]) {
		t.Errorf("the documentation says %q, the scripts need %q", documented[3:], commands)
	}
	s := redistest.Start(t)
	admin := s.Client()
	defer admin.Close()
	login := func(t *testing.T, name string, rules []string) redis.UniversalClient {
		t.Helper()
		setUser(t, admin, name, rules)
		if err := errors.Join(admin.ScriptFlush(t.Context()).Err(), admin.FlushAll(t.Context()).Err()); err != nil {
			t.Fatal(err)
		}
		return redis.NewClient(&redis.Options{Addr: s.Addr(), Username: name, Password: "password"})
	}
	call, log := caller(t, login(t, "enough", documented), redislimit.Options{Timeout: late}, always{}, tollgate.Quota{tollgate.RPS(5), tollgate.RPD(100), tollgate.TPM(1000), tollgate.Concurrency(2)})
	for range 8 {
		if err := call("k"); err != nil {
			t.Fatal(err)
		}
	}
	if text := log.text(slog.LevelInfo); text != "" {
		t.Errorf("with what is documented:\n%s", text)
	}
	for i, rule := range documented {
		if !slices.Contains([]string{"~tollgate:*", "+eval", "+evalsha", "+time"}, rule) {
			continue // not every exchange needs it
		}
		t.Run("without "+rule, func(t *testing.T) {
			rest := append(append([]string(nil), documented[:i]...), documented[i+1:]...)
			call, log := caller(t, login(t, fmt.Sprint("lacks", i), rest), redislimit.Options{Timeout: late}, always{}, plenty)
			if err := call("k"); err != nil {
				t.Fatal(err)
			}
			await(t, "the error is told", func() bool { return len(log.all(slog.LevelWarn)) > 0 })
			if text := log.text(slog.LevelInfo); !strings.HasPrefix(text, "ERROR ") || !strings.Contains(text, "ACL user") {
				t.Errorf("told %q, want an error of configuration", text)
			}
		})
	}
}

// So with a cluster and a ring, whose clients need a little more.
func TestACLOfMany(t *testing.T) {
	documented := rules(t, "redislimit.go")
	for name, c := range map[string]struct {
		more []string
		each func(t *testing.T, f func(n *redis.Client)) func(user string) redis.UniversalClient
	}{
		"cluster": {documented[1], func(t *testing.T, f func(n *redis.Client)) func(user string) redis.UniversalClient {
			admin := redistest.Cluster(t)
			for _, a := range admin.Options().Addrs {
				n := addr(a)
				f(n)
				n.Close()
			}
			return func(user string) redis.UniversalClient {
				return redis.NewClusterClient(&redis.ClusterOptions{Addrs: admin.Options().Addrs, Username: user, Password: "password"})
			}
		}},
		"ring": {documented[2], func(t *testing.T, f func(n *redis.Client)) func(user string) redis.UniversalClient {
			addrs := make(map[string]string)
			for _, name := range []string{"a", "b"} {
				s := redistest.Start(t)
				n := s.Client()
				f(n)
				n.Close()
				addrs[name] = s.Addr()
			}
			return func(user string) redis.UniversalClient {
				return redis.NewRing(&redis.RingOptions{Addrs: addrs, HeartbeatFrequency: 20 * time.Millisecond, Username: user, Password: "password"})
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			login := c.each(t, func(n *redis.Client) {
				setUser(t, n, "enough", documented[0], c.more)
				for i := range c.more {
					setUser(t, n, fmt.Sprint("lacks", i), documented[0], c.more[:i], c.more[i+1:])
				}
			})
			call, log := caller(t, login("enough"), redislimit.Options{Timeout: late}, always{}, plenty)
			for i := range 20 {
				if err := call(fmt.Sprint("k", i)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Millisecond) // a ring looks after its shards
			}
			if text := log.text(slog.LevelInfo); text != "" {
				t.Errorf("with what is documented:\n%s", text)
			}
			for i, rule := range c.more {
				if rule == "+asking" {
					continue // see TestMovedSlot
				}
				call, log := caller(t, login(fmt.Sprint("lacks", i)), redislimit.Options{Timeout: late}, always{}, plenty)
				await(t, "the error is told", func() bool {
					if err := call("k"); err != nil {
						t.Fatal(err)
					}
					return len(log.all(slog.LevelWarn)) > 0
				})
			}
		})
	}
}
