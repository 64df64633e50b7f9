package directory

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
)

// issuer knows tokens by heart. The error of a token comes before its name.
type issuer map[string]struct {
	name string
	err  error
}

func (i issuer) Check(_ context.Context, token string) (string, error) {
	if t, ok := i[token]; ok {
		return t.name, t.err
	}
	return "", fault.New(fault.Unauthenticated, "token is not valid")
}

func (issuer) Hints() sasl.Bearer { return sasl.Bearer{Scope: "mail"} }

func tokens() issuer {
	return issuer{
		"alice":  {name: "ALICE@example.org"},
		"nobody": {name: "nobody@example.org"},
		"odd":    {name: "not an address"},
		"alias":  {name: "al@example.org"},
		"narrow": {err: fault.New(fault.Denied, "token is not for mail")},
		"down":   {err: fault.New(fault.Unavailable, "ask later")},
	}
}

func withTokens(t *testing.T) (f *fixture, alice Account) {
	t.Helper()
	f = setUp(t)
	alice = f.add(t, "Alice@example.org", "")
	f.mustDo(t, f.AddAlias(bg, at("al@example.org"), alice.Address))
	f.opt.Tokens = tokens()
	f.Close()
	f.open(t)
	return f, alice
}

func TestTokens(t *testing.T) {
	f, alice := withTokens(t)
	for _, c := range []struct {
		login, token string
		kind         fault.Kind // Internal: success
	}{
		{"", "alice", 0}, {"aLICE@example.org", "alice", 0}, {"bob@example.org", "alice", fault.Unauthenticated},
		{"alice", "alice", fault.Unauthenticated}, {"", "nobody", fault.Unauthenticated}, {"", "odd", fault.Unauthenticated},
		{"", "alias", fault.Unauthenticated}, {"al@example.org", "alice", fault.Unauthenticated},
		{"", "wrong", fault.Unauthenticated}, {"", "narrow", fault.Denied}, {"", "down", fault.Unavailable},
	} {
		a := f.Attempt(bg, line{from: home})
		name, err := a.VerifyToken(c.login, c.token)
		if c.kind != 0 {
			wantKind(t, c.login+" "+c.token, err, c.kind)
			if a.Account().ID != 0 {
				t.Errorf("%s %s: %+v although refused", c.login, c.token, a.Account())
			}
			continue
		}
		if err != nil || name != alice.Address.String() || a.Account().ID != alice.ID {
			t.Errorf("%s %s: %q, %+v, %v", c.login, c.token, name, a.Account(), err)
		}
	}
	if _, err := setUp(t).Attempt(bg, line{from: home}).VerifyToken("", "alice"); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("without an issuer: %v", err)
	}
}

// Failures with tokens are slowed as those with passwords are, and in the same buckets.
func TestTokensAndTheBrake(t *testing.T) {
	f, _ := withTokens(t)
	try := func(login, token string) error {
		_, err := f.Attempt(bg, line{from: home}).VerifyToken(login, token)
		return err
	}
	for range 20 {
		wantKind(t, "guess", try("alice@example.org", "wrong"), fault.Unauthenticated)
	}
	if !slices.IsSorted(f.slept) || f.slept[19] <= f.slept[0] {
		t.Errorf("answers came after %v", f.slept)
	}
	wantKind(t, "right, too late", try("alice@example.org", "alice"), fault.Limited)
	wantKind(t, "a password, too late", f.try("alice@example.org", "x", home), fault.Limited)
	f.pass(time.Hour)
	f.mustDo(t, try("alice@example.org", "alice"))

	// What names nobody is counted by its address, and locks nobody out elsewhere.
	for range 40 {
		wantKind(t, "nameless guess", try("", "wrong"), fault.Unauthenticated)
	}
	wantKind(t, "nameless, over the limit", try("", "alice"), fault.Limited)
	if _, err := f.Attempt(bg, line{from: away}).VerifyToken("", "alice"); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
	f.pass(time.Hour)
	for range 100 { // an issuer that is down is nobody's failure
		wantKind(t, "down", try("alice@example.org", "down"), fault.Unavailable)
	}
	f.mustDo(t, try("alice@example.org", "alice"))
}

func TestCertificates(t *testing.T) {
	f := setUp(t)
	alice, bob := f.add(t, "alice@example.org", ""), f.add(t, "bob@example.org", "")
	f.opt.CertificateNames = map[string]string{"CN=Bob,O=Example": "bob@example.org", "CN=Ghost": "ghost@example.org"}
	f.Close()
	f.open(t)
	cert := func(cn string, org []string, emails ...string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: cn, Organization: org}, EmailAddresses: emails}
	}
	for _, c := range []struct {
		about string
		cert  *x509.Certificate
		login string
		want  Account
		kind  fault.Kind
	}{
		{"none", nil, "", Account{}, fault.Unauthenticated},
		{"address", cert("x", nil, "ALICE@example.org"), "", alice, 0},
		{"address, and asked for", cert("x", nil, "alice@example.org"), "Alice@example.org", alice, 0},
		{"asks for another", cert("x", nil, "alice@example.org"), "bob@example.org", Account{}, fault.Denied},
		{"the first that is here", cert("x", nil, "odd", "x@elsewhere.test", "bob@example.org", "alice@example.org"), "", bob, 0},
		{"the one asked for", cert("x", nil, "bob@example.org", "alice@example.org"), "alice@example.org", alice, 0},
		{"mapped", cert("Bob", []string{"Example"}), "", bob, 0},
		{"mapped before its address", cert("Bob", []string{"Example"}, "alice@example.org"), "alice@example.org", Account{}, fault.Denied},
		{"mapped to nobody", cert("Ghost", nil, "alice@example.org"), "", Account{}, fault.Unauthenticated},
		{"stands for nobody", cert("alice@example.org", nil), "", Account{}, fault.Unauthenticated},
	} {
		on := line{from: home, cert: c.cert}
		offered := f.Offer(bg, on).External
		a := f.Attempt(bg, on)
		name, err := a.VerifyExternal(c.login)
		if c.kind != 0 {
			wantKind(t, c.about, err, c.kind)
		} else if err != nil || name != c.want.Address.String() {
			t.Errorf("%s: %q, %v", c.about, name, err)
		}
		if a.Account().ID != c.want.ID || offered != (c.kind != fault.Unauthenticated) {
			t.Errorf("%s: account %+v, offered %v", c.about, a.Account(), offered)
		}
	}
}

func TestOffer(t *testing.T) {
	f, _ := withTokens(t)
	if o := f.Offer(bg, line{}); o.Bearer == nil || o.Bearer.Scope != "mail" || o.External || !o.Protected {
		t.Errorf("%+v", o)
	}
	if o := setUp(t).Offer(bg, line{}); o.Bearer != nil {
		t.Errorf("tokens are offered without an issuer")
	}
}
