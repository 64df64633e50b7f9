package imap

import (
	"strings"
	"testing"
)

func TestBatches(t *testing.T) {
	for in, want := range map[string]Batches{
		"2000":                    {Size: 2000},
		"2000 10:20":              {2000, true, 10, 20},
		"2000 4:1":                {2000, true, 4, 1},
		"1 4294967295:4294967295": {1, true, 4294967295, 4294967295},
	} {
		if got, err := parse(in, (*Decoder).ExpectBatches); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for in, why := range map[string]string{
		"0":            "a message at least",
		"":             "a number",
		"2000 ":        "a number",
		"2000 3":       "':'",
		"2000 0:3":     "counted from 1",
		"2000 3:0":     "counted from 1",
		"2000 3:*":     "a number",
		"2000 1:2,4:5": "the end of the command",
		"4294967296":   "too large",
	} {
		if _, err := parse(in, (*Decoder).ExpectBatches); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// UIDAFTER and UIDBEFORE (RFC 9738, 3.2).
func TestSearchBesideUID(t *testing.T) {
	const in = "uidafter 25000 NOT UIDBEFORE 4294967295"
	got, err := parse(in, (*Decoder).ExpectSearch)
	if want := "(UIDAFTER 25000 NOT UIDBEFORE 4294967295)"; err != nil || string(got.Key.AppendText(nil)) != want {
		t.Errorf("%s, %v", got.Key.AppendText(nil), err)
	}
	for in, why := range map[string]string{
		"UIDAFTER 0": "begin at 1", "UIDBEFORE *": "a number", "UIDAFTER 4294967296": "too large", "UIDAFTER": "a space",
	} {
		if _, err := parse(in, (*Decoder).ExpectSearch); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzBatches(f *testing.F) {
	f.Add("2000 10:20")
	f.Add("500")
	f.Add("UIDBEFORE 3 UIDAFTER 4294967295")
	f.Add("4294967295 4294967295:1")
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 4096 {
			return
		}
		stable(t, in, (*Decoder).ExpectBatches, func(b Batches) []byte { return b.AppendText(nil) })
		stable(t, in, (*Decoder).ExpectSearch, func(s Search) []byte { return s.AppendText(nil) })
	})
}
