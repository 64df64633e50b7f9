package mail

import (
	"slices"
	"strings"
	"testing"
)

func TestKeyword(t *testing.T) {
	for in, want := range map[string]string{
		"$HASATTACHMENT": "$hasattachment", "$mailflagbit2": "$MailFlagBit2", "$junk": "$Junk", "$Memo": "$memo",
		"memo": "memo", "$unknown": "$unknown", "$Unknown": "$Unknown", "": "", "$": "$",
	} {
		if got := Keyword(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
	if got := strings.Join(FlagColours(), " "); got != "$MailFlagBit0 $MailFlagBit1 $MailFlagBit2" {
		t.Error(got)
	}
}

func TestExclusiveKeywords(t *testing.T) {
	for in, want := range map[string][2]string{ // what stays and what it excludes
		"":                      {"", ""},
		"$Junk x":               {"$Junk x", ""},
		"$Memo":                 {"$Memo", "$hasmemo"},
		"$hasmemo y":            {"$hasmemo y", "$memo"},
		"$MUTED $followed":      {"$followed", "$muted"},
		"$hasattachment $muted": {"$hasattachment $muted", "$hasnoattachment $followed"},
		"a $memo $hasmemo b":    {"a $memo b", "$hasmemo"},
		"$hasnoattachment $hasattachment $memo $hasmemo": {"$hasattachment $memo", "$hasnoattachment $hasmemo"},
	} {
		names := strings.Fields(in)
		before := slices.Clone(names)
		kept := Compatible(names)
		if got := strings.Join(kept, " "); got != want[0] {
			t.Errorf("%s: kept %s", in, got)
		}
		if got := strings.Join(Excluded(kept), " "); got != want[1] {
			t.Errorf("%s: excluded %s", in, got)
		}
		if !slices.Equal(names, before) {
			t.Errorf("%s became %s", in, names)
		}
	}
}
