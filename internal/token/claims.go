package token

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// clockSkew is how far the issuer's clock may be from ours.
const clockSkew = time.Minute

// claims are what a token says (RFC 7519, 4.1), or what its issuer says of it.
type claims struct {
	issuer    string
	audience  oneOrAll
	expires   *moment
	notBefore *moment
	scope     oneOrAll // words in one string (RFC 8693, 4.2)
	scopes    oneOrAll // as some issuers call it
	verified  *truth
	active    bool // only said of a token (RFC 7662, 2.2)

	all map[string]json.RawMessage
}

// readClaims reads a JSON object. Names are taken to the letter: a claim that only looks
// like another may be one that users write themselves.
func readClaims(text []byte) (*claims, error) {
	c := &claims{}
	if err := json.Unmarshal(text, &c.all); err != nil {
		return nil, err
	}
	for name, to := range map[string]any{
		"iss": &c.issuer, "aud": &c.audience, "exp": &c.expires, "nbf": &c.notBefore, "scope": &c.scope, "scp": &c.scopes,
		"email_verified": &c.verified, "active": &c.active,
	} {
		raw, ok := c.all[name]
		if !ok {
			continue
		}
		if err := json.Unmarshal(raw, to); err != nil {
			return nil, fmt.Errorf("claim %s: %w", name, err)
		}
	}
	return c, nil
}

// oneOrAll is a string or a list of strings.
type oneOrAll []string

func (o *oneOrAll) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]string)(o))
	}
	var one string
	err := json.Unmarshal(b, &one)
	*o = oneOrAll{one}
	return err
}

// moment is a number of seconds since 1970, which may have a fraction.
type moment float64

func (m moment) time() time.Time { return time.Unix(int64(m), 0) }

// truth is true, or "true", as some issuers write it.
type truth bool

func (t *truth) UnmarshalJSON(b []byte) error {
	*t = truth(string(b) == "true" || string(b) == `"true"`)
	return nil
}

// judge holds what a genuine token says against what is asked for, and returns the
// account it names.
func (i *Issuer) judge(c *claims, now time.Time) (string, error) {
	o := &i.opt
	switch {
	case c.issuer != o.Issuer && !(o.Introspect && c.issuer == ""):
		return "", invalid("the token is of the issuer %.100q", c.issuer)
	case len(o.Audience) > 0 && !slices.ContainsFunc(o.Audience, func(a string) bool { return slices.Contains(c.audience, a) }):
		return "", invalid("the token is for %.200q", []string(c.audience))
	case c.expires == nil && !o.Introspect:
		return "", invalid("the token has no end")
	case c.expires != nil && now.After(c.expires.time().Add(clockSkew)):
		return "", invalid("the token was good until %v", c.expires.time().UTC())
	case c.notBefore != nil && now.Before(c.notBefore.time().Add(-clockSkew)):
		return "", invalid("the token is not good before %v", c.notBefore.time().UTC())
	case !c.hasScope(o.Scope):
		return "", fault.Newf(fault.Denied, "the access token lacks the scope %s", o.Scope)
	}
	return i.accountOf(c)
}

func (c *claims) hasScope(want string) bool {
	if want == "" {
		return true
	}
	for _, text := range append(c.scope[:len(c.scope):len(c.scope)], c.scopes...) {
		if slices.Contains(strings.Fields(text), want) {
			return true
		}
	}
	return false
}

// accountOf reads the claim that names the account. An e-mail address that its holder
// has not proven to be his is nobody's: at many issuers anybody can enter any.
func (i *Issuer) accountOf(c *claims) (string, error) {
	var name string
	if err := json.Unmarshal(c.all[i.opt.Claim], &name); err != nil || name == "" {
		return "", invalid("the token has no claim %s that names an account", i.opt.Claim)
	}
	if i.opt.Claim == "email" && c.verified != nil && !bool(*c.verified) {
		return "", invalid("the issuer has not verified the address %.100q", name)
	}
	if !strings.Contains(name, "@") && i.opt.Domain != "" {
		name += "@" + i.opt.Domain
	}
	return name, nil
}
