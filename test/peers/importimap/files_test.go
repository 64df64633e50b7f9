package importimap

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"mime"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/test/peers/dovecot"
	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// fresh starts a Martlet with an account carol that never had a message: no letter greets
// one that is made by command.
func fresh(t *testing.T) *martlet.Server {
	t.Helper()
	s, err := martlet.Start(martlet.Options{Binary: built, Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(func() { s.Stop() })
	out, err := s.Command("account", "add", "carol@"+s.Domain, "--json")
	must(t, err)
	var a martlet.Account
	must(t, json.Unmarshal([]byte(out), &a))
	s.Accounts = append(s.Accounts, a)
	return s
}

// bring runs martlet import and returns the last line of its report.
func bring(t *testing.T, m *martlet.Server, input string, args ...string) (end struct {
	Event   string `json:"event"`
	Brought int    `json:"brought"`
}) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), built, append(append([]string{"import"}, args...), "--to", m.Account("carol").Address, "--config", m.Config, "--json")...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v: %.3000s", args, err, out.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &end); err != nil || end.Event != "done" {
		t.Fatalf("%v: %v: %.3000s", args, err, out.String())
	}
	return end
}

// stocked is a Dovecot with mail that has been stopped, and what it had.
func stocked(t *testing.T, format dovecot.Format, n int) (dir string, there map[string][]row, validity uint32) {
	t.Helper()
	dir = t.TempDir()
	d, err := dovecot.Run(dovecot.Options{Dir: dir, Format: format, Unsynced: true})
	must(t, err)
	defer d.Stop()
	c := connect(t, options(t, d.IMAP), imapc.Credentials{User: "carol", Password: dovecot.Password})
	stock(t, c, "/", n, seed(t))
	there = census(t, c)
	sel, err := c.Select(t.Context(), "INBOX", imapc.Select{ReadOnly: true})
	must(t, err)
	return filepath.Join(dir, "mail", "carol"), there, sel.UIDValidity
}

// What Dovecot keeps in its own formats comes over as its own IMAP server shows it, with the
// same UIDs under the same UIDVALIDITY, and a second time there is nothing to bring.
func TestDovecotsFiles(t *testing.T) {
	for format, kind := range map[dovecot.Format]string{dovecot.Maildir: "maildir", dovecot.MDBox: "dbox", "sdbox": "dbox"} {
		t.Run(string(format), func(t *testing.T) {
			path, there, validity := stocked(t, format, 150)
			m := fresh(t)
			if end := bring(t, m, "", kind, path); end.Brought < 140 {
				t.Errorf("%d messages came", end.Brought)
			}
			c := here(t, m)
			equal(t, there, census(t, c), true)
			sel, err := c.Select(t.Context(), "INBOX", imapc.Select{ReadOnly: true})
			must(t, err)
			if kept := sel.UIDValidity == validity; !kept && len(there["INBOX"]) > 0 {
				t.Logf("UIDVALIDITY %d there, %d here", validity, sel.UIDValidity)
				t.Error("clients have to download INBOX again")
			}
			if end := bring(t, m, "", kind, path); end.Brought != 0 {
				t.Errorf("%d messages came a second time", end.Brought)
			}
		})
	}
}

// Dovecot's mbox, as doveadm writes it: it quotes nothing and keeps flags in fields.
func TestDovecotsMbox(t *testing.T) {
	dir := t.TempDir()
	d, err := dovecot.Run(dovecot.Options{Dir: dir, Format: dovecot.Maildir, Unsynced: true})
	must(t, err)
	defer d.Stop()
	c := connect(t, options(t, d.IMAP), imapc.Credentials{User: "carol", Password: dovecot.Password})
	const body = "Subject: %d\r\nMessage-ID: <m%d@example.net>\r\n\r\nFrom the start\r\n>From b\r\n\r\nFrom bob@example.net Mon Jan  5 10:00:00 2026\r\nSubject: none\r\n\r\nx\r\n"
	var list []imapc.Appending
	for i := range 50 {
		text := fmt.Sprintf(body, i, i)
		list = append(list, imapc.Appending{Flags: mail.Flags(i % 16), Keywords: []string{"work"}, Size: int64(len(text)), Body: strings.NewReader(text)})
	}
	_, err = c.Append(t.Context(), "INBOX", list)
	must(t, err)
	there := census(t, c)
	mbox := filepath.Join(dir, "mbox")
	must(t, os.MkdirAll(mbox, 0o777))
	must(t, os.Chmod(mbox, 0o777))
	if out, err := exec.Command("doveadm", "-c", filepath.Join(dir, "dovecot.conf"), "backup", "-u", "carol", "mbox:"+mbox+":INBOX="+mbox+"/INBOX").CombinedOutput(); err != nil {
		t.Skipf("doveadm writes no mbox here: %v %s", err, out)
	}
	m := fresh(t)
	if end := bring(t, m, "", "mbox", mbox, "--strip-status"); end.Brought != 50 {
		t.Errorf("%d messages came", end.Brought)
	}
	got := census(t, here(t, m))["INBOX"]
	for i, want := range there["INBOX"] {
		if i >= len(got) || got[i].sum != want.sum || got[i].flags != want.flags || got[i].keywords != want.keywords {
			t.Fatalf("message %d: %+v there, %+v here", i, want, got[min(i, len(got)-1)])
		}
	}
}

// What Python's module mailbox, formail and mbsync have written.
func TestOtherPrograms(t *testing.T) {
	dir := t.TempDir()
	const script = `
import mailbox, sys
for kind, name in ((mailbox.mbox, "py.mbox"), (mailbox.Maildir, "py.maildir"), (mailbox.MH, "mh/box")):
    box = kind(sys.argv[1] + "/" + name, create=True)
    for i in range(30):
        m = mailbox.Message("Subject: %d\nMessage-ID: <%s-%d@example.net>\n\nFrom here\n.\nend %d\n" % (i, name.replace("/", "-"), i, i))
        if kind is mailbox.mbox:
            m = mailbox.mboxMessage(m); m.set_flags("RO" if i % 2 else "O"); i % 3 == 0 and m.add_flag("F")
        elif kind is mailbox.Maildir:
            m = mailbox.MaildirMessage(m); m.set_subdir("cur"); m.set_flags("S" if i % 2 else ""); i % 3 == 0 and m.add_flag("F")
        else:
            m = mailbox.MHMessage(m); i % 2 == 0 and m.add_sequence("unseen"); i % 3 == 0 and m.add_sequence("flagged")
        box.add(m)
    box.flush(); box.close()
`
	if err := os.Mkdir(filepath.Join(dir, "mh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("python3", "-c", script, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m := fresh(t)
	for kind, path := range map[string]string{"mbox": "py.mbox", "maildir": "py.maildir", "eml": "mh"} {
		if end := bring(t, m, "", kind, filepath.Join(dir, path)); end.Brought != 30 {
			t.Errorf("%s: %d messages came", kind, end.Brought)
		}
	}
	boxes := census(t, here(t, m))
	for _, name := range []string{"py", "box", "INBOX"} {
		got := boxes[name]
		if len(got) != 30 {
			t.Fatalf("%s has %d", name, len(got))
		}
		for i, r := range got {
			if f := strings.Contains(r.flags, "Seen"); name != "INBOX" && f != (i%2 == 1) {
				t.Errorf("%s, message %d: %+v", name, i, r)
			}
			if f := strings.Contains(r.flags, "Flagged"); name != "INBOX" && f != (i%3 == 0) {
				t.Errorf("%s, message %d: %+v", name, i, r)
			}
		}
	}
	if formail, err := exec.LookPath("formail"); err == nil { // counts what it separates
		out, err := exec.Command("sh", "-c", formail+" -s echo x < "+filepath.Join(dir, "py.mbox")+" | wc -l").Output()
		if err != nil || strings.TrimSpace(string(out)) != "30" {
			t.Errorf("formail finds %s messages: %v", out, err)
		}
	}
}

// A mailbox at a POP3 server comes over, and is emptied there if that was asked for: Dovecot's,
// and our own.
func TestPOP3(t *testing.T) {
	dir := t.TempDir()
	d, err := dovecot.Run(dovecot.Options{Dir: dir, Format: dovecot.Maildir, Unsynced: true})
	must(t, err)
	t.Cleanup(d.Stop)
	c := connect(t, options(t, d.IMAP), imapc.Credentials{User: "carol", Password: dovecot.Password})
	var list []imapc.Appending
	for i := range 120 {
		text := fmt.Sprintf("Subject: %d\r\nMessage-ID: <m%d@example.net>\r\nDate: Mon, 5 Jan 2026 10:00:00 +0000\r\n\r\n.dot\r\n..\r\n.\r\n%s\r\n", i, i, strings.Repeat("x", i*100))
		list = append(list, imapc.Appending{Size: int64(len(text)), Body: strings.NewReader(text)})
	}
	_, err = c.Append(t.Context(), "INBOX", list)
	must(t, err)
	there := census(t, c)["INBOX"]
	first, second := fresh(t), fresh(t)
	if end := bring(t, first, dovecot.Password+"\n", "pop3", "--from", "pop3://"+d.POP3, "--user", "carol", "--password-stdin"); end.Brought != 120 {
		t.Errorf("%d messages came", end.Brought)
	}
	same := func(of *martlet.Server) {
		t.Helper()
		got := census(t, here(t, of))["INBOX"]
		for i := range there {
			if i >= len(got) || got[i].sum != there[i].sum {
				t.Fatalf("message %d of %d differs", i, len(got))
			}
		}
	}
	same(first)
	if left := census(t, c)["INBOX"]; len(left) != 120 {
		t.Errorf("%d are left at the source, which was to stay as it is", len(left))
	}
	// From there into another Martlet, over its own POP3, by TLS.
	a := first.Account("carol")
	end := bring(t, second, a.Password+"\n", "pop3", "--from", "pop3s://localhost:"+fmt.Sprint(first.Ports["pop3s"]), "--ca", first.CA, "--user", a.Address, "--password-stdin")
	if end.Brought != 120 {
		t.Errorf("%d messages came from Martlet", end.Brought)
	}
	same(second)
	// Again, with removing: nothing comes, and all that came before goes there.
	if end := bring(t, first, dovecot.Password+"\n", "pop3", "--from", "pop3://"+d.POP3, "--user", "carol", "--password-stdin", "--delete-at-source", "--older-than", "2026-11-01"); end.Brought != 0 {
		t.Errorf("%d messages came a second time", end.Brought)
	}
	if left := census(t, c)["INBOX"]; len(left) != 0 {
		t.Errorf("%d are left at the source", len(left))
	}
	same(first)
}

// What mbsync has copied, as Maildirs in folders and as Maildir++.
func TestMbsync(t *testing.T) {
	dir := t.TempDir()
	d, err := dovecot.Run(dovecot.Options{Dir: dir, Format: dovecot.Maildir, Unsynced: true})
	must(t, err)
	t.Cleanup(d.Stop)
	c := connect(t, options(t, d.IMAP), imapc.Credentials{User: "carol", Password: dovecot.Password})
	rnd := rand.New(rand.NewPCG(seed(t), 2))
	for _, name := range []string{"INBOX", "Entwürfe", "Work", "Work/2025"} {
		if name != "INBOX" {
			must(t, c.Create(t.Context(), encode(name), ""))
		}
		var list []imapc.Appending
		for i := range 25 {
			m := letter(rnd, i)
			m.Keywords = nil // mbsync has none
			list = append(list, m)
		}
		_, err = c.Append(t.Context(), encode(name), list)
		must(t, err)
	}
	there := census(t, c)
	host, port, _ := strings.Cut(d.IMAP, ":")
	for _, style := range []string{"Verbatim", "Maildir++"} {
		at := filepath.Join(dir, "copy"+style)
		must(t, os.MkdirAll(at, 0o755))
		path := fmt.Sprintf("Path %s/\nInbox %s/INBOX\n", at, at)
		if style == "Maildir++" {
			path = fmt.Sprintf("Inbox %s/INBOX\n", at)
			at += "/INBOX"
		}
		conf := fmt.Sprintf("IMAPStore d\nHost %s\nPort %s\nUser carol\nPass %s\nSSLType None\nAuthMechs LOGIN\n\nMaildirStore m\n%sSubFolders %s\n\nChannel c\nFar :d:\nNear :m:\nPatterns *\nCreate Near\nSync Pull\nCopyArrivalDate yes\nSyncState *\n",
			host, port, dovecot.Password, path, style)
		file := filepath.Join(dir, style+".rc")
		must(t, os.WriteFile(file, []byte(conf), 0o600))
		if out, err := exec.Command("mbsync", "-c", file, "c").CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", style, err, out)
		}
		m := fresh(t)
		if end := bring(t, m, "", "maildir", at); end.Brought != 100 {
			t.Errorf("%s: %d messages came", style, end.Brought)
		}
		got := census(t, here(t, m))
		for _, side := range []map[string][]row{there, got} { // mbsync writes a field of its own into what it copies
			for _, rows := range side {
				for i := range rows {
					rows[i].sum = ""
				}
			}
		}
		equal(t, there, got, false)
	}
}

// A Takeout in two parts, in German: killed several times on the way, every message is there
// once in each mailbox of its labels.
func TestTakeout(t *testing.T) {
	dir := t.TempDir()
	labels := []string{"Posteingang,Ungelesen", "Posteingang,Geöffnet,Arbeit", "Gesendet", "Spam,Ungelesen", "Papierkorb", "Archiviert,Geöffnet", "Archiviert,Arbeit/Größe,Markiert"}
	const n = 3000
	var parts []string
	for part := range 2 {
		var box strings.Builder
		for i := part * n / 2; i < (part+1)*n/2; i++ {
			fmt.Fprintf(&box, "From %d@xxx Mon Jan 05 10:%02d:%02d +0000 2026\r\nX-GM-THRID: %[1]d\r\nX-Gmail-Labels: %[4]s\r\nSubject: m%[5]d\r\nMessage-ID: <m%[5]d@example.net>\r\n\r\n>From %[5]d\r\n%[6]s\r\n\r\n",
				1_700_000_000_000+i, i/60%60, i%60, mime.QEncoding.Encode("UTF-8", labels[i%len(labels)]), i, strings.Repeat("x", 2000))
		}
		file := filepath.Join(dir, fmt.Sprintf("takeout-00%d.zip", part+1))
		f, err := os.Create(file)
		must(t, err)
		z := zip.NewWriter(f)
		w, err := z.Create("Takeout/E-Mail/Alle Nachrichten, einschließlich Spam und Papierkorb.mbox")
		must(t, err)
		_, err = w.Write([]byte(box.String()))
		must(t, err)
		must(t, z.Close())
		must(t, f.Close())
		parts = append(parts, file)
	}
	m := fresh(t)
	for i := range 4 { // stopped as nothing can be that is stopped
		cmd := exec.CommandContext(t.Context(), built, append([]string{"import", "takeout", "--to", m.Account("carol").Address, "--config", m.Config, "--json"}, parts...)...)
		must(t, cmd.Start())
		time.Sleep(time.Duration(150+100*i) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	bring(t, m, "", append([]string{"takeout"}, parts...)...)
	want := map[string]int{}
	for i := range n {
		for _, box := range [][]string{{"INBOX"}, {"INBOX", "Arbeit"}, {"Sent"}, {"Junk"}, {"Trash"}, {"Archive"}, {"Arbeit/Größe"}}[i%len(labels)] {
			want[box]++
		}
	}
	for box, rows := range census(t, here(t, m)) {
		sums := map[string]bool{}
		unseen := 0
		for _, r := range rows {
			sums[r.sum] = true
			if !strings.Contains(r.flags, "Seen") {
				unseen++
			}
		}
		if len(rows) != want[box] || len(sums) != want[box] {
			t.Errorf("%s has %d messages, %d different ones, not %d", box, len(rows), len(sums), want[box])
		}
		if wantUnseen := map[string]int{"INBOX": 429, "Junk": 429}[box]; unseen != wantUnseen {
			t.Errorf("%s has %d unseen messages, not %d", box, unseen, wantUnseen)
		}
	}
	if end := bring(t, m, "", append([]string{"takeout"}, parts...)...); end.Brought != 0 {
		t.Errorf("%d messages came a second time", end.Brought)
	}
}
