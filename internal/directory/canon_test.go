package directory

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

func TestCanonicalDomain(t *testing.T) {
	for in, want := range map[string]string{
		"example.org": "example.org", "EXAMPLE.org": "example.org", "": "",
		"grün.example": "xn--grn-ioa.example", "GRÜN.Example": "xn--grn-ioa.example",
		"gru\u0308n.example":            "xn--grn-ioa.example", // decomposed
		"xn--grn-ioa.example":           "xn--grn-ioa.example",
		"XN--GRN-IOA.EXAMPLE":           "xn--grn-ioa.example",
		"straße.example":                "xn--strae-oqa.example", // IDNA 2008: not strasse
		"_dmarc.grün.example":           "_dmarc.xn--grn-ioa.example",
		"r3---x.grün.example":           "r3---x.xn--grn-ioa.example",
		"例え。テスト":                        "xn--r8jz45g.xn--zckzah", // an ideographic full stop
		"\u05d0a.example":               "\u05d0a.example",        // breaks the rule of directions
		"a\uff20b.example":              "a\uff20b.example",       // would become a@b
		"[192.0.2.1]":                   "[192.0.2.1]",
		"[IPv6:2001:DB8::1]":            "[ipv6:2001:db8::1]",
		strings.Repeat("ü", 60) + ".de": strings.Repeat("ü", 60) + ".de", // over 63 in A-labels
		"\xff.example":                  "\ufffd.example",
	} {
		got := canonicalDomain(in)
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		if again := canonicalDomain(got); again != got {
			t.Errorf("%q: %q, and again %q", in, got, again)
		}
	}
}

// Whatever a domain is, its canonical form is its own, and case does not matter.
func TestCanonicalIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, err := mail.ParseAddress("x@" + rapid.StringMatching(`([a-zA-Zäöß中א0-9-]{1,8}\.){0,3}[a-zà-öø-ÿ]{1,5}`).Draw(t, "domain"))
		if err != nil {
			t.Skip()
		}
		c := canonical(a)
		if again := canonical(c); again != c {
			t.Fatalf("%q, then %q", c, again)
		}
		upper := mail.Address{Local: strings.ToUpper(a.Local), Domain: strings.ToUpper(a.Domain)}
		if !strings.Contains(a.Domain, "ß") && canonical(upper) != c { // ß has no simple capital
			t.Fatalf("%q is %q, %q is %q", a.Domain, c, upper.Domain, canonical(upper))
		}
	})
}

// A domain in letters and in A-labels is one domain, whichever of them the
// administrator wrote, and is shown as written.
func TestInternationalDomain(t *testing.T) {
	for _, written := range []string{"grün.example", "xn--grn-ioa.example"} {
		t.Run(written, func(t *testing.T) {
			f := setUp(t)
			f.mustDo(t, f.AddDomain(bg, written))
			alice := f.add(t, "alice@"+written, "secret")
			forms := []string{"grün.example", "GRÜN.example", "gru\u0308n.example", "xn--grn-ioa.example", "XN--GRN-IOA.example"}
			for _, form := range forms {
				f.checkForm(t, form, alice)
			}
			f.mustDo(t, f.AddAlias(bg, at("sales@gru\u0308n.example"), at("x@elsewhere.test"), at("alice@xn--grn-ioa.example")),
				f.SetCatchAll(bg, "xn--grn-ioa.example", alice.Address))
			domains, err := f.Domains(bg)
			if err != nil || len(domains) != 3 || domains[2].Name != written || domains[2].CatchAll != alice.Address {
				t.Errorf("%+v, %v", domains, err)
			}
			for a, err := range f.Aliases(bg, "GRÜN.example") {
				if err != nil || a.Address.String() != "sales@"+written {
					t.Errorf("%s, %v", a.Address, err)
				}
			}
			for _, form := range forms {
				r, err := f.Resolve(bg, at("Sales@"+form))
				if err != nil || r.text() != "alice@"+written+" > x@elsewhere.test" {
					t.Errorf("%s: %s, %v", form, r.text(), err)
				}
			}
			wantKind(t, "a target twice", f.RemoveAlias(bg, at("sales@grün.example"), at("alice@other.example")), fault.NotFound)
			f.mustDo(t, f.RemoveAlias(bg, at("sales@grün.example"), at("alice@grün.example")))
			wantKind(t, "in use", f.RemoveDomain(bg, "grün.example"), fault.Denied)
			f.mustDo(t, f.RemoveAlias(bg, at("sales@grün.example")), f.RemoveAccount(bg, at("ALICE@GRÜN.example")),
				f.RemoveDomain(bg, "Grün.example."))
		})
	}
	f := setUp(t)
	wantKind(t, "no domain", f.AddDomain(bg, "\u05d0a.example"), fault.Invalid)
}

// checkForm asks everything of a domain, in one of its forms, that leads to an account.
func (f *fixture) checkForm(t *testing.T, form string, alice Account) {
	t.Helper()
	if local, err := f.IsLocal(bg, form); err != nil || !local {
		t.Errorf("%s: local %v, %v", form, local, err)
	}
	wantKind(t, form, f.AddDomain(bg, form), fault.Exists)
	if _, err := f.AddAccount(bg, at("ALICE@"+form), "x", store.Quota{}); !fault.Is(err, fault.Exists) {
		t.Errorf("%s: a second account: %v", form, err)
	}
	a, err := f.Authenticate(bg, "alice@"+form, "secret", home)
	if err != nil || a.ID != alice.ID || a.Address != alice.Address {
		t.Errorf("%s: login %+v, %v", form, a, err)
	}
	if a, err := f.Lookup(bg, at("Alice@"+form)); err != nil || a.ID != alice.ID || a.Address != alice.Address {
		t.Errorf("%s: %+v, %v", form, a, err)
	}
	if got := f.accounts(t, form); got != alice.Address.String() {
		t.Errorf("%s: accounts %s", form, got)
	}
	r, err := f.Resolve(bg, at("alice+list@"+form))
	if err != nil || len(r.Accounts) != 1 || r.Accounts[0] != (Target{alice.ID, alice.Address, "list"}) {
		t.Errorf("%s: %+v, %v", form, r, err)
	}
	if err := f.MaySend(bg, alice.ID, at("alice@"+form)); err != nil {
		t.Errorf("%s: %v", form, err)
	}
}

// Failures in one form of a login count against all: there is one bucket.
func TestBrakeKnowsForms(t *testing.T) {
	f := setUp(t)
	f.mustDo(t, f.AddDomain(bg, "grün.example"))
	forms := []string{"a@grün.example", "A@xn--grn-ioa.example"}
	for i := range f.slow.perLogin {
		wantKind(t, "wrong", f.try(forms[i%2], "x", local), fault.Unauthenticated)
	}
	for _, form := range forms {
		wantKind(t, form, f.try(form, "x", local), fault.Limited)
	}
}
