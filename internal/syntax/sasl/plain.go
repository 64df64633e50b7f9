package sasl

import (
	"bytes"
	"unicode/utf8"
)

// plain is the mechanism PLAIN (RFC 4616, 2).
type plain struct {
	creds Credentials
	who   string
}

func (*plain) serverFirst() []byte { return nil }
func (p *plain) login() string     { return p.who }

// step reads [authzid] NUL authcid NUL password.
func (p *plain) step(response []byte) ([]byte, bool, error) {
	authzid, rest, ok := bytes.Cut(response, []byte{0})
	authcid, password, ok2 := bytes.Cut(rest, []byte{0})
	if !ok || !ok2 || bytes.IndexByte(password, 0) >= 0 || !utf8.Valid(response) {
		return nil, false, malformed("is not of the form PLAIN has")
	}
	if len(authcid) == 0 || len(password) == 0 {
		return nil, false, malformed("lacks a login name or a password")
	}
	name, err := prepareLogin(string(authcid))
	if err != nil {
		return nil, false, err
	}
	p.who = name
	if err := authorized(string(authzid), name); err != nil {
		return nil, false, err
	}
	if err := p.creds.Verify(name, string(password)); err != nil {
		return nil, false, err
	}
	return nil, true, nil
}
