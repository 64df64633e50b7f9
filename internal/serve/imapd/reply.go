package imapd

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/internal/fault"
)

// reply is the tagged answer to a command.
type reply struct {
	status string // "OK", "NO" or "BAD"
	code   string // a response code without its brackets, or ""
	text   string
	sent   bool // the handler has written it already
}

// ok is the answer of a command that was carried out.
func ok(text string) reply { return reply{status: "OK", text: text} }

// okCode is ok with a response code.
func okCode(code, text string) reply { return reply{status: "OK", code: code, text: text} }

// no refuses a command that was understood.
func no(code, format string, args ...any) reply {
	return reply{status: "NO", code: code, text: fmt.Sprintf(format, args...)}
}

// bad refuses a command that makes no sense.
func bad(format string, args ...any) reply {
	return reply{status: "BAD", text: fmt.Sprintf(format, args...)}
}

// note writes an untagged status response (RFC 9051, 7.1).
func (s *session) note(status, code, text string) {
	s.answer("*", reply{status: status, code: code, text: text})
}

// answer writes a status response.
func (s *session) answer(tag string, r reply) {
	e := s.enc.Raw(tag).SP().Raw(r.status)
	if r.code != "" {
		e.Raw(" [").Raw(r.code).Raw("]")
	}
	e.SP()
	if r.text == "" {
		r.text = "done"
	}
	e.Raw(strings.Map(s.printable, s.say(r.text))).CRLF()
}

// printable keeps texts to what they may hold: no line ends, and ASCII until the client
// has chosen a language (RFC 9051, 9; RFC 5255, 3.2).
func (s *session) printable(c rune) rune {
	if c < ' ' || c == 0x7f || c > 0x7f && s.lang == nil || c == utf8.RuneError {
		return '?'
	}
	return c
}

// codes gives each kind of failure its response code (RFC 5530, RFC 9051, 7.1; TOOBIG
// from RFC 4469). A syntax error is BAD and needs none; Invalid here is an argument
// that was understood and cannot be, such as a mailbox name the store refuses.
var codes = map[fault.Kind]string{
	fault.Internal:        "SERVERBUG",
	fault.Invalid:         "CANNOT",
	fault.Unsupported:     "CANNOT",
	fault.Unauthenticated: "AUTHENTICATIONFAILED",
	fault.Denied:          "NOPERM",
	fault.NotFound:        "NONEXISTENT",
	fault.Exists:          "ALREADYEXISTS",
	fault.TooLarge:        "TOOBIG",
	fault.OverQuota:       "OVERQUOTA",
	fault.Limited:         "LIMIT",
	fault.Busy:            "INUSE",
	fault.Unavailable:     "UNAVAILABLE",
	fault.Corrupt:         "CORRUPTION",
	fault.Unknown:         "UNAVAILABLE",
}

// fatal marks an error that ends the session.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

func isFatal(err error) bool {
	var f fatal
	return errors.As(err, &f)
}

// answered is an error whose answer is not that of its kind.
type answered struct {
	status, code string
	error
}

func (a answered) Unwrap() error { return a.error }

// coded gives an error a response code of its own.
func coded(code string, err error) error { return answered{"NO", code, err} }

// misuse makes the answer BAD: arguments that only the view can know to be wrong.
func misuse(err error) error { return answered{"BAD", "", err} }

func isMisuse(err error) bool {
	var a answered
	return errors.As(err, &a) && a.status == "BAD"
}
