package mail

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/test/memory"
)

func TestParseAddress(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"alice@example.org", "alice@example.org"},
		{"Alice@EXAMPLE.org.", "Alice@example.org"},
		{`"a b"@example.org`, `"a b"@example.org`},
		{`"ab"@example.org`, `ab@example.org`},
		{"почта@пример.рф", "почта@пример.рф"},
		{"x@[192.0.2.1]", "x@[192.0.2.1]"},
		{"x@[IPv6:::1]", "x@[ipv6:::1]"},
	} {
		got, err := ParseAddress(c.in)
		if err != nil || got.String() != c.want {
			t.Errorf("%q: %q, %v; want %q", c.in, got, err, c.want)
		}
	}
	for _, bad := range []string{
		"", "@", "a@", "@b", "a b@c", "a..b@c", ".a@c", "a@b..c", "a@-b", "a\r\n@b", "a@b\r\n", "a@b c",
		`"a@b`, `"a\"@b`, "\"a\x00\"@b", "a@[1.2", strings.Repeat("a", 65) + "@b", "a@" + strings.Repeat("b.", 130) + "c", "\xff@b",
	} {
		if got, err := ParseAddress(bad); err == nil {
			t.Errorf("%q was read as %q", bad, got)
		}
	}
}

func TestAddressRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		b, err := ParseAddress(a.String())
		if err != nil || a != b {
			t.Fatalf("%q -> %q -> %q %v", s, a, b, err)
		}
	})
}

func TestSplitDetail(t *testing.T) {
	base, detail := Address{"bob+lists+x", "d"}.SplitDetail("+")
	if base.Local != "bob" || detail != "lists+x" {
		t.Errorf("%v %q", base, detail)
	}
	if base, detail = (Address{"+x", "d"}).SplitDetail("+"); base.Local != "+x" || detail != "" {
		t.Errorf("%v %q", base, detail)
	}
}

func TestFlagsAppend(t *testing.T) {
	if got := string((Seen | Draft).Append([]byte("("))); got != `(\Seen \Draft` {
		t.Errorf("%q", got)
	}
	if SystemFlag(`\seen`) != Seen || SystemFlag(`\Recent`) != 0 {
		t.Error("SystemFlag")
	}
}

// A UIDSet behaves as a set of numbers, keeps its form and survives both encodings.
func TestUIDSetAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s UIDSet
		model := map[UID]bool{}
		for range rapid.IntRange(0, 40).Draw(t, "n") {
			from := UID(rapid.IntRange(1, 60).Draw(t, "from"))
			to := from + UID(rapid.IntRange(0, 8).Draw(t, "len"))
			s.AddRange(to, from)
			for u := from; u <= to; u++ {
				model[u] = true
			}
		}
		for i, r := range s {
			if r.From > r.To || i > 0 && s[i-1].To+1 >= r.From {
				t.Fatalf("not canonical: %v", s)
			}
		}
		n := 0
		for u := range s.All() {
			n++
			if !model[u] {
				t.Fatalf("%d is too much in %v", u, s)
			}
		}
		if n != len(model) || n != s.Len() {
			t.Fatalf("%d UIDs, Len %d, want %d", n, s.Len(), len(model))
		}
		for u := UID(0); u < 80; u++ {
			if s.Contains(u) != model[u] {
				t.Fatalf("Contains(%d) = %v", u, !model[u])
			}
		}
		back, rest, err := ParseBinaryUIDSet(append(s.AppendBinary(nil), "rest"...))
		if err != nil || string(rest) != "rest" || back.String() != s.String() {
			t.Fatalf("%v -> %v %q %v", s, back, rest, err)
		}
	})
}

func TestUIDSetEdges(t *testing.T) {
	var s UIDSet
	s.AddRange(1<<32-1, 1<<32-2)
	s.Add(1)
	s.Add(2)
	if s.String() != "1:2,4294967294:4294967295" || s.Len() != 4 {
		t.Errorf("%v %d", s, s.Len())
	}
}

// FuzzParseBinaryUIDSet: a set is refused, or has its ranges in order and apart, and is
// read again as the same, with what follows it.
func FuzzParseBinaryUIDSet(f *testing.F) {
	f.Add(SetOf(1, 2, 3, 9, 1<<32-1).AppendBinary(nil))
	f.Add(append(SetOf(0, 7).AppendBinary(nil), "rest"...))
	f.Add([]byte{255, 255, 255, 255, 15, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s UIDSet
		var rest []byte
		var err error
		memory.Bounded(t, 16*len(b), func() { s, rest, err = ParseBinaryUIDSet(b) })
		if err != nil {
			return
		}
		if !bytes.HasSuffix(b, rest) {
			t.Fatalf("%x is followed by %x", b, rest)
		}
		for i, r := range s {
			if r.To < r.From || i > 0 && uint64(r.From) < uint64(s[i-1].To)+2 {
				t.Fatalf("%v is not in order", s)
			}
		}
		again, after, err := ParseBinaryUIDSet(append(s.AppendBinary(nil), rest...))
		if err != nil || !slices.Equal(again, s) || !bytes.Equal(after, rest) {
			t.Fatalf("%v %x became %v %x, %v", s, rest, again, after, err)
		}
	})
}
