package imapc

import (
	"errors"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move/reach"
)

// Problem says what went wrong with a server, finer than a fault.Kind.
type Problem uint8

const (
	None        Problem = iota
	NoHost              // the name does not exist
	Refused             // nobody listens there, or no way leads there
	Timeout             // no answer for too long
	BadTLS              // the certificate, or TLS itself
	NoTLS               // the server offers no TLS, and the password is not for all to read
	BadLogin            // name, password or token were refused
	AppPassword         // the provider wants a password made for this use, or another way in
	Throttled           // too much or too many at once: wait and go on
	Lost                // the connection broke
	Wrong               // the server does not speak IMAP as it should
	No                  // the server said NO: Error.Code and Text say why
	Bad                 // the server said BAD
)

var problems = [...]string{
	"none", "no such host", "connection refused", "timeout", "TLS failed", "no TLS", "login refused", "app password needed",
	"throttled", "connection lost", "protocol error", "refused by the server", "command not understood by the server",
}

// String returns the problem in a few words.
func (p Problem) String() string { return problems[p] }

// Error is the cause in a *fault.Error of this package.
type Error struct {
	Problem Problem
	Status  string // NO, BAD, BYE or ""
	Code    string // response code in upper case, such as "TRYCREATE"
	Text    string // what the server said, at most 500 bytes, no control characters
	Alert   bool   // it is meant for people's eyes
	Cause   error
}

// Error returns it in words for a log.
func (e *Error) Error() string {
	s := e.Problem.String()
	if e.Code != "" {
		s += " [" + e.Code + "]"
	}
	if e.Text != "" {
		s += ": " + e.Text
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns what the system said.
func (e *Error) Unwrap() error { return e.Cause }

// ProblemOf returns what went wrong, None if err is not from a server.
func ProblemOf(err error) Problem {
	var e *Error
	if errors.As(err, &e) {
		return e.Problem
	}
	return None
}

// kinds says which kind of fault each problem is.
var kinds = [...]fault.Kind{
	None: fault.Internal, NoHost: fault.NotFound, Refused: fault.Unavailable, Timeout: fault.Unavailable, BadTLS: fault.Denied,
	NoTLS: fault.Denied, BadLogin: fault.Unauthenticated, AppPassword: fault.Unauthenticated, Throttled: fault.Limited,
	Lost: fault.Closed, Wrong: fault.Invalid, No: fault.Denied, Bad: fault.Unsupported,
}

func problem(p Problem, say string, cause error) error {
	return fault.Wrap(kinds[p], say, &Error{Problem: p, Cause: cause})
}

// dialProblems says what each trouble in reaching a host is.
var dialProblems = [...]Problem{reach.Unreachable: Refused, reach.NoHost: NoHost, reach.Stopped: Lost, reach.Silent: Timeout, reach.Refused: Refused}

// dialError says why there is no connection.
func dialError(host string, err error) error {
	why, say := reach.Dial(host, err)
	return problem(dialProblems[why], say, err)
}

// tlsError says why TLS failed.
func tlsError(host string, err error) error {
	why, say := reach.TLS(host, err)
	if why == reach.Silent {
		return problem(Timeout, say, err)
	}
	return problem(BadTLS, say, err)
}

// throttling are words by which servers say "too much" without a code of their own.
var throttling = []string{
	"too many simultaneous", "too many connections", "maximum number of connections", "number of connections exceeded",
	"bandwidth limit", "rate limit", "too many login", "too many requests", "exceeded command or bandwidth", "throttl", "request is too busy",
}

// appPasswords are words by which providers say that the password for the web is not the
// one for IMAP, or that a password is not the way.
var appPasswords = []string{
	"application-specific password", "app-specific password", "app password", "application password", "authorization code",
	"log in via your web browser", "less secure app", "basic authentication is disabled", "basicauthblocked", "imap access is disabled",
	"not enabled for imap", "two-factor", "2-step",
}

func says(text string, words []string) bool {
	text = strings.ToLower(text)
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// judge says what sort of problem a NO, BAD or BYE is. login: it answers a login.
func judge(st status, login bool) Problem {
	switch st.code {
	case "THROTTLED", "LIMIT", "INUSE", "UNAVAILABLE":
		return Throttled
	case "OVERQUOTA":
		// Gmail says so when it means its bandwidth; of APPEND it means the quota (RFC 9208).
		if login || says(st.text, throttling) {
			return Throttled
		}
		return No
	}
	switch {
	case says(st.text, throttling):
		return Throttled
	case login && (st.code == "WEBALERT" || says(st.text, appPasswords)):
		return AppPassword
	case login && st.word != "BYE":
		return BadLogin
	case st.word == "BYE":
		return Lost
	case st.word == "BAD":
		return Bad
	}
	return No
}

// refusal is the error for a NO, BAD or BYE.
func (c *Client) refusal(what string, st status, login bool) error {
	p := judge(st, login)
	e := &Error{Problem: p, Status: st.word, Code: st.code, Text: st.text, Alert: st.code == "ALERT" || c.alert != ""}
	text := st.text
	if c.alert != "" && c.alert != text && login {
		text = c.alert + " " + text
	}
	var say string
	switch p {
	case AppPassword:
		say = c.opt.Host + " wants an app password or another way to sign in"
	case BadLogin:
		say = c.opt.Host + " refuses the name or the password"
	case Throttled:
		say = c.opt.Host + " asks to wait"
	case Lost:
		say = c.opt.Host + " closed the connection"
	default:
		say = c.opt.Host + " refuses " + what
	}
	if text != "" {
		say += ": " + text
	}
	kind := kinds[p]
	if k, ok := codeKinds[st.code]; ok && p == No {
		kind = k
	}
	return fault.Wrap(kind, say, e)
}

// codeKinds are response codes that say more than NO (RFC 5530; RFC 9208).
var codeKinds = map[string]fault.Kind{
	"NONEXISTENT": fault.NotFound, "TRYCREATE": fault.NotFound, "ALREADYEXISTS": fault.Exists, "OVERQUOTA": fault.OverQuota,
	"TOOBIG": fault.TooLarge, "SERVERBUG": fault.Unavailable, "CANNOT": fault.Unsupported, "EXPIRED": fault.Unauthenticated,
}
