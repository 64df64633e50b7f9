package peers

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"
)

// state is one end of a synchronisation: bytes and flags by Message-ID. Bytes have LF
// at line ends and lack the field that mbsync puts in.
type state map[string]struct {
	body  string
	flags string
}

var (
	messageID = regexp.MustCompile(`(?im)^Message-ID:\s*<([^>]+)>`)
	ownFields = regexp.MustCompile(`(?m)^X-(TUID|OfflineIMAP):.*\n`)
)

func (s state) put(t *testing.T, raw []byte, flags string) {
	t.Helper()
	text := strings.ReplaceAll(string(raw), "\r\n", "\n")
	m := messageID.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("a message without Message-ID: %.200q", text)
	}
	if _, twice := s[m[1]]; twice {
		t.Errorf("message %s is there twice", m[1])
	}
	s[m[1]] = struct{ body, flags string }{ownFields.ReplaceAllString(text, ""), flags}
}

// same reports how two ends differ.
func (s state) same(t *testing.T, what string, o state) {
	t.Helper()
	wrong := 0
	for id, a := range s {
		if b, ok := o[id]; !ok || a != b {
			if wrong++; wrong <= 3 {
				t.Errorf("%s: %s differs: there %v, flags %q and %q, bytes %s and %s", what, id, ok, a.flags, b.flags,
					digest([]byte(a.body)), digest([]byte(b.body)))
			}
		}
	}
	for id := range o {
		if _, ok := s[id]; !ok {
			if wrong++; wrong <= 3 {
				t.Errorf("%s: %s is only at one end", what, id)
			}
		}
	}
	if wrong > 3 {
		t.Errorf("%s: %d differences", what, wrong)
	}
}

var flagLetters = [...]struct{ imap, letter string }{{`\Draft`, "D"}, {`\Flagged`, "F"}, {`\Answered`, "R"}, {`\Seen`, "S"}}

// remote reads a mailbox of the server.
func remote(t *testing.T, w *imapWire, box string) state {
	t.Helper()
	out := state{}
	w.ok("EXAMINE %s", box)
	for _, r := range w.ok("FETCH 1:* (FLAGS BODY.PEEK[])") {
		if len(r.literals) == 0 {
			continue
		}
		flags := ""
		for _, f := range flagLetters {
			if strings.Contains(r.text, f.imap) {
				flags += f.letter
			}
		}
		out.put(t, r.literals[0], flags)
	}
	return out
}

// maildir reads a Maildir.
func maildir(t *testing.T, dir string) state {
	t.Helper()
	out := state{}
	for _, path := range maildirFiles(t, dir) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, flags, _ := strings.Cut(filepath.Base(path), ":2,")
		letters := strings.Split(strings.NewReplacer("T", "", "P", "").Replace(flags), "")
		sort.Strings(letters)
		out.put(t, b, strings.Join(letters, ""))
	}
	return out
}

func maildirFiles(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	for _, sub := range []string{"cur", "new"} {
		paths, err := filepath.Glob(filepath.Join(dir, sub, "*"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, paths...)
	}
	sort.Strings(all)
	return all
}

// fill appends n notes to a mailbox in few commands (RFC 3502, RFC 7888).
func fill(t *testing.T, w *imapWire, box, name string, n int) {
	t.Helper()
	const batch = 100
	for from := 0; from < n; from += batch {
		var b bytes.Buffer
		w.tag++
		fmt.Fprintf(&b, "t%d APPEND %s", w.tag, box)
		for i := from; i < min(from+batch, n); i++ {
			flags := [...]string{"", `(\Seen) `, `(\Seen \Answered) `, `(\Flagged) `}[i%4]
			m := note(fmt.Sprintf("%s-%d", name, i), strings.Repeat(fmt.Sprintf("line %d\r\n", i), 1+i%30))
			fmt.Fprintf(&b, " %s{%d+}\r\n%s", flags, len(m), m)
		}
		w.send("%s\r\n", b.String())
		if _, status := w.finish(); !strings.HasPrefix(status, "OK") {
			t.Fatalf("APPEND of %d messages: %s", batch, status)
		}
	}
}

// changeRemote changes flags, deletes and adds at the server.
func changeRemote(t *testing.T, w *imapWire, box, name string, n int) {
	t.Helper()
	w.ok("SELECT %s", box)
	w.ok(`STORE 1:%d +FLAGS.SILENT (\Flagged \Seen)`, n/20)
	w.ok(`STORE %d:%d -FLAGS.SILENT (\Seen \Flagged)`, n/20+1, n/10)
	w.ok(`STORE %d:%d +FLAGS.SILENT (\Deleted)`, n/10+1, n/10+n/40)
	w.ok("EXPUNGE")
	fill(t, w, box, name+"-far", n/100)
}

// changeLocal does the like in a Maildir, with other messages.
func changeLocal(t *testing.T, dir, name string, n int) {
	t.Helper()
	for _, path := range maildirFiles(t, dir) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`Message-ID: <` + name + `-(\d+)@`).FindSubmatch(b)
		if m == nil {
			continue
		}
		var i int
		fmt.Sscan(string(m[1]), &i)
		base, flags, _ := strings.Cut(filepath.Base(path), ":2,")
		switch {
		case i >= n/2 && i < n/2+n/20:
			letters := strings.Split(strings.ReplaceAll(flags, "F", "")+"F", "")
			sort.Strings(letters)
			err = os.Rename(path, filepath.Join(dir, "cur", base+":2,"+strings.Join(letters, "")))
		case i >= n/2+n/20 && i < n/2+n/10:
			err = os.Rename(path, filepath.Join(dir, "cur", base+":2,"+strings.NewReplacer("S", "", "F", "").Replace(flags)))
		case i >= n/2+n/10 && i < n/2+n/10+n/40:
			err = os.Remove(path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range n / 100 {
		m := note(fmt.Sprintf("%s-near-%d", name, i), "from the near end")
		write(t, filepath.Join(dir, "cur"), fmt.Sprintf("17000000%02d.%d_1.host:2,S", i, i), strings.ReplaceAll(string(m), "\r\n", "\n"))
	}
}

const mbsyncRC = `FSync no

IMAPAccount far
Host %s
Port %s
User %s
Pass %s
%s
PipelineDepth 50

IMAPStore far
Account far

MaildirStore near
Path %s/
Inbox %s/INBOX

Channel all
Far :far:
Near :near:
Patterns Sync
Create Both
Expunge Both
SyncState *
`

// mbsync synchronises 2,000 messages both ways after changes at both ends.
func mbsync(t *testing.T, s *subject) {
	const n = 2_000
	a := s.account(t, "mbsync")
	home := t.TempDir()
	w := dialIMAP(t, s, "mbsync")
	w.ok("CREATE Sync")
	fill(t, w, "Sync", "mbsync", n)
	host, port := s.host("imap")
	tls := "SSLType None\nAuthMechs LOGIN"
	if s.Server != nil {
		host = "localhost"
		_, port, _ = strings.Cut(s.through(t, "imaps", "mbsync"), ":")
		tls = "SSLType IMAPS\nCertificateFile " + s.CA
	}
	rc := write(t, home, "rc", fmt.Sprintf(mbsyncRC, host, port, a.Address, a.Password, tls, home, home))
	run := func() string {
		p := program{name: "mbsync", args: []string{"-V", "-c", rc, "all"}, home: home, limit: 2 * time.Minute}
		r := p.succeed(t)
		return r.out + r.err
	}
	run()
	near := filepath.Join(home, "Sync")
	first := maildir(t, near)
	if len(first) != n {
		t.Fatalf("after the first run there are %d messages, not %d", len(first), n)
	}
	remote(t, w, "Sync").same(t, "mbsync, first run", first)
	changeRemote(t, w, "Sync", "mbsync", n)
	changeLocal(t, near, "mbsync", n)
	run()
	after := maildir(t, near)
	if want := n - 2*(n/40) + 2*(n/100); len(after) != want {
		t.Errorf("after changes at both ends there are %d messages, not %d", len(after), want)
	}
	remote(t, w, "Sync").same(t, "mbsync, changes at both ends", after)
	before, modseq := maildirFiles(t, near), s.modseq(t, w, "Sync")
	out := run()
	if files := maildirFiles(t, near); !slices.Equal(before, files) {
		t.Errorf("a run with nothing to do changed the Maildir")
	}
	if m := s.modseq(t, w, "Sync"); m != modseq {
		t.Errorf("a run with nothing to do changed the mailbox: %s, then %s", modseq, m)
	}
	for _, m := range regexp.MustCompile(`[+*#](\d+)/(\d+)`).FindAllStringSubmatch(lastLine(out), -1) {
		if m[1] != "0" || m[2] != "0" {
			t.Errorf("a run with nothing to do transferred something: %q", lastLine(out))
			break
		}
	}
	w.ok("LOGOUT")
}

func lastLine(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

// modseq returns what STATUS says of a mailbox's changes.
func (s *subject) modseq(t *testing.T, w *imapWire, box string) string {
	t.Helper()
	for _, r := range w.ok("STATUS %s (HIGHESTMODSEQ MESSAGES UIDNEXT)", box) {
		if strings.HasPrefix(r.text, "* STATUS") {
			return r.text
		}
	}
	return ""
}

const offlineimapRC = `[general]
accounts = all
metadata = %[1]s/meta
[Account all]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = %[1]s/mail
[Repository far]
type = IMAP
remotehost = %[2]s
remoteport = %[3]s
remoteuser = %[4]s
remotepass = %[5]s
auth_mechanisms = PLAIN, LOGIN
folderfilter = lambda name: name == 'Sync'
createfolders = True
%[6]s
`

// offlineimap does the like with 200 messages.
func offlineimap(t *testing.T, s *subject) {
	const n = 200
	a := s.account(t, "offlineimap")
	home := t.TempDir()
	w := dialIMAP(t, s, "offlineimap")
	w.ok("CREATE Sync")
	fill(t, w, "Sync", "offlineimap", n)
	host, port := s.host("imap")
	tls := "ssl = no\nstarttls = no"
	if s.Server != nil {
		_, port, _ = strings.Cut(s.through(t, "imaps", "offlineimap"), ":")
		host = "localhost"
		tls = "ssl = yes\nsslcacertfile = " + s.CA
	}
	rc := write(t, home, "rc", fmt.Sprintf(offlineimapRC, home, host, port, a.Address, a.Password, tls))
	run := func() string {
		r := program{name: "offlineimap", args: []string{"-o", "-c", rc, "-u", "basic"}, home: home, limit: 2 * time.Minute}.succeed(t)
		return r.out + r.err
	}
	run()
	near := filepath.Join(home, "mail", "Sync")
	remote(t, w, "Sync").same(t, "offlineimap, first run", maildir(t, near))
	changeRemote(t, w, "Sync", "offlineimap", n)
	changeLocal(t, near, "offlineimap", n)
	run()
	after := maildir(t, near)
	if want := n - 2*(n/40) + 2*(n/100); len(after) != want {
		t.Errorf("after changes at both ends there are %d messages, not %d", len(after), want)
	}
	remote(t, w, "Sync").same(t, "offlineimap, changes at both ends", after)
	before, modseq := maildirFiles(t, near), s.modseq(t, w, "Sync")
	run()
	if files := maildirFiles(t, near); !slices.Equal(before, files) {
		t.Error("a run with nothing to do changed the Maildir")
	}
	if m := s.modseq(t, w, "Sync"); m != modseq {
		t.Errorf("a run with nothing to do changed the mailbox: %s, then %s", modseq, m)
	}
	w.ok("LOGOUT")
}

const muttRC = `set from = "%[1]s"
set imap_user = "%[1]s"
set imap_pass = "%[2]s"
set smtp_pass = "%[2]s"
set smtp_url = "%[3]s"
set folder = "%[4]s"
set spoolfile = "+INBOX"
set record = ""
set ssl_ca_certificates_file = "%[5]s"
set certificate_file = "%[5]s"
set ssl_force_tls = no
set ssl_starttls = yes
set header_cache = ""
set message_cachedir = ""
set copy = no
set confirmappend = no
set confirmcreate = no
set wait_key = no
set delete = yes
set mark_old = no
set quit = yes
# This neomutt takes SCRAM-SHA-256-PLUS if it is offered and cannot do it.
set smtp_authenticators = "plain"
set imap_authenticators = "plain"
set use_envelope_from = yes
`

// neomutt sends a message with an attachment in batch mode, then reads it.
func neomutt(t *testing.T, s *subject) {
	a := s.account(t, "neomutt")
	home := t.TempDir()
	smtp, ca := "", ""
	if s.Server != nil {
		smtp, ca = strings.Replace("smtps://USER@localhost:"+strings.Split(s.addr("submissions"), ":")[1], "USER", strings.ReplaceAll(a.Address, "@", "%40"), 1), s.CA
	}
	host, port := s.host("imap")
	if s.Server != nil {
		host = "localhost"
	}
	rc := write(t, home, "rc", fmt.Sprintf(muttRC, a.Address, a.Password, smtp, "imap://"+host+":"+port, ca))
	if s.Server == nil {
		arrive(t, s, "neomutt", 1)
	} else {
		write(t, home, "attached.bin", "\x00\x01binary\xff")
		program{name: "neomutt", args: []string{"-F", rc, "-s", "Gr\u00fc\u00dfe from neomutt", "-a", "attached.bin", "--", a.Address}, home: home,
			in: "The text.\n.\nEnd.\n"}.succeed(t)
		within(t, 5*time.Second, "what neomutt sent is there", func() bool { return dialIMAP(t, s, "neomutt").exists("INBOX") >= 1 })
	}
	// It reads on a terminal only; script(1) gives it one.
	keys := `push "<tag-pattern>~A<enter><tag-prefix><copy-message>` + home + `/copy<enter><quit>"`
	write(t, home, "keys", keys+"\n")
	p := program{name: "script", home: home, env: []string{"TERM=xterm"}, args: []string{"-qec",
		"neomutt -F " + rc + " -e 'source " + home + "/keys'", "/dev/null"}}
	r := p.run(t)
	programs.add("neomutt")
	got, err := os.ReadFile(filepath.Join(home, "copy"))
	if err != nil {
		t.Fatalf("neomutt saved nothing: %v\n%.2000q", err, r.out)
	}
	w := dialIMAP(t, s, "neomutt")
	n := w.exists("INBOX")
	if c := bytes.Count(got, []byte("\nMessage-ID: ")) + bytes.Count(got, []byte("\nMessage-Id: ")); c != n {
		t.Errorf("neomutt read %d messages of %d", c, n)
	}
	if s.Server != nil && !bytes.Contains(got, []byte("filename=\"attached.bin\"")) {
		t.Errorf("neomutt did not read what it had sent\n%.2000s", got)
	}
}
