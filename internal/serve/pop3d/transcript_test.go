package pop3d

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

// Transcripts: conversations of clients with a server on a real store in memory, one
// file each in testdata. Lines of a file:
//
//	# text          a comment
//	connect A       A connects; the greeting is A's next line to read
//	distant A       the same from a network that is not trusted
//	login A         A connects and logs in as alice; nothing to read
//	A> text         A sends text and CRLF; \r \n \0 and \x80 stand for themselves
//	A< text         the next line A reads is text, where ... stands for anything
//	A closed        the server closes A's connection
//	deliver N       a message of N body lines comes into alice's INBOX
//	| text          lines after deliver: the message itself instead
//	expunge UID     another client removes a message from it
//	left UID,...    INBOX now holds just these; "left" alone: none
var exchange = regexp.MustCompile(`^([A-Z])([<>])(?: (.*))?$`)

// world is a server with the account alice and clients that talk to it.
type world struct {
	t       testing.TB
	ctx     context.Context
	st      *store.Store
	dir     *directory.Directory
	alice   *store.Account
	net     *netsrv.Server
	pop     *Server
	clients map[string]*client
}

type client struct {
	net.Conn
	r *bufio.Reader
}

const password = "secret of alice"

func newWorld(t testing.TB, opt netsrv.Options) *world {
	t.Helper()
	return newWorldWith(t, opt, nil)
}

// newWorldWith is newWorld with an issuer of tokens.
func newWorldWith(t testing.TB, opt netsrv.Options, tokens directory.Tokens) *world {
	t.Helper()
	eng, err := pebble.Open("db", pebble.Options{Now: time.Now, FS: vfs.NewMem(), MemTableBytes: 1 << 20, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	return newWorldOver(t, opt, tokens, eng, func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) })
}

// newWorldOver is newWorldWith on an engine, where the account may be already.
func newWorldOver(t testing.TB, opt netsrv.Options, tokens directory.Tokens, eng engine.Engine, now func() time.Time) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	st, err := store.Open(eng, store.Options{Now: now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := directory.Open(ctx, eng, st, directory.Options{
		Now: time.Now, Rand: rand.Reader,
		Argon: directory.Argon{MemoryKiB: 8, Passes: 1, Lanes: 1}, ScramIterations: 4096,
		Sleep: func(context.Context, time.Duration) error { return nil }, Tokens: tokens,
	})
	if err != nil {
		t.Fatal(err)
	}
	addr := mail.Address{Local: "alice", Domain: "example.org"}
	a, err := dir.Lookup(ctx, addr)
	if err != nil {
		if err := dir.AddDomain(ctx, "example.org"); err != nil {
			t.Fatal(err)
		}
		if a, err = dir.AddAccount(ctx, addr, password, store.Quota{}); err != nil {
			t.Fatal(err)
		}
	}
	var ids atomic.Int64
	opt.NewID = func() string { return fmt.Sprint("conn", ids.Add(1)) }
	opt.Log = slog.New(slog.DiscardHandler)
	w := &world{
		t: t, ctx: ctx, st: st, dir: dir, alice: st.Account(a.ID), clients: map[string]*client{},
		net: netsrv.New(opt), pop: New(Options{Store: st, Directory: dir}),
	}
	t.Cleanup(func() {
		for _, c := range w.clients {
			c.Close()
		}
		cancel()
		dir.Close()
	})
	return w
}

// connect opens a connection; a far one has an address that nobody trusts.
func (w *world) connect(name string, far bool) *client {
	ours, theirs := net.Pipe()
	if far {
		theirs = farConn{theirs}
	}
	c := &client{ours, bufio.NewReader(ours)}
	w.clients[name] = c
	go w.net.ServeConn(w.ctx, theirs, netsrv.Service{Name: "pop3", TLS: netsrv.StartTLS, Handle: w.pop.Handle})
	return c
}

type farConn struct{ net.Conn }

func (farConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4321} }

func (c *client) send(t testing.TB, text string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatalf("sending %.60q: %v", text, err)
	}
}

func (c *client) read() (string, error) {
	c.SetDeadline(time.Now().Add(20 * time.Second))
	line, err := c.r.ReadString('\n')
	return strings.TrimSuffix(line, "\r\n"), err
}

// ask sends a command and returns the first line of its answer.
func (c *client) ask(t testing.TB, command string) string {
	t.Helper()
	c.send(t, command+"\r\n")
	line, err := c.read()
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return line
}

// lines reads the rest of a multi-line answer as a strict client does: lines end in
// CRLF, and doubled dots are undone.
func (c *client) lines(t testing.TB) string {
	t.Helper()
	var all strings.Builder
	for {
		var line strings.Builder
		for !strings.HasSuffix(line.String(), "\r\n") {
			part, err := c.r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			line.WriteString(part)
		}
		if line.String() == ".\r\n" {
			return all.String()
		}
		all.WriteString(strings.TrimPrefix(line.String(), "."))
	}
}

func (w *world) login(name string) *client {
	w.t.Helper()
	c := w.connect(name, false)
	c.read()
	c.ask(w.t, "USER alice@example.org")
	if got := c.ask(w.t, "PASS "+password); !strings.HasPrefix(got, "+OK") {
		w.t.Fatal(got)
	}
	return c
}

func (w *world) inbox(fn func(tx *store.Tx, box mail.MailboxID) error) {
	w.t.Helper()
	err := w.alice.Update(w.ctx, func(tx *store.Tx) error {
		m, err := tx.Mailbox("INBOX")
		if err != nil {
			return err
		}
		return fn(tx, m.ID)
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) deliver(message []byte) {
	w.t.Helper()
	p, err := w.st.Receive(w.ctx, bytes.NewReader(message))
	if err != nil {
		w.t.Fatal(err)
	}
	w.inbox(func(tx *store.Tx, box mail.MailboxID) error {
		_, err := tx.Append(box, store.NewMessage{Parcel: p})
		return err
	})
}

// left returns the UIDs in the INBOX.
func (w *world) left() string {
	w.t.Helper()
	var uids mail.UIDSet
	var box mail.MailboxID
	w.inbox(func(_ *store.Tx, id mail.MailboxID) error { box = id; return nil })
	pic, err := w.alice.Picture(w.ctx, box)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range pic.Messages(store.All()) {
		uids.Add(m.UID)
	}
	return uids.String()
}

// step carries out one line of a transcript.
func (w *world) step(line string, body []byte) error {
	if m := exchange.FindStringSubmatch(line); m != nil {
		c := w.clients[m[1]]
		if m[2] == ">" {
			c.send(w.t, strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\0`, "\x00", `\x80`, "\x80").Replace(m[3])+"\r\n")
			return nil
		}
		got, err := c.read()
		parts := strings.Split(m[3], "...")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		if err != nil || !regexp.MustCompile("^(?s:"+strings.Join(parts, ".*")+")$").MatchString(got) {
			return fmt.Errorf("read %q, %v", got, err)
		}
		return nil
	}
	word, arg, _ := strings.Cut(line, " ")
	switch {
	case word == "connect" || word == "distant":
		w.connect(arg, word == "distant")
	case word == "login":
		w.login(arg)
	case word == "deliver":
		var n int
		if body == nil {
			fmt.Sscan(arg, &n)
			body = append([]byte("Subject: x\r\n\r\n"), bytes.Repeat([]byte("line\r\n"), n)...)
		}
		w.deliver(body)
	case word == "expunge":
		var uid mail.UID
		fmt.Sscan(arg, &uid)
		w.inbox(func(tx *store.Tx, box mail.MailboxID) error {
			_, err := tx.Expunge(box, mail.SetOf(uid), false)
			return err
		})
	case word == "left":
		if got := w.left(); got != arg {
			return fmt.Errorf("INBOX holds %q", got)
		}
	case arg == "closed" && w.clients[word] != nil:
		if got, err := w.clients[word].read(); err == nil || got != "" {
			return fmt.Errorf("read %q, and the connection should be closed", got)
		}
	default:
		return fmt.Errorf("unknown directive")
	}
	return nil
}

func (w *world) run(file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
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
			w.t.Fatalf("%s:%d: %s\n%v", file, at, line, err)
		}
	}
}

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts:", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { newWorld(t, netsrv.Options{}).run(file) })
	}
}
