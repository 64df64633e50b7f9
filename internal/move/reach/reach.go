// Package reach says in words for people why a server elsewhere cannot be reached. It connects
// to nobody.
package reach

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"syscall"
)

// Trouble is what kept a connection from being made.
type Trouble uint8

const (
	Unreachable Trouble = iota // for any other reason
	NoHost                     // there is none of that name
	Stopped                    // by the caller
	Silent                     // no answer in time
	Refused                    // nobody listens there
)

// Dial says why there is no connection to a host.
func Dial(host string, err error) (Trouble, string) {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return NoHost, "there is no host " + host
	case errors.Is(err, context.Canceled):
		return Stopped, "stopped while connecting to " + host
	case IsTimeout(err):
		return Silent, silent(host)
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused, host + " refuses the connection: nobody listens on that port"
	}
	return Unreachable, host + " cannot be reached"
}

// TLS says why TLS with a host failed: Silent if it did not answer, else Unreachable.
func TLS(host string, err error) (Trouble, string) {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var header tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		return Unreachable, "the certificate of " + host + " is from an authority that is not known here"
	case errors.As(err, &name):
		return Unreachable, "the certificate of " + host + " is not for that name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return Unreachable, "the certificate of " + host + " has expired or is not valid yet"
	case errors.As(err, &header):
		return Unreachable, host + " does not speak TLS on that port"
	case IsTimeout(err):
		return Silent, silent(host)
	case errors.Is(err, io.EOF):
		return Unreachable, host + " closed the connection when TLS began"
	}
	return Unreachable, "TLS with " + host + " failed"
}

func silent(host string) string { return host + " does not answer" }

// IsTimeout tells whether something took longer than it may.
func IsTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
