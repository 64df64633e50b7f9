package imapd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/store"
)

// Transcripts: conversations of one or more clients with a server on a real store in
// memory, one file each in testdata. Lines of a file:
//
//	# text                a comment
//	connect A             A connects; the greeting is A's next line to read
//	legacy                from here on clients connect to a listener for old ones
//	login A [ADDRESS]     A connects and signs in, as alice unless told; nothing to read
//	select A MAILBOX      A selects a mailbox; nothing to read
//	A> text               A sends text and CRLF
//	A< text               the next line A reads is text
//	A<< text              A reads lines until one is text; those before may be any
//	A closed              the server closes A's connection
//	deliver MAILBOX [subject]   a message of alice's with that subject arrives
//	| text                lines after deliver: the message itself instead
//	fill MAILBOX N        so many messages arrive, all the same
//	gone MAILBOX SET      those with these UIDs are expunged
//	keep                  deleted mail is kept
//	limit N               one command may deal with so many messages; limit save N: save
//	slow MILLISECONDS     each look at the clock takes so long
//	admin ADDRESS         it may set quotas; for who signs in after it
//	seen MAILBOX       its messages are not \Recent any more
//	mailbox NAME          a mailbox of alice's is made
//	delete NAME           it is deleted
//	taken MAILBOX N       it takes over UIDVALIDITY N, which it has elsewhere
//	bring MAILBOX UID [N] so many messages come from there, the first of that UID
//	account WHO           there is an account WHO@example.org
//	remove WHO            there is none any more
//	quota BYTES MESSAGES  is what alice may have; 0 is no limit
//
// In text, ... stands for anything and <<name>> for digits, the same ones at each
// later place. \r and \n stand for themselves, so that odd line ends can be sent.

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a server with two accounts and the clients that talk to it.
type world struct {
	t       testing.TB
	st      *store.Store
	alice   *store.Account
	net     *netsrv.Server
	service netsrv.Service
	imap    *Server
	ctx     context.Context
	stop    context.CancelFunc
	clients map[string]*client
	names   map[string]string // what <<name>> stands for
	eng     engine.Engine
	others  []*world // other nodes: clients are there if there are any
	known   func()   // what was done to the directory is known on other nodes, too, when it returns
	recents bool     // what is \Recent is not looked at: each node has its own
}

// counter gives keys that differ and are the same in every run.
type counter struct{ n atomic.Int32 }

func (c *counter) Read(p []byte) (int, error) {
	n := c.n.Add(1)
	for i := range p {
		p[i] = byte(n)
	}
	return len(p), nil
}

type client struct {
	conn  net.Conn
	lines chan string // closed when the connection ends
}

const password = "secret of alice"

// patience is how long a client waits before a test gives up: longer than any command
// takes on a machine that is busy with much else.
const patience = time.Minute

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, 1<<20)
}

// newWorldOn is newWorld with an engine cache of so many bytes.
func newWorldOn(t testing.TB, cache int64) *world {
	t.Helper()
	return newWorldWith(t, cache, store.Keep{})
}

// keepingWorld is newWorld, where deleted mail is kept.
func keepingWorld(t testing.TB) *world {
	t.Helper()
	return newWorldWith(t, 1<<20, store.Keep{For: 30 * 24 * time.Hour})
}

func newWorldWith(t testing.TB, cache int64, keep store.Keep) *world {
	t.Helper()
	eng, err := pebble.Open("db", pebble.Options{Now: time.Now, FS: vfs.NewMem(), CacheBytes: cache, MemTableBytes: 1 << 20, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	w := newWorldOver(t, eng, keep)
	if err := w.imap.opt.Directory.AddDomain(w.ctx, "example.org"); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"alice", "bob"} {
		if err := w.account(who); err != nil {
			t.Fatal(err)
		}
	}
	w.findAlice()
	return w
}

// findAlice is for a world in which the account is there.
func (w *world) findAlice() {
	w.t.Helper()
	a, err := w.imap.opt.Directory.Lookup(w.ctx, mail.Address{Local: "alice", Domain: "example.org"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.alice = w.st.Account(a.ID)
}

// newWorldOver returns a world on an engine, without accounts.
func newWorldOver(t testing.TB, eng engine.Engine, keep store.Keep) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	now := func() time.Time { return start }
	st, err := store.Open(eng, store.Options{Now: now, Rand: rand.Reader, LogLines: 8, Keep: keep})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := directory.Open(ctx, eng, st, directory.Options{
		Now: time.Now, Rand: rand.Reader,
		Argon: directory.Argon{MemoryKiB: 64, Passes: 1, Lanes: 1}, ScramIterations: 4096,
		FailuresPerAccount: 1 << 30, FailuresPerAddress: 1 << 30, Sleep: func(context.Context, time.Duration) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, eng: eng, st: st, ctx: ctx, stop: cancel, clients: map[string]*client{}, names: map[string]string{}}
	var ids atomic.Int64
	w.net = netsrv.New(netsrv.Options{NewID: func() string { return fmt.Sprint("conn", ids.Add(1)) }, Log: slog.New(slog.DiscardHandler)})
	w.imap = New(Options{Now: time.Now, Store: st, Directory: dir, Version: "1", Random: &counter{}})
	w.imap.arranged.least, w.imap.hands.portion = 1, 16
	w.imap.hands.free.Store(2)
	w.service = netsrv.Service{Name: "imap", Handle: w.imap.Handle}
	t.Cleanup(func() {
		for _, c := range w.clients {
			c.conn.Close()
		}
		cancel()
		dir.Close()
	})
	return w
}

// legacy returns the server for old clients.
func (w *world) legacy() *Server {
	opt := w.imap.opt
	opt.Legacy = true
	return New(opt)
}

// connect makes a connection whose client reads all of it at once, so that the server
// never waits for one that has not come to read yet.
func (w *world) connect(name string) *client {
	if old := w.clients[name]; old != nil {
		old.conn.Close()
	}
	c := newClient(w.nodeOf(name).dial())
	w.clients[name] = c
	return c
}

// nodeOf returns the node that a client connects to.
func (w *world) nodeOf(name string) *world {
	if len(w.others) == 0 {
		return w
	}
	return w.others[int(name[0]-'A')%len(w.others)]
}

// all returns the world and the other nodes.
func (w *world) all() []*world { return append([]*world{w}, w.others...) }

// dial returns our end of a connection to the server.
func (w *world) dial() net.Conn {
	ours, theirs := net.Pipe()
	go w.net.ServeConn(w.ctx, theirs, w.service)
	return ours
}

func newClient(conn net.Conn) *client {
	c := &client{conn: conn, lines: make(chan string, 100_000)}
	go func() {
		defer close(c.lines)
		r := bufio.NewReader(conn)
		for {
			line, err := r.ReadString('\n')
			if line != "" {
				c.lines <- strings.TrimSuffix(line, "\r\n")
			}
			if err != nil {
				return
			}
		}
	}()
	return c
}

func (c *client) send(t testing.TB, text string) {
	t.Helper()
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.conn.Write([]byte(text)); err != nil {
		t.Errorf("sending %.60q: %v", text, err)
	}
}

// read returns the next line; ok is false if the connection has ended.
func (c *client) read(t testing.TB) (line string, ok bool) {
	t.Helper()
	select {
	case line, ok = <-c.lines:
		return line, ok
	case <-time.After(patience):
		t.Fatalf("nothing to read for %v", patience)
		return "", false
	}
}

// command sends a command and returns all lines up to its tagged one.
func (c *client) command(t testing.TB, text string) (lines []string, tagged string) {
	t.Helper()
	c.send(t, "zz "+text+"\r\n")
	for {
		line, ok := c.read(t)
		if !ok {
			t.Fatalf("%s: the connection ended", text)
		}
		if strings.HasPrefix(line, "zz ") {
			return lines, line
		}
		lines = append(lines, line)
	}
}

func (w *world) login(name, address string) *client {
	w.t.Helper()
	if address == "" {
		address = "alice@example.org"
	}
	c := w.connect(name)
	c.read(w.t)
	who, _, _ := strings.Cut(address, "@")
	if _, tagged := c.command(w.t, `LOGIN `+address+` "`+strings.ReplaceAll(password, "alice", who)+`"`); !strings.HasPrefix(tagged, "zz OK") {
		w.t.Fatal(tagged)
	}
	return c
}

func (w *world) deliver(box string, message []byte, flags mail.Flags) {
	w.t.Helper()
	p, err := w.st.Receive(w.ctx, bytes.NewReader(message))
	if err != nil {
		w.t.Fatal(err)
	}
	err = w.alice.Update(w.ctx, func(tx *store.Tx) error {
		m, err := tx.Mailbox(box)
		if err == nil {
			_, err = tx.Append(m.ID, store.NewMessage{Parcel: p, Flags: flags})
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// message is what deliver puts in when the file gives no text.
func message(subject string) []byte {
	return []byte("From: Bob <bob@example.org>\r\nTo: alice@example.org\r\nSubject: " + subject +
		"\r\nDate: Sun, 1 Mar 2026 10:00:00 +0000\r\nMessage-ID: <" + strings.ReplaceAll(subject, " ", ".") +
		"@example.org>\r\n\r\nText of " + subject + ".\r\n")
}

func (w *world) change(fn func(*store.Tx) error) {
	w.t.Helper()
	if err := w.alice.Update(w.ctx, fn); err != nil {
		w.t.Fatal(err)
	}
}

var hole = regexp.MustCompile(`<<\w+>>|\.\.\.`)

// matches compares a line with the text of the file, and learns names from it.
func (w *world) matches(text, line string) bool {
	var re strings.Builder
	var learnt []string
	at := 0
	for _, m := range hole.FindAllStringIndex(text, -1) {
		re.WriteString(regexp.QuoteMeta(text[at:m[0]]))
		at = m[1]
		name := text[m[0]:m[1]]
		switch known := w.names[name]; {
		case name == "...":
			re.WriteString(".*")
		case known != "":
			re.WriteString(known)
		default:
			re.WriteString(`(\d+)`)
			learnt = append(learnt, name)
		}
	}
	re.WriteString(regexp.QuoteMeta(text[at:]))
	got := regexp.MustCompile("^(?s:" + re.String() + ")$").FindStringSubmatch(line)
	if got == nil {
		return false
	}
	for i, name := range learnt {
		w.names[name] = got[i+1]
	}
	return true
}

func (w *world) fill(text string) string {
	text = hole.ReplaceAllStringFunc(text, func(name string) string {
		if known := w.names[name]; known != "" {
			return known
		}
		return name
	})
	return strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(text)
}

var exchange = regexp.MustCompile(`^([A-Z])(>|<<|<)(?: (.*))?$`)

// step carries out one line of a transcript.
func (w *world) step(line string, body []byte) error {
	t := w.t
	if m := exchange.FindStringSubmatch(line); m != nil {
		c := w.clients[m[1]]
		if c == nil {
			return fmt.Errorf("%s is not connected", m[1])
		}
		return w.speak(c, m[2], m[3])
	}
	word, rest, _ := strings.Cut(line, " ")
	first, more, _ := strings.Cut(rest, " ")
	switch {
	case word == "keep": // read before
	case word == "connect":
		w.connect(first)
	case word == "legacy":
		for _, n := range w.all() {
			n.service.Handle = n.legacy().Handle
		}
	case word == "login":
		w.login(first, more)
	case word == "select":
		if _, tagged := w.clients[first].command(t, "SELECT "+more); !strings.HasPrefix(tagged, "zz OK") {
			return fmt.Errorf("select: %s", tagged)
		}
	case word == "deliver":
		if body == nil {
			body = message(more)
		}
		w.deliver(first, body, 0)
	case word == "fill":
		w.fillBox(first, more)
	case word == "gone":
		_, err := w.alice.Expunge(w.ctx, w.picture(first).Mailbox().ID, uidSet(more), false)
		return err
	case word == "limit":
		for _, n := range w.all() {
			which, text := &n.imap.opt.MessageLimit, first
			if first == "save" {
				which, text = &n.imap.opt.SaveLimit, more
			}
			if _, err := fmt.Sscan(text, which); err != nil {
				return err
			}
		}
	case word == "admin":
		for _, n := range w.all() {
			if err := n.makeAdmin(first); err != nil {
				return err
			}
		}
	case word == "slow":
		for _, n := range w.all() {
			if err := n.slowClock(first); err != nil {
				return err
			}
		}
	case word == "seen":
		for _, n := range w.all() {
			n.alice.ClaimRecent(n.picture(first))
		}
	case word == "mailbox":
		w.change(func(tx *store.Tx) error { _, err := tx.CreateMailbox(rest, ""); return err })
	case word == "taken":
		return w.takeOver(first, more)
	case word == "bring":
		return w.bring(first, more)
	case word == "quota":
		var q store.Quota
		if _, err := fmt.Sscan(rest, &q.Bytes, &q.Messages); err != nil {
			return err
		}
		w.change(func(tx *store.Tx) error { tx.SetQuota(q); return nil })
	case word == "account":
		return w.account(first)
	case word == "remove":
		err := w.imap.opt.Directory.RemoveAccount(w.ctx, mail.Address{Local: first, Domain: "example.org"})
		if w.known != nil {
			w.known()
		}
		return err
	case word == "delete":
		w.change(func(tx *store.Tx) error { return tx.DeleteMailbox(rest) })
	case rest == "closed" && w.clients[word] != nil:
		if got, ok := w.clients[word].read(t); ok {
			return fmt.Errorf("read %q, and the connection should be closed", got)
		}
		delete(w.clients, word)
	default:
		return fmt.Errorf("unknown directive")
	}
	return nil
}

func (w *world) takeOver(box, validity string) error {
	took := false
	w.change(func(tx *store.Tx) error {
		m, err := tx.Mailbox(box)
		if err == nil {
			took, err = tx.TakeValidity(m.ID, uint32(number(validity)))
		}
		return err
	})
	if !took {
		return fmt.Errorf("it was not taken over")
	}
	return nil
}

func (w *world) bring(box, what string) error {
	uid, n := 0, 1
	if _, err := fmt.Sscan(what, &uid, &n); err != nil && uid == 0 {
		return err
	}
	p, err := w.st.Receive(w.ctx, bytes.NewReader(message("from elsewhere")))
	if err != nil {
		return err
	}
	w.change(func(tx *store.Tx) error {
		m, err := tx.Mailbox(box)
		for i := uid; err == nil && i < uid+n; i++ {
			_, err = tx.AppendTied(m.ID, store.NewMessage{Parcel: p}, mail.UID(i), store.TiedBox{Source: "elsewhere", Mailbox: box}, store.Tie{Key: fmt.Sprint(i)})
		}
		return err
	})
	return nil
}

func (w *world) account(who string) error {
	_, err := w.imap.opt.Directory.AddAccount(w.ctx, mail.Address{Local: who, Domain: "example.org"}, strings.ReplaceAll(password, "alice", who), store.Quota{})
	return err
}

func (w *world) speak(c *client, sign, text string) error {
	if sign == ">" {
		c.send(w.t, w.fill(text)+"\r\n")
		return nil
	}
	if w.recents && recentLine.MatchString(text) {
		return nil
	}
	for {
		got, ok := c.read(w.t)
		if w.recents {
			got, text = withoutRecent(got), withoutRecent(text)
		}
		switch {
		case !ok:
			return fmt.Errorf("the connection ended")
		case w.recents && recentLine.MatchString(got):
		case w.matches(text, got):
			return nil
		case sign == "<":
			return fmt.Errorf("read %q", got)
		}
	}
}

// run plays a transcript and checks that nobody was told more than it says.
func (w *world) run(file string) {
	t := w.t
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for i := 0; i < len(lines); i++ {
		line, at := lines[i], i+1
		if line == "" || line[0] == '#' {
			continue
		}
		var body []byte
		for i+1 < len(lines) && strings.HasPrefix(lines[i+1], "|") {
			i++
			body = append(body, strings.TrimPrefix(lines[i][1:], " ")+"\r\n"...)
		}
		if err := w.step(line, body); err != nil {
			t.Fatalf("%s:%d: %s\n%v", file, at, line, err)
		}
	}
	for name, c := range w.clients {
		c.send(t, "zz NOOP\r\n")
		if got, ok := c.read(t); ok && got != "zz OK NOOP done" {
			t.Errorf("%s: %s was told more: %q", file, name, got)
		}
	}
}

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts:", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "\nkeep\n") {
				keepingWorld(t).run(file)
			} else {
				newWorld(t).run(file)
			}
		})
	}
}
