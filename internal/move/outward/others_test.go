package outward

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
)

// foreign is a message that another program delivers.
const foreign = "Subject: delivered by procmail\n\nprecious\n"

func append1(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func few() *origin {
	src := &origin{}
	src.add("INBOX", mail.RoleInbox, letter{uid: 1, date: now(), body: "Subject: x\r\n\r\nFrom one\r\n"}, letter{uid: 2, date: now(), body: "Subject: y\r\n\r\ntwo\r\n"})
	src.add("Work", "", letter{uid: 1, date: now(), body: "Subject: z\r\n\r\nthree\r\n"})
	return src
}

// TestMailOfOthers puts mail into the folder of an export, as programs do that read it: the next
// export leaves it there, and an import brings it.
func TestMailOfOthers(t *testing.T) {
	mboxed := "From x@y Mon Jan  1 00:00:00 2024\nStatus: RO\n" + foreign + "\n"
	for _, c := range []struct {
		form Form
		name string // of the file
		text string
		want string // what is told of it: mailbox, flags
		box  string // an mbox file that is not written to any more
	}{
		{Mbox, "INBOX.mbox", mboxed, "INBOX Seen", "INBOX"},
		{Mbox, "Work.mbox", mboxed, "Work Seen", "Work"},
		{Mbox, "Lists.mbox", mboxed, "Lists Seen", ""},
		{Maildir, "new/1700000000.M5P5.host", foreign, "INBOX ", ""},
		{Maildir, ".Work/cur/1700000000.M5P5.host:2,S", foreign, "Work Seen", ""},
		{Maildir, ".Lists.go/cur/1700000000.M5P5.host:2,F", foreign, "Lists/go Flagged", ""},
		{EML, "INBOX/a letter.eml", foreign, "INBOX ", ""},
		{EML, "Lists/1.eml", foreign, "Lists ", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t)
			d, src, o := root(t, dir), few(), Options{Form: c.form}
			mustRun(t, o, src, d)
			name := filepath.Join(dir, c.name)
			append1(t, name, c.text)
			src.mail["INBOX"] = append(src.mail["INBOX"], letter{uid: 9, date: now(), body: "Subject: later\r\n\r\nx\r\n"})
			src.mail["Work"] = append(src.mail["Work"], letter{uid: 9, date: now(), body: "Subject: later\r\n\r\nx\r\n"})
			r, err := run1(t, o, src, d)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range r.Mailboxes {
				if want := m.Mailbox != c.box; (m.Error == "") != want || (m.Added == 1) != want || (m.Proven > 0) != want {
					t.Errorf("%+v", m)
				}
			}
			if m, _ := ReadManifest(d); r.Whole() != (c.box == "") || m.Complete != r.Whole() {
				t.Errorf("whole %v, complete %v", r.Whole(), m.Complete)
			}
			if b, err := os.ReadFile(name); err != nil || !strings.Contains(string(b), "precious") {
				t.Fatalf("the mail is gone: %q %v", b, err)
			}
			f, err := OpenFolder(d)
			if err != nil {
				t.Fatal(err)
			}
			g, err := gather(t, f)
			if err != nil || len(g.skips) > 0 {
				t.Fatal(err, g)
			}
			found := 0
			for _, l := range g.lines {
				if strings.Contains(l, "precious") {
					found++
					box, flags, _ := strings.Cut(c.want, " ")
					if !strings.HasPrefix(l, fmt.Sprintf("%q 0 ", box)) || flags != "" && !strings.Contains(l, flags) {
						t.Error(l)
					}
				}
			}
			if found != 1 {
				t.Errorf("brought %d times: %s", found, strings.Join(g.lines, "\n"))
			}
		})
	}
}

// TestLostIndexRemovesNothing loses the index of a mailbox: its messages are not half an export,
// and the other mailboxes are exported.
func TestLostIndexRemovesNothing(t *testing.T) {
	for _, form := range []Form{Mbox, Maildir, EML} {
		for _, loss := range []func(string) error{os.Remove, func(name string) error { return os.Truncate(name, 0) }} {
			dir := folder(t)
			d, src, o := root(t, dir), few(), Options{Form: form}
			mustRun(t, o, src, d)
			m, _ := ReadManifest(d)
			if err := loss(filepath.Join(dir, m.Mailboxes[0].Index)); err != nil {
				t.Fatal(err)
			}
			src.mail["INBOX"] = src.mail["INBOX"][:1] // what the account has no more is here alone
			src.mail["Work"] = append(src.mail["Work"], letter{uid: 9, date: now(), body: "Subject: later\r\n\r\nx\r\n"})
			for range 2 {
				r, err := run1(t, o, src, d)
				if err != nil || r.Mailboxes[0].Error == "" || r.Mailboxes[1].Error != "" || r.Mailboxes[1].Proven != 2 || r.Whole() {
					t.Errorf("%s: %+v %v", form, r, err)
				}
			}
			kept := 0
			filepath.WalkDir(dir, func(name string, _ os.DirEntry, _ error) error {
				b, _ := os.ReadFile(name)
				for _, text := range []string{"From one", "\ntwo"} {
					if strings.Contains(string(b), text) {
						kept++
					}
				}
				return nil
			})
			if kept != 2 {
				t.Errorf("%s: %d of 2 messages are left", form, kept)
			}
		}
	}
}

// TestMissingFilesAreTold removes the file of a message: an import says that it is missing.
func TestMissingFilesAreTold(t *testing.T) {
	for _, form := range []Form{Maildir, EML} {
		dir := folder(t)
		d, src := root(t, dir), few()
		mustRun(t, Options{Form: form}, src, d)
		list, _ := filepath.Glob(filepath.Join(dir, map[Form]string{Maildir: "cur/*P2.martlet*", EML: "INBOX/*2.eml"}[form]))
		if len(list) != 1 {
			t.Fatal(list)
		}
		os.Remove(list[0])
		f, _ := OpenFolder(d)
		g, err := gather(t, f)
		if err != nil || len(g.skips) != 1 || !strings.Contains(g.skips[0], "INBOX 2 ") {
			t.Errorf("%s: %v %q", form, err, g.skips)
		}
	}
}

// TestHalfWrittenMbox tells what an export that was stopped has left from mail that came behind
// it: in every place where the file may end, in each quoting.
func TestHalfWrittenMbox(t *testing.T) {
	for _, q := range []Quoting{QuoteRD, QuoteO, QuoteCL, QuoteCL2} {
		dir := folder(t)
		d, src := root(t, dir), few()
		o := Options{Form: Mbox, Quoting: q, NoProof: true}
		src.mail["Work"] = nil
		mustRun(t, o, src, d)
		m, _ := ReadManifest(d)
		box, index, writes := filepath.Join(dir, m.Mailboxes[0].Path), filepath.Join(dir, m.Mailboxes[0].Index), filepath.Join(dir, journalName(&m.Mailboxes[0]))
		whole, _ := os.ReadFile(box)
		lines, _ := os.ReadFile(index)
		first := lines[:slices.Index(lines, '\n')+1]
		put := func(index1, file []byte, began string) {
			os.WriteFile(index, index1, 0o600)
			os.WriteFile(box, file, 0o600)
			os.WriteFile(writes, []byte(began), 0o600)
		}
		refused := func() bool {
			r, err := run1(t, o, src, d)
			if err != nil {
				t.Fatal(err)
			}
			return r.Mailboxes[0].Error != ""
		}
		second := strings.LastIndex(string(whole), "From MAILER")
		for n := 0; n <= len(whole); n++ {
			rows, began := []byte(nil), "0\n"
			if n > second && n%2 == 0 {
				rows, began = first, fmt.Sprintln(second)
			}
			put(rows, whole[:n], began)
			if refused() {
				t.Fatalf("%s: half an export of %d bytes is not cut off", q, n)
			}
			if b, _ := os.ReadFile(box); string(b) != string(whole) {
				t.Fatalf("%s, %d: %q", q, n, b)
			}
		}
		for what, c := range map[string]struct {
			rows, file []byte
			began      string
		}{
			"behind a whole export":        {lines, append(slices.Clone(whole), "From x@y Mon Jan  1 00:00:00 2024\n"+foreign...), "-1\n"},
			"a bounce":                     {lines, append(slices.Clone(whole), "From MAILER-DAEMON Mon Jan  1 00:00:00 2024\nX-UID: 7\n"+foreign...), "-1\n"},
			"behind what was begun":        {first, append(slices.Clone(whole), "From x@y Mon Jan  1 00:00:00 2024\n"+foreign...), fmt.Sprintln(second)},
			"a bounce behind it":           {first, append(slices.Clone(whole), "From MAILER-DAEMON Mon Jan  1 00:00:00 2024\n"+foreign...), fmt.Sprintln(second)},
			"before anything was written":  {nil, []byte("From x@y Mon Jan  1 00:00:00 2024\n" + foreign), "0\n"},
			"in the middle of its header":  {first, append(slices.Clone(whole[:second+50]), "\nFrom x@y Mon Jan  1 00:00:00 2024\n"+foreign...), fmt.Sprintln(second)},
			"glued to half of its header":  {first, append(slices.Clone(whole[:second+50]), "From x@y Mon Jan  1 00:00:00 2024\n"+foreign...), fmt.Sprintln(second)},
			"in a place without a journal": {first, append(slices.Clone(whole), "From x@y Mon Jan  1 00:00:00 2024\n"+foreign...), ""},
		} {
			put(c.rows, c.file, c.began)
			if !refused() {
				t.Errorf("%s, %s: mail is taken for half an export", q, what)
			}
			if b, _ := os.ReadFile(box); !strings.Contains(string(b), "precious") {
				t.Errorf("%s, %s: mail was cut off", q, what)
			}
		}
	}
}

// TestUIDListIsWhole leaves behind what a stop before the list of UIDs does.
func TestUIDListIsWhole(t *testing.T) {
	dir := folder(t)
	d, src, o := root(t, dir), few(), Options{Form: Maildir}
	mustRun(t, o, src, d)
	list := filepath.Join(dir, "dovecot-uidlist")
	old, _ := os.ReadFile(list)
	src.mail["INBOX"] = append(src.mail["INBOX"], letter{uid: 9, date: now(), body: "Subject: later\r\n\r\nx\r\n"})
	mustRun(t, o, src, d)
	want, _ := os.ReadFile(list)
	if string(want) == string(old) {
		t.Fatal("the test would not see it")
	}
	os.WriteFile(list, old, 0o600)
	mustRun(t, o, src, d)
	if got, _ := os.ReadFile(list); string(got) != string(want) {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	// One that Dovecot has written, with mail of others, stays.
	theirs := strings.Replace(string(want), " N10 ", " N12 ", 1) + "11 :1700000000.M5P5.host\n"
	os.WriteFile(list, []byte(theirs), 0o600)
	mustRun(t, o, src, d)
	if got, _ := os.ReadFile(list); string(got) != theirs {
		t.Errorf("%s\nwant\n%s", got, theirs)
	}
}
