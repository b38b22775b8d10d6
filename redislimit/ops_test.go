package redislimit_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate"
	"example.com/tollgate/redislimit"
)

// A logged is a slog.Handler that keeps what is told of the store.
type logged struct {
	mu      sync.Mutex
	records []slog.Record
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logged) WithGroup(string) slog.Handler            { return l }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "tollgate: ") {
		l.mu.Lock()
		l.records = append(l.records, r)
		l.mu.Unlock()
	}
	return nil
}

// all returns what was told from a level on.
func (l *logged) all(level slog.Level) (list []slog.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records {
		if r.Level >= level {
			list = append(list, r)
		}
	}
	return list
}

// text is what was told from a level on, a line each.
func (l *logged) text(level slog.Level) string {
	var b strings.Builder
	for _, r := range l.all(level) {
		b.WriteString(r.Level.String() + " " + r.Message + "\n")
	}
	return b.String()
}

// goredis keeps what go-redis logs.
var goredis lines

func init() { redis.SetLogger(&goredis) }

type lines struct {
	mu   sync.Mutex
	list []string
}

func (l *lines) Printf(_ context.Context, format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprintf(format, v...))
}

// of returns how many lines there are that contain a word.
func (l *lines) of(word string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.list {
		if strings.Contains(line, word) {
			n++
		}
	}
	return n
}

// await waits until a condition holds.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for 30s: %s", what)
		}
	}
}

// within returns a context that ends long after a test should have.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// caller returns a function that makes a call of a key through a Transport that
// shares its quota, and what the Transport logs.
func caller(t *testing.T, c redis.UniversalClient, o redislimit.Options, server http.RoundTripper, q tollgate.Quota) (call func(key string) error, log *logged) {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	log = new(logged)
	client := &http.Client{Transport: &tollgate.Retry{Max: 20, Base: &tollgate.Transport{
		Base:    server,
		Quotas:  tollgate.Quotas{"*": q},
		Limiter: redislimit.New(c, o),
		Trace:   tollgate.LogTrace(slog.New(log)),
	}}}
	ctx := within(t)
	return func(key string) error {
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+key+".example.com/", nil)
		resp, err := client.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		return err
	}, log
}

// plenty is a quota that is never used up.
var plenty = tollgate.Quota{{N: 1 << 30, Per: time.Minute}}

// always accepts every request.
type always struct{}

func (always) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

// An authority signs the certificates of servers.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert, key, pool}
}

// args are those of a Redis that has a port for TLS besides the plain one.
func (a *authority) args(t *testing.T, port string) []string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "redis of a test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return []string{
		"--tls-port", port, "--tls-auth-clients", "no",
		"--tls-cert-file", file("cert.pem", "CERTIFICATE", cert),
		"--tls-key-file", file("key.pem", "PRIVATE KEY", private),
		"--tls-ca-cert-file", file("ca.pem", "CERTIFICATE", a.cert.Raw),
	}
}

// trusts is the configuration of a client that trusts an authority.
func trusts(a *authority) *tls.Config {
	return &tls.Config{RootCAs: a.pool, MinVersion: tls.VersionTLS12}
}

// freePort is a port of the loopback that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
