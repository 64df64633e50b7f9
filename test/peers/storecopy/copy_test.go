package storecopy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine/postgres/pgtest"
	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/traffic"
)

func TestMain(m *testing.M) { os.Exit(traffic.Main(m)) }

// scene is a server, and programs that have its mail.
type scene struct {
	*martlet.Server
	t    *testing.T
	bin  string
	home string // of mbsync
}

func newScene(t *testing.T) *scene {
	t.Helper()
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	if _, err := exec.LookPath("mbsync"); err != nil {
		t.Skip("mbsync is not installed: apt-get install isync")
	}
	s := &scene{t: t, bin: traffic.Binary(t), home: t.TempDir()}
	var err error
	s.Server, err = martlet.Start(martlet.Options{Binary: s.bin, Dir: filepath.Join(t.TempDir(), "try"), Serve: true, Set: map[string]string{"queue.port": "1", "queue.allow_private": "true"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// login opens a session of alice's.
func (s *scene) login() *wire {
	s.t.Helper()
	w := dial(s.t, s.Addr("imap"))
	a := s.Account("alice")
	w.imap("LOGIN %s %s", a.Address, a.Password)
	return w
}

var mailboxes = []string{"INBOX", "Archive", "Work", "Work/Plans", "Sent"}

// fill makes mail of all kinds, from a seed.
func (s *scene) fill(seed uint64) {
	s.t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	w := s.login()
	w.imap("CREATE Work")
	w.imap("CREATE Work/Plans")
	w.imap("SUBSCRIBE Work/Plans")
	for i := range 40 {
		size := []int{10, 500, 5_000, 90_000, 20, 200_000}[min(rng.IntN(8), 5)]
		body := make([]byte, size)
		for j := range body {
			body[j] = "abcdefghij klmnop\n"[rng.IntN(17)]
		}
		flags := []string{``, `\Seen`, `\Flagged \Seen`, `\Answered`, `$Label1 \Seen`, `\Draft`}[rng.IntN(6)]
		text := fmt.Sprintf("From: a@example.org\r\nTo: alice@martlet.test\r\nSubject: number %d\r\nMessage-ID: <%d.%d@example.org>\r\n\r\n%s\r\n", i, seed, i, body)
		w.add(mailboxes[rng.IntN(len(mailboxes))], flags, text)
	}
	for i := range 12 {
		send(s.t, s.Addr("lmtp"), "LHLO", "alice@martlet.test", fmt.Sprintf("From: a@example.org\r\nTo: alice@martlet.test\r\nSubject: delivery %d\r\nMessage-ID: <d%d.%d@example.org>\r\n\r\nhello\r\n", i, seed, i))
	}
	// Some go, so that UIDs have holes and there is something that has vanished.
	w.imap("SELECT INBOX")
	w.imap(`UID STORE 2,5,7 +FLAGS.SILENT (\Deleted)`)
	w.imap("EXPUNGE")
	w.imap("UID MOVE 3,9 Archive")
	w.imap("UID COPY 4 Work")
	w.imap("CLOSE")
	w.imap("LOGOUT")
	s.queue()
}

// queue has a message wait for another host, and holds it.
func (s *scene) queue() {
	s.t.Helper()
	a := s.Account("bob")
	cmd := exec.Command("curl", "-sS", "--ssl-reqd", "--cacert", s.CA, "--user", a.Address+":"+a.Password, "--mail-from", a.Address, "--mail-rcpt", "nobody@[127.0.0.1]", "--upload-file", "-", "smtp://localhost:"+strings.Split(s.Addr("submission"), ":")[1])
	cmd.Stdin = strings.NewReader("From: bob@martlet.test\r\nTo: nobody@[127.0.0.1]\r\nSubject: it waits\r\n\r\nhello\r\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	if _, err := s.Command("queue", "hold", "--all"); err != nil {
		s.t.Fatal(err)
	}
}

// waiting are the ids in the queue, with what is known of them that does not change by itself.
func (s *scene) waiting() string {
	s.t.Helper()
	out, err := s.Command("queue", "list", "--json")
	if err != nil {
		s.t.Fatal(err)
	}
	var all []string
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var q struct {
			ID, From, State string
			To              []string
			Held            bool
			Created         time.Time
		}
		if err := d.Decode(&q); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%+v", q))
	}
	if len(all) == 0 {
		s.t.Error("nothing waits in the queue")
	}
	return strings.Join(all, "\n")
}

// picture is everything that alice's programs can see: each answer as it came.
func (s *scene) picture() string {
	s.t.Helper()
	w := s.login()
	var all strings.Builder
	all.WriteString(w.imap(`LIST "" "*" RETURN (SUBSCRIBED CHILDREN SPECIAL-USE STATUS (MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE HIGHESTMODSEQ MAILBOXID))`))
	for _, box := range append(mailboxes, "Drafts", "Junk", "Trash") {
		all.WriteString(strings.ReplaceAll(w.imap("EXAMINE %s", box), " RECENT", " recent"))
		all.WriteString(w.imap("UID FETCH 1:* (UID FLAGS MODSEQ INTERNALDATE RFC822.SIZE EMAILID THREADID SAVEDATE BODY.PEEK[])"))
	}
	w.imap("LOGOUT")
	p := dial(s.t, s.Addr("pop3"))
	a := s.Account("alice")
	p.pop("USER "+a.Address, false)
	p.pop("PASS "+a.Password, false)
	all.WriteString(p.pop("UIDL", true))
	p.pop("QUIT", false)
	return recent.ReplaceAllString(all.String(), "")
}

// recent is not a state of messages but of sessions.
var recent = regexp.MustCompile(`\* \d+ recent\r\n|\\Recent ?`)

// known is what a program with QRESYNC remembers of a mailbox.
type known struct{ validity, modseq, uids string }

var (
	validityIs = regexp.MustCompile(`UIDVALIDITY (\d+)`)
	modseqIs   = regexp.MustCompile(`HIGHESTMODSEQ (\d+)`)
)

func (s *scene) remember(box string) known {
	s.t.Helper()
	w := s.login()
	text := w.imap("SELECT %s (CONDSTORE)", box)
	uids := strings.TrimSpace(strings.TrimPrefix(w.imap("UID SEARCH RETURN (ALL) ALL"), "* ESEARCH"))
	k := known{validityIs.FindStringSubmatch(text)[1], modseqIs.FindStringSubmatch(text)[1], ""}
	if i := strings.LastIndex(uids, "ALL "); i >= 0 {
		k.uids = strings.TrimSpace(uids[i+4:])
	}
	return k
}

// news is what it is told when it comes back.
func (s *scene) news(box string, k known) string {
	s.t.Helper()
	w := s.login()
	w.imap("ENABLE QRESYNC")
	var told []string
	for _, l := range strings.SplitAfter(w.imap("SELECT %s (QRESYNC (%s %s %s))", box, k.validity, k.modseq, k.uids), "\r\n") {
		if strings.Contains(l, "FETCH") || strings.Contains(l, "VANISHED") || strings.Contains(l, "NOMODSEQ") {
			told = append(told, l)
		}
	}
	if now := w.imap("STATUS %s (UIDVALIDITY)", box); !strings.Contains(now, "UIDVALIDITY "+k.validity+")") {
		told = append(told, "another UIDVALIDITY: "+now)
	}
	return strings.Join(told, "")
}

// sync has mbsync bring a folder up to date, and returns how many files of mail changed.
func (s *scene) sync() (changed int) {
	s.t.Helper()
	a := s.Account("alice")
	rc := filepath.Join(s.home, "mbsyncrc")
	text := fmt.Sprintf(`IMAPAccount m
Host 127.0.0.1
Port %d
User %s
Pass %s
SSLType None
AuthMechs LOGIN

IMAPStore far
Account m

MaildirStore near
Path %[4]s/mail/
Inbox %[4]s/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Near
SyncState *
`, s.Ports["imap"], a.Address, a.Password, s.home)
	if err := os.MkdirAll(filepath.Join(s.home, "mail"), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	before := s.files()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "mbsync", "-c", rc, "-V", "all").CombinedOutput()
	if err != nil {
		s.t.Fatalf("mbsync: %v\n%s", err, out)
	}
	if bytes.Contains(bytes.ToLower(out), []byte("uidvalidity")) && bytes.Contains(out, []byte("change")) {
		s.t.Errorf("mbsync saw another UIDVALIDITY\n%s", out)
	}
	after := s.files()
	for name, mtime := range after {
		if was, there := before[name]; !there || was != mtime {
			changed++
		}
	}
	for name := range before {
		if _, there := after[name]; !there {
			changed++
		}
	}
	return changed
}

// files are the messages that mbsync has.
func (s *scene) files() map[string]string {
	all := map[string]string{}
	_ = filepath.Walk(filepath.Join(s.home, "mail"), func(path string, info os.FileInfo, err error) error {
		if dir := filepath.Base(filepath.Dir(path)); err == nil && info.Mode().IsRegular() && (dir == "cur" || dir == "new") {
			all[path] = fmt.Sprint(info.ModTime(), info.Size())
		}
		return nil
	})
	return all
}

// configure sets and, with "", removes keys of the configuration.
func (s *scene) configure(keys ...string) {
	s.t.Helper()
	for i := 0; i < len(keys); i += 2 {
		if keys[i+1] != "" {
			if err := s.Set(keys[i], keys[i+1]); err != nil {
				s.t.Fatal(err)
			}
			continue
		}
		text, err := os.ReadFile(s.Config)
		if err != nil {
			s.t.Fatal(err)
		}
		name := keys[i][strings.LastIndexByte(keys[i], '.')+1:]
		text = regexp.MustCompile(`(?m)^`+name+` = .*\n`).ReplaceAll(text, nil)
		if err := os.WriteFile(s.Config, text, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

// copyKilled runs the copy and kills it again and again, until it comes to its end. One that
// was killed between its last record and its last word has come there, too, as the next one says.
func (s *scene) copyKilled(from, to string) {
	s.t.Helper()
	killed := false
	for after := 40 * time.Millisecond; ; after *= 3 {
		cmd := exec.Command(s.bin, "store", "copy", "--from", from, "--to", to, "--json", "--config", s.Config)
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		if err := cmd.Start(); err != nil {
			s.t.Fatal(err)
		}
		late := time.AfterFunc(after, func() { cmd.Process.Kill() })
		err := cmd.Wait()
		late.Stop()
		switch {
		case err == nil:
			if !strings.Contains(out.String(), `"event":"done"`) {
				s.t.Errorf("the copy ends with\n%s", out.String())
			}
			s.t.Logf("copied from %s to %s once it had %v", from, to, after)
			return
		case killed && strings.Contains(errOut.String(), "was copied to "+to+" on"):
			s.t.Logf("copied from %s to %s, and killed behind that", from, to)
			return
		case cmd.ProcessState.ExitCode() > 0:
			s.t.Fatalf("the copy from %s to %s: %s", from, to, errOut.String())
		}
		killed = true
	}
}

// refused runs a command that must fail, and returns what it says.
func (s *scene) refused(args ...string) string {
	s.t.Helper()
	out, err := s.Command(args...)
	if err == nil {
		s.t.Errorf("martlet %s did not fail: %s", strings.Join(args, " "), out)
		return ""
	}
	return err.Error()
}

// there is what programs see and remember at one moment.
type there struct {
	picture, waiting string
	known            map[string]known
}

func (s *scene) look() there {
	s.t.Helper()
	if n := s.sync(); n == 0 {
		s.t.Error("mbsync brought nothing")
	}
	at := there{s.picture(), s.waiting(), map[string]known{}}
	for _, box := range mailboxes {
		at.known[box] = s.remember(box)
	}
	return at
}

// unnoticed tells how many programs notice that something is other than it was.
func (s *scene) noticed(was there) (told []string) {
	s.t.Helper()
	if n := s.sync(); n != 0 {
		told = append(told, fmt.Sprintf("mbsync changed %d files", n))
	}
	for _, box := range mailboxes {
		if news := s.news(box, was.known[box]); news != "" {
			told = append(told, box+": "+news)
		}
	}
	if now := s.picture(); now != was.picture {
		told = append(told, "an answer differs: "+firstDifference(was.picture, now))
	}
	if now := s.waiting(); now != was.waiting {
		told = append(told, "the queue has "+now+", had "+was.waiting)
	}
	return told
}

func firstDifference(a, b string) string {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	part := func(s string) string { return s[max(0, i-80):min(len(s), i+120)] }
	return fmt.Sprintf("%q, was %q", part(b), part(a))
}

// A store goes into a database and back, with kills on the way, and no program notices; what
// is changed afterwards each of them does notice.
func TestNoProgramNotices(t *testing.T) {
	s := newScene(t)
	db := pgtest.Start(t, pgtest.Options{})
	s.fill(1)
	was := s.look()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}

	db.Database(t, "mail")
	url := "postgres://postgres@" + db.Address() + "/mail?sslmode=disable"
	s.configure("store.engine", `"postgres"`, "store.url", fmt.Sprintf("%q", url), "cluster.leave", `"0"`, "cluster.lease", `"2s"`)
	if err := s.Restart(); err == nil || !strings.Contains(string(s.LogTail(3)), "martlet store copy") {
		t.Errorf("a server starts on an empty database beside a store: %v\n%s", err, s.LogTail(3))
	}
	if out, err := s.Command("store", "copy", "--from", "pebble", "--to", "postgres", "--dry-run", "--json"); err != nil || !strings.Contains(out, `"event":"plan"`) {
		t.Errorf("%s, %v", out, err)
	}
	s.copyKilled("pebble", "postgres")
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	for _, told := range s.noticed(was) {
		t.Errorf("after the copy into the database: %s", told)
	}
	if out := s.refused("store", "copy", "--from", "postgres", "--to", "pebble"); !strings.Contains(out, "is not empty") && !strings.Contains(out, "runs on") {
		t.Error(out)
	}

	// What comes there goes back, too.
	s.change()
	if told := s.noticed(was); len(told) < 4 {
		t.Errorf("of a new message and a changed flag only this is noticed: %q", told)
	}
	was = s.lookAgain()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s.configure("data", `"back"`)
	s.copyKilled("postgres", "pebble")
	if out := s.refused("account", "list"); !strings.Contains(out, "was copied to pebble") {
		t.Errorf("a command works on what was copied away: %s", out)
	}
	s.configure("store.engine", `"pebble"`, "store.url", "")
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	for _, told := range s.noticed(was) {
		t.Errorf("after the copy back: %s", told)
	}
	if out, err := s.Command("verify", "--json"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	// The store that everything began with is old now.
	s.configure("data", `"data"`)
	if err := s.Restart(); err == nil || !strings.Contains(string(s.LogTail(3)), "was copied to postgres") {
		t.Errorf("a server starts on a store that was copied away: %v\n%s", err, s.LogTail(3))
	}
	if out, err := s.Command("store", "reopen", "pebble", "--json"); err != nil || !strings.Contains(out, `"reopened":true`) {
		t.Errorf("%s, %v", out, err)
	}
	if err := s.Restart(); err != nil {
		t.Error(err)
	}
}

// change is what a day brings.
func (s *scene) change() {
	s.t.Helper()
	send(s.t, s.Addr("lmtp"), "LHLO", "alice@martlet.test", "From: a@example.org\r\nTo: alice@martlet.test\r\nSubject: new\r\nMessage-ID: <new@example.org>\r\n\r\nnews\r\n")
	w := s.login()
	w.imap("SELECT Archive")
	w.imap(`UID STORE 1:* +FLAGS.SILENT (\Flagged)`)
	w.imap("SELECT INBOX")
	w.imap(`UID STORE 4 +FLAGS.SILENT (\Deleted)`)
	w.imap("EXPUNGE")
	w.imap("LOGOUT")
}

// lookAgain is look where mbsync has everything already.
func (s *scene) lookAgain() there {
	s.t.Helper()
	at := there{s.picture(), s.waiting(), map[string]known{}}
	for _, box := range mailboxes {
		at.known[box] = s.remember(box)
	}
	return at
}
