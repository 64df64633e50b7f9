package sasl

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

// book is a Credentials with one password per login.
type book struct {
	passwords  map[string]string
	salt       string // base64 was decoded by the caller
	iterations int
	done       []bool // what ScramDone heard
	refuse     error  // what ScramDone answers
	asked      []string
}

func (b *book) Verify(login, password string) error {
	if want, ok := b.passwords[login]; !ok || want != password {
		return failed(nil)
	}
	return nil
}

func (b *book) ScramKeys(login, mechanism string) (Keys, error) {
	password, ok := b.passwords[login]
	if !ok {
		return FakeKeys([]byte("secret"), mechanism, login, 16, b.iterations), nil
	}
	return DeriveKeys(mechanism, password, []byte(b.salt), b.iterations)
}

func (b *book) ScramDone(_ string, proven bool) error {
	b.done = append(b.done, proven)
	return b.refuse
}

const goodToken = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="

// VerifyToken knows one token of user's, one that is not for mail, and a time when
// nobody can tell.
func (b *book) VerifyToken(login, token string) (string, error) {
	b.asked = append(b.asked, login+" "+token)
	switch {
	case token == "busy":
		return "", fault.New(fault.Unavailable, "ask later")
	case token == "narrow":
		return "", fault.New(fault.Denied, "token is not for mail")
	case token != goodToken || login != "" && login != "user@example.com":
		return "", failed(nil)
	}
	return "user@example.com", nil
}

func (b *book) VerifyExternal(login string) (string, error) {
	if login != "" && login != "user" {
		return "", fault.New(fault.Denied, "not yours")
	}
	return "user", nil
}

func newBook() *book {
	return &book{
		passwords:  map[string]string{"user": "pencil", "alice@example.org": "correct horse"},
		salt:       "0123456789abcdef",
		iterations: 4096,
	}
}

var open = Offer{Nonce: rand.Text, Protected: true}

// run plays responses into a new exchange; nil as first response means that the
// command carried none.
func run(t *testing.T, name string, o Offer, c Credentials, responses ...[]byte) (*Exchange, []string, bool, error) {
	t.Helper()
	x, err := New(name, o, c)
	if err != nil {
		t.Fatal(err)
	}
	var challenges []string
	for _, r := range responses {
		challenge, done, err := x.Step(r)
		if done || err != nil {
			return x, challenges, done, err
		}
		challenges = append(challenges, string(challenge))
	}
	return x, challenges, false, nil
}

func TestPlainAndLogin(t *testing.T) {
	b := func(s string) []byte { return []byte(s) }
	for _, c := range []struct {
		about, mech string
		responses   [][]byte
		challenges  []string
		login       string
		kind        fault.Kind // Internal: success
	}{
		{"initial response", "plain", [][]byte{b("\x00user\x00pencil")}, nil, "user", 0},
		{"no initial response", Plain, [][]byte{nil, b("\x00user\x00pencil")}, []string{""}, "user", 0},
		{"own authzid", Plain, [][]byte{b("USER\x00user\x00pencil")}, nil, "user", 0},
		{"other authzid", Plain, [][]byte{b("root\x00user\x00pencil")}, nil, "user", fault.Denied},
		{"wrong password", Plain, [][]byte{b("\x00user\x00pencils")}, nil, "user", fault.Unauthenticated},
		{"unknown login", Plain, [][]byte{b("\x00nobody\x00pencil")}, nil, "nobody", fault.Unauthenticated},
		{"one NUL", Plain, [][]byte{b("user\x00pencil")}, nil, "", fault.Invalid},
		{"three NULs", Plain, [][]byte{b("\x00user\x00pencil\x00")}, nil, "", fault.Invalid},
		{"empty response", Plain, [][]byte{{}}, nil, "", fault.Invalid},
		{"empty password", Plain, [][]byte{b("\x00user\x00")}, nil, "", fault.Invalid},
		{"empty login", Plain, [][]byte{b("\x00\x00pencil")}, nil, "", fault.Invalid},
		{"not UTF-8", Plain, [][]byte{b("\x00user\x00\xff")}, nil, "", fault.Invalid},
		{"control in login", Plain, [][]byte{b("\x00us\ner\x00pencil")}, nil, "", fault.Unauthenticated},
		{"no initial response", Login, [][]byte{nil, b("user"), b("pencil")}, []string{"Username:", "Password:"}, "user", 0},
		{"initial response", "Login", [][]byte{b("user"), b("pencil")}, []string{"Password:"}, "user", 0},
		{"wrong password", Login, [][]byte{b("user"), b("x")}, []string{"Password:"}, "user", fault.Unauthenticated},
		{"empty name", Login, [][]byte{nil, {}}, []string{"Username:"}, "", fault.Invalid},
		{"empty password", Login, [][]byte{b("user"), {}}, []string{"Password:"}, "user", fault.Invalid},
		{"long name", Plain, [][]byte{b("\x00" + strings.Repeat("u", maxLogin+1) + "\x00pencil")}, nil, "", fault.TooLarge},
		{"too long", Login, [][]byte{bytes.Repeat(b("a"), MaxResponse+1)}, nil, "", fault.TooLarge},
	} {
		x, challenges, done, err := run(t, c.mech, open, newBook(), c.responses...)
		if c.kind == fault.Internal && (!done || err != nil) || c.kind != fault.Internal && (done || !fault.Is(err, c.kind)) {
			t.Errorf("%s, %s: done %v, %v", c.mech, c.about, done, err)
		}
		if !slices.Equal(challenges, c.challenges) || x.Login() != c.login {
			t.Errorf("%s, %s: challenges %q, login %q", c.mech, c.about, challenges, x.Login())
		}
		if _, done, err := x.Step([]byte("\x00user\x00pencil")); done || err == nil {
			t.Errorf("%s, %s: a step after the end", c.mech, c.about)
		}
	}
}

func TestOffer(t *testing.T) {
	bound := Offer{Nonce: rand.Text, Protected: true, Bindings: []Binding{{"tls-exporter", []byte("x")}}}
	if got := bound.Mechanisms(); !slices.Equal(got, []string{ScramSHA256Plus, ScramSHA1Plus, ScramSHA256, ScramSHA1, Plain, Login}) {
		t.Errorf("with binding: %v", got)
	}
	if got := open.Mechanisms(); slices.ContainsFunc(got, func(s string) bool { return strings.HasSuffix(s, "-PLUS") }) || len(got) != 4 {
		t.Errorf("without binding: %v", got)
	}
	if got := (Offer{Bindings: bound.Bindings}).Mechanisms(); got != nil {
		t.Errorf("not protected: %v", got)
	}
	for _, c := range []struct {
		name string
		o    Offer
		kind fault.Kind
	}{
		{Plain, Offer{}, fault.Denied},
		{"CRAM-MD5", open, fault.Unsupported},
		{"", open, fault.Unsupported},
		{ScramSHA256Plus, open, fault.Unsupported},
	} {
		if x, err := New(c.name, c.o, newBook()); x != nil || !fault.Is(err, c.kind) {
			t.Errorf("%q: %v", c.name, err)
		}
	}
	for _, name := range bound.Mechanisms() {
		if _, err := New(strings.ToLower(name), bound, newBook()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""}, {"dGVzdA==", "test"}, {"AHVzZXIA", "\x00user\x00"},
	} {
		got, err := Decode([]byte(c.in))
		if err != nil || got == nil || string(got) != c.want {
			t.Errorf("%q: %q, %v", c.in, got, err)
		}
	}
	if _, err := Decode([]byte("*")); !errors.Is(err, ErrCancelled) {
		t.Errorf("*: %v", err)
	}
	for _, bad := range []string{"=", "a", "dGVzdA", "dGVzdA==\r\n", "dGVz dA==", "dGVzdB==", "**", "-_-_"} {
		if got, err := Decode([]byte(bad)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
	if _, err := Decode(bytes.Repeat([]byte("A"), MaxLine+4)); !fault.Is(err, fault.TooLarge) {
		t.Errorf("long line: %v", err)
	}
	if got, err := DecodeInitial([]byte("=")); got == nil || len(got) != 0 || err != nil {
		t.Errorf("=: %q, %v", got, err)
	}
	if _, err := DecodeInitial(nil); err == nil {
		t.Error("an empty initial response is written as =")
	}
	if got := Encode([]byte("Username:")); got != "VXNlcm5hbWU6" {
		t.Error(got)
	}
}

func TestPreparePassword(t *testing.T) {
	for _, c := range []struct{ in, want string }{ // RFC 4013, 3
		{"I\u00adX", "IX"},
		{"user", "user"},
		{"USER", "USER"},
		{"\u00aa", "a"},
		{"\u2168", "IX"},
		{"a\u00a0b", "a b"},
		{"pass\U0001f512word", "pass\U0001f512word"}, // younger than Unicode 3.2
		{"u\u0308", "\u00fc"},
		{"\u0627\u0031", "\u0627\u0031"}, // refused by the bidirectional rule alone
	} {
		got, err := PreparePassword(c.in)
		if err != nil || got != c.want {
			t.Errorf("%q: %q, %v", c.in, got, err)
		}
	}
	for _, bad := range []string{"", "\u00ad", "a\x07", "tab\t", "\x7f", "nul\x00", "\xff", "a\u2028b", strings.Repeat("a", MaxPassword+1)} {
		got, err := PreparePassword(bad)
		if err == nil {
			t.Errorf("%q gives %q", bad, got)
		} else if len(bad) > 2 && strings.Contains(err.Error(), bad) {
			t.Errorf("%v quotes the password", err)
		}
	}
}

func FuzzPreparePassword(f *testing.F) {
	for _, s := range []string{"", "pencil", "I\u00adX", "\u2168", "pass\U0001f512", "\u0627\u0031", "\xff\xfe", "\u00ad"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once, err := PreparePassword(s)
		if err != nil {
			return
		}
		twice, err := PreparePassword(once)
		if err != nil || once != twice {
			t.Fatalf("%q -> %q -> %q, %v: preparation is not idempotent", s, once, twice, err)
		}
	})
}

// FuzzStep feeds two responses to every mechanism: no login is proven but that of
// the book, and an exchange that is over stays so.
func FuzzStep(f *testing.F) {
	f.Add(byte(7), []byte("\x00user\x00pencil"), []byte(""))
	f.Add(byte(8), []byte("user"), []byte("pencil"))
	f.Add(byte(3), []byte("n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"), []byte("c=biws,r=fyko,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="))
	f.Add(byte(1), []byte("p=tls-exporter,,n=user,r=abc"), []byte("c=,r=,p="))
	f.Add(byte(4), []byte("y,a=user,n=us=2Cer,r="), []byte("c=eSws"))
	f.Add(byte(5), []byte("n,a=user@example.com,\x01auth=Bearer narrow\x01\x01"), []byte("\x01"))
	f.Add(byte(6), []byte("user=user@example.com\x01auth=Bearer x\x01\x01"), []byte(""))
	f.Add(byte(0), []byte("user"), []byte(""))
	bound := Offer{Nonce: rand.Text, Protected: true, Bindings: []Binding{{"tls-exporter", []byte("exported")}}, Bearer: &Bearer{}, External: true}
	names := bound.Mechanisms()
	f.Fuzz(func(t *testing.T, which byte, first, second []byte) {
		b := newBook()
		b.iterations = 1
		x, err := New(names[int(which)%len(names)], bound, b)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range [][]byte{first, second, {}} {
			challenge, done, err := x.Step(r)
			if err != nil && (done || challenge != nil) || done && challenge != nil {
				t.Fatalf("%q, %v, %v", challenge, done, err)
			}
			if done && b.passwords[x.Login()] == "" && !bytes.Contains(first, []byte(goodToken)) && !bytes.Contains(second, []byte(goodToken)) {
				t.Fatalf("%q was let in", x.Login())
			}
			if done || err != nil {
				if _, again, err := x.Step(r); again || err == nil {
					t.Fatal("the exchange went on after its end")
				}
				return
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"", "*", "=", "dGVzdA==", "dGVzdB==", "a\nb"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		got, err := Decode(line)
		if err == nil && Encode(got) != string(line) {
			t.Fatalf("%q -> %q", line, got)
		}
	})
}
