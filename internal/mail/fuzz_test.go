package mail

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/martlet-mail/martlet/test/memory"
)

// FuzzAddress: an address is refused, or is valid UTF-8 without control characters, written
// and read again as the same; so are its lower-case form and its base.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{
		"alice@example.org", "Alice@EXAMPLE.org.", `"a b\""@example.org`, "почта@пример.рф", "x@[IPv6:::1]", `"\a"@x`, "a@b@c", "@x", "x@[\xff]", "x@[\x1b]", "İ@İ.x", `"a@b"@c`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var a Address
		var err error
		memory.Bounded(t, 50*len(s), func() { a, err = ParseAddress(s) })
		if err != nil {
			if !utf8.ValidString(err.Error()) || strings.ContainsAny(err.Error(), "\r\n\x00\x1b") {
				t.Fatalf("%q is refused with %q", s, err)
			}
			return
		}
		text := a.String()
		if !utf8.ValidString(text) || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			t.Fatalf("%q is %q", s, text)
		}
		for _, x := range []Address{a, a.Folded()} {
			again, err := ParseAddress(x.String())
			if err != nil || again != x {
				t.Fatalf("%q is %+v, written %q, read %+v, %v", s, x, x, again, err)
			}
		}
		if twice := a.Folded().Folded(); twice != a.Folded() {
			t.Fatalf("%q is looked up as %+v or as %+v", s, a.Folded(), twice)
		}
		if base, detail := a.SplitDetail("+"); detail != "" && base.Local+"+"+detail != a.Local {
			t.Fatalf("%q has the base %+v and the detail %q", s, base, detail)
		}
	})
}

// FuzzRights: letters are refused where one means nothing, or mean the same when they are
// written again, but for the two letters of old.
func FuzzRights(f *testing.F) {
	f.Add("lrswipkxtea")
	f.Add("cda")
	f.Add("lr0")
	f.Fuzz(func(t *testing.T, letters string) {
		r, wrong := ParseRights(letters)
		if wrong >= 0 {
			if strings.IndexByte("lrswipkxteacd", letters[wrong]) >= 0 {
				t.Fatalf("%q means nothing at %d", letters, wrong)
			}
			return
		}
		text := strings.NewReplacer("c", "", "d", "").Replace(r.String()) // c and d are told of either of two rights (RFC 4314, 2.1.1)
		if again, wrong := ParseRights(text); wrong >= 0 || again != r {
			t.Fatalf("%q are %v, written %q, read %v", letters, uint16(r), r, uint16(again))
		}
	})
}
