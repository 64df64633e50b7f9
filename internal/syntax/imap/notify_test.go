package imap

import (
	"strings"
	"testing"
)

func TestNotify(t *testing.T) {
	for in, want := range map[string]string{
		"NONE":                "NONE",
		"set (selected none)": "SET (SELECTED NONE)",
		"set status (selected (MessageNew (uid body.peek[header.fields (from to subject)]) MessageExpunge)) (subtree Lists (MessageNew MessageExpunge))": "SET STATUS (SELECTED (MessageNew (UID BODY.PEEK[HEADER.FIELDS (from to subject)]) MessageExpunge)) " +
			`(SUBTREE ("Lists") (MessageNew MessageExpunge))`,
		"SET (mailboxes INBOX (Messagenew messageExpunge)) (personal (SubscriptionChange))":                                                               "SET (MAILBOXES (\"INBOX\") (MessageNew MessageExpunge)) (PERSONAL (SubscriptionChange))",
		"SET (selected-delayed (flagchange messageexpunge messagenew)) (inboxes (MailboxName)) (subscribed (MailboxMetadataChange ServerMetadataChange))": "SET (SELECTED-DELAYED (MessageNew MessageExpunge FlagChange)) (INBOXES (MailboxName)) (SUBSCRIBED (MailboxMetadataChange ServerMetadataChange))",
		`SET (subtree-one (a "b c") NONE)`: `SET (SUBTREE-ONE ("a" "b c") NONE)`,
	} {
		got, err := parse(in, (*Decoder).ExpectNotify)
		if text := string(got.AppendText(nil)); err != nil || text != want || got.Unknown != "" {
			t.Errorf("%s: %s, %v", in, text, err)
		}
	}
	got, err := parse("SET (selected (MessageNew MessageExpunge WeatherChange))", (*Decoder).ExpectNotify)
	if err != nil || got.Unknown != "WeatherChange" {
		t.Errorf("%+v %v", got, err)
	}
	for in, why := range map[string]string{
		"":                            "SET or NONE",
		"ALL":                         "not by ALL",
		"SET":                         "a space",
		"SET STATE (personal NONE)":   "expected STATUS",
		"SET STATUS":                  "a space",
		"SET (personal ())":           "empty list of events",
		"SET (personal (MessageNew))": "go together",
		"SET (personal MessageNew)":   "expected a list of events",
		"SET (personal (MessageNew (UID) MessageExpunge))": "for the selected mailbox only",
		"SET (selected (MessageNew () MessageExpunge))":    "empty list of items",
		"SET (personal (FlagChange))":                      "FlagChange needs",
		"SET (selected (MailboxName))":                     "events of messages only",
		"SET (selected NONE) (selected-delayed NONE)":      "once",
		"SET (mailboxes () NONE)":                          "empty list of mailboxes",
		"SET (personal NONE)(personal NONE)":               "end of the command",
		"SET (others NONE)":                                "no choice of mailboxes",
		"SET (personal NONE":                               "')'",
	} {
		_, err := parse(in, (*Decoder).ExpectNotify)
		says(t, err, why)
	}
}

func TestUpdate(t *testing.T) {
	for in, want := range map[string]string{
		"RETURN (UPDATE) ALL":      "RETURN (UPDATE) ",
		"RETURN (context count) 1": "RETURN (COUNT CONTEXT) ",
		"RETURN (COUNT UPDATE (UID BODY[HEADER.FIELDS (TO FROM SUBJECT)])) FROM boss": "RETURN (COUNT UPDATE (UID BODY[HEADER.FIELDS (TO FROM SUBJECT)])) ",
	} {
		got, err := parse(in, (*Decoder).ExpectSearch)
		if text := string(got.appendReturn(nil)); err != nil || text != want {
			t.Errorf("%s: %s, %v", in, text, err)
		}
	}
	_, err := parse("RETURN (UPDATE ()) ALL", (*Decoder).ExpectSearch)
	says(t, err, "empty list of items")
	tags, err := parse(`"A01" a2 "x y"`, (*Decoder).ExpectCancelUpdate)
	if err != nil || strings.Join(tags, "|") != "A01|a2|x y" {
		t.Errorf("%q %v", tags, err)
	}
	for in, why := range map[string]string{"": "the tag of a search", `""`: "empty string", `"a" `: "the tag of a search"} {
		_, err := parse(in, (*Decoder).ExpectCancelUpdate)
		says(t, err, why)
	}
}

func FuzzNotify(f *testing.F) {
	for _, s := range []string{
		"NONE", "SET STATUS (selected (MessageNew (uid body.peek[header.fields (from)]<0.4>) MessageExpunge FlagChange))",
		`SET (mailboxes ("a" &AOk-) (MailboxName)) (subtree {1+}` + "\r\nx (ServerMetadataChange Other)) (inboxes NONE)",
		"RETURN (COUNT UPDATE (UID FLAGS) CONTEXT PARTIAL -1:-5) OR SEEN 3",
		`"A01" A02`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 8192 {
			return
		}
		stable(t, in, (*Decoder).ExpectNotify, func(n Notify) []byte { return n.AppendText(nil) })
		stable(t, in, (*Decoder).ExpectSearch, func(s Search) []byte { return s.AppendText(nil) })
		stable(t, in, (*Decoder).ExpectCancelUpdate, nil)
	})
}
