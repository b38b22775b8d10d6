package redistest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Sentinel starts a sentinel that fails over to a replica of a master soon after
// the master has gone.
func Sentinel(t testing.TB, name string, master *Server) *Server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sentinel.conf") // it writes to it
	if err := os.WriteFile(file, []byte(fmt.Sprintf("sentinel monitor %[1]s %[2]s 1\nsentinel down-after-milliseconds %[1]s 300\nsentinel failover-timeout %[1]s 5000\n",
		name, strings.ReplaceAll(master.Addr(), ":", " "))), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, path: master.path, first: []string{file, "--sentinel"}, dir: t.TempDir(), port: freePort(t)}
	s.run()
	t.Cleanup(s.Kill)
	c := s.Client()
	defer c.Close()
	for range 400 {
		if state := fmt.Sprint(c.Do(context.Background(), "SENTINEL", "MASTERS").Val()); strings.Contains(state, "num-slaves:1") {
			return s
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatal("the sentinel knows of no replica")
	return nil
}
