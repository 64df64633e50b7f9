package imap

import (
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

func TestLanguages(t *testing.T) {
	for in, want := range map[string]string{
		"": "", " DE": "DE", ` FR-CA EN-CA`: "FR-CA EN-CA", ` "default"`: "default", ` "*"`: "*", " zh-Hant-TW i-default": "zh-Hant-TW i-default",
		` "de-*-DE"`: "de-*-DE", " {2+}\r\nde": "de",
	} {
		if got, err := parse(in, (*Decoder).ExpectLanguages); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{" ", ` ""`, " d_e", " de-", " -de", " abcdefghi", " 1de", ` "de en"`, " ä", strings.Repeat(" de", MaxLanguages+1)} {
		if got, err := parse(bad, (*Decoder).ExpectLanguages); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
}

func TestLookUpLanguage(t *testing.T) {
	tags := []string{"i-default", "en", "de", "zh-Hant"}
	for wanted, want := range map[string]string{
		"en": "en", "EN": "en", "en-CA": "en", "de-DE-1996": "de", "fr": "", "*": "i-default", "i-default": "i-default",
		"zh-Hant-CN-x-private1-private2": "zh-Hant", "zh": "", "zh-Hans": "", "de-*-DE": "de", "*-DE": "", "e": "", "en-a-bbb-x-a-ccc": "en",
		"i": "",
	} {
		if got, ok := LookUpLanguage(tags, wanted); got != want || ok != (want != "") {
			t.Errorf("%s: %q, want %q", wanted, got, want)
		}
	}
}

// A range that is read finds nothing but a tag that its first subtag begins.
func FuzzLanguages(f *testing.F) {
	f.Add(" DE-AT \"default\" i-default")
	f.Add(" {3+}\r\nmul zh-Hant-TW-x-a")
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 8192 {
			return
		}
		stable(t, in, (*Decoder).ExpectLanguages, func(list []string) (b []byte) {
			for _, s := range list {
				b = AppendString(append(b, ' '), s, false, true)
			}
			return b
		})
		list, err := parse(in, (*Decoder).ExpectLanguages)
		for _, s := range list {
			tag, ok := LookUpLanguage([]string{"i-default", "en", "zh-Hant"}, s)
			if err == nil && ok && s != "*" && !strings.HasPrefix(strings.ToLower(s), strings.ToLower(tag[:1])) {
				t.Fatalf("%q is %q", s, tag)
			}
		}
	})
}
