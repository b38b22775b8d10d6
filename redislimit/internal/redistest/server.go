// Package redistest starts real Redis servers for tests, on free ports of the
// loopback, and ends them.
package redistest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Server is a process of Redis that keeps nothing on disk.
type Server struct {
	t     testing.TB
	path  string
	first []string // arguments before those that all have
	args  []string
	dir   string
	port  int
	cmd   *exec.Cmd
	out   bytes.Buffer
}

// Start starts a server that ends with the test.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("%v: make test installs it where apt is there", err)
	}
	return start(t, path, args...)
}

// Valkey starts a server of Valkey's, and skips the test where there is none.
func Valkey(t testing.TB, args ...string) *Server {
	t.Helper()
	path, err := exec.LookPath("valkey-server")
	if err != nil {
		t.Skip("there is no valkey-server")
	}
	return start(t, path, args...)
}

func start(t testing.TB, path string, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, path: path, args: args, dir: t.TempDir(), port: freePort(t)}
	s.run()
	t.Cleanup(s.Kill)
	return s
}

func freePort(t testing.TB) int {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		if port < 55000 { // a cluster has another one 10,000 above
			return port
		}
	}
}

func (s *Server) run() {
	s.t.Helper()
	s.out.Reset()
	args := append(slices.Clone(s.first), "--bind", "127.0.0.1", "--port", fmt.Sprint(s.port), "--dir", s.dir)
	if s.first == nil {
		args = append(args, "--save", "", "--appendonly", "no")
	}
	s.cmd = exec.Command(s.path, append(args, s.args...)...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	c := s.Client()
	defer c.Close()
	for range 200 {
		if c.Ping(context.Background()).Err() == nil {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	s.t.Fatalf("redis-server does not answer: %s", s.out.String())
}

// Addr is where it listens.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Client returns a client that the caller closes.
func (s *Server) Client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.Addr(), ContextTimeoutEnabled: true})
}

// Kill ends the process at once, as kill -9 does.
func (s *Server) Kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// Restart starts it again, on the same port and knowing nothing.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	s.run()
}

// Stop has the process stand still until Continue.
func (s *Server) Stop() { s.signal(SIGSTOP) }

// Continue has it go on.
func (s *Server) Continue() { s.signal(SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Error(err)
	}
}
