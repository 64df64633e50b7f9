package imap

import (
	"strings"
	"testing"
)

func TestSetACL(t *testing.T) {
	for in, want := range map[string]string{
		"INBOX/Drafts David lrswida":        `"INBOX/Drafts" "David" "lrswitea"`,
		"INBOX/Drafts Chris +cda":           `"INBOX/Drafts" "Chris" "+kxtea"`,
		`"x" -Fred -wet`:                    `"x" "-Fred" "-wte"`,
		`x anyone ""`:                       `"x" "anyone" ""`,
		"x \"\" +":                          `"x" "" "+"`,
		"{1+}\r\nx {5+}\r\nbü@x {2+}\r\nlr": `"x" "bü@x" "lr"`,
	} {
		got, err := parse(in, (*Decoder).ExpectSetACL)
		if err != nil || string(got.AppendText(nil)) != want {
			t.Errorf("%s: %s, %v, want %s", in, got.AppendText(nil), err, want)
		}
	}
	for in, why := range map[string]string{
		"x":             "a space",
		"x bob":         "a space",
		"x bob ":        "rights",
		"x bob lrQ":     "no right Q",
		"x bob lrq":     "no right q",
		"x bob 0":       "no right 0",
		"x bob \"l r\"": "no right of that letter",
		"x bob ++l":     "one sign",
		"x bob l+r":     "no right +",
	} {
		if _, err := parse(in, (*Decoder).ExpectSetACL); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestRightsChange(t *testing.T) {
	for in, want := range map[string]string{"x u lr": "lr", "x u +ri": "lrsi", "x u -rd": "ls", `x u ""`: ""} {
		var had SetACL
		had, err := parse("x u lrs", (*Decoder).ExpectSetACL)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parse(in, (*Decoder).ExpectSetACL)
		if now := got.Change.Apply(had.Change.Rights); err != nil || now.String() != want {
			t.Errorf("%s: %s %v, want %s", in, now, err, want)
		}
	}
}

func FuzzACL(f *testing.F) {
	f.Add("INBOX/Drafts Chris +cda")
	f.Add(`"a b" -anyone ""`)
	f.Add("{1+}\r\nx {3+}\r\nbob {2+}\r\nlr")
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 4096 {
			return
		}
		stable(t, in, (*Decoder).ExpectSetACL, func(a SetACL) []byte { return a.AppendText(nil) })
		stable(t, in, (*Decoder).ExpectACL, nil)
	})
}
