package redislimit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate/internal/limiter"
)

// A kind says what follows from an error of Redis, or of the way to it.
type kind uint8

const (
	passing kind = 1 << iota // it may pass by itself
	config                   // it does not
	single                   // it is of some keys: others may be well
	named                    // it is of one key, which is told
	unclear                  // another error may be behind it
)

// answers are the errors that Redis answers with, by what they begin with or,
// after an asterisk, contain. The first one that fits holds. What has no entry may
// pass. See "Errors" in https://redis.io/docs/latest/develop/reference/protocol-spec
// and the files networking.c, server.c, acl.c and script.c of Redis.
var answers = []struct {
	text string
	kind kind
	hint string
}{
	{"*ermissions to access", config | single, "its ACL user may not use such keys"},
	{"NOPERM", config, "its ACL user lacks a command"},
	{"*ACL failure in script", config, "its ACL user lacks a command"},
	{"*can't run this command", config, "its ACL user lacks a command"},
	{"*can't access at least one of the keys", config | single, "its ACL user may not use such keys"},
	{"WRONGPASS", config, ""},
	{"NOAUTH", config, ""},
	{"*unauthenticated", config, "NOAUTH: no password was given"}, // a script has more arguments than Redis reads before
	{"ERR invalid password", config, ""},
	{"ERR AUTH", config, ""},
	{"ERR Client sent AUTH", config, ""},
	{"DENIED", config, ""},
	{"*OOM command", config, "maxmemory is reached, and nothing may be evicted"},
	{"MISCONF", config, ""},
	{"CROSSSLOT", config | single, ""},
	{"*non local key", config | single, ""},
	{"WRONGTYPE", config | single | named, "something else is stored there"},
	{"*WRONGTYPE", config | single | named, "something else is stored there"},
	{"MOVED", config, "it is a cluster: use redis.NewClusterClient"},
	{"ASK", config, "it is a cluster: use redis.NewClusterClient"},
	{"*cluster support disabled", config, "it is not a cluster: use redis.NewClient"},
	{"*SELECT is not allowed in cluster mode", config, ""},
	{"*DB index", config, ""},
	{"*unknown command", config, "scripts are disabled"},
	{"*Unknown Redis command", config, "a command that scripts need is disabled"},
	{"*not allowed", config, ""},
	{"*disabled", config, ""},
	{"*READONLY", passing, ""}, // see trouble
	{"*user_script", config | single | named, "what is stored there is not of this version of tollgate"},
	{"*Error running script", config | single | named, "what is stored there is not of this version of tollgate"},
	{"*Error compiling script", config, ""},
	{"TRYAGAIN", passing | single, ""},
}

// within is where in a script an error came from, which nobody wants to know.
var within = regexp.MustCompile(`(?i)^ERR Error running script \(call to \w+\): |@?user_script: ?\d+: ?|,? ?script: \w+, on @user_script:\d+\.?`)

// Errors that look has found behind others.
var (
	errPlain  = errors.New("the client speaks TLS, the server does not: that port is not for TLS")
	errTLS    = errors.New("the server speaks TLS, the client does not: set TLSConfig")
	errSilent = errors.New("it accepts connections and does not answer")
	errNoWay  = errors.New("no connection comes about")
)

// trouble says what an error of an exchange about a key means. failover says that
// the client finds another server when one has become a replica.
func trouble(err error, key string, failover bool) (limiter.Trouble, kind) {
	var answer redis.Error
	if errors.As(err, &answer) && !errors.Is(err, redis.Nil) {
		return answered(err, answer.Error(), key, failover)
	}
	t := limiter.Trouble{What: "unreachable: " + reason(err), Err: err}
	k := passing
	var cert *tls.CertificateVerificationError
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var alert tls.AlertError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		t.Err, k = nil, passing|unclear // nobody's context is done
	case errors.Is(err, redis.ErrClosed):
		t.What, k = "unusable: "+reason(err), config
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		t.What, k = "not asked: "+reason(err), passing|single
	case errors.Is(err, errPlain), errors.Is(err, errTLS),
		errors.As(err, &cert), errors.As(err, &host), errors.As(err, &authority), errors.As(err, &invalid), errors.As(err, &alert):
		k = config
	case !definite(err):
		k |= unclear
	}
	t.Config = k&config != 0
	return t, k
}

// noWay reports whether an error says that no connection can be made.
func noWay(err error) bool {
	var answer redis.Error
	return err != nil && !errors.As(err, &answer) && !errors.Is(err, errSilent) && definite(err) || errors.Is(err, errTLS) || errors.Is(err, errPlain)
}

// definite reports whether an error of a connection says all that can be known.
func definite(err error) bool {
	var name *net.DNSError
	var number syscall.Errno
	switch {
	case errors.Is(err, errSilent), errors.Is(err, errNoWay):
		return true
	case errors.As(err, &name):
		return !name.IsTimeout
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return false // a server that expects TLS may do that
	}
	return errors.As(err, &number)
}

// answered says what an error that Redis has answered means.
func answered(err error, text, key string, failover bool) (limiter.Trouble, kind) {
	text = strings.TrimSpace(strings.TrimPrefix(within.ReplaceAllString(text, ""), "ERR "))
	whole := answerText(err)
	for _, a := range answers {
		part, anywhere := strings.CutPrefix(a.text, "*")
		if anywhere && !strings.Contains(whole, part) || !anywhere && !strings.HasPrefix(whole, part) {
			continue
		}
		k := a.kind
		switch {
		case part == "READONLY" && !failover:
			k, a.hint = config, "it is a replica"
		case (part == "MOVED" || part == "ASK") && failover:
			k, a.hint = passing|single, "its slots are moving"
		}
		if a.hint != "" {
			text += " (" + a.hint + ")"
		}
		name := ""
		if k&named != 0 {
			name = "key " + key + ": "
		}
		return limiter.Trouble{What: "refuses: " + name + text, Config: k&config != 0, Err: err}, k
	}
	return limiter.Trouble{What: "refuses: " + text, Err: err}, passing
}

// answerText is what Redis has answered, as it was.
func answerText(err error) string {
	var answer redis.Error
	if errors.As(err, &answer) {
		return answer.Error()
	}
	return err.Error()
}

// timeout reports whether an error is that the time was over.
func timeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// reason says in a few words why nothing was answered.
func reason(err error) string {
	var name *net.DNSError
	var number syscall.Errno
	switch {
	case errors.As(err, &name) && name.IsNotFound:
		return "no such host: " + name.Name
	case errors.As(err, &name):
		return "looking up " + name.Name + ": " + name.Err
	case errors.As(err, &number):
		return number.Error()
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return "all connections of the client's pool are in use"
	case errors.Is(err, redis.ErrClosed):
		return "its client is closed"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it closes the connection"
	case timeout(err):
		return "no answer in time"
	}
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "tollgate: redis: "), "redis: ")
}
