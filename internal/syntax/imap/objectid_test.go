package imap

import (
	"strings"
	"testing"
)

func TestSelectObjectID(t *testing.T) {
	for in, want := range map[string]struct {
		ObjectID
		condstore bool
	}{
		`a (OBJECTID)`:                                    {},
		`a (objectid )`:                                   {},
		`a (OBJECTID CONDSTORE)`:                          {condstore: true},
		`a (CONDSTORE OBJECTID)`:                          {condstore: true},
		`a (OBJECTID OBJECTID CONDSTORE)`:                 {condstore: true},
		`a (OBJECTID (MAILBOXID b1-7))`:                   {ObjectID: ObjectID{Mailbox: "b1-7"}},
		`a (OBJECTID (foo x MAILBOXID b accountid a-_0))`: {ObjectID: ObjectID{Mailbox: "b", Account: "a-_0"}},
		`a (OBJECTID () CONDSTORE)`:                       {condstore: true},
	} {
		got, err := parse(in, (*Decoder).ExpectSelect)
		if err != nil || got.ObjectID == nil || *got.ObjectID != want.ObjectID || got.CondStore != want.condstore {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for in, why := range map[string]string{
		`a (OBJECTID (MAILBOXID))`:    "a space",
		`a (OBJECTID (MAILBOXID ""))`: "an atom",
		`a (OBJECTID x)`:              "no parameter X",
		`a (OBJECTID(MAILBOXID b))`:   "a space or ')'",
	} {
		if _, err := parse(in, (*Decoder).ExpectSelect); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", in, err)
		}
	}
	f, err := parse("1 (OBJECTID FLAGS)", (*Decoder).ExpectFetch)
	if err != nil || string(f.AppendText(nil)) != "1 (OBJECTID FLAGS)" {
		t.Errorf("%s, %v", f.AppendText(nil), err)
	}
	if st, err := parse("a (objectid)", (*Decoder).ExpectStatus); err != nil || st.Items != StatusObjectID {
		t.Error(st, err)
	}
}

func FuzzSelectObjectID(f *testing.F) {
	f.Add(`a (OBJECTID (MAILBOXID b1-7 ACCOUNTID a1) CONDSTORE)`)
	f.Add(`a (OBJECTID OBJECTID )`)
	f.Add(`a (QRESYNC (1 2) OBJECTID ())`)
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 4096 {
			return
		}
		stable(t, in, (*Decoder).ExpectSelect, nil)
	})
}
