package imap

import (
	"fmt"
	"testing"
)

func TestComparators(t *testing.T) {
	for order, want := range map[string]string{
		"default": "[i;unicode-casemap]", "i;octet": "[i;octet]", "I;ASCII-Casemap": "[i;ascii-casemap]", "+i;octet": "[i;octet]",
		"*": "[i;unicode-casemap i;ascii-casemap i;octet]", "i;*casemap": "[i;unicode-casemap i;ascii-casemap]", "*;*c*t": "[i;octet]",
		"cz;*": "[]", "": "[]", "-i;octet": "[]", "i;octet*i;octet": "[]", "i;basic": "[]", "**octet**": "[i;octet]",
	} {
		if got := fmt.Sprint(MatchComparators(order)); got != want {
			t.Errorf("%s: %s, want %s", order, got, want)
		}
	}
	for _, c := range []struct {
		by       Comparator
		in, want string
	}{
		{UnicodeCasemap, "aé", "AE\u0301"}, {ASCIICasemap, "aé_Z", "Aé_Z"}, {Octet, "aé_Z", "aé_Z"},
	} {
		if got := c.by.Fold(c.in); got != c.want || string(c.by.AppendFold([]byte("x"), []byte(c.in))) != "x"+c.want {
			t.Errorf("%s of %s: %s", c.by, c.in, got)
		}
	}
}

func FuzzComparators(f *testing.F) {
	f.Add(`"cz;*" i;basic`)
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 4096 {
			return
		}
		stable(t, " "+in, (*Decoder).ExpectComparators, nil)
		if got := MatchComparators(in); len(got) > len(comparatorNames) {
			t.Error(got)
		}
	})
}
