package dmarc_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/check/dmarc"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
)

// names runs a name server with a zone and returns a resolver that asks it.
func names(t testing.TB, zone string) (*dnsx.Client, *dnstest.Server) {
	t.Helper()
	s, err := dnstest.Start(zone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c, err := dnsx.New(dnsx.Options{
		Servers: []string{s.Addr()}, Rounds: 1, Timeout: 2 * time.Second, CacheEntries: -1, Now: time.Now,
		ID: func() uint16 { return uint16(rand.Uint32()) }, Dial: (&net.Dialer{}).DialContext,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

const tree = `
_dmarc.example.test.       TXT "v=DMARC1; p=reject; sp=quarantine; np=none; rua=mailto:a@example.test"
www.example.test.          A 192.0.2.1
_dmarc.mail.example.test.  TXT "v=DMARC1; p=none"
_dmarc.strict.test.        TXT "v=DMARC1; p=reject; adkim=s; aspf=s"
_dmarc.bank.               TXT "v=DMARC1; p=reject; sp=quarantine; np=reject; psd=y"
some.bank.                 A 192.0.2.1
_dmarc.own.bank.           TXT "v=DMARC1; p=none"
_dmarc.dept.corp.test.     TXT "v=DMARC1; p=quarantine; psd=n"
_dmarc.corp.test.          TXT "v=DMARC1; p=reject"
_dmarc.testing.test.       TXT "v=DMARC1; p=reject; sp=quarantine; t=y"
_dmarc.two.test.           TXT "v=DMARC1; p=reject"
_dmarc.two.test.           TXT "v=DMARC1; p=none"
_dmarc.nop.test.           TXT "v=DMARC1; sp=reject"
_dmarc.noprua.test.        TXT "v=DMARC1; rua=mailto:a@noprua.test"
_dmarc.badsp.test.         TXT "v=DMARC1; p=reject; sp=everything; rua=mailto:a@badsp.test"
_dmarc.notfirst.test.      TXT "p=reject; v=DMARC1"
_dmarc.other.test.         TXT "v=spf1 -all"
_dmarc.other.test.         TXT "v=DMARC1; p=reject; pct=0; ri=1; unknown=x; rf=afrf"
_dmarc.pieces.test.        TXT "v=DMA" "RC1; p=rej" "ect"
_dmarc.xn--bcher-kva.test. TXT "v=DMARC1;p=reject"
_dmarc.last.a.b.c.d.e.f.g.deep.test. TXT "v=DMARC1; p=reject"
_dmarc.g.deep.test.        TXT "v=DMARC1; p=quarantine"
! servfail _dmarc.down.test
! servfail _dmarc.slow.example.test
! servfail half.example.test
_dmarc.mine.shaky.test. TXT "v=DMARC1; p=reject"
! servfail _dmarc.shaky.test
`

func id(domain string) dmarc.Identifier { return dmarc.Identifier{Domain: domain, Pass: true} }

// TestAttack73Policies has the rules of discovery and alignment (RFC 9989, 4.10), one by one.
func TestAttack73Policies(t *testing.T) {
	r, _ := names(t, tree)
	for _, c := range []struct {
		from, spf, dkim string // domains; dkim several
		want            string // status, policy domain, organization, policy applied
	}{
		// Alignment.
		{"example.test", "example.test", "", "pass example.test example.test reject"},
		{"example.test", "", "example.test", "pass example.test example.test reject"},
		{"example.test", "bounce.example.test", "", "pass example.test example.test reject"},
		{"example.test", "other.test", "evil.test www.example.test", "pass example.test example.test reject"},
		{"example.test", "other.test", "evil.test", "fail example.test example.test reject"},
		{"example.test", "", "", "fail example.test example.test reject"},
		{"example.test", "notexample.test", "xexample.test", "fail example.test example.test reject"},
		{"example.test", "test", "test", "fail example.test example.test reject"}, // a suffix stands behind nobody
		{"EXAMPLE.test", "", "Example.TEST.", "pass example.test example.test reject"},
		{"www.example.test", "example.test", "", "pass example.test example.test quarantine"},
		{"strict.test", "strict.test", "", "pass strict.test strict.test reject"},
		{"strict.test", "a.strict.test", "a.strict.test", "fail strict.test strict.test reject"},

		// Where the policy is.
		{"www.example.test", "", "", "fail example.test example.test quarantine"},
		{"none.example.test", "", "", "fail example.test example.test none"}, // np: there is no such name
		{"mail.example.test", "", "", "fail mail.example.test example.test none"},
		{"a.mail.example.test", "", "", "fail example.test example.test none"}, // not that of the name between
		{"mail.example.test", "example.test", "", "pass mail.example.test example.test none"},
		{"nowhere.test", "nowhere.test", "", "none  nowhere.test "},
		{"two.test", "", "", "none  two.test "},
		{"notfirst.test", "", "", "none  notfirst.test "},
		{"other.test", "", "", "fail other.test other.test reject"}, // pct is gone
		{"pieces.test", "", "", "fail pieces.test pieces.test reject"},
		{"b\u00fccher.test", "", "xn--bcher-kva.test", "pass xn--bcher-kva.test xn--bcher-kva.test reject"},

		// Public suffixes and organizations of their own.
		{"bank", "", "", "fail bank bank reject"},
		{"some.bank", "", "", "fail bank some.bank quarantine"},
		{"forged.bank", "", "", "fail bank forged.bank reject"},
		{"www.some.bank", "some.bank", "", "pass bank some.bank quarantine"},
		{"some.bank", "forged.bank", "bank", "fail bank some.bank quarantine"},
		{"own.bank", "", "", "fail own.bank own.bank none"},
		{"a.own.bank", "", "", "fail own.bank own.bank none"},
		{"dept.corp.test", "", "", "fail dept.corp.test dept.corp.test quarantine"},
		{"a.dept.corp.test", "corp.test", "", "fail dept.corp.test dept.corp.test quarantine"},
		{"a.dept.corp.test", "b.dept.corp.test", "", "pass dept.corp.test dept.corp.test quarantine"},
		{"corp.test", "dept.corp.test", "", "fail corp.test corp.test reject"},

		// Records that are not quite right, and t=y.
		{"testing.test", "", "", "fail testing.test testing.test quarantine"},
		{"a.testing.test", "", "", "fail testing.test testing.test none"},
		{"nop.test", "nop.test", "", "permerror nop.test nop.test none"},
		{"noprua.test", "", "", "fail noprua.test noprua.test none"},
		{"a.badsp.test", "", "", "fail badsp.test badsp.test none"},

		// Long names: what lies between is not asked about.
		{"last.a.b.c.d.e.f.g.deep.test", "", "", "fail last.a.b.c.d.e.f.g.deep.test g.deep.test reject"},
		{"x.a.b.c.d.e.f.g.deep.test", "", "", "fail g.deep.test g.deep.test quarantine"},

		// Failures of the name service are no answers.
		{"down.test", "", "", "temperror  down.test "},
		{"example.test", "slow.example.test", "", "temperror example.test example.test reject"},
		{"example.test", "slow.example.test", "example.test", "pass example.test example.test reject"},
		{"half.example.test", "", "", "temperror example.test example.test quarantine"},
		{"mine.shaky.test", "mine.shaky.test", "", "pass mine.shaky.test mine.shaky.test reject"},
		{"mine.shaky.test", "evil.test", "", "fail mine.shaky.test mine.shaky.test reject"},
		{"mine.shaky.test", "other.shaky.test", "evil.test", "temperror mine.shaky.test mine.shaky.test reject"},
		{"other.shaky.test", "", "", "temperror  other.shaky.test "},
	} {
		m := dmarc.Message{Authors: []string{c.from}}
		if c.spf != "" {
			m.SPF = id(c.spf)
		}
		for d := range strings.FieldsSeq(c.dkim) {
			m.DKIM = append(m.DKIM, id(d))
		}
		got := dmarc.Evaluate(t.Context(), r, m)
		if s := fmt.Sprintf("%s %s %s %s", got.Status, got.Domain, got.Organization, got.Applied); s != c.want {
			t.Errorf("from %s, SPF %q, DKIM %q:\n got %q\nwant %q (%s)", c.from, c.spf, c.dkim, s, c.want, got.Reason)
		}
	}
}

// Whether something of the author's domain could not be checked matters only if it is of
// the author's domain: a stranger must not be able to have a failure forgiven.
func TestDoubtIsTheAuthors(t *testing.T) {
	r, _ := names(t, tree)
	for _, c := range []struct {
		m    dmarc.Message
		want dmarc.Status
	}{
		{dmarc.Message{SPF: dmarc.Identifier{Domain: "example.test", Temp: true}}, dmarc.TempError},
		{dmarc.Message{DKIM: []dmarc.Identifier{{Domain: "www.example.test", Temp: true}}}, dmarc.TempError},
		{dmarc.Message{SPF: dmarc.Identifier{Domain: "evil.test", Temp: true}}, dmarc.Fail},
		{dmarc.Message{DKIM: []dmarc.Identifier{{Domain: "down.test", Temp: true}, id("down.test")}}, dmarc.Fail},
		{dmarc.Message{DKIM: []dmarc.Identifier{{Domain: "example.test", Temp: true}, id("example.test")}}, dmarc.Pass},
		{dmarc.Message{DKIM: []dmarc.Identifier{{Domain: "\x00"}, {Domain: "", Pass: true}}}, dmarc.Fail},
	} {
		c.m.Authors = []string{"example.test"}
		if got := dmarc.Evaluate(t.Context(), r, c.m); got.Status != c.want {
			t.Errorf("%+v: %s, %s", c.m, got.Status, got.Reason)
		}
	}
}

// Of several authors the strictest policy holds, and nothing stands behind all of them.
func TestAttack67SeveralAuthorsNeverPass(t *testing.T) {
	r, _ := names(t, tree)
	for _, c := range []struct {
		authors string
		problem string
		want    string
	}{
		{"mail.example.test strict.test", "", "fail strict.test reject"},
		{"strict.test mail.example.test", "", "fail strict.test reject"},
		{"nowhere.test example.test", "two fields", "fail example.test reject"},
		{"example.test", "two fields", "fail example.test reject"},
		{"nowhere.test", "two fields", "fail nowhere.test "},
		{"", "", "fail  "},
		{"down.test nowhere.test", "", "fail down.test "},
		{"a..b", "", "fail  "},
		{"a.test b.test c.test d.test strict.test", "", "fail a.test "}, // bounded
	} {
		m := dmarc.Message{Authors: strings.Fields(c.authors), Problem: c.problem}
		for _, a := range m.Authors {
			m.DKIM = append(m.DKIM, id(a)) // all of them pass
		}
		got := dmarc.Evaluate(t.Context(), r, m)
		if s := fmt.Sprintf("%s %s %s", got.Status, got.Author, got.Applied); s != c.want || got.Problem == "" || got.Reason == "" {
			t.Errorf("%q: %q (%s), want %q", c.authors, s, got.Reason, c.want)
		}
	}
}

// TestAttack73WalkIsBounded counts questions: eight for a name, however long, and none for
// domains that cannot be the author's.
func TestAttack73WalkIsBounded(t *testing.T) {
	r, s := names(t, tree)
	long := strings.Repeat("a.", 100) + "g.deep.test"
	ask := func(m dmarc.Message) int {
		before := s.Queries()
		dmarc.Evaluate(t.Context(), r, m)
		return s.Queries() - before
	}
	if n := ask(dmarc.Message{Authors: []string{long}}); n != 8 {
		t.Errorf("%d questions for a long name", n)
	}
	foreign := dmarc.Message{Authors: []string{"example.test"}}
	for i := range 100 {
		foreign.DKIM = append(foreign.DKIM, id(fmt.Sprintf("d%d.evil.test", i)))
	}
	if n := ask(foreign); n != 2 {
		t.Errorf("%d questions for a hundred signatures of others", n)
	}
}

// TestAttack73Records reads records as they are published.
func TestAttack73Records(t *testing.T) {
	for _, c := range []struct {
		text string
		want string
	}{
		{"v=DMARC1;p=reject", "reject"},
		{"v=DMARC1 ; p = reject ;", "reject"},
		{" v=DMARC1; p=reject", "reject"},
		{"v=dmarc1; p=reject", "no record"},
		{"v=DMARC1p=reject", "no record"},
		{"v=DMARC10; p=reject", "no record"},
		{"p=reject; v=DMARC1", "no record"},
		{"", "no record"},
		{";v=DMARC1", "no record"},
		{"v=DMARC1; p=Reject; SP=None; np=quarantine", "reject sp=none np=quarantine"},
		{"v=DMARC1; p=reject; p=none", "reject"},
		{"v=DMARC1; p=rejected", "malformed"},
		{"v=DMARC1; p=reject; np=x", "reject malformed"},
		{"v=DMARC1; p=none; adkim=s; aspf=s; t=y; psd=n", "none adkim aspf t psd=n"},
		{"v=DMARC1; p=none; adkim=x; aspf=; t=x; psd=x", "none"},
		{"v=DMARC1; p=none; psd=u", "none"},
		{"v=DMARC1; p=none; psd=Y", "none psd=y"},
		{"v=DMARC1; p=none; fo=1:d:s", "none fo=[1 d s]"},
		{"v=DMARC1; p=none; fo=0:1", "none"},
		{"v=DMARC1; p=none; fo=d:d", "none"},
		{"v=DMARC1; p=none; rua=mailto:a@a.test!10m , https://b.test/x,c@c.test,mailto:,mailto:d@", "none rua=[mailto:a@a.test https://b.test/x]"},
		{"v=DMARC1; p=none; ruf=mailto:a%2Bb@a.test", "none ruf=[mailto:a%2Bb@a.test]"},
		{"v=DMARC1; p=none; rua=" + strings.Repeat("mailto:a@a.test,", 11), "none rua=" + fmt.Sprint(slices.Repeat([]string{"mailto:a@a.test"}, 10))},
		{"v=DMARC1; p=none; x=\x00\xff", "none"},
	} {
		r, ok := dmarc.ParseRecord(c.text)
		if got := show(r, ok); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

func show(r dmarc.Record, ok bool) string {
	if !ok {
		return "no record"
	}
	var out []string
	for _, w := range []struct {
		is   bool
		word string
	}{
		{r.Policy != "", string(r.Policy)}, {r.Subdomains != "", "sp=" + string(r.Subdomains)}, {r.NonExistent != "", "np=" + string(r.NonExistent)},
		{r.StrictDKIM, "adkim"}, {r.StrictSPF, "aspf"}, {r.Testing, "t"}, {r.PSD == dmarc.PSDYes, "psd=y"}, {r.PSD == dmarc.PSDNo, "psd=n"},
		{!slices.Equal(r.Failure, []string{"0"}), fmt.Sprint("fo=", r.Failure)},
		{r.RUA != nil, fmt.Sprint("rua=", r.RUA)}, {r.RUF != nil, fmt.Sprint("ruf=", r.RUF)}, {r.Malformed, "malformed"},
	} {
		if w.is {
			out = append(out, w.word)
		}
	}
	return strings.Join(out, " ")
}

// TestAttack73ReportsToOthers: nobody gets reports that he did not ask for.
func TestAttack73ReportsToOthers(t *testing.T) {
	r, _ := names(t, `
_dmarc.a.test.                    TXT "v=DMARC1; p=none"
_dmarc.www.a.test.                TXT "v=DMARC1; p=none"
a.test._report._dmarc.yes.test.   TXT "v=DMARC1"
a.test._report._dmarc.move.test.  TXT "v=DMARC1; rua=mailto:b@move.test"
a.test._report._dmarc.away.test.  TXT "v=DMARC1; rua=mailto:b@victim.test"
a.test._report._dmarc.spf.test.   TXT "v=spf1"
! servfail a.test._report._dmarc.down.test
`)
	for _, c := range []struct {
		domain, uri, want string
	}{
		{"a.test", "mailto:r@a.test", "r@a.test"},
		{"a.test", "mailto:r@www.a.test", "r@www.a.test"},
		{"a.test", "mailto:r@yes.test", "r@yes.test"},
		{"A.test.", "MAILTO:r@yes.test", "r@yes.test"},
		{"a.test", "mailto:r@move.test", "b@move.test"},
		{"a.test", "mailto:r@away.test", "nobody"},
		{"a.test", "mailto:r@no.test", "nobody"},
		{"a.test", "mailto:r@spf.test", "nobody"},
		{"b.test", "mailto:r@yes.test", "nobody"},
		{"a.test", "https://yes.test/", "nobody"},
		{"a.test", "mailto:r", "nobody"},
		{strings.Repeat("a.", 100) + "test", "mailto:r@" + strings.Repeat("b.", 70) + "test", "nobody"},
		{"a.test", "mailto:r@down.test", "error"},
	} {
		to, ok, err := dmarc.ReportTo(t.Context(), r, c.domain, c.uri)
		got := to.String()
		switch {
		case err != nil:
			got = "error"
		case !ok:
			got = "nobody"
		}
		if got != c.want {
			t.Errorf("%s for %s: %s, want %s (%v)", c.uri, c.domain, got, c.want, err)
		}
	}
}

// FuzzRecord: what is read is within bounds, and reads the same again.
func FuzzRecord(f *testing.F) {
	for _, s := range []string{"v=DMARC1; p=reject; sp=none; np=quarantine; rua=mailto:a@b.test!1m,https://x; ruf=mailto:c; fo=1:d; adkim=s; psd=y; t=y", "v=DMARC1", "v=DMARC1;;;=;p", "p=none"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, ok := dmarc.ParseRecord(text)
		if !ok {
			if strings.HasPrefix(text, "v=DMARC1;") {
				t.Fatal("not taken for a record")
			}
			return
		}
		if len(r.RUA) > 10 || len(r.RUF) > 10 || len(r.Failure) == 0 || len(r.Failure) > 4 || len(r.Text) > 16<<10 {
			t.Fatalf("%+v", r)
		}
		again, ok := dmarc.ParseRecord(r.Text)
		if !ok || show(again, ok) != show(r, true) {
			t.Fatalf("%+v and then %+v", r, again)
		}
		for _, u := range append(r.RUA, r.RUF...) {
			if to, mailto := dmarc.MailTo(u); mailto && (to.Domain == "" || strings.ContainsAny(to.String(), "\r\n")) {
				t.Fatalf("%q", to)
			}
		}
	})
}
