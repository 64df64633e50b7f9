package sasl

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"reflect"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"github.com/martlet-mail/martlet/internal/fault"
)

// The exchanges printed in RFC 5802, 5 and RFC 7677, 3.
func TestScramVectors(t *testing.T) {
	for _, c := range []struct{ mech, salt, nonce, c1, s1, c2, s2 string }{
		{
			ScramSHA1, "QSXCR+Q6sek8bf92", "3rfcNHYJY1ZVvWVs7j",
			"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
			"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
			"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
			"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
		},
		{
			ScramSHA256, "W22ZaJ0SNY7soEsUEjb6gQ==", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
			"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
			"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
			"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
			"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
		},
	} {
		salt, err := base64.StdEncoding.DecodeString(c.salt)
		if err != nil {
			t.Fatal(err)
		}
		b := newBook()
		b.salt = string(salt)
		o := Offer{Protected: true, Nonce: func() string { return c.nonce }}
		x, challenges, done, err := run(t, c.mech, o, b, nil, []byte(c.c1), []byte(c.c2), []byte{})
		if err != nil || !done || x.Login() != "user" {
			t.Errorf("%s: done %v, login %q, %v", c.mech, done, x.Login(), err)
		}
		if want := []string{"", c.s1, c.s2}; !equal(challenges, want) {
			t.Errorf("%s: %q, want %q", c.mech, challenges, want)
		}
		if len(b.done) != 1 || !b.done[0] {
			t.Errorf("%s: ScramDone heard %v", c.mech, b.done)
		}
	}
}

func equal(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }

// talk lets the library's client log in, and returns what each side believes.
func talk(t *testing.T, mech string, o Offer, b *book, conv *scram.ClientConversation) (serverErr error, proven bool) {
	t.Helper()
	x, err := New(mech, o, b)
	if err != nil {
		t.Fatal(err)
	}
	message, err := conv.Step("")
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		challenge, done, err := x.Step([]byte(message))
		if err != nil {
			return err, conv.Valid()
		}
		if done {
			return nil, conv.Valid()
		}
		if message, err = conv.Step(string(challenge)); err != nil {
			t.Fatalf("client: %v", err)
		}
	}
	t.Fatal("no end")
	return nil, false
}

func client(t *testing.T, mech, user, password, authzid string) *scram.Client {
	t.Helper()
	c, err := hashOf(strings.TrimSuffix(mech, "-PLUS")).NewClient(user, password, authzid)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestScramWithIndependentClient(t *testing.T) {
	exporter := Binding{"tls-exporter", []byte("exported bytes")}
	point := Binding{"tls-server-end-point", []byte("certificate hash")}
	bound := Offer{Nonce: rand.Text, Protected: true, Bindings: []Binding{exporter, point}}
	use := func(b Binding) scram.ChannelBinding {
		return scram.ChannelBinding{Type: scram.ChannelBindingType(b.Type), Data: b.Data}
	}
	type conv = scram.ClientConversation
	simple := func(c *scram.Client) *conv { return c.NewConversation() }
	aware := func(c *scram.Client) *conv { return c.NewConversationAdvertisingChannelBinding() }
	with := func(b Binding) func(*scram.Client) *conv {
		return func(c *scram.Client) *conv { return c.NewConversationWithChannelBinding(use(b)) }
	}
	for _, c := range []struct {
		about, mech    string
		o              Offer
		start          func(*scram.Client) *conv
		password, as   string
		kind           fault.Kind // Internal: success
		countsAsFailed bool
	}{
		{"no binding offered", ScramSHA256, open, simple, "pencil", "", 0, false},
		{"no binding offered", ScramSHA1, open, simple, "pencil", "", 0, false},
		{"own authzid", ScramSHA1, open, simple, "pencil", "user", 0, false},
		{"other authzid", ScramSHA1, open, simple, "pencil", "root", fault.Denied, false},
		{"binding not used", ScramSHA256, bound, simple, "pencil", "", 0, false},
		{"y, and none offered", ScramSHA256, open, aware, "pencil", "", 0, false},
		{"y, although offered: downgrade", ScramSHA256, bound, aware, "pencil", "", fault.Unauthenticated, false},
		{"exporter", ScramSHA256Plus, bound, with(exporter), "pencil", "", 0, false},
		{"end point", ScramSHA1Plus, bound, with(point), "pencil", "", 0, false},
		{"other type", ScramSHA1Plus, bound, with(Binding{"tls-unique", []byte("x")}), "pencil", "", fault.Unsupported, false},
		{"other data: man in the middle", ScramSHA256Plus, bound, with(Binding{"tls-exporter", []byte("his")}), "pencil", "", fault.Unauthenticated, true},
		{"PLUS without p", ScramSHA256Plus, bound, simple, "pencil", "", fault.Invalid, false},
		{"PLUS with y", ScramSHA256Plus, bound, aware, "pencil", "", fault.Invalid, false},
		{"p without PLUS", ScramSHA256, bound, with(exporter), "pencil", "", fault.Invalid, false},
		{"wrong password", ScramSHA256, open, simple, "pen", "", fault.Unauthenticated, true},
	} {
		b := newBook()
		err, proven := talk(t, c.mech, c.o, b, c.start(client(t, c.mech, "user", c.password, c.as)))
		if ok := c.kind == fault.Internal; ok != (err == nil) || ok != proven || !ok && !fault.Is(err, c.kind) {
			t.Errorf("%s, %s: client believes %v, server says %v", c.mech, c.about, proven, err)
		}
		if failed := len(b.done) == 1 && !b.done[0]; failed != c.countsAsFailed {
			t.Errorf("%s, %s: ScramDone heard %v", c.mech, c.about, b.done)
		}
	}
}

func TestScramRefusedAfterProof(t *testing.T) {
	b := newBook()
	b.refuse = fault.New(fault.Limited, "too many logins")
	err, proven := talk(t, ScramSHA256, open, b, client(t, ScramSHA256, "user", "pencil", "").NewConversation())
	if !fault.Is(err, fault.Limited) || proven {
		t.Errorf("%v, client believes %v", err, proven)
	}
}

func TestScramMalformed(t *testing.T) {
	for _, first := range []string{
		"", ",", "n", "n,,", "n,,n=user", "n,n=user,r=abc", "n,,n=,r=abc", "n,,m=x,n=user,r=abc", "n,,n=us=er,r=abc",
		"n,a==,n=user,r=abc", "q,,n=user,r=abc", "n,,x=user,r=abc", "N,,n=user,r=abc", "n,,n=user,r=abc\xff",
	} {
		_, challenges, done, err := run(t, ScramSHA256, open, newBook(), []byte(first), []byte("c=biws,r=abc,p=AAAA"), []byte{})
		if done || len(challenges) > 0 || !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %q, %v", first, challenges, err)
		}
	}
	for _, final := range []string{"", "c=biws", "c=biws,r=abcN", "c=biws,r=abcN,p=!", "c=biws,r=other,p=AAAA", "c=eSws,r=abcN,p=AAAA", "c=biws,r=abcN,p="} {
		o := Offer{Protected: true, Nonce: func() string { return "N" }}
		_, _, done, err := run(t, ScramSHA256, o, newBook(), []byte("n,,n=user,r=abc"), []byte(final), []byte{})
		if done || !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%q: %v", final, err)
		}
	}
}

// Nothing that comes after our signature may be taken for part of the exchange.
func TestScramNothingAfterTheEnd(t *testing.T) {
	b := newBook()
	conv := client(t, ScramSHA1, "user", "pencil", "").NewConversation()
	x, _ := New(ScramSHA1, open, b)
	c1, _ := conv.Step("")
	s1, _, _ := x.Step([]byte(c1))
	c2, _ := conv.Step(string(s1))
	if _, _, err := x.Step([]byte(c2)); err != nil {
		t.Fatal(err)
	}
	if _, done, err := x.Step([]byte("more")); done || !fault.Is(err, fault.Invalid) {
		t.Errorf("done %v, %v", done, err)
	}
}

// An unknown login is answered as a known one: same form, same salt each time, other
// salt for another login, and a failure only at the proof.
func TestScramUnknownLogin(t *testing.T) {
	first := func(user string) string {
		o := Offer{Protected: true, Nonce: func() string { return "N" }}
		_, challenges, _, err := run(t, ScramSHA256, o, newBook(), []byte("n,,n="+user+",r=abc"))
		if err != nil || len(challenges) != 1 {
			t.Fatalf("%s: %q, %v", user, challenges, err)
		}
		return challenges[0]
	}
	known, ghost := first("user"), first("ghost")
	if len(known) != len(ghost) || ghost != first("ghost") || ghost == first("ghoul") {
		t.Errorf("known %q, unknown %q then %q, another %q", known, ghost, first("ghost"), first("ghoul"))
	}
	b := newBook()
	err, proven := talk(t, ScramSHA256, open, b, client(t, ScramSHA256, "ghost", "pencil", "").NewConversation())
	if !fault.Is(err, fault.Unauthenticated) || proven || len(b.done) != 1 || b.done[0] {
		t.Errorf("%v, client believes %v, ScramDone heard %v", err, proven, b.done)
	}
	one, other := FakeKeys([]byte("a"), ScramSHA1, "x", 16, 4096), FakeKeys([]byte("b"), ScramSHA1, "x", 16, 4096)
	if bytes.Equal(one.Salt, other.Salt) || len(one.Salt) != 16 || len(one.StoredKey) != 20 {
		t.Errorf("%+v %+v", one, other)
	}
}

func TestBindings(t *testing.T) {
	has := map[string][]byte{"tls-unique": []byte("finished"), "tls-exporter": []byte("exported"), "other": []byte("x"), "tls-server-end-point": nil}
	got := Bindings(func(kind string) []byte { return has[kind] })
	want := []Binding{{"tls-exporter", []byte("exported")}, {"tls-unique", []byte("finished")}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	if got := Bindings(func(string) []byte { return nil }); len((Offer{Nonce: rand.Text, Protected: true, Bindings: got}).Mechanisms()) != 4 {
		t.Errorf("without TLS %v", got)
	}
}
