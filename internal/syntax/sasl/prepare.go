package sasl

import (
	"unicode/utf8"

	"github.com/xdg-go/stringprep"

	"github.com/martlet-mail/martlet/internal/fault"
)

// MaxPassword bounds a password in bytes, before and after preparation.
const MaxPassword = 1024

// PreparePassword brings a password to the form that is hashed and compared, so that
// the same keys pressed on two devices give the same bytes: SASLprep (RFC 4013), and
// where that refuses (characters younger than Unicode 3.2, such as emoji, or mixed
// writing directions) the same mapping and normalisation without these two checks,
// in the spirit of RFC 8265, 4.2. Control characters and an empty result are
// Invalid; the error never quotes the password.
func PreparePassword(password string) (string, error) {
	if len(password) > MaxPassword {
		return "", fault.New(fault.TooLarge, "password is longer than 1024 bytes")
	}
	out, err := prepare(password)
	switch {
	case err != nil:
		return "", fault.New(fault.Invalid, "password has characters that cannot be used")
	case out == "":
		return "", fault.New(fault.Invalid, "password is empty")
	case len(out) > MaxPassword:
		return "", fault.New(fault.TooLarge, "password is longer than 1024 bytes")
	}
	return out, nil
}

// maxLogin bounds a login name in bytes, since preparation can make it eleven times
// as long and comes before anybody is known.
const maxLogin = 1024

// prepareLogin does the same for a login name (RFC 5802, 5.1; RFC 4616, 2).
func prepareLogin(name string) (string, error) {
	if len(name) > maxLogin {
		return "", fault.New(fault.TooLarge, "login name is longer than 1024 bytes")
	}
	out, err := prepare(name)
	switch {
	case err != nil:
		return "", failed(err)
	case out == "":
		return "", malformed("lacks a login name")
	}
	return out, nil
}

func prepare(s string) (string, error) {
	if isPrintableASCII(s) {
		return s, nil
	}
	if !utf8.ValidString(s) {
		return "", malformed("is not UTF-8")
	}
	if out, err := stringprep.SASLprep.Prepare(s); err == nil {
		return out, nil
	}
	return lenient().Prepare(s)
}

// lenient is SASLprep without unassigned code points and bidirectional checks.
func lenient() stringprep.Profile {
	return stringprep.Profile{
		Mappings:  stringprep.SASLprep.Mappings,
		Normalize: true,
		Prohibits: []stringprep.Set{
			stringprep.TableC1_2, stringprep.TableC2_1, stringprep.TableC2_2, stringprep.TableC3,
			stringprep.TableC4, stringprep.TableC5, stringprep.TableC6, stringprep.TableC7,
			stringprep.TableC8, stringprep.TableC9,
		},
	}
}

func isPrintableASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
