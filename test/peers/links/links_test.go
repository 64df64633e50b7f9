package links

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/test/peers/dovecot"
	"github.com/martlet-mail/martlet/test/peers/martlet"
)

var built string

func TestMain(m *testing.M) {
	if os.Getenv("MARTLET_PEERS") == "" {
		fmt.Println("links: skipped; MARTLET_PEERS=1 runs it")
		return
	}
	if built = os.Getenv("MARTLET_BINARY"); built != "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "links-")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	built = filepath.Join(dir, "martlet")
	code := 1
	if out, err := exec.Command("go", "build", "-o", built, "github.com/martlet-mail/martlet/cmd/martlet").CombinedOutput(); err != nil {
		fmt.Printf("%v: %s\n", err, out)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// world is a Dovecot, where mail comes, and a Martlet, where it is read.
type world struct {
	t     *testing.T
	there *dovecot.Server
	here  *martlet.Server
}

func newWorld(t *testing.T) *world {
	d, err := dovecot.Run(dovecot.Options{Dir: t.TempDir(), Format: dovecot.Maildir, Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	m, err := martlet.Start(martlet.Options{Binary: built, Dir: t.TempDir(), Accounts: []string{"carol", "dan"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Stop() })
	w := &world{t, d, m}
	for _, who := range []string{"carol", "dan"} { // without the letter that greets
		c := w.local(who)
		_, err := c.Select(t.Context(), "INBOX", imapc.Select{})
		w.must(err)
		_, err = c.Expunge(t.Context(), mail.UIDSet{{From: 1, To: 9}})
		w.must(err)
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) connect(addr, user, password string) *imapc.Client {
	w.t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	c, err := imapc.Dial(w.t.Context(), imapc.Options{Host: host, Port: uint16(n), Security: imapc.OfferedTLS, Insecure: true, Dial: (&net.Dialer{}).DialContext,
		Now: time.Now, Random: rand.Reader, Timeout: 20 * time.Second})
	w.must(err)
	w.t.Cleanup(func() { c.Close() })
	w.must(c.Login(w.t.Context(), imapc.Credentials{User: user, Password: password}))
	return c
}

func (w *world) local(who string) *imapc.Client {
	a := w.here.Account(who)
	return w.connect(w.here.Addr("imap"), a.Address, a.Password)
}

func (w *world) remote(user string) *imapc.Client {
	return w.connect(w.there.IMAP, user, dovecot.Password)
}

// command runs martlet with a password on its standard input.
func (w *world) command(in string, args ...string) (string, error) {
	cmd := exec.Command(built, append(args, "--config", w.here.Config)...)
	cmd.Stdin = strings.NewReader(in)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, errOut.String())
	}
	return out.String(), nil
}

func letter(n int) string {
	return fmt.Sprintf("From: a@example.net\r\nSubject: letter %d\r\nMessage-ID: <l%d@example.net>\r\nDate: Tue, 3 Feb 2009 04:05:06 +0100\r\n\r\nbody %d\r\n%s", n, n, n, strings.Repeat("lorem ipsum\r\n", n%50))
}

func (w *world) add(c *imapc.Client, box string, from, to int) {
	w.t.Helper()
	var list []imapc.Appending
	for i := from; i < to; i++ {
		text := letter(i)
		list = append(list, imapc.Appending{Flags: mail.Flags(i%2) & mail.Seen, Size: int64(len(text)), Body: strings.NewReader(text)})
	}
	done, err := c.Append(w.t.Context(), box, list)
	w.must(err)
	for _, d := range done {
		w.must(d.Err)
	}
}

// census is what lies where: content and flags of each message, sorted.
func (w *world) census(c *imapc.Client, boxes ...string) map[string][]string {
	w.t.Helper()
	out := map[string][]string{}
	for _, box := range boxes {
		_, err := c.Select(w.t.Context(), box, imapc.Select{ReadOnly: true})
		if fault.Is(err, fault.NotFound) {
			continue // not yet
		}
		w.must(err)
		uids, err := c.Search(w.t.Context(), "ALL")
		w.must(err)
		if uids.IsEmpty() {
			continue
		}
		w.must(c.Fetch(w.t.Context(), imapc.Query{UIDs: uids, Flags: true, Body: true}, func(m *imapc.Message) error {
			h := sha256.New()
			_, err := io.Copy(h, m.Body)
			words := slices.Clone(m.Keywords)
			slices.Sort(words)
			out[box] = append(out[box], fmt.Sprintf("%x %v %v", h.Sum(nil)[:8], m.Flags, words))
			return err
		}))
		slices.Sort(out[box])
	}
	return out
}

// agree waits until both sides are the same, and fails if they are not after a minute.
func (w *world) agree(what string, there, here *imapc.Client, boxes ...string) {
	w.t.Helper()
	var a, b map[string][]string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		a, b = w.census(there, boxes...), w.census(here, boxes...)
		if fmt.Sprint(a) == fmt.Sprint(b) {
			return
		}
	}
	state, _ := w.command("", "link", "list")
	for _, box := range boxes {
		w.t.Errorf("%s: %s has %d there, %d here", what, box, len(a[box]), len(b[box]))
	}
	w.t.Fatalf("the sides do not agree:\nthere %v\nhere %v\n%s", a, b, state)
}

type linkLine struct {
	ID       int    `json:"id"`
	State    string `json:"state"`
	Watching bool   `json:"watching"`
	Error    string `json:"error"`
	Brought  int    `json:"brought"`
}

func (w *world) link(id string) (l linkLine) {
	w.t.Helper()
	out, err := w.command("", "link", "show", id, "--json")
	w.must(err)
	w.must(json.Unmarshal([]byte(out), &l))
	return l
}

func (w *world) watched(id string) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if l := w.link(id); l.Watching {
			return
		}
	}
	w.t.Fatalf("link %s is not told of news: %+v", id, w.link(id))
}

func (w *world) storing(c *imapc.Client, box string, uid mail.UID, how imapc.Storing, flags mail.Flags, words ...string) {
	w.t.Helper()
	_, err := c.Select(w.t.Context(), box, imapc.Select{})
	w.must(err)
	w.must(c.Store(w.t.Context(), mail.SetOf(uid), how, flags, words))
}

func (w *world) moving(c *imapc.Client, from string, uid mail.UID, to string) {
	w.t.Helper()
	_, err := c.Select(w.t.Context(), from, imapc.Select{})
	w.must(err)
	_, err = c.Move(w.t.Context(), mail.SetOf(uid), to)
	w.must(err)
}

func TestBothWaysWithDovecot(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	there, here := w.remote("dave"), w.local("carol")
	w.must(there.Create(ctx, "Work", ""))
	w.add(there, "INBOX", 0, 40)
	w.add(there, "Work", 40, 50)
	carol := w.here.Account("carol").Address

	// A wrong password is told of, and makes nothing.
	add := []string{"link", "add", carol, "--from", "imap://" + w.there.IMAP, "--user", "dave", "--password-stdin", "--both-ways", "--follow-deletes", "--delete-at-source", "--poll", "10s"}
	if out, err := w.command("wrong password\n", add...); err == nil || strings.Contains(fmt.Sprint(out, err), "wrong password") {
		t.Errorf("%s %v", out, err)
	}
	_, err := w.command(dovecot.Password+"\n", add...)
	w.must(err)
	boxes := []string{"INBOX", "Work", "Trash", "Sent"}
	w.agree("brought", there, here, boxes...)
	w.watched("1")

	// New mail there wakes who waits here.
	waiter := w.local("carol")
	_, err = waiter.Select(ctx, "INBOX", imapc.Select{ReadOnly: true})
	w.must(err)
	w.add(there, "INBOX", 50, 51)
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	told := false
	w.must(waiter.Idle(wait, func(n imapc.News) bool { told = told || n.Exists > 40; return told }))
	cancel()
	if !told && len(w.census(here, "INBOX")["INBOX"]) != 41 {
		t.Error("nobody was told of new mail")
	}
	w.agree("new", there, here, boxes...)

	// Flags and moves, there and here.
	w.storing(there, "INBOX", 1, imapc.AddFlags, mail.Flagged, "$Forwarded")
	w.moving(there, "INBOX", 2, "Work")
	w.agree("changed there", there, here, boxes...)
	w.storing(here, "INBOX", w.first(here, "INBOX"), imapc.AddFlags, mail.Answered, "later")
	w.moving(here, "INBOX", w.first(here, "INBOX"), "Work")
	w.moving(here, "Work", w.first(here, "Work"), "Trash")
	w.agree("changed here", there, here, boxes...)
	if l := w.link("1"); l.Brought != 51 || l.Error != "" {
		t.Errorf("%+v", l)
	}

	// Killed in the middle, twice, with mail coming and people moving it.
	n := 51
	for range 2 {
		w.add(there, "INBOX", n, n+100)
		n += 100
		w.moving(there, "INBOX", w.first(there, "INBOX"), "Work")
		time.Sleep(30 * time.Millisecond)
		w.here.Kill()
		w.must(w.here.Restart())
	}
	here = w.local("carol")
	w.agree("killed", there, here, boxes...)
	w.once(there, here, n, boxes...)

	// What signs in is nowhere to be read.
	out, err := exec.Command("grep", "-rl", dovecot.Password+`"`, w.here.Dir).CombinedOutput()
	if strings.Contains(string(out), "store") {
		t.Errorf("%s %v", out, err)
	}
}

func (w *world) first(c *imapc.Client, box string) mail.UID {
	w.t.Helper()
	_, err := c.Select(w.t.Context(), box, imapc.Select{})
	w.must(err)
	uids, err := c.Search(w.t.Context(), "ALL")
	w.must(err)
	if uids.IsEmpty() {
		w.t.Fatalf("%s is empty", box)
	}
	return uids[0].From
}

// once wants each of n messages once on each side.
func (w *world) once(there, here *imapc.Client, n int, boxes ...string) {
	w.t.Helper()
	for what, c := range map[string]*imapc.Client{"there": there, "here": here} {
		seen := map[string]int{}
		for _, list := range w.census(c, boxes...) {
			for _, m := range list {
				sum, _, _ := strings.Cut(m, " ")
				seen[sum]++
			}
		}
		if len(seen) != n {
			w.t.Errorf("%s: %d messages, not %d", what, len(seen), n)
		}
		for sum, k := range seen {
			if k != 1 {
				w.t.Errorf("%s: a message is there %d times: %s", what, k, sum)
			}
		}
	}
}

func TestPOP3WithDovecot(t *testing.T) {
	w := newWorld(t)
	there, here := w.remote("erin"), w.local("dan")
	dan := w.here.Account("dan").Address
	w.add(there, "INBOX", 0, 30)
	_, err := w.command(dovecot.Password+"\n", "link", "add", dan, "--from", "pop3://"+w.there.POP3, "--user", "erin", "--password-stdin", "--into", "Erin", "--delete-at-source")
	w.must(err)
	for end := time.Now().Add(time.Minute); time.Now().Before(end) && w.link("1").Brought < 30; time.Sleep(50 * time.Millisecond) {
	}
	w.add(there, "INBOX", 30, 40)
	out, err := w.command("", "link", "run", "1", "--json")
	w.must(err)
	if got := w.census(here, "Erin")["Erin"]; len(got) != 40 {
		t.Errorf("%d came; %s", len(got), out)
	}
	if left := w.census(there, "INBOX")["INBOX"]; len(left) != 0 {
		t.Errorf("%d are left there", len(left))
	}
	if out, err = w.command("", "link", "run", "1"); err != nil || !strings.HasPrefix(out, "0 messages brought") {
		t.Errorf("%s %v", out, err)
	}
	_, err = w.command("", "link", "pause", "1")
	w.must(err)
	if out, err = w.command("", "link", "list"); err != nil || !strings.Contains(out, "paused") {
		t.Errorf("%s %v", out, err)
	}
	_, err = w.command("", "link", "remove", "1")
	w.must(err)
	if _, err = w.command("", "link", "show", "1"); err == nil {
		t.Error("it is there still")
	}
	if out, err := w.command("", "verify", "--json"); err != nil {
		t.Errorf("%s %v", out, err)
	}
}

// An import that follows goes on, is told of new mail, and ends well when it is stopped.
func TestImportThatFollows(t *testing.T) {
	w := newWorld(t)
	there, here := w.remote("frank"), w.local("carol")
	w.add(there, "INBOX", 0, 5)
	cmd := exec.Command(built, "import", "imap", "--from", "imap://"+w.there.IMAP, "--user", "frank", "--password-stdin", "--to", w.here.Account("carol").Address, "--yes", "--follow", "--config", w.here.Config)
	cmd.Stdin = strings.NewReader(dovecot.Password + "\n")
	var said bytes.Buffer
	cmd.Stderr = &said
	w.must(cmd.Start())
	defer cmd.Process.Kill()
	w.agree("brought", there, here, "INBOX")
	w.add(there, "INBOX", 5, 9)
	w.agree("new", there, here, "INBOX")
	w.must(cmd.Process.Signal(os.Interrupt))
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, &said)
	}
}

// A link to the account itself would bring what it brought: it is refused, by whatever name the
// server goes. Another account of the same server is none of this.
func TestLinkToItself(t *testing.T) {
	w := newWorld(t)
	carol, dan := w.here.Account("carol"), w.here.Account("dan")
	add := func(to, from martlet.Account) error {
		_, err := w.command(from.Password+"\n", "link", "add", to.Address, "--from", "imap://"+strings.Replace(w.here.Addr("imap"), "127.0.0.1", "localhost", 1), "--user", from.Address, "--password-stdin", "--insecure", "--into", "Other")
		return err
	}
	if err := add(carol, carol); err == nil || !strings.Contains(err.Error(), "link to itself") {
		t.Errorf("a link to itself: %v", err)
	}
	w.must(add(carol, dan))
}
