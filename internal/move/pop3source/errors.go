package pop3source

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move/reach"
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

// dialKinds says what kind of fault each trouble in reaching a host is.
var dialKinds = [...]fault.Kind{
	reach.Unreachable: fault.Unavailable, reach.NoHost: fault.NotFound, reach.Stopped: fault.Closed, reach.Silent: fault.Unavailable, reach.Refused: fault.Unavailable,
}

// dialError says why there is no connection.
func dialError(host string, err error) error {
	why, say := reach.Dial(host, err)
	return fault.Wrap(dialKinds[why], say, err)
}

// tlsError says why TLS failed.
func tlsError(host string, err error) error {
	why, say := reach.TLS(host, err)
	if why == reach.Silent {
		return fault.Wrap(fault.Unavailable, say, err)
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
