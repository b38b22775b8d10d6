package redislimit

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"example.com/tollgate/internal/refill"
	"example.com/tollgate/internal/share"
)

// lookTime is the longest that a look takes.
const lookTime = time.Second

// ample is a limit whose tokens a look takes, so that something has to be written.
var ample = refill.Limit{Unit: refill.Requests, N: 1 << 30, Per: time.Second, Rule: refill.Window}

// look finds out what is wrong with Redis: it makes an exchange about a key beside
// that of s, over a connection of its own, and tries each step once. (go-redis
// repeats them in the background for seconds, and what it says when the time is
// over is that the time is over.) nil: nothing is wrong.
func look(ctx context.Context, c redis.UniversalClient, s *store) error {
	var first error
	for _, o := range servers(ctx, c, s.name()) {
		err := lookAt(ctx, o, s)
		var answer redis.Error
		if errors.As(err, &answer) && strings.HasPrefix(answer.Error(), "MOVED ") {
			err = nil // it is well, and not the one that has the key
		}
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// servers returns how to reach the server that has a key, or, if nobody knows which
// one that is, any. None: they cannot be known.
func servers(ctx context.Context, c redis.UniversalClient, key string) (list []*redis.Options) {
	switch c := c.(type) {
	case interface{ Options() *redis.Options }:
		return []*redis.Options{c.Options()}
	case *redis.ClusterClient:
		short, cancel := context.WithTimeout(ctx, lookTime/4) // it may ask each of them, many times
		defer cancel()
		if n, err := c.MasterForKey(short, key); err == nil {
			return []*redis.Options{n.Options()}
		}
		o := c.Options()
		for _, addr := range o.Addrs {
			list = append(list, &redis.Options{
				Addr: addr, Dialer: o.Dialer, TLSConfig: o.TLSConfig, DialTimeout: o.DialTimeout, Protocol: o.Protocol, Username: o.Username, Password: o.Password,
				CredentialsProvider: o.CredentialsProvider, CredentialsProviderContext: o.CredentialsProviderContext, StreamingCredentialsProvider: o.StreamingCredentialsProvider,
			})
		}
	case *redis.Ring:
		if n, err := c.GetShardClientForKey(key); err == nil {
			return []*redis.Options{n.Options()}
		}
		o := c.Options()
		for _, addr := range o.Addrs {
			list = append(list, &redis.Options{
				Addr: addr, Dialer: o.Dialer, TLSConfig: o.TLSConfig, DialTimeout: o.DialTimeout, Protocol: o.Protocol, Username: o.Username, Password: o.Password, DB: o.DB,
				CredentialsProvider: o.CredentialsProvider, CredentialsProviderContext: o.CredentialsProviderContext, StreamingCredentialsProvider: o.StreamingCredentialsProvider,
			})
		}
	}
	return list
}

// lookAt looks at one server.
func lookAt(ctx context.Context, from *redis.Options, s *store) error {
	o := *from
	if o.Network == "" {
		o.Network = "tcp"
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = lookTime
	}
	if o.Dialer == nil {
		o.Dialer = redis.NewDialer(&o)
	}
	conn, err := dial(ctx, &o, o.Dialer)
	if err != nil {
		if o.TLSConfig != nil && speaksPlain(ctx, &o) {
			return errPlain
		}
		return err
	}
	h := &hearing{Conn: conn}
	defer h.Close()
	once := make(chan net.Conn, 1)
	once <- h
	o.Dialer = func(context.Context, string, string) (net.Conn, error) {
		select {
		case c := <-once:
			return c, nil
		default:
			return nil, errNoWay
		}
	}
	o.PoolSize, o.MinIdleConns, o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = 1, 0, -1, 1, true
	o.Limiter = nil
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	c := redis.NewClient(&o)
	defer c.Close()
	for range 2 { // the first one may have to make what the second one finds
		if _, err = s.beside(c).Exchange(ctx, share.Batch{Seq: 1, Limits: []share.Claim{{Limit: ample, Told: share.None}}, Asks: []refill.Cost{{1}}}); err != nil {
			break
		}
	}
	var answer redis.Error
	switch heard := h.heard(); {
	case err == nil, errors.As(err, &answer):
		return err
	case o.TLSConfig == nil && (heard == tlsAlert || heard == nothing && !timedOut(ctx, err) && speaksTLS(ctx, from)):
		return errTLS
	case heard == nothing && timedOut(ctx, err):
		return errSilent
	}
	return err
}

func timedOut(ctx context.Context, err error) bool { return ctx.Err() != nil || timeout(err) }

// name is the key whose slot those of a cluster are in.
func (s *store) name() string { return s.key }

// beside returns a store of a key beside that of s, in the same slot of a cluster.
func (s *store) beside(c redis.UniversalClient) *store {
	b := *s
	b.id = strconv.FormatUint(rand.Uint64(), 36) // or it would be thought to repeat itself
	b.client, b.key = c, s.key+":look"
	return &b
}

type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// dial makes a connection, or gives up with ctx whatever the dialer does: that of
// go-redis for TLS heeds no context.
func dial(ctx context.Context, o *redis.Options, d dialer) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		conn, err := d(ctx, o.Network, o.Addr)
		done <- result{conn, err}
	}()
	select {
	case r := <-done:
		if r.err != nil && ctx.Err() != nil && errors.Is(r.err, ctx.Err()) {
			r.err = errNoWay
		}
		return r.conn, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				r.conn.Close()
			}
		}()
		return nil, errNoWay
	}
}

// What a server may have said first, besides an answer.
const (
	nothing  = 0
	tlsAlert = 0x15 // the type of a TLS record, RFC 8446 section 5.1
)

// A hearing is a connection that remembers the first byte which came over it.
type hearing struct {
	net.Conn
	mu    sync.Mutex
	first byte
}

func (h *hearing) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	h.mu.Lock()
	defer h.mu.Unlock()
	if n > 0 && h.first == nothing {
		h.first = p[0]
	}
	return n, err
}

func (h *hearing) heard() byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.first
}

// speaksTLS reports whether a server answers to TLS.
func speaksTLS(ctx context.Context, o *redis.Options) bool {
	conn := plainConn(ctx, o)
	if conn == nil {
		return false
	}
	defer conn.Close()
	err := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
	var alert tls.AlertError
	return err == nil || errors.As(err, &alert) || strings.Contains(err.Error(), "remote error: tls:")
}

// speaksPlain reports whether a server answers as Redis does, without TLS.
func speaksPlain(ctx context.Context, o *redis.Options) bool {
	conn := plainConn(ctx, o)
	if conn == nil {
		return false
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return false
	}
	var answer [1]byte
	_, err := io.ReadFull(conn, answer[:])
	return err == nil && (answer[0] == '+' || answer[0] == '-')
}

// plainConn returns a connection to a server that lasts for a part of the time that
// is left. nil: there is none.
func plainConn(ctx context.Context, o *redis.Options) net.Conn {
	d := net.Dialer{Timeout: lookTime / 4}
	conn, err := d.DialContext(context.WithoutCancel(ctx), o.Network, o.Addr)
	if err != nil {
		return nil
	}
	_ = conn.SetDeadline(time.Now().Add(lookTime / 4))
	return conn
}
