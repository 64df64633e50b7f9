package sasl

import (
	"bytes"
	"unicode/utf8"
)

// external is the mechanism EXTERNAL (RFC 4422, appendix A): who the client is has
// been proven below, by a certificate of TLS. The response is the name it wants to act
// for, and empty if that follows from the proof.
type external struct {
	creds Credentials
	who   string
}

func (*external) serverFirst() []byte { return nil }
func (e *external) login() string     { return e.who }

func (e *external) step(response []byte) ([]byte, bool, error) {
	if !utf8.Valid(response) || bytes.IndexByte(response, 0) >= 0 {
		return nil, false, malformed("is not of the form EXTERNAL has")
	}
	if len(response) > 0 {
		name, err := prepareLogin(string(response))
		if err != nil {
			return nil, false, err
		}
		e.who = name
	}
	name, err := e.creds.VerifyExternal(e.who)
	if err != nil {
		return nil, false, err
	}
	e.who = name
	return nil, true, nil
}
