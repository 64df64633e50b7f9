package pop3source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/martlet-mail/martlet/internal/fault"
)

// codes are the response codes by which a server says why not (RFC 2449, 8.1; RFC 3206, 4).
var codes = []struct {
	code string
	kind fault.Kind
	say  string
}{
	{"IN-USE", fault.Busy, "the mailbox at %s is in use by another program; close it, or try again in some minutes"},
	{"LOGIN-DELAY", fault.Limited, "%s allows a login only every few minutes; try again later"},
	{"SYS/TEMP", fault.Unavailable, "%s cannot do it now; try again later"},
	{"SYS/PERM", fault.Denied, "%s cannot do it: its administrator is needed"},
	{"AUTH", fault.Unauthenticated, "%s refuses the name or the password; many providers want a password made for this use (app password)"},
}

// refusal is what "-ERR" says.
func refusal(host, text string) error {
	text = printable(text)
	cause := errors.New(text)
	upper := strings.ToUpper(text)
	for _, c := range codes {
		if strings.HasPrefix(upper, "["+c.code) {
			return fault.Wrap(c.kind, strings.ReplaceAll(c.say, "%s", host)+" ("+text+")", cause)
		}
	}
	return fault.Wrap(fault.Denied, host+" says: "+text, cause)
}

// printable is a server's text as it may be shown.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0xfffd {
			return '?'
		}
		return r
	}, s)
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "..."
	}
	return s
}

func dialError(host string, err error) error {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return fault.Wrap(fault.NotFound, "there is no host "+host, err)
	case errors.Is(err, context.Canceled):
		return fault.Wrap(fault.Closed, "stopped while connecting to "+host, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fault.Wrap(fault.Unavailable, host+" refuses the connection: nobody listens on that port", err)
	}
	return fault.Wrap(fault.Unavailable, host+" cannot be reached", err)
}

func tlsError(host string, err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var header tls.RecordHeaderError
	say := "TLS with " + host + " failed"
	switch {
	case errors.As(err, &unknown):
		say = "the certificate of " + host + " is from an authority that is not known here"
	case errors.As(err, &name):
		say = "the certificate of " + host + " is not for that name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		say = "the certificate of " + host + " has expired or is not valid yet"
	case errors.As(err, &header):
		say = host + " does not speak TLS on this port"
	}
	return fault.Wrap(fault.Denied, say, err)
}

// lineError says why a session ended.
func lineError(host string, err error) error {
	var f *fault.Error
	var timeout net.Error
	switch {
	case errors.As(err, &f):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fault.Wrap(fault.Closed, "stopped", err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fault.Wrap(fault.Unavailable, host+" does not answer any more", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fault.Wrap(fault.Closed, host+" has closed the connection", err)
	}
	return fault.Wrap(fault.Closed, "the connection to "+host+" broke", err)
}
