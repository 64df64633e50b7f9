package sasl

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Bearer is what a client whose access token is refused is told, so that it can get a
// better one (RFC 7628, 3.2.2).
type Bearer struct {
	Scope         string // that a token must have; "" asks for none
	Configuration string // URL of the issuer's OpenID configuration; "" tells none
}

// bearer is OAUTHBEARER (RFC 7628) and XOAUTH2, which came before it: both carry an
// access token and differ in the frame and in the words of a refusal.
type bearer struct {
	creds  Credentials
	hints  Bearer
	google bool // XOAUTH2

	who    string
	failed error // the refusal has been sent; what comes next only ends the exchange
}

func (*bearer) serverFirst() []byte { return nil }
func (b *bearer) login() string     { return b.who }

// step takes the token. A refusal has two steps: what is wrong with the token goes out
// as a challenge, and whatever the client answers ends the exchange (RFC 7628, 3.2.3).
func (b *bearer) step(response []byte) ([]byte, bool, error) {
	if b.failed != nil {
		return nil, false, b.failed
	}
	read := readBearer
	if b.google {
		read = readXOAuth2
	}
	claimed, auth, err := read(response)
	if err != nil {
		return nil, false, err
	}
	if claimed != "" {
		if claimed, err = prepareLogin(claimed); err != nil {
			return nil, false, err
		}
	}
	b.who = claimed
	token, ok := bearerToken(auth)
	if !ok { // also how a client asks for the scope (RFC 7628, 4.3)
		return b.refuse(failed(nil))
	}
	name, err := b.creds.VerifyToken(claimed, token)
	switch fault.Of(err) {
	case fault.Unauthenticated, fault.Denied:
		return b.refuse(err)
	}
	if err != nil { // nothing is wrong with the token as far as we know
		return nil, false, err
	}
	b.who = name
	return nil, true, nil
}

// refuse says why a token is refused.
func (b *bearer) refuse(why error) ([]byte, bool, error) {
	b.failed = why
	status, code := "invalid_token", "401"
	if fault.Is(why, fault.Denied) {
		status, code = "insufficient_scope", "403"
	}
	var text []byte
	if b.google {
		text, _ = json.Marshal(struct { // cannot fail
			Status  string `json:"status"`
			Schemes string `json:"schemes"`
			Scope   string `json:"scope,omitempty"`
		}{code, "bearer", b.hints.Scope})
	} else {
		text, _ = json.Marshal(struct {
			Status        string `json:"status"`
			Scope         string `json:"scope,omitempty"`
			Configuration string `json:"openid-configuration,omitempty"`
		}{status, b.hints.Scope, b.hints.Configuration})
	}
	return text, false, nil
}

const pairEnd = "\x01"

// readBearer reads a client's response of OAUTHBEARER (RFC 7628, 3.1): the GS2 header
// with the name it claims, if any, and among the pairs what would be the field
// Authorization of HTTP. Host and port, which it may tell, are not looked at: a token
// is not bound to them, and a server does not know all its names.
func readBearer(response []byte) (claimed, auth string, err error) {
	header, pairs, ok := strings.Cut(string(response), pairEnd)
	flag, rest, ok2 := strings.Cut(header, ",")
	authzid, ok3 := strings.CutSuffix(rest, ",")
	switch {
	case !ok || !ok2 || !ok3:
		return "", "", malformed("is not of the form OAUTHBEARER has")
	case strings.HasPrefix(flag, "p="):
		return "", "", fault.New(fault.Unsupported, "OAUTHBEARER has no channel binding")
	case flag != "n" && flag != "y":
		return "", "", malformed("is not of the form OAUTHBEARER has")
	}
	if authzid != "" {
		name, ok := strings.CutPrefix(authzid, "a=")
		if claimed, ok2 = saslName(name); !ok || !ok2 || claimed == "" {
			return "", "", malformed("has a name that cannot be read")
		}
	}
	auth, err = readPairs(pairs, "auth")
	return claimed, auth, err
}

// readXOAuth2 reads a client's response of XOAUTH2: the pairs user and auth.
func readXOAuth2(response []byte) (claimed, auth string, err error) {
	if claimed, err = readPairs(string(response), "user"); err == nil {
		auth, err = readPairs(string(response), "auth")
	}
	if err == nil && claimed == "" {
		err = malformed("lacks a user")
	}
	return claimed, auth, err
}

// readPairs returns the value of a key, "" if it is not there. Each pair ends with ^A,
// and all of them with one more. Other keys are ignored.
func readPairs(text, key string) (value string, err error) {
	list, ok := strings.CutSuffix(text, pairEnd)
	if !ok || list != "" && !strings.HasSuffix(list, pairEnd) {
		return "", malformed("does not end as it must")
	}
	found := false
	for pair := range strings.SplitSeq(strings.TrimSuffix(list, pairEnd), pairEnd) {
		name, v, ok := strings.Cut(pair, "=")
		switch {
		case list == "":
		case !ok || !isWord(name) || strings.ContainsFunc(v, isControl):
			return "", malformed("has a pair that cannot be read")
		case name == key && found:
			return "", malformed("tells the same twice")
		case name == key:
			value, found = v, true
		}
	}
	return value, nil
}

// isControl finds what a value may not have; line ends are allowed (RFC 7628, 3.1).
// The name in XOAUTH2 may go beyond ASCII.
func isControl(r rune) bool {
	return r < ' ' && r != '\t' && r != '\r' && r != '\n' || r == 0x7f || r == '\uFFFD'
}

func isWord(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return s != ""
}

// saslName takes the escapes off a name (RFC 5801, 4).
func saslName(s string) (string, bool) {
	plain := strings.NewReplacer("=2C", ",", "=3D", "=").Replace(s)
	escapes := strings.Count(s, "=2C") + strings.Count(s, "=3D")
	return plain, strings.Count(s, "=") == escapes && !strings.ContainsAny(s, ",\x00")
}

// bearerToken returns the token of a field Authorization (RFC 6750, 2.1).
func bearerToken(auth string) (token string, ok bool) {
	const scheme = "bearer "
	if len(auth) < len(scheme) || !strings.EqualFold(auth[:len(scheme)], scheme) {
		return "", false
	}
	token = strings.TrimLeft(auth[len(scheme):], " ")
	body := strings.TrimRight(token, "=")
	for i := range len(body) {
		c := body[i]
		if !isWord(body[i:i+1]) && (c < '0' || c > '9') && bytes.IndexByte([]byte("-._~+/"), c) < 0 {
			return "", false
		}
	}
	return token, body != ""
}
