package srs

import (
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func scheme(key string, days int) *Scheme {
	return New([]byte(key), func() time.Time { return now.AddDate(0, 0, days) })
}

func addr(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// What is rewritten comes back as it was, through one forwarder and through several.
func TestThereAndBack(t *testing.T) {
	first, second, third := scheme("1", 0), scheme("2", 0), scheme("3", 0)
	for _, s := range []string{"ann@example.org", "a=b@x.org", "Ann.B+c@Example.org", `"a b"@example.org`, "ä@exämple.org", "a@b.c", "SRS0@x.org", "srs2=x@y.org", "SRS00=a@y.org"} {
		sender := addr(t, s)
		one, ok := first.Forward(sender, "fwd.example")
		if !ok || one.Domain != "fwd.example" || !strings.HasPrefix(one.Local, "SRS0=") {
			t.Fatalf("%s: %s", s, one)
		}
		if addr(t, one.String()) != one {
			t.Errorf("%s is not read as it was written", one)
		}
		if got, err := first.Reverse(one); err != nil || got != sender {
			t.Errorf("%s came back as %s: %v", sender, got, err)
		}
		two, ok := second.Forward(one, "two.example")
		if !ok || !strings.HasPrefix(two.Local, "SRS1=") {
			t.Fatalf("%s: %s", one, two)
		}
		three, ok := third.Forward(two, "three.example")
		if !ok || len(three.Local) != len(two.Local) {
			t.Fatalf("%s: %s", two, three)
		}
		for _, hop := range []struct {
			s *Scheme
			a mail.Address
		}{{second, two}, {third, three}} { // both go to the first
			if got, err := hop.s.Reverse(hop.a); err != nil || got != one {
				t.Errorf("%s came back as %s, not %s: %v", hop.a, got, one, err)
			}
		}
	}
}

// Other programs' addresses are taken up, whatever stands behind SRS0.
func TestOthersAddresses(t *testing.T) {
	s := scheme("1", 0)
	for _, local := range []string{"SRS0=IHhH=AB=example.org=ann", "SRS0+IHhH=AB=example.org=ann", "srs0-IHhH=AB=example.org=ann"} {
		other := mail.Address{Local: local, Domain: "other.example"}
		got, ok := s.Forward(other, "here.example")
		if !ok {
			t.Fatal(local)
		}
		back, err := s.Reverse(got)
		if err != nil || !strings.EqualFold(back.String(), other.String()) {
			t.Errorf("%s is %s, and came back as %s: %v", other, got, back, err)
		}
	}
	got, ok := s.Forward(mail.Address{Local: "SRS1=abcd=first.example==IHhH=AB=example.org=ann", Domain: "second.example"}, "here.example")
	if back, err := s.Reverse(got); !ok || err != nil || back.String() != "SRS0=IHhH=AB=example.org=ann@first.example" {
		t.Errorf("%s came back as %s: %v", got, back, err)
	}
}

// No address but one that was given out, for a while and in any case, is turned round.
func TestForgeries(t *testing.T) {
	s := scheme("1", 0)
	a, _ := s.Forward(addr(t, "ann@example.org"), "fwd.example")
	for name, c := range map[string]struct {
		s     *Scheme
		local string
		ok    bool
	}{
		"the control":            {s, a.Local, true},
		"upper case":             {s, strings.ToUpper(a.Local), true},
		"lower case":             {s, strings.ToLower(a.Local), true},
		"after 21 days":          {scheme("1", 21), a.Local, true},
		"after 22 days":          {scheme("1", 22), a.Local, false},
		"after 3 months":         {scheme("1", 90), a.Local, false},
		"a day before":           {scheme("1", -1), a.Local, true},
		"a week before":          {scheme("1", -7), a.Local, false},
		"another key":            {scheme("2", 0), a.Local, false},
		"another user":           {s, strings.Replace(a.Local, "=ann", "=bob", 1), false},
		"another domain":         {s, strings.Replace(a.Local, "example.org", "example.com", 1), false},
		"another day":            {s, a.Local[:12] + "ZZ" + a.Local[14:], false},
		"another form":           {s, "SRS1" + a.Local[4:], false},
		"no code":                {s, "SRS0==" + a.Local[12:], false},
		"a shorter code":         {s, "SRS0=" + a.Local[6:], false},
		"a longer code":          {s, "SRS0=A" + a.Local[5:], false},
		"nothing":                {s, "SRS0=", false},
		"only a code":            {s, a.Local[:11], false},
		"not rewritten":          {s, "ann", false},
		"the other forms, empty": {s, "SRS1=", false},
	} {
		got, err := c.s.Reverse(mail.Address{Local: c.local, Domain: "fwd.example"})
		if (err == nil) != c.ok || err != nil && !fault.Is(err, fault.NotFound) || c.ok && !strings.EqualFold(got.String(), "ann@example.org") {
			t.Errorf("%s: %s is %s, %v", name, c.local, got, err)
		}
	}
	if _, err := s.Reverse(mail.Address{Local: a.Local, Domain: "other.example"}); err == nil {
		t.Error("an address of one domain is good in another")
	}
}

func TestNotRewritten(t *testing.T) {
	s := scheme("1", 0)
	for _, a := range []mail.Address{{}, {Local: "postmaster"}, {Local: "a", Domain: "[192.0.2.1]"}, {Local: strings.Repeat("a", 48), Domain: "b.c"}, {Local: "SRS1=x", Domain: "b.c"}} {
		if got, ok := s.Forward(a, "fwd.example"); ok {
			t.Errorf("%q is %q", a, got)
		}
	}
	if !Is(mail.Address{Local: "sRs1+x", Domain: "a"}) || Is(mail.Address{Local: "SRS0", Domain: "a"}) || Is(mail.Address{}) {
		t.Error("forms are not told apart")
	}
}

// FuzzReverse: an address is refused, or leads to what was rewritten, and only with our code.
func FuzzReverse(f *testing.F) {
	s, other := scheme("1", 0), scheme("2", 0)
	for _, a := range []string{"ann@example.org", "SRS0=x=y=z=u@v.w", "SRS1=x=y==z=a=b=c@d.e"} {
		got, _ := s.Forward(addr(f, a), "fwd.example")
		f.Add(got.Local)
		f.Add(addr(f, a).Local)
	}
	f.Fuzz(func(t *testing.T, local string) {
		a := mail.Address{Local: local, Domain: "fwd.example"}
		if _, err := other.Reverse(a); err == nil {
			t.Fatalf("%q is good for another key", local)
		}
		got, err := s.Reverse(a)
		if err != nil {
			if !fault.Is(err, fault.NotFound) {
				t.Fatal(err)
			}
			if forward, ok := s.Forward(a, "fwd.example"); ok && form(local) == 0 {
				if back, err := s.Reverse(forward); err == nil && back != a {
					t.Fatalf("%q came back as %q", local, back)
				}
			}
			return
		}
		if _, err := mail.ParseAddress(got.String()); err != nil {
			t.Fatalf("%q leads to %q: %v", local, got, err)
		}
	})
}
