package imap

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// print writes all of a URL that was understood.
func (u *URL) print() string {
	s := fmt.Sprintf("%s;%d/%d", u.Mailbox, u.UIDValidity, u.UID)
	if u.Absolute {
		s = u.User + "@" + u.Host + " " + s
	}
	if !u.Rooted {
		s = "relative " + s
	}
	if u.Part.Kind == FetchSection || u.Part.Partial {
		u.Part.Kind = FetchSection
		s += string(u.Part.appendName([]byte(" "), true))
	}
	if !u.Expire.IsZero() {
		s += " until " + u.Expire.UTC().Format(time.RFC3339)
	}
	if u.Access != AccessNone {
		s += fmt.Sprintf(" for %d%s by %s:%s", u.Access, u.AccessUser, u.Mechanism, u.Token)
	}
	return s
}

func TestParseURL(t *testing.T) {
	for in, want := range map[string]string{
		"/INBOX;UIDVALIDITY=785799047/;UID=113330/;section=1.5.9": "INBOX;785799047/113330 BODY[1.5.9]",
		"/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER":   "Drafts;385759045/20 BODY[HEADER]",
		"/Drafts;UIDVALIDITY=385759045/;UID=20/;Section=2.MIME":   "Drafts;385759045/20 BODY[2.MIME]",
		"/INBOX/;UID=11467": "INBOX;0/11467",
		"/a/b%20c/gr%C3%BCn/;uid=1/;section=HEADER.FIELDS%20(From%20To)": "a/b c/grün;0/1 BODY[HEADER.FIELDS (From To)]",
		"/INBOX/;UID=1/;PARTIAL=5.10":                                    "INBOX;0/1 BODY[]<5.10>",
		"/INBOX/;UID=1/;SECTION=1/;PARTIAL=5":                            "INBOX;0/1 BODY[1]<5.9223372036854775807>",
		";UID=7/;SECTION=TEXT":                                           "relative ;0/7 BODY[TEXT]",
		"INBOX/;UID=7":                                                   "relative INBOX;0/7",
		"imap://joe@example.com/INBOX/;uid=20/;section=1.2":              "joe@example.com INBOX;0/20 BODY[1.2]",
		"IMAP://joe%40a.example;AUTH=*@example.com:143/INBOX/;uid=20":    "joe@a.example@example.com:143 INBOX;0/20",
		"imap://joe@example.com/INBOX/;uid=20/;section=1.2;urlauth=submit+fred:internal:91354a473744909de610943775f92038":                    "joe@example.com INBOX;0/20 BODY[1.2] for 4fred by internal:91354a473744909de610943775f92038",
		"imap://bob.ar@example.org/INBOX;UIDVALIDITY=385759045/;UID=25627/;Section=2.MIME;expire=2006-10-28T23:59:59Z;urlauth=submit+bob.ar": "bob.ar@example.org INBOX;385759045/25627 BODY[2.MIME] until 2006-10-28T23:59:59Z for 4bob.ar by :",
		"imap://j@h/a/;uid=1;urlauth=anonymous":                          "j@h a;0/1 for 1 by :",
		"imap://j@h/a/;uid=1;URLAUTH=AuthUser:INTERNAL:ab":               "j@h a;0/1 for 2 by INTERNAL:ab",
		"imap://j@h/a/;uid=1/;partial=0.9;urlauth=user+ann@b.example:X:": "j@h a;0/1 BODY[]<0.9> for 3ann@b.example by X:",
		"imap://h/a/;uid=1": "@h a;0/1",
	} {
		got, err := ParseURL(in)
		if err != nil || got.print() != want {
			t.Errorf("%s:\n%s %v\nwant %s", in, got.print(), err, want)
		}
	}
	for _, bad := range []string{
		"", "/", "/INBOX", "INBOX", "/INBOX;UIDVALIDITY=1", "imap://joe@example.com/", "imap://joe@example.com", "imap:///a/;uid=1", "//other/a/;UID=1",
		"http://h/a/;UID=1", "mailto:joe@example.com", "/INBOX?SUBJECT%20x", "/INBOX/;UID=1?x", "/INBOX/;UID=1#x", "/INBOX/;UID=0", "/INBOX/;UID=+1",
		"/INBOX/;UID=4294967296", "/INBOX/;UID=", "/INBOX/;UID", "/INBOX;UID=1", "/INBOX/;UID=1;SECTION=1", "/INBOX/;UIDVALIDITY=1/;UID=1",
		"/INBOX/;UID=1/;UID=2", "/INBOX/;SECTION=1/;UID=1", "/INBOX/;UID=1/;SECTION=", "/INBOX/;UID=1/;SECTION=0", "/INBOX/;UID=1/;SECTION=1]",
		"/INBOX/;UID=1/;SECTION=x", "/INBOX/;UID=1/;SECTION=1/;PARTIAL=", "/INBOX/;UID=1/;PARTIAL=1.0", "/INBOX/;UID=1/;PARTIAL=-1", "/INBOX/;UID=1/;PARTIAL=1.",
		"/INBOX/;UID=1/", "/INBOX/;UID=1/;", "/INBOX/;UID=1;NONSENSE=1", "/IN BOX/;UID=1", "/grün/;UID=1", "/%C3/;UID=1", "/%0d/;UID=1", "/%zz/;UID=1", "/%4/;UID=1", "/%+1/;UID=1",
		"imap://j@h/a/;uid=1;urlauth=submit", "imap://j@h/a/;uid=1;urlauth=submit+", "imap://j@h/a/;uid=1;urlauth=anonymous+x", "imap://j@h/a/;uid=1;urlauth=", "imap://j@h/a/;uid=1;urlauth=x+y",
		"imap://j@h/a/;uid=1;expire=tomorrow;urlauth=anonymous", "imap://j@h/a/;uid=1;urlauth=anonymous;expire=2006-10-28T23:59:59Z",
		"/" + strings.Repeat("x", MaxURL) + "/;UID=1", "/" + strings.Repeat("x", MaxMailboxName+1) + "/;UID=1",
	} {
		if u, err := ParseURL(bad); !fault.Is(err, fault.Invalid) || fault.Say(err) == "" {
			t.Errorf("%.60q was read as %s, %v", bad, u.print(), err)
		}
	}
}

// TestRump: the rump is the URL as it was written, to the byte (RFC 4467, 6).
func TestRump(t *testing.T) {
	for _, rump := range []string{
		"imap://joe@example.com/INBOX/;uid=20/;section=1.2;urlauth=submit+fred", "IMAP://j%4fe@EXAMPLE.com/%49NBOX/;UID=20;UrlAuth=ANONYMOUS",
	} {
		u, err := ParseURL(rump + ":internal:0123")
		if err != nil || u.Rump != rump || u.Token != "0123" {
			t.Errorf("%q %q %v", u.Rump, u.Token, err)
		}
		if u, err = ParseURL(rump); err != nil || u.Rump != rump || u.Mechanism != "" {
			t.Errorf("%q %q %v", u.Rump, u.Mechanism, err)
		}
	}
}

func FuzzURL(f *testing.F) {
	for _, s := range []string{
		"/INBOX;UIDVALIDITY=785799047/;UID=113330/;section=1.5.9/;partial=1.2", ";UID=7/;SECTION=HEADER.FIELDS%20(a%20%22b%22)",
		"imap://joe;AUTH=*@example.com/IN%42OX/;uid=20;expire=2006-10-28T23:59:59Z;urlauth=submit+fred:internal:91354a473744909de610943775f92038",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		u, err := ParseURL(in)
		if text := URLText(in); strings.ContainsAny(text, "]\r\n\x00") || len(text) > 3*MaxURL {
			t.Fatalf("%q cannot stand in a response code", text)
		}
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return
		}
		if u.UID == 0 || u.Part.Partial && u.Part.Len == 0 || len(u.Part.Path) > MaxPath {
			t.Fatalf("%q was read as %s", in, u.print())
		}
		if (u.Access != AccessNone) != (u.Rump != "") || !strings.HasPrefix(in, u.Rump) {
			t.Fatalf("%q has the rump %q", in, u.Rump)
		}
		if u.Mechanism != "" && !strings.HasPrefix(in, u.Rump+":"+u.Mechanism) {
			t.Fatalf("%q has the rump %q and the mechanism %q", in, u.Rump, u.Mechanism)
		}
	})
}
