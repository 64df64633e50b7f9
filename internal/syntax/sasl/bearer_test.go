package sasl

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

var tokens = Offer{Nonce: rand.Text, Protected: true, Bearer: &Bearer{Scope: "example_scope", Configuration: "https://example.com/.well-known/openid-configuration"}}

// The exchanges of RFC 7628, 4, of which those with OAuth 1.0a are left out, and of
// Google's page on XOAUTH2.
func TestBearerExamples(t *testing.T) {
	const good = goodToken
	const refusal = `{"status":"invalid_token","scope":"example_scope","openid-configuration":"https://example.com/.well-known/openid-configuration"}`
	for _, c := range []struct {
		about, mech, first, challenge string
		kind                          fault.Kind // Internal: success
	}{
		{"IMAP", OAuthBearer, "n,a=user@example.com,^Ahost=server.example.com^Aport=143^Aauth=Bearer " + good + "^A^A", "", 0},
		{"SMTP", OAuthBearer, "n,a=user@example.com,^Ahost=server.example.com^Aport=587^Aauth=Bearer " + good + "^A^A", "", 0},
		{"any case, no name", OAuthBearer, "y,,^Aauth=bEaReR  " + good + "^A^A", "", 0},
		{"what is the scope", OAuthBearer, "n,a=user@example.com,^Ahost=server.example.com^Aport=143^Aauth=^A^A", refusal, fault.Unauthenticated},
		{"no token at all", OAuthBearer, "n,,^A^A", refusal, fault.Unauthenticated},
		{"other scheme", OAuthBearer, "n,,^Aauth=Basic " + good + "^A^A", refusal, fault.Unauthenticated},
		{"no token of the form", OAuthBearer, "n,,^Aauth=Bearer a b^A^A", refusal, fault.Unauthenticated},
		{"wrong token", OAuthBearer, "n,,^Aauth=Bearer wrong^A^A", refusal, fault.Unauthenticated},
		{"somebody else's", OAuthBearer, "n,a=root,^Aauth=Bearer " + good + "^A^A", refusal, fault.Unauthenticated},
		{"not for mail", OAuthBearer, "n,,^Aauth=Bearer narrow^A^A", strings.Replace(refusal, "invalid_token", "insufficient_scope", 1), fault.Denied},
		{"XOAUTH2", "xoauth2", "user=user@example.com^Aauth=Bearer " + good + "^A^A", "", 0},
		{"wrong", XOAuth2, "user=user@example.com^Aauth=Bearer wrong^A^A", `{"status":"401","schemes":"bearer","scope":"example_scope"}`, fault.Unauthenticated},
		{"not for mail", XOAuth2, "user=user@example.com^Aauth=Bearer narrow^A^A", `{"status":"403","schemes":"bearer","scope":"example_scope"}`, fault.Denied},
	} {
		for _, answer := range []string{"^A", "", "anything"} {
			b := newBook()
			x, challenges, done, err := run(t, c.mech, tokens, b, raw(c.first), raw(answer))
			if done != (c.challenge == "") || (err == nil) != done || err != nil && !fault.Is(err, c.kind) {
				t.Errorf("%s, %s: done %v, %v", c.mech, c.about, done, err)
			}
			if got := strings.Join(challenges, "\n"); got != c.challenge {
				t.Errorf("%s, %s: %q, want %q", c.mech, c.about, got, c.challenge)
			}
			if done && x.Login() != "user@example.com" {
				t.Errorf("%s, %s: login %q", c.mech, c.about, x.Login())
			}
			if _, done, err := x.Step(raw(c.first)); done || !fault.Is(err, fault.Invalid) {
				t.Errorf("%s, %s: there is something after the end: %v", c.mech, c.about, err)
			}
		}
	}
}

func raw(s string) []byte { return []byte(strings.ReplaceAll(s, "^A", "\x01")) }

// A token that nobody could check is not refused by name: the client keeps it.
func TestBearerUnavailable(t *testing.T) {
	_, challenges, done, err := run(t, OAuthBearer, tokens, newBook(), raw("n,,^Aauth=Bearer busy^A^A"), raw("^A"))
	if done || len(challenges) > 0 || !fault.Is(err, fault.Unavailable) {
		t.Errorf("%q, %v", challenges, err)
	}
}

func TestBearerMalformed(t *testing.T) {
	for _, c := range []struct{ mech, first string }{
		{OAuthBearer, "^A"}, {OAuthBearer, ""}, {OAuthBearer, "n,"}, {OAuthBearer, "n,,"}, {OAuthBearer, "n,,^A"},
		{OAuthBearer, "x,,^A^A"}, {OAuthBearer, ",,^A^A"}, {OAuthBearer, "n,user,^A^A"}, {OAuthBearer, "n,a=,^A^A"},
		{OAuthBearer, "n,a=us=er,^A^A"}, {OAuthBearer, "n,a=us=2cer,^A^A"}, {OAuthBearer, "n,a=u,s,^A^A"},
		{OAuthBearer, "n,,^Aauth=Bearer x^A"}, {OAuthBearer, "n,,^Aauth=Bearer x"}, {OAuthBearer, "n,,^Aauth^A^A"},
		{OAuthBearer, "n,,^A=x^A^A"}, {OAuthBearer, "n,,^Aa1=x^A^A"}, {OAuthBearer, "n,,^Aauth=a\x00b^A^A"},
		{OAuthBearer, "n,,^Aauth=Bearer x^Aauth=Bearer y^A^A"}, {OAuthBearer, "n,,^Aauth=\xff^A^A"}, {OAuthBearer, "n,,^A^A^A"},
		{XOAuth2, ""}, {XOAuth2, "^A"}, {XOAuth2, "^A^A"}, {XOAuth2, "user=^Aauth=Bearer x^A^A"}, {XOAuth2, "auth=Bearer x^A^A"},
		{XOAuth2, "user=u^Aauth=Bearer x^A"}, {XOAuth2, "user=u^Auser=v^Aauth=Bearer x^A^A"},
	} {
		b := newBook()
		_, challenges, done, err := run(t, c.mech, tokens, b, raw(c.first), raw("^A"))
		if done || len(challenges) > 0 || !fault.Is(err, fault.Invalid) || len(b.asked) > 0 {
			t.Errorf("%s %q: %q, %v, asked %q", c.mech, c.first, challenges, err, b.asked)
		}
	}
	if _, _, _, err := run(t, OAuthBearer, tokens, newBook(), raw("p=tls-exporter,,^A^A")); !fault.Is(err, fault.Unsupported) {
		t.Errorf("channel binding: %v", err)
	}
}

func TestBearerNames(t *testing.T) {
	for first, want := range map[string]string{
		"n,a=a=2Cb=3D2C@example.com,^Ahost=h^Aport=1^Aauth=Bearer t.o-k_e~n+/9==^A^A": "a,b=2C@example.com t.o-k_e~n+/9==",
		"n,,^Aauth=Bearer x^A^A": " x",
		"n,a=j\u00fcrg@example.com,^Aother=a=b\r\n\tc^Aauth=Bearer x^A^A": "j\u00fcrg@example.com x",
	} {
		b := newBook()
		run(t, OAuthBearer, tokens, b, raw(first))
		if strings.Join(b.asked, ",") != want {
			t.Errorf("%q: asked %q, want %q", first, b.asked, want)
		}
	}
}

func TestExternal(t *testing.T) {
	proven := Offer{Nonce: rand.Text, Protected: true, External: true}
	for _, c := range []struct {
		about     string
		responses []string
		kind      fault.Kind
	}{
		{"initial response", []string{"user"}, 0},
		{"empty initial response", []string{""}, 0},
		{"somebody else", []string{"root"}, fault.Denied},
		{"NUL", []string{"us\x00er"}, fault.Invalid},
		{"not UTF-8", []string{"\xff"}, fault.Invalid},
	} {
		b := newBook()
		x, challenges, done, err := run(t, External, proven, b, raw(c.responses[0]))
		if done != (c.kind == 0) || done && x.Login() != "user" || !done && !fault.Is(err, c.kind) || len(challenges) > 0 {
			t.Errorf("%s: done %v, login %q, %v", c.about, done, x.Login(), err)
		}
	}
	if _, challenges, done, err := run(t, External, proven, newBook(), nil, []byte{}); !done || err != nil || strings.Join(challenges, "") != "" {
		t.Errorf("no initial response: %q %v %v", challenges, done, err)
	}
}

// What is not configured is neither offered nor taken.
func TestNotOffered(t *testing.T) {
	for _, o := range []Offer{open, {Bearer: &Bearer{}, External: true}} {
		for _, mech := range []string{OAuthBearer, XOAuth2, External} {
			if strings.Contains(strings.Join(o.Mechanisms(), " "), mech) {
				t.Errorf("%s is offered by %+v", mech, o)
			}
			if _, err := New(mech, o, newBook()); err == nil {
				t.Errorf("%s begins on %+v", mech, o)
			}
		}
	}
	all := Offer{Nonce: rand.Text, Protected: true, Bearer: &Bearer{}, External: true, Bindings: []Binding{{"tls-exporter", []byte("x")}}}
	const want = "EXTERNAL SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-1 OAUTHBEARER XOAUTH2 PLAIN LOGIN"
	if got := strings.Join(all.Mechanisms(), " "); got != want {
		t.Errorf("%s", got)
	}
}
