package imap

import (
	"strings"
	"testing"
)

func TestSetQuota(t *testing.T) {
	for in, want := range map[string]string{
		`"" (STORAGE 512)`:                        `"" (STORAGE 512)`,
		`"#user/alice" (storage 510 Message 0)`:   `"#user/alice" (STORAGE 510 MESSAGE 0)`,
		"{1+}\r\nx ()":                            `"x" ()`,
		`x (STORAGE 9223372036854775807 X-NEW 1)`: `"x" (STORAGE 9223372036854775807 X-NEW 1)`,
	} {
		got, err := parse(in, (*Decoder).ExpectSetQuota)
		if err != nil || string(got.AppendText(nil)) != want {
			t.Errorf("%s: %s, %v", in, got.AppendText(nil), err)
		}
	}
	for in, why := range map[string]string{
		`""`:                               "a space",
		`"" STORAGE`:                       "'('",
		`"" (STORAGE)`:                     "a space",
		`"" (STORAGE -1)`:                  "a number",
		`"" (STORAGE 9223372036854775808)`: "too large",
	} {
		if _, err := parse(in, (*Decoder).ExpectSetQuota); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestReplace(t *testing.T) {
	for in, want := range map[string]Replace{
		"4 Drafts ":         {4, "Drafts"},
		"* \"inbox\" ":      {0, "INBOX"},
		"2000 &AOk-t&AOk- ": {2000, "été"},
	} {
		if got, err := parse(in, (*Decoder).ExpectReplace); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for in, why := range map[string]string{
		"0 x ":   "begin at 1",
		"1:2 x ": "a space",
		"$ x ":   "a message number",
		"1 x":    "a space",
		"1":      "a space",
	} {
		if _, err := parse(in, (*Decoder).ExpectReplace); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func FuzzQuota(f *testing.F) {
	f.Add(`"" (STORAGE 512 MESSAGE 3)`)
	f.Add(`{1+}` + "\r\nx (A 0)")
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 4096 {
			return
		}
		stable(t, in, (*Decoder).ExpectSetQuota, func(q SetQuota) []byte { return q.AppendText(nil) })
		stable(t, in, (*Decoder).ExpectReplace, nil)
	})
}
