// Package sasl is the server's half of the authentication mechanisms: PLAIN
// (RFC 4616), LOGIN (draft-murchison-sasl-login), SCRAM-SHA-1 and SCRAM-SHA-256
// (RFC 5802, RFC 7677) and their -PLUS forms with channel binding (RFC 5929,
// RFC 9266), OAUTHBEARER (RFC 7628) and XOAUTH2, EXTERNAL (RFC 4422, appendix A).
//
// An Exchange is a step machine over bytes: it reads no socket and keeps no clock.
// Who may log in is asked through Credentials. The package stores nothing, slows
// nobody down and knows no protocol; IMAP, SMTP and POP3 carry its steps in base64
// (RFC 4648), for which Decode and Encode are here.
package sasl

import (
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// The mechanisms, by their registered names.
const (
	Plain           = "PLAIN"
	Login           = "LOGIN"
	ScramSHA1       = "SCRAM-SHA-1"
	ScramSHA256     = "SCRAM-SHA-256"
	ScramSHA1Plus   = "SCRAM-SHA-1-PLUS"
	ScramSHA256Plus = "SCRAM-SHA-256-PLUS"
	OAuthBearer     = "OAUTHBEARER"
	XOAuth2         = "XOAUTH2"
	External        = "EXTERNAL"
)

// MaxResponse bounds what a client may send in one step, in bytes before base64. It
// is the 12288 octets of a line that RFC 4954, 4 asks servers to take.
const MaxResponse = 12 << 10

// Credentials answers for the accounts of one server and one peer. Errors are
// *fault.Error; a wrong password and an unknown login give the same one.
type Credentials interface {
	// Verify checks a password as the client sent it. nil means that the login is
	// proven.
	Verify(login, password string) error

	// ScramKeys returns the login's keys for ScramSHA1 or ScramSHA256. For an
	// unknown login it returns FakeKeys, never an error that tells it apart.
	ScramKeys(login, mechanism string) (Keys, error)

	// ScramDone is told once how an exchange that showed a proof ended. The error
	// it returns refuses a login although it is proven, or says how a failure is
	// answered.
	ScramDone(login string, proven bool) error

	// VerifyToken checks an access token. login is whose the client says it is, ""
	// if it does not say; the name that is returned is proven. Denied means that the
	// token is good, and not for this. Asked only if Offer.Bearer is set.
	VerifyToken(login, token string) (name string, err error)

	// VerifyExternal tells who the client is by what is proven below, held against
	// the name it asks for, "" for none. Asked only if Offer.External is set.
	VerifyExternal(login string) (name string, err error)
}

// Offer says what one connection may use.
type Offer struct {
	// Protected is true under TLS and on a line the operator trusts. Without it no
	// mechanism is offered (RFC 4954, 4; RFC 9051, 11.1).
	Protected bool
	// Bindings of the connection's TLS, from Bindings. Without one there is no -PLUS.
	Bindings []Binding
	// Bearer is set where access tokens are taken.
	Bearer *Bearer
	// External is true where the connection itself proves who the client is.
	External bool
	// WithoutScram is true where there are logins whose passwords are only known in forms that
	// SCRAM can do nothing with.
	WithoutScram bool
	// Nonce makes what nobody may guess, in printable letters without a comma. It is
	// needed for SCRAM.
	Nonce func() string
}

// Mechanisms returns the names to announce, strongest first. It is nil on a line
// that is not protected.
func (o Offer) Mechanisms() (names []string) {
	if !o.Protected {
		return nil
	}
	if o.External {
		names = append(names, External)
	}
	if len(o.Bindings) > 0 && !o.WithoutScram {
		names = append(names, ScramSHA256Plus, ScramSHA1Plus)
	}
	if !o.WithoutScram {
		names = append(names, ScramSHA256, ScramSHA1)
	}
	if o.Bearer != nil {
		names = append(names, OAuthBearer, XOAuth2)
	}
	return append(names, Plain, Login)
}

// Exchange is one authentication under way. It is used by one goroutine.
type Exchange struct {
	mech  mechanism
	begun bool
	over  bool
}

// mechanism is one state machine. step never sees nil: the empty first challenge of
// a mechanism in which the client speaks first is made by Exchange.
type mechanism interface {
	serverFirst() []byte // the first challenge, or nil if the client speaks first
	step(response []byte) (challenge []byte, done bool, err error)
	login() string
}

// New starts an exchange by mechanism name, in any case. A name that is not in
// o.Mechanisms is Unsupported, or Denied if the line must be protected first.
func New(name string, o Offer, c Credentials) (*Exchange, error) {
	name = strings.ToUpper(name)
	if !o.Protected {
		return nil, fault.New(fault.Denied, "encryption is needed before authentication")
	}
	if !slices.Contains(o.Mechanisms(), name) {
		return nil, fault.New(fault.Unsupported, "authentication mechanism is not offered")
	}
	switch name {
	case Plain:
		return &Exchange{mech: &plain{creds: c}}, nil
	case Login:
		return &Exchange{mech: &loginMech{creds: c}}, nil
	case OAuthBearer, XOAuth2:
		return &Exchange{mech: &bearer{creds: c, hints: *o.Bearer, google: name == XOAuth2}}, nil
	case External:
		return &Exchange{mech: &external{creds: c}}, nil
	}
	return &Exchange{mech: newScram(name, o, c)}, nil
}

// Step takes the client's response and returns the next challenge, or done. The
// first call gets nil if the command carried no initial response, and a slice that
// is empty but not nil if it carried an empty one ("=" on the wire). A challenge is
// to be sent even if it is empty. After done or an error the exchange is over.
func (x *Exchange) Step(response []byte) (challenge []byte, done bool, err error) {
	if x.over {
		return nil, false, fault.New(fault.Invalid, "authentication exchange is over")
	}
	if len(response) > MaxResponse {
		x.over = true
		return nil, false, fault.New(fault.TooLarge, "authentication response is too long")
	}
	first := !x.begun
	x.begun = true
	if first && response == nil {
		if c := x.mech.serverFirst(); c != nil {
			return c, false, nil
		}
		return []byte{}, false, nil
	}
	challenge, done, err = x.mech.step(response)
	x.over = done || err != nil
	if err != nil {
		return nil, false, err
	}
	return challenge, done, nil
}

// Login returns the name that was proven, once Step has said done; before that it
// is what the client claims so far, for the log.
func (x *Exchange) Login() string { return x.mech.login() }

// failed is the one answer to wrong credentials, whatever is wrong with them.
func failed(cause error) error {
	return fault.Wrap(fault.Unauthenticated, "authentication failed", cause)
}

// malformed is the answer to a response that does not follow its mechanism's syntax.
func malformed(what string) error {
	return fault.New(fault.Invalid, "authentication response "+what)
}

// authorized tells whether authzid asks for no more than the login itself: nobody
// acts for somebody else here (RFC 4422, 3.4.1).
func authorized(authzid, login string) error {
	if authzid == "" || strings.EqualFold(authzid, login) {
		return nil
	}
	return fault.New(fault.Denied, "acting for another account is not allowed")
}
