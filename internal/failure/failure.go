// Package failure says what the error of a round trip means for the next one:
// whether that may go better, and whether the request has reached a server at all.
// It goes by the types of errors where they have any, and by the texts of net/http
// and its like where they have none. It knows nothing of quotas and tries.
package failure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
)

// A Kind is what there is to be hoped for from another attempt.
type Kind uint8

// The kinds.
const (
	Passing Kind = iota // it may go better: a lost or refused connection, a timeout
	Lasting             // it will most likely fail in the same way
	Final               // there is no use in it: the context is done, the request cannot be sent, the server is not trusted
)

// Of returns the kind of an error.
func Of(err error) Kind {
	switch {
	case ended(err), invalid(err), distrusted(err), circling.MatchString(err.Error()):
		return Final
	case lasting(err):
		return Lasting
	}
	return Passing
}

// Sent reports whether a request that ended in an error may have reached a server.
// traced says that the base has told of the connection that it asked for (see
// httptrace.ClientTrace), and wrote that it has begun to write.
func Sent(err error, traced, wrote bool) bool {
	switch {
	case unprocessed(err):
		return false
	case traced || wrote:
		return wrote
	}
	return !before(err)
}

// ended reports whether err is a context's, and not just a timeout that passes for
// one.
func ended(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if err == context.Canceled || err == context.DeadlineExceeded {
			return true
		}
	}
	return false
}

// unsendable is for errors of requests that are refused before they are sent, or
// while they are written: by net/http, its HTTP/2 and quic-go's HTTP/3. None of
// them has a type.
var unsendable = regexp.MustCompile(`(?i)` +
	`\binvalid (?:http |request |\S+ request )?(?:header|trailer|method)\b` + // of a field, its name or its value
	`|\binvalid (?:request :path|host header|[\w-]+ request header)\b` +
	`|\bnil (?:request\.(?:url|header)|context|http\.request)\b` +
	`|\bno host (?:in request url|or url set)\b` +
	`|\bunsupported (?:protocol )?scheme\b` +
	`|\bcontentlength=\d+ with (?:nil body|body length)\b` +
	`|\brequest body larger than specified content length\b` +
	`|\bcan't write control character in request\.url\b`)

// circling is for the error of a base that is an http.Client.
var circling = regexp.MustCompile(`\bstopped after \d+ redirects\b`)

// broken is for errors of what the server has sent, which may call that invalid.
var broken = regexp.MustCompile(`\b(?:stream|connection) error\b|\bmalformed\b|\btransport connection broken\b`)

// invalid reports whether the request is not one that can be sent.
func invalid(err error) bool {
	text := err.Error()
	return unsendable.MatchString(text) && !broken.MatchString(text)
}

// refused is for errors without a type of their own that will come again.
var refused = regexp.MustCompile(`(?i)` +
	// OAuth 2.0 refuses to issue a token: RFC 6749, section 5.2. oauth2, Google's auth
	// packages and others have the code in their errors' texts.
	`\b(?:invalid_grant|invalid_client|unauthorized_client|unsupported_grant_type|invalid_scope)\b` +
	`|\btoken expired and refresh token is not set\b|\btransport's source is nil\b` + // oauth2
	// Mocks that have not been told of the request: httpmock, gock, go-vcr.
	`|\bno responder found\b|\bgock: cannot match any request\b|\brequested interaction not found\b` +
	// A proxy answers CONNECT with 407.
	`|\bproxy authentication required\b`)

// lasting reports whether an error says that the next attempt will meet it as well:
// a name that does not exist, an address that is none, a peer that speaks no TLS,
// credentials that were refused, a mock that knows of no answer.
func lasting(err error) bool {
	if d := find[*net.DNSError](err); d != nil {
		return (*d).IsNotFound
	}
	if a := find[tls.AlertError](err); a != nil {
		switch *a {
		case 0, 80, 90: // close notify, internal error, user canceled
			return false
		}
		return true
	}
	return unaddressed(err) || errors.Is(err, http.ErrSchemeMismatch) ||
		find[tls.RecordHeaderError](err) != nil || refused.MatchString(err.Error())
}

// distrusted reports whether a server's certificate was not accepted.
func distrusted(err error) bool {
	return find[*tls.CertificateVerificationError](err) != nil ||
		find[x509.UnknownAuthorityError](err) != nil ||
		find[x509.HostnameError](err) != nil ||
		find[x509.CertificateInvalidError](err) != nil ||
		find[x509.SystemRootsError](err) != nil
}

// unaddressed reports whether there is nothing to connect to, or it is not
// permitted.
func unaddressed(err error) bool {
	if o := find[*net.OpError](err); o != nil && dials(*o) && (errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist)) {
		return true // a firewall's rule; a socket in the file system
	}
	return find[*net.AddrError](err) != nil || find[*net.ParseError](err) != nil ||
		find[net.UnknownNetworkError](err) != nil || find[net.InvalidAddrError](err) != nil
}

// credentials is for errors of oauth2, and of Google's auth packages, which fetch a
// token before they send a request.
var credentials = regexp.MustCompile(`^oauth2(?:/\w+)?: |\bcannot fetch token\b`)

// before reports whether an error is one that comes before anything is sent.
func before(err error) bool {
	if o := find[*net.OpError](err); o != nil && dials(*o) {
		return true
	}
	return find[*net.DNSError](err) != nil || distrusted(err) || unaddressed(err) ||
		refused.MatchString(err.Error()) || credentials.MatchString(err.Error()) || invalid(err)
}

// dials reports whether an error is one of connecting, be it to a proxy.
func dials(o *net.OpError) bool {
	switch o.Op {
	case "dial", "proxyconnect", "socks connect":
		return true
	}
	return false
}

// returned is for the errors of HTTP/2 streams that the server has not looked at:
// RFC 9113, sections 6.8 and 8.7.
var returned = regexp.MustCompile(`; REFUSED_STREAM\b|received Server's graceful shutdown GOAWAY`)

// unprocessed reports whether an error says that the server has not looked at the
// request, though writing it had begun. net/http has a type for nothing having
// left the buffer, which it does not export.
func unprocessed(err error) bool {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if fmt.Sprintf("%T", e) == "http.nothingWrittenError" {
			return true
		}
	}
	return returned.MatchString(err.Error())
}

// find returns the first error of type T in err's tree; nil: there is none.
func find[T error](err error) *T {
	var x T
	if errors.As(err, &x) {
		return &x
	}
	return nil
}
