package maildir

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/rfc822/rfc822test"
)

func file(text string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(text), ModTime: time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC)}
}

func read(t *testing.T, fsys fs.FS) ([]move.Mailbox, map[string]*rfc822test.Visitor) {
	t.Helper()
	list, got, err := rfc822test.ReadAll(t.Context(), New(fsys, "maildir:test"), rfc822test.Reading{Rough: true})
	if err != nil {
		t.Fatal(err)
	}
	return list, got
}

func TestNames(t *testing.T) {
	words := []string{"$label1", "", "work"}
	for name, want := range map[string]string{
		"1767607200.M1P2.host,S=9,W=10:2,FS": "1767607200.M1P2.host|SF||10",
		"1767607200.M1P2.host:2,DRTac":       "1767607200.M1P2.host|RTD|$label1 work|-",
		"1767607200.M1P2.host:2,Pbz":         "1767607200.M1P2.host||$Forwarded|-",
		"1767607200.R1.host,U=7:2,S":         "1767607200.R1.host|S||-",
		"1767607200.R1.host;2,S":             "1767607200.R1.host|S||-",
		"1767607200.R1.host!2,RS":            "1767607200.R1.host|SR||-",
		"1767607200.M1P2.host":               "1767607200.M1P2.host|||-",
		"x:1,S":                              "x|||-",
		"y,W=-1:2,S,T":                       "y|S||-",
	} {
		f, k := flagsIn(name, words)
		letters := ""
		for _, c := range []struct {
			f mail.Flags
			l string
		}{{mail.Seen, "S"}, {mail.Flagged, "F"}, {mail.Answered, "R"}, {mail.Deleted, "T"}, {mail.Draft, "D"}} {
			if f.Has(c.f) {
				letters += c.l
			}
		}
		size := "-"
		if n, ok := sizeIn(name); ok {
			size = fmt.Sprint(n)
		}
		if got := strings.Join([]string{unique(name), letters, strings.Join(k, " "), size}, "|"); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestMailboxNames(t *testing.T) {
	for folder, want := range map[string]string{
		".": "INBOX", ".Sent": "Sent", ".Work.2025": "Work/2025", "Work/2025": "Work/2025", "Work/.2025": "Work/2025",
		".Entw&APw-rfe": "Entwürfe", ".Entwürfe": "Entwürfe", ".R&D": "R&D", ".A&-B": "A&B", ".INBOX.Sent": "INBOX/Sent", "&AC8-x": "&AC8-x",
	} {
		if got := mailboxName(folder); got != want {
			t.Errorf("%s: %q, want %q", folder, got, want)
		}
	}
}

func TestDovecot(t *testing.T) {
	fsys := fstest.MapFS{
		"cur/1767607201.M1.h,S=12,W=15:2,S":   file("Subject: a\n\na\n"),
		"cur/1767607202.M2.h,S=12,W=15:2,Fac": file("Subject: b\n\nb\n"),
		"new/1767607203.M3.h,S=12,W=15":       file("Subject: c\n\nc\n"),
		"cur/1767607199.M4.h,S=15,W=15:2,":    file("Subject: d\r\n\r\nd\r\n"),
		"tmp/1767607204.M5.h":                 file("half"),
		"cur/.nfs0001":                        file("x"),
		"cur/1767607205.M6.h:2,S":             {Data: []byte("/etc/passwd"), Mode: fs.ModeSymlink | 0o777},
		"cur/1767607206.M7.h:2,S":             {Mode: fs.ModeNamedPipe},
		"dovecot-uidlist":                     file("3 V1700000001 N9 Gabcdef\n2 W15 :1767607202.M2.h,S=12,W=15\n3 :gone\n5 W15 S12 :1767607201.M1.h,S=12,W=15\n8 :1767607199.M4.h,S=15,W=15\n"),
		"dovecot-keywords":                    file("0 $label1\n2 work\n99 x\n"),
		"subscriptions":                       file("V\t2\n\nSent\nWork\t2025\n"),
		".Sent/cur/1767607201.M1.h:2,S":       file("Subject: s\n\ns\n"),
		".Sent/dovecot-uidlist":               file("1 77 9\n4 1767607201.M1.h:2,S\n"),
		".Work.2025/new/1767607201.M1.h":      file("Subject: w\n\nw\n"),
		".Entw&APw-rfe/cur/x":                 file("Subject: e\n\ne\n"),
		"sieve/script.sieve":                  file("keep;"),
	}
	list, got := read(t, fsys)
	var have []string
	for _, m := range list {
		have = append(have, fmt.Sprintf("%s %s %d %v %d", m.Name, m.Role, m.UIDValidity, m.Subscribed, m.Messages))
	}
	want := []string{"INBOX Inbox 1700000001 true 4", "Entwürfe  0 false 1", "Sent Sent 77 true 1", "Work/2025  0 true 1"}
	if !reflect.DeepEqual(have, want) {
		t.Errorf("%q\nwant %q", have, want)
	}
	have = nil
	for _, m := range got["INBOX"].Got {
		have = append(have, fmt.Sprintf("%d %s %v %q %d %q", m.UID, m.Key, m.Flags, m.Keywords, m.Size, m.Text))
		if !m.Date.Equal(time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC)) {
			t.Error(m.Date)
		}
	}
	want = []string{
		fmt.Sprintf(`2 1767607202.M2.h %v ["$label1" "work"] 15 "Subject: b\r\n\r\nb\r\n"`, mail.Flagged),
		fmt.Sprintf(`5 1767607201.M1.h %v [] 15 "Subject: a\r\n\r\na\r\n"`, mail.Seen),
		fmt.Sprintf(`8 1767607199.M4.h %v [] 15 "Subject: d\r\n\r\nd\r\n"`, mail.Flags(0)),
		fmt.Sprintf(`0 1767607203.M3.h %v [] 15 "Subject: c\r\n\r\nc\r\n"`, mail.Flags(0)),
	}
	if !reflect.DeepEqual(have, want) {
		t.Errorf("%s\nwant %s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
	if got["Sent"].Got[0].UID != 4 {
		t.Error(got["Sent"].Got)
	}
}

func TestCourierAndTrees(t *testing.T) {
	fsys := fstest.MapFS{
		"INBOX/cur/1767607201.M1.h:2,S":   file("Subject: a\n\na\n"),
		"INBOX/courierimapuiddb":          file("1 1234 7\n6 1767607201.M1.h\n"),
		"INBOX/courierimapkeywords/:list": file("$label1\nhome\n\n1767607201.M1.h:0 1\n"),
		"Work/2025/cur/1.x:2,S":           file("Subject: b\n\nb\n"),
		"Work/2025/Q1/new/2.x":            file("Subject: c\n\nc\n"),
		"courierimapsubscribed":           file("INBOX.Work.2025\n"),
	}
	list, got := read(t, fsys)
	if len(list) != 3 || list[0].Name != "INBOX" || list[0].UIDValidity != 1234 || !list[1].Subscribed || list[2].Subscribed {
		t.Fatalf("%+v", list)
	}
	if m := got["INBOX"].Got[0]; m.UID != 6 || !reflect.DeepEqual(m.Keywords, []string{"$label1", "home"}) {
		t.Errorf("%+v", m)
	}
	if got["Work/2025/Q1"].Got[0].Text != "Subject: c\r\n\r\nc\r\n" {
		t.Error(got["Work/2025/Q1"].Got)
	}
}

func TestOrders(t *testing.T) {
	fsys := fstest.MapFS{}
	for i := range 2500 {
		fsys[fmt.Sprintf("cur/%d.M.h:2,", 1767600000+i)] = file(fmt.Sprintf("Subject: %d\n\n", i))
	}
	s := New(fsys, "x")
	list, err := s.Mailboxes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v := &rfc822test.Visitor{Rough: true}
	if err := s.Read(t.Context(), list[0], move.Reading{Order: move.NewestFirst}, v); err != nil || len(v.Faults) > 0 {
		t.Fatal(err, v.Faults)
	}
	if a, b, c := v.Got[0].Text, v.Got[999].Text, v.Got[1000].Text; a != "Subject: 1500\r\n\r\n" || b != "Subject: 2499\r\n\r\n" || c != "Subject: 500\r\n\r\n" || len(v.Got) != 2500 {
		t.Errorf("%q %q %q", a, b, c)
	}
	v = &rfc822test.Visitor{Rough: true}
	if err := s.Read(t.Context(), list[0], move.Reading{Plan: true}, v); err != nil || len(v.Told) != 2500 || len(v.Got) != 0 {
		t.Fatal(err, len(v.Told))
	}
}

// The date is the time of the file. Where a copy has lost it, it is that in the name.
func TestDates(t *testing.T) {
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		step, want time.Duration // from file to file; after the first
	}{"kept": {24 * time.Hour, 24 * time.Hour}, "lost": {time.Second, 30 * 24 * time.Hour}} {
		fsys := fstest.MapFS{}
		for i := range 10 {
			made := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * 30 * 24 * time.Hour)
			fsys[fmt.Sprintf("cur/%d.x.h:2,", made.Unix())] = &fstest.MapFile{Data: []byte("A: 1\n\n"), ModTime: at.Add(time.Duration(i) * c.step)}
		}
		_, got := read(t, fsys)
		list := got["INBOX"].Got
		if d := list[1].Date.Sub(list[0].Date); d != c.want {
			t.Errorf("%s: %v", name, d)
		}
	}
}

// Files that are renamed are found again, those that have gone are passed over, and nobody is
// led out of the folder.
func TestInUse(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"cur", "new", "tmp", ".Box"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "secret")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(outside, "Subject: secret\n\n")
	write(filepath.Join(dir, "new/1767607201.a.h"), "Subject: a\n\n")
	write(filepath.Join(dir, "cur/1767607202.b.h:2,"), "Subject: b\n\n")
	write(filepath.Join(dir, "cur/1767607203.c.h:2,"), "Subject: c\n\n")
	for name, target := range map[string]string{"cur/1767607204.d.h:2,": outside, ".Link": filepath.Dir(outside), "dovecot-uidlist": outside, ".Box/cur": filepath.Join(dir, "cur"), ".Box/new": "../new"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s := New(root.FS(), "x")
	list, err := s.Mailboxes(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	v := &rfc822test.Visitor{Rough: true}
	v.Refuse = func(it move.Item) bool { // in the middle of the reading
		switch it.Key {
		case "1767607201.a.h":
			err = os.Rename(filepath.Join(dir, "new/1767607201.a.h"), filepath.Join(dir, "cur/1767607201.a.h:2,S"))
		case "1767607203.c.h":
			err = os.Remove(filepath.Join(dir, "cur/1767607203.c.h:2,"))
		}
		if err != nil {
			t.Fatal(err)
		}
		return false
	}
	if err := s.Read(t.Context(), list[0], move.Reading{}, v); err != nil || len(v.Faults) > 0 {
		t.Fatal(err, v.Faults)
	}
	if len(v.Got) != 2 || v.Got[0].Text != "Subject: a\r\n\r\n" || v.Got[1].Text != "Subject: b\r\n\r\n" || v.Skipped["1767607203.c.h"] == nil {
		t.Errorf("%+v %v", v.Got, v.Skipped)
	}
}

// FuzzUIDList: UIDs go up and are given to files that are there, whatever the list says.
func FuzzUIDList(f *testing.F) {
	for _, s := range []string{"3 V1 N9 Gx\n2 :a.h\n5 W1 :b.h\n", "1 7 9\n1 a.h\n4 b.h:2,S\n", "3 V0\n", "3 V9\n9 :b.h\n2 :a.h\n", "3 V1\n\n:\n1\n"} {
		f.Add(s, "0 a\n1 b\n", "a.h:2,Sab")
	}
	f.Fuzz(func(t *testing.T, list, words, name string) {
		fsys := fstest.MapFS{"cur/a.h:2,": file("A: 1\n\n"), "cur/b.h:2,S": file("A: 2\n\n"), "dovecot-uidlist": file(list), "dovecot-keywords": file(words)}
		if fs.ValidPath("cur/"+name) && !strings.Contains(name, "/") {
			fsys["cur/"+name] = file("A: 3\n\n")
		}
		all, got := read(t, fsys)
		last := mail.UID(0)
		for _, m := range got["INBOX"].Got {
			if m.UID != 0 && (m.UID <= last || all[0].UIDValidity == 0) {
				t.Fatalf("%+v", got["INBOX"].Got)
			}
			last = m.UID
		}
	})
}

// FuzzNames: a name has a key, and what names the message does not change with its flags.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"1767607200.M1P2.host,S=9,W=10:2,FS", "x", ":2,", ",", "a:2,b:2,S", ".A&-B.c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" {
			return
		}
		if u := unique(name); u == "" || unique(base(name)+":2,FS") != u {
			t.Fatalf("%q is %q", name, u)
		}
		if n := mailboxName(name); strings.Contains(n, "\x00") && !strings.Contains(name, "\x00") && !strings.Contains(name, "&") {
			t.Fatalf("%q", n)
		}
	})
}
