package dnsx_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// What no host is called can be asked for all the same.
func TestEscapedNames(t *testing.T) {
	s := start(t, `jack\038jill\061up.example. IN A 192.0.2.1
a\032b.example. IN TXT "a space"
foo\058bar\047baz.example. IN AAAA 2001:db8::1
`)
	c := client(t, dnsx.Options{Servers: []string{s.Addr()}})
	if a, _, err := c.LookupIP(t.Context(), dnsx.Escape("Jack&jill=up.example"), false); err != nil || fmt.Sprint(a) != "[192.0.2.1]" {
		t.Error(a, err)
	}
	if a, _, err := c.LookupIP(t.Context(), dnsx.Escape("jack&jill=up.example"), true); !fault.Is(err, fault.NotFound) || dnsx.NoName(err) {
		t.Error(a, err)
	}
	if a, _, err := c.LookupTXT(t.Context(), dnsx.Escape("a b.example")); err != nil || fmt.Sprint(a) != "[a space]" {
		t.Error(a, err)
	}
	if a, _, err := c.LookupIP(t.Context(), dnsx.Escape("foo:bar/baz.example"), true); err != nil || len(a) != 1 {
		t.Error(a, err)
	}
	for _, bad := range []string{"a..&", "&" + strings.Repeat("a", 63) + ".example", strings.Repeat("&.", 127) + "example", "."} {
		if _, _, err := c.LookupTXT(t.Context(), dnsx.Escape(bad)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, _, err := c.LookupTXT(t.Context(), "a b.example"); !fault.Is(err, fault.Invalid) {
		t.Error("a name that is not escaped is taken", err)
	}
	if got := dnsx.Escape("\x00\xff\\.Ab_-9"); got != `\000\255\092.Ab_-9` {
		t.Error(got)
	}
}
