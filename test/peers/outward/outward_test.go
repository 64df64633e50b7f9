package outward

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	chance "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/account"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/imapsource"
	"github.com/martlet-mail/martlet/test/peers/dovecot"
	"github.com/martlet-mail/martlet/test/peers/martlet"
)

var (
	once   sync.Once
	binary string
	failed error
)

// elsewhere is a Dovecot that keeps Maildirs, for all tests: it takes a second to stop.
var elsewhere struct {
	once sync.Once
	dir  string
	*dovecot.Server
	err error
}

func provider(t *testing.T) *dovecot.Server {
	t.Helper()
	elsewhere.once.Do(func() {
		if elsewhere.dir, elsewhere.err = os.MkdirTemp("", "martlet-dovecot-"); elsewhere.err == nil {
			os.Chmod(elsewhere.dir, 0o755)
			elsewhere.Server, elsewhere.err = dovecot.Run(dovecot.Options{Dir: filepath.Join(elsewhere.dir, "d"), Format: dovecot.Maildir, Unsynced: true})
		}
	})
	must(t, elsewhere.err)
	return elsewhere.Server
}

// TestMain stops what was started, and removes it.
func TestMain(m *testing.M) {
	code := m.Run()
	if elsewhere.Server != nil {
		elsewhere.Stop()
	}
	os.RemoveAll(elsewhere.dir)
	if strings.HasPrefix(binary, os.TempDir()) && os.Getenv("MARTLET_BINARY") == "" {
		os.RemoveAll(filepath.Dir(binary))
	}
	os.Exit(code)
}

// start runs a server with accounts that have mail.
func start(t *testing.T, accounts ...string) *martlet.Server {
	t.Helper()
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("starts real programs: MARTLET_PEERS=1")
	}
	once.Do(func() {
		if binary = os.Getenv("MARTLET_BINARY"); binary != "" {
			return
		}
		dir, err := os.MkdirTemp("", "martlet-outward-")
		if err != nil {
			failed = err
			return
		}
		binary = filepath.Join(dir, "martlet")
		cmd := exec.Command("go", "build", "-o", binary, "./cmd/martlet")
		cmd.Dir = "../../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			failed = fmt.Errorf("%w: %s", err, out)
		}
	})
	if failed != nil {
		t.Fatal(failed)
	}
	s, err := martlet.Start(martlet.Options{Binary: binary, Dir: filepath.Join(t.TempDir(), "data"), Accounts: accounts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", s.LogTail(20))
		}
		s.Kill()
	})
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// there is an account at an IMAP server.
func there(t *testing.T, addr, user, password, ca string) *imapsource.Source {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	must(t, err)
	n, err := strconv.Atoi(port)
	must(t, err)
	o := imapsource.Options{User: user, KeepUIDs: true, Credentials: func(context.Context) (imapc.Credentials, error) {
		return imapc.Credentials{User: user, Password: password}, nil
	}}
	o.IMAP = imapc.Options{Host: host, Port: uint16(n), Security: imapc.OfferedTLS, Dial: new(net.Dialer).DialContext, Now: time.Now, Random: rand.Reader, Timeout: 30 * time.Second}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		must(t, err)
		o.IMAP.Roots = x509.NewCertPool()
		o.IMAP.Roots.AppendCertsFromPEM(pem)
		o.IMAP.Security = imapc.TLS
	}
	s := imapsource.New(o)
	t.Cleanup(func() { s.Close() })
	return s
}

func here(t *testing.T, s *martlet.Server, name string) *imapsource.Source {
	a := s.Account(name)
	_, port, _ := net.SplitHostPort(s.Addr("imaps"))
	return there(t, "localhost:"+port, a.Address, a.Password, s.CA)
}

// mailboxes of the accounts of these tests; levels without dots, which a Maildir++ has no room for.
var boxes = []struct {
	name string
	role mail.Role
	n    int
}{
	{"INBOX", mail.RoleInbox, 120}, {"Sent", mail.RoleSent, 30}, {"Work & Größe/日本語", "", 25}, {"Work & Größe/日本語/deep", "", 7}, {"~tilde", "", 3},
	{"back\\slash", "", 2}, {"Empty one", "", 0}, {"foo", "", 2}, {"Foo", "", 2},
}

// letter is message n of a mailbox; every seventh is odd in some way.
func letter(box string, n int) string {
	head := fmt.Sprintf("From: a@example.net\r\nTo: carol@example.org\r\nSubject: %d\r\nMessage-ID: <m%d-%x@example.net>\r\nX-Number: %d\r\nDate: Tue, 3 Feb 2009 04:05:06 +0100\r\n", n, n, box, n)
	switch n % 7 {
	case 1:
		return head + "\r\nFrom here\r\n>From there\r\n\r\nFrom x Sat Jan  1 00:00:00 2000\r\n\r\n"
	case 2:
		return head + "Status: RO\r\nX-Status: D\r\nX-UID: 4\r\nX-Keywords: evil\r\nContent-Length: 3\r\n\r\nbody\r\n"
	case 3:
		return head + "\r\n" + strings.Repeat("a long text, line by line\r\n", 900)
	case 4:
		return head + "\r\n8 bit: \xff\xfe\xf0 and no end"
	}
	return head + "\r\nbody\r\n"
}

// fill gives an account mail, with gaps in its UIDs.
func fill(t *testing.T, s *imapsource.Source) {
	t.Helper()
	ctx := t.Context()
	_, err := s.Mailboxes(ctx)
	must(t, err)
	for i, b := range boxes {
		source, err := s.CreateMailbox(ctx, b.name, "", i%2 == 0)
		must(t, err)
		var list []imapc.Appending
		for n := range b.n {
			text := letter(b.name, n)
			words := [][]string{nil, {"$Forwarded"}, {"work", "$Label1"}}[n%3]
			list = append(list, imapc.Appending{Flags: mail.Flags(n % 32), Keywords: words, Date: time.Date(2001, 2, 3, n%24, 5, 6+n%50, 0, time.UTC), Size: int64(len(text)), Body: strings.NewReader(text)})
		}
		if len(list) == 0 {
			continue
		}
		done, err := s.Append(ctx, source, list, make([]string, len(list)))
		must(t, err)
		for _, d := range done {
			must(t, d.Err)
		}
		must(t, s.Delete(ctx, source, []string{done[len(done)/2].Key}, false))
	}
}

// whole is all that two accounts are compared in. What uids leaves out is not kept there.
type whole struct {
	uids, roles, subscribed bool
	lines                   []string
	mailbox                 string
}

func (w *whole) Want(_ context.Context, items []move.Item) ([]bool, error) {
	return slices.Repeat([]bool{true}, len(items)), nil
}

func (w *whole) Put(_ context.Context, it move.Item, r io.Reader) error {
	var sum move.Summer
	if _, err := io.Copy(&sum, r); err != nil {
		return err
	}
	c := sum.Content()
	words := slices.Clone(it.Keywords)
	slices.Sort(words)
	key := ""
	if w.uids {
		key = it.Key
	}
	w.lines = append(w.lines, fmt.Sprintf("%s %s %x %v %q %s %d", w.mailbox, key, c[:8], it.Flags, words, it.Date.UTC().Format(time.RFC3339), sum.Size()))
	return nil
}

func (w *whole) Skip(_ context.Context, it move.Item, why error) error {
	return fmt.Errorf("%s, UID %d: %w", w.mailbox, it.UID, why)
}
func (w *whole) Gone(context.Context, []string) error { return nil }
func (w *whole) State(context.Context, []byte) error  { return nil }

// gather reads all of an account.
func (w whole) gather(t *testing.T, s move.Source, name func(string) string) []string {
	t.Helper()
	list, err := s.Mailboxes(t.Context())
	must(t, err)
	for _, m := range list {
		w.mailbox = name(m.Name)
		line := "mailbox " + w.mailbox
		if w.roles {
			line += " " + string(m.Role)
		}
		if w.subscribed {
			line += fmt.Sprint(" ", m.Subscribed)
		}
		if w.uids {
			line += fmt.Sprint(" ", m.UIDValidity)
		}
		w.lines = append(w.lines, line)
		must(t, s.Read(t.Context(), m, move.Reading{}, &w))
	}
	slices.Sort(w.lines)
	return w.lines
}

func same(name string) string { return name }

// compare wants two accounts equal, and that the comparison would have seen if not.
func compare(t *testing.T, want, got []string) {
	t.Helper()
	differ := func(a, b []string) string {
		for i := range max(len(a), len(b)) {
			x, y := "nothing", "nothing"
			if i < len(a) {
				x = a[i]
			}
			if i < len(b) {
				y = b[i]
			}
			if x != y {
				return x + "\n" + y
			}
		}
		return ""
	}
	if diff := differ(want, got); diff != "" {
		t.Fatalf("the accounts differ:\n%s", diff)
	}
	if len(want) < 20 {
		t.Fatalf("only %d lines to compare", len(want))
	}
	other := slices.Clone(want)
	other[len(other)/2] += "x"
	if differ(other, got) == "" {
		t.Fatal("a difference is not seen")
	}
}

// admin reads an account over the admin socket.
func admin(t *testing.T, s *martlet.Server, name string) *account.Source {
	t.Helper()
	socket := filepath.Join(s.Dir, "admin.sock")
	if list, _ := filepath.Glob(filepath.Join(s.Dir, "*", "admin.sock")); len(list) > 0 {
		socket = list[0]
	}
	short := filepath.Join(os.TempDir(), fmt.Sprintf("m%d.sock", os.Getpid()))
	os.Remove(short)
	must(t, os.Symlink(socket, short))
	t.Cleanup(func() { os.Remove(short) })
	h := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", short)
	}}}
	return account.New(account.Options{Address: s.Account(name).Address, Call: func(ctx context.Context, path string) (io.ReadCloser, error) {
		req, err := http.NewRequestWithContext(ctx, "GET", "http://martlet"+path, nil)
		if err != nil {
			return nil, err
		}
		resp, err := h.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != 200 {
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			return nil, fmt.Errorf("%s: %s", resp.Status, b)
		}
		return resp.Body, nil
	}})
}

// export runs the command and returns its last line.
func export(t *testing.T, s *martlet.Server, stdin string, args ...string) (done struct {
	Event                                    string
	Whole                                    bool
	Messages, Added, Proven, Differ, Skipped int64
}) {
	t.Helper()
	cmd := exec.Command(binary, append(append([]string{"export"}, args...), "--json", "--config", s.Config)...)
	cmd.Stdin = strings.NewReader(stdin)
	var errText bytes.Buffer
	cmd.Stderr = &errText
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s\n%s", args, err, out, errText.String())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	must(t, json.Unmarshal([]byte(lines[len(lines)-1]), &done))
	if done.Event != "done" || !done.Whole || done.Differ != 0 || done.Skipped != 0 {
		t.Fatalf("%v: %s", args, out)
	}
	return done
}

func total() (n int64) {
	for _, b := range boxes {
		if n += int64(b.n); b.n > 0 {
			n-- // one was expunged
		}
	}
	return n
}

// TestDovecotReadsTheMaildir lets a real Dovecot have the folder as its own.
func TestDovecotReadsTheMaildir(t *testing.T) {
	s := start(t)
	src := here(t, s, "alice")
	fill(t, src)
	d := provider(t)
	out := filepath.Join(elsewhere.dir, "d", "mail", "alice")
	must(t, os.MkdirAll(filepath.Dir(out), 0o777))
	if done := export(t, s, "", "maildir", "--account", s.Account("alice").Address, "--out", out); done.Proven != total()+1 {
		t.Errorf("%+v, want %d proven", done, total()+1) // and the welcome
	}
	if text, err := exec.Command("chown", "-R", "mail:mail", filepath.Dir(out)).CombinedOutput(); err != nil {
		t.Fatal(err, string(text))
	}
	w := whole{uids: true, subscribed: true}
	want := w.gather(t, admin(t, s, "alice"), func(name string) string { return strings.Replace(name, "~", "\\7e", 1) })
	compare(t, want, w.gather(t, there(t, d.IMAP, "alice", dovecot.Password, ""), same))
}

// TestDovecotReadsTheMbox lets a real Dovecot have the files as its own.
func TestDovecotReadsTheMbox(t *testing.T) {
	s := start(t)
	fill(t, here(t, s, "alice"))
	dir := t.TempDir()
	d, err := dovecot.Run(dovecot.Options{Dir: filepath.Join(dir, "dovecot"), Format: "mbox", Unsynced: true})
	must(t, err)
	defer d.Stop()
	out := filepath.Join(dir, "dovecot", "mail", "alice")
	must(t, os.MkdirAll(filepath.Dir(out), 0o777))
	export(t, s, "", "mbox", "--account", s.Account("alice").Address, "--out", out)
	if text, err := exec.Command("chown", "-R", "mail:mail", filepath.Dir(out)).CombinedOutput(); err != nil {
		t.Fatal(err, string(text))
	}
	src := there(t, d.IMAP, "alice", dovecot.Password, "")
	list, err := src.Mailboxes(t.Context())
	must(t, err)
	tell := func(items []move.Item) string {
		var b strings.Builder
		for _, it := range items {
			slices.Sort(it.Keywords)
			fmt.Fprintln(&b, it.UID, it.Flags, it.Keywords, it.Date.UTC().Format(time.RFC3339))
		}
		return b.String()
	}
	read := 0
	for _, m := range list {
		name, ok := strings.CutSuffix(m.Name, ".mbox")
		if !ok || name != "INBOX" && name != "Sent" {
			continue
		}
		v := &lister{}
		must(t, src.Read(t.Context(), m, move.Reading{Plan: true}, v))
		for i := range v.items {
			_, uid, _ := strings.Cut(v.items[i].Key, ".")
			n, _ := strconv.Atoi(uid)
			v.items[i].UID = mail.UID(n)
		}
		if want, got := tell(gatherItems(t, admin(t, s, "alice"), name)), tell(v.items); want != got || len(v.items) < 20 {
			t.Errorf("%s:\n%s\nwant\n%s", m.Name, got, want)
		}
		read++
	}
	if read != 2 {
		t.Errorf("%d mailboxes in %+v", read, list)
	}
}

// gatherItems lists the messages of one mailbox.
func gatherItems(t *testing.T, s *account.Source, mailbox string) []move.Item {
	t.Helper()
	list, err := s.Mailboxes(t.Context())
	must(t, err)
	v := &lister{}
	for _, m := range list {
		if m.Name == mailbox {
			must(t, s.Read(t.Context(), m, move.Reading{}, v))
		}
	}
	return v.items
}

type lister struct {
	whole
	items []move.Item
}

func (l *lister) Want(_ context.Context, items []move.Item) ([]bool, error) {
	l.items = append(l.items, slices.Clone(items)...)
	return make([]bool, len(items)), nil
}

// TestProgramsReadTheFiles counts with Python, and tags with neomutt.
func TestProgramsReadTheFiles(t *testing.T) {
	s := start(t)
	fill(t, here(t, s, "alice"))
	dir := t.TempDir()
	for _, form := range []string{"mbox", "maildir"} {
		export(t, s, "", form, "--account", s.Account("alice").Address, "--out", filepath.Join(dir, form))
	}
	script := `
import mailbox, sys
m = mailbox.mbox(sys.argv[1]) if sys.argv[2] == "mbox" else mailbox.Maildir(sys.argv[1], create=False)
print(len(m), sum("S" in x.get_flags() or "R" in x.get_flags() if sys.argv[2] == "mbox" else "S" in x.get_flags() for x in m), sum("F" in x.get_flags() for x in m), sum(int(x["X-Number"]) for x in m if x["X-Number"]))
`
	items := gatherItems(t, admin(t, s, "alice"), "INBOX")
	seen, flagged := 0, 0
	for _, it := range items {
		if it.Flags.Has(mail.Seen) {
			seen++
		}
		if it.Flags.Has(mail.Flagged) {
			flagged++
		}
	}
	sum := 0
	for n := range 120 {
		if n != 60 {
			sum += n
		}
	}
	for form, path := range map[string]string{"mbox": "mbox/INBOX.mbox", "maildir": "maildir"} {
		out, err := exec.Command("python3", "-c", script, filepath.Join(dir, path), form).CombinedOutput()
		if want := fmt.Sprintf("%d %d %d %d\n", len(items), seen, flagged, sum); err != nil || string(out) != want {
			t.Errorf("python reads %q of the %s, want %q (%v)", out, form, want, err)
		}
		if got := neomutt(t, filepath.Join(dir, path), "~A"); got != len(items)-1 {
			t.Errorf("neomutt shows %d messages of the %s, want %d", got, form, len(items)-1)
		}
		if got := neomutt(t, filepath.Join(dir, path), "~F"); got != flagged {
			t.Errorf("neomutt shows %d flagged messages of the %s, want %d", got, form, flagged)
		}
	}
}

// neomutt returns how many messages of ours it finds by a pattern.
func neomutt(t *testing.T, path, pattern string) int {
	t.Helper()
	home := t.TempDir()
	must(t, os.Mkdir(filepath.Join(home, "Mail"), 0o700)) // or it asks whether to make it
	found := filepath.Join(home, "found")
	rc := filepath.Join(home, "rc")
	must(t, os.WriteFile(rc, fmt.Appendf(nil, "set pipe_split=no\nset pipe_decode=no\nset wait_key=no\nset quit=yes\nset auto_tag=yes\nset sleep_time=0\npush \"<first-entry><tag-pattern>%s\\n<tag-prefix>|cat>%s\\nx\"\n", pattern, found), 0o600))
	cmd := exec.Command("script", "-qec", fmt.Sprintf("neomutt -n -R -F %s -f %s", rc, path), "/dev/null")
	cmd.Env = append(os.Environ(), "TERM=xterm", "HOME="+home)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(found)
	must(t, err)
	return bytes.Count(b, []byte("\nX-Number: "))
}

// TestExportToDovecotAndBack takes an account to another server, twice.
func TestExportToDovecotAndBack(t *testing.T) {
	s := start(t)
	fill(t, here(t, s, "alice"))
	d := provider(t)
	args := []string{"imap", "--account", s.Account("alice").Address, "--to", "imap://" + d.IMAP, "--user", "dave", "--password-stdin", "--proof", "--state", filepath.Join(t.TempDir(), "state")}
	done := export(t, s, dovecot.Password+"\n", args...)
	if done.Added != total()+1 || done.Proven != done.Messages {
		t.Errorf("%+v", done)
	}
	w := whole{subscribed: true}
	// Dovecot makes no mailbox that begins with "~".
	want := w.gather(t, admin(t, s, "alice"), func(name string) string { return strings.Replace(name, "~", "_", 1) })
	compare(t, want, w.gather(t, there(t, d.IMAP, "dave", dovecot.Password, ""), same))
	if again := export(t, s, dovecot.Password+"\n", args...); again.Added != 0 || again.Proven != done.Messages {
		t.Errorf("again: %+v", again)
	}
}

// TestKilledExports kills the command ten times on its way in each form.
func TestKilledExports(t *testing.T) {
	s := start(t)
	src := here(t, s, "alice")
	fill(t, src)
	const more = 1600
	source, err := src.CreateMailbox(t.Context(), "Many", "", true)
	must(t, err)
	var list []imapc.Appending
	for n := range more {
		text := letter("Many", n)
		list = append(list, imapc.Appending{Date: time.Date(2001, 2, 3, n%24, 5, n%60, 0, time.UTC), Size: int64(len(text)), Body: strings.NewReader(text)})
	}
	for part := range slices.Chunk(list, 200) {
		_, err := src.Append(t.Context(), source, part, make([]string, len(part)))
		must(t, err)
	}
	seed := chance.Uint64()
	t.Logf("seed %d", seed)
	d := provider(t)
	want := total() + 1 + more
	admin := admin(t, s, "alice")
	for i, form := range []string{"mbox", "maildir", "eml", "imap"} {
		t.Run(form, func(t *testing.T) { // at the same time: most of it is waiting
			t.Parallel()
			r := chance.New(chance.NewPCG(seed, uint64(i)))
			out := filepath.Join(t.TempDir(), form)
			args := []string{form, "--account", s.Account("alice").Address, "--out", out}
			if form == "imap" {
				args = []string{form, "--account", s.Account("alice").Address, "--to", "imap://" + d.IMAP, "--user", "erin", "--password-stdin", "--state", out}
			}
			killed := 0
			for range 10 {
				cmd := exec.Command(binary, append(append([]string{"export"}, args...), "--config", s.Config)...)
				cmd.Stdin = strings.NewReader(dovecot.Password + "\n")
				before := written(out)
				must(t, cmd.Start())
				for range 100 { // until it is at work
					if time.Sleep(2 * time.Millisecond); written(out) != before {
						break
					}
				}
				time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond) // somewhere on the way
				cmd.Process.Kill()
				cmd.Wait()
				if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
					killed++
				}
			}
			done := export(t, s, dovecot.Password+"\n", args...)
			t.Logf("killed %d times; then %d of %d messages were missing", killed, done.Added, want)
			if killed < 5 || done.Messages != want || done.Proven != want {
				t.Errorf("killed %d times: %+v, want %d messages", killed, done, want)
			}
			if again := export(t, s, dovecot.Password+"\n", args...); again.Added != 0 || again.Proven != want {
				t.Errorf("again: %+v", again)
			}
			if form == "imap" {
				w := whole{}
				compare(t, w.gather(t, admin, func(name string) string { return strings.Replace(name, "~", "_", 1) }), w.gather(t, there(t, d.IMAP, "erin", dovecot.Password, ""), same))
			}
		})
	}
}

// written is how much the indexes of an export hold, or the file that notes one to a server.
func written(out string) (n int64) {
	for _, pattern := range []string{"", "martlet-export/*.jsonl", "*/index.jsonl"} {
		list, _ := filepath.Glob(filepath.Join(out, pattern))
		for _, name := range list {
			if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
				n += info.Size()
			}
		}
	}
	return n
}

// subscriptions are the names that are subscribed and have no mailbox, after Mailboxes.
func subscriptions(t *testing.T, s *account.Source) []string {
	t.Helper()
	_, err := s.Mailboxes(t.Context())
	must(t, err)
	return s.Subscriptions()
}

// TestAnExportComesBack imports what was exported, in each form, into new accounts, with the
// commands. Between two exports messages are moved and expunged, a mailbox with a role has got
// another name, and others are no longer subscribed.
func TestAnExportComesBack(t *testing.T) {
	s := start(t)
	src := here(t, s, "alice")
	fill(t, src)
	forms := []string{"maildir", "mbox", "eml"}
	out := t.TempDir()
	for _, form := range forms {
		export(t, s, "", form, "--account", s.Account("alice").Address, "--out", filepath.Join(out, form))
	}
	c := imap(t, s, "alice")
	c("SELECT INBOX")
	c("UID MOVE 2:3 Archive")
	c("UID STORE 5 +FLAGS (\\Deleted)")
	c("UID EXPUNGE 5")
	c("CLOSE")
	c("RENAME Sent Gesendet")
	c("UNSUBSCRIBE Archive")
	c("SUBSCRIBE Nowhere/Else")
	w := whole{uids: true, roles: true, subscribed: true}
	want := w.gather(t, admin(t, s, "alice"), same)
	names := subscriptions(t, admin(t, s, "alice"))
	if !slices.Contains(names, "Nowhere/Else") {
		t.Fatal(names)
	}
	for _, form := range forms {
		out := filepath.Join(out, form)
		export(t, s, "", form, "--account", s.Account("alice").Address, "--out", out)
		to := form + "@martlet.test"
		if text, err := s.Command("account", "add", to); err != nil {
			t.Fatal(err, text)
		}
		if text, err := s.Command("import", form, out, "--to", to, "--yes"); err != nil {
			t.Errorf("%s: %v\n%s", form, err, text)
			continue
		}
		s.Accounts = append(s.Accounts, martlet.Account{Address: to})
		compare(t, want, w.gather(t, admin(t, s, form), same))
		if got := subscriptions(t, admin(t, s, form)); !slices.Equal(got, names) {
			t.Errorf("%s: subscribed %q, want %q", form, got, names)
		}
		if form != "maildir" {
			continue
		}
		// Without what the export says of itself it is a Maildir like any other, with what has been expunged.
		must(t, os.Remove(filepath.Join(out, "martlet-export.json")))
		must(t, os.RemoveAll(filepath.Join(out, "martlet-export")))
		if text, err := s.Command("account", "add", "plain@martlet.test"); err != nil {
			t.Fatal(err, text)
		}
		if text, err := s.Command("import", form, out, "--to", "plain@martlet.test", "--yes"); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
		s.Accounts = append(s.Accounts, martlet.Account{Address: "plain@martlet.test"})
		bare := whole{uids: true}
		got := bare.gather(t, admin(t, s, "plain"), func(name string) string { return strings.Replace(name, "\\7e", "~", 1) })
		for _, line := range bare.gather(t, admin(t, s, "alice"), same) {
			if !slices.Contains(got, line) {
				t.Errorf("the plain Maildir has not %s", line)
			}
		}
	}
}

// imap signs in and returns a function that sends a command, which must succeed.
func imap(t *testing.T, s *martlet.Server, name string) func(command string) {
	t.Helper()
	pem, err := os.ReadFile(s.CA)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	_, port, _ := net.SplitHostPort(s.Addr("imaps"))
	c, err := tls.Dial("tcp", "localhost:"+port, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	r := bufio.NewReader(c)
	do := func(command string) {
		t.Helper()
		fmt.Fprintf(c, "a %s\r\n", command)
		for {
			line, err := r.ReadString('\n')
			must(t, err)
			if rest, ok := strings.CutPrefix(line, "a "); ok {
				if !strings.HasPrefix(rest, "OK") {
					t.Fatalf("%s: %s", command, rest)
				}
				return
			}
		}
	}
	a := s.Account(name)
	do(fmt.Sprintf("LOGIN %s %q", a.Address, a.Password))
	return do
}

// TestFullDiskAndStoppedServer exports to a disk that is too small, and goes on when there is
// room, without a server.
func TestFullDiskAndStoppedServer(t *testing.T) {
	s := start(t)
	fill(t, here(t, s, "alice"))
	for _, form := range []string{"mbox", "maildir", "eml"} {
		disk := t.TempDir()
		if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=2000,mode=700", "none", disk).CombinedOutput(); err != nil {
			t.Skipf("no small disk can be made: %s", out)
		}
		defer exec.Command("umount", disk).Run()
		args := []string{"export", form, "--account", s.Account("alice").Address, "--out", filepath.Join(disk, "out")}
		text, err := s.Command(args...)
		if err == nil || !strings.Contains(err.Error(), "the disk is full") {
			t.Errorf("%s: %v\n%s", form, err, text)
		}
		if out, err := exec.Command("mount", "-o", "remount,size=16m", disk).CombinedOutput(); err != nil {
			t.Fatal(string(out))
		}
		if form == "eml" {
			must(t, s.Stop())
		}
		if done := export(t, s, "", args[1:]...); done.Proven != total()+1 || done.Added == 0 {
			t.Errorf("%s: %+v", form, done)
		}
	}
}
