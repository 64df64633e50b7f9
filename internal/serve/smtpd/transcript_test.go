package smtpd

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/store"
)

// TestTranscripts runs testdata/*.txt, each against a server of its own. A line is
//
//	# comment
//	A= relay 192.0.2.1     client A connects to a listener from an address; further
//	                       words: starttls, implicit, normalise, from-check, burl, asks, backup, suppressed, and
//	                       name=number for the limits recipients, errors and allowed
//	A> EHLO a.test         A sends the line with CRLF
//	A>> DATA\r\nhello      A sends bytes, with Go's escapes, in one write
//	A< 250 mx.here.test    the next line A reads; * at the end stands for anything
//	A<EOF                  the server closes the connection
//	A! tls                 A makes a TLS handshake
//	inbox alice            alice's messages, each begun by a line "---"
//	junk alice             those in her Junk
//	dns a.test A 192.0.2.1 from now on strangers are checked; a line of a zone
//	domain here.test forged=junk
//	                       a setting of a domain
//	seen                   what reports would be made of
//	queue                  what the queue was given
//	append alice BOX text  a message, with Go's escapes, gets into a mailbox of alice's
//	sign alice URL         alice signs a URL, for which $URL stands from now on
//	disk full, disk free   the disk fills up
//	quota alice 1          alice's quota in bytes
//	| text                 a line of inbox or queue
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p := &player{t: t, w: newWorld(t), file: file, clients: map[string]*client{}}
			for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
				p.line = i + 1
				p.play(line)
			}
			p.finish()
		})
	}
}

type player struct {
	t       *testing.T
	w       *world
	file    string
	line    int
	clients map[string]*client
	shown   []string // lines that "|" must show
	url     string   // that was signed last
	zone    string   // of the name server
}

type client struct {
	nc    net.Conn
	lines chan string // without CRLF; closed at the end
}

func (p *player) fail(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("%s:%d: %s", p.file, p.line, fmt.Sprintf(format, args...))
}

func (p *player) play(line string) {
	p.t.Helper()
	if rest, ok := strings.CutPrefix(line, "|"); ok {
		p.show(strings.TrimPrefix(rest, " "))
		return
	}
	if len(p.shown) > 0 {
		p.fail("not said: %q", p.shown)
	}
	if line == "" || line[0] == '#' {
		return
	}
	if name, rest := line[:1], line[1:]; rest != "" && strings.IndexByte("=><!", rest[0]) >= 0 {
		p.client(name, rest)
		return
	}
	p.direct(strings.Fields(line), line)
}

// direct runs a line that belongs to no client.
func (p *player) direct(words []string, line string) {
	switch words[0] {
	case "append":
		text := p.unquote(strings.SplitN(line, " ", 4)[3])
		p.imap(words[1], fmt.Sprintf("APPEND %s {%d+}\r\n%s", words[2], len(text), text))
	case "sign":
		said := p.imap(words[1], "GENURLAUTH "+words[2]+" INTERNAL")
		p.url = strings.Trim(strings.TrimPrefix(said, "* GENURLAUTH "), `"`)
	case "inbox":
		for _, m := range p.w.inbox(words[1]) {
			p.shown = append(append(p.shown, "---"), visible(m)...)
		}
		if len(p.shown) == 0 {
			p.shown = []string{"nothing"}
		}
	case "junk":
		for _, m := range p.w.mailbox(words[1], "Junk") {
			p.shown = append(append(p.shown, "---"), visible(m)...)
		}
		if len(p.shown) == 0 {
			p.shown = []string{"nothing"}
		}
	case "dns":
		p.zone += strings.TrimPrefix(line, "dns ") + "\n"
		p.w.check(p.zone)
	case "domain":
		name, value, _ := strings.Cut(words[2], "=")
		p.w.must(p.w.dir.Set(p.w.ctx, words[1], map[string]string{name: value}))
	case "seen":
		for _, o := range p.w.observed {
			for _, r := range o.Rulings {
				d := o.Verdict.DMARC
				p.shown = append(p.shown, fmt.Sprintf("%s for %s: dmarc=%s of %q (%s), %s by %s %s", o.Verdict.Envelope.Peer, r.Domain, d.Status, d.Author, d.Applied, o.Disposition, r.Policy, r.Override))
			}
		}
		p.w.observed = nil
	case "queue":
		if p.shown = p.w.queue.lines(); len(p.shown) == 0 {
			p.shown = []string{"nothing"}
		}
	case "disk":
		p.w.disk.setFull(words[1] == "full")
	case "quota":
		n, _ := strconv.ParseInt(words[2], 10, 64)
		a, err := p.w.dir.Lookup(p.w.ctx, address(words[1]+"@here.test"))
		p.w.must(err)
		p.w.must(p.w.store.Account(a.ID).Update(p.w.ctx, func(tx *store.Tx) error {
			tx.SetQuota(store.Quota{Bytes: n})
			return nil
		}))
	default:
		p.fail("what is %q?", words[0])
	}
}

func (p *player) show(want string) {
	p.t.Helper()
	if len(p.shown) == 0 {
		p.fail("there is no such line")
	}
	if got := p.shown[0]; !matches(got, want) {
		p.fail("got  %q\nwant %q", got, want)
	}
	p.shown = p.shown[1:]
}

func matches(got, want string) bool {
	if prefix, ok := strings.CutSuffix(want, "*"); ok {
		return strings.HasPrefix(got, prefix)
	}
	return strings.TrimRight(got, " ") == strings.TrimRight(want, " ")
}

// client runs a line of one client.
func (p *player) client(name, line string) {
	p.t.Helper()
	c := p.clients[name]
	if rest, ok := strings.CutPrefix(line, "= "); ok {
		p.clients[name] = p.connect(strings.Fields(rest))
		return
	}
	if c == nil {
		p.fail("there is no client %s", name)
	}
	switch {
	case line == "<EOF":
		if got, ok := c.next(p.t); ok {
			p.fail("got %q instead of the end", got)
		}
	case strings.HasPrefix(line, "< "):
		if got, ok := c.next(p.t); !ok || !matches(got, line[2:]) {
			p.fail("got  %q\nwant %q", got, line[2:])
		}
	case strings.HasPrefix(line, ">> "):
		c.send(strings.ReplaceAll(p.unquote(line[3:]), "$URL", p.url))
	case strings.HasPrefix(line, ">"):
		c.send(strings.ReplaceAll(strings.TrimPrefix(line[1:], " "), "$URL", p.url) + "\r\n")
	case line == "! tls":
		c.startTLS(p)
	default:
		p.fail("what is %q?", line)
	}
}

func (p *player) unquote(text string) string {
	p.t.Helper()
	out, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
	if err != nil {
		p.fail("%v", err)
	}
	return out
}

// imap has a user's IMAP server carry out a command and returns the first line it says
// before its tagged answer.
func (p *player) imap(user, command string) (said string) {
	p.t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	p.w.done.Go(func() { p.w.net.ServeConn(p.w.ctx, server, netsrv.Service{Name: "imap", Handle: p.w.imap.Handle}) })
	go fmt.Fprintf(client, "1 LOGIN %s@here.test secret\r\n2 %s\r\n", user, command)
	for in := bufio.NewScanner(client); in.Scan(); {
		switch line := in.Text(); {
		case strings.HasPrefix(line, "2 OK"):
			return said
		case strings.HasPrefix(line, "2 "):
			p.fail("IMAP says %q", line)
		case strings.HasPrefix(line, "* GENURLAUTH"):
			said = line
		}
	}
	p.fail("IMAP hangs up")
	return ""
}

func (p *player) connect(words []string) *client {
	o := p.w.options
	o.Kind = map[string]Kind{"relay": Relay, "submission": Submission, "lmtp": LMTP}[words[0]]
	mode := netsrv.NoTLS
	for _, word := range words[2:] {
		name, value, _ := strings.Cut(word, "=")
		n, _ := strconv.Atoi(value)
		switch name {
		case "starttls":
			mode = netsrv.StartTLS
		case "implicit":
			mode = netsrv.ImplicitTLS
		case "normalise":
			o.Normalise = true
		case "burl":
			o.URLs = p.w.imap
		case "from-check":
			o.CheckFrom = true
		case "asks":
			o.Queueing = Queueing{MaxHold: 24 * time.Hour, DeliverBy: true, MinBy: time.Minute, Priority: true, Policy: "MIXER", VERP: true}
		case "backup":
			o.Backup = func(_ context.Context, to mail.Address) (bool, error) {
				switch {
				case to.Domain != "kept.test":
					return false, nil
				case to.Local == "gone":
					return true, fault.New(fault.NotFound, "the host of kept.test says: who?")
				case to.Local == "later":
					return true, fault.New(fault.Busy, "whether it exists cannot be found out now")
				}
				return true, nil
			}
		case "suppressed":
			o.Suppressed = func(_ context.Context, login string, to mail.Address, list bool) error {
				if list && to.Local == "gone" {
					return fault.New(fault.NotFound, "mail of yours came back")
				}
				return nil
			}
		case "allowed":
			o.Allowance = &few{left: n}
		case "recipients":
			o.MaxRecipients = n
		case "errors":
			o.MaxErrors = n
		default:
			p.fail("what is %q?", word)
		}
	}
	c := &client{nc: p.w.connect(o, mode, words[1])}
	if mode == netsrv.ImplicitTLS {
		c.startTLS(p)
	} else {
		c.read()
	}
	return c
}

// read hands on lines as they come, so that the server never waits for a reader.
func (c *client) read() {
	c.lines = make(chan string, 10_000)
	lines, r := c.lines, bufio.NewReader(c.nc)
	go func() {
		defer close(lines)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			lines <- strings.TrimSuffix(line, "\r\n")
			if strings.HasPrefix(line, "220 2.0.0") {
				return // what follows belongs to the handshake
			}
		}
	}()
}

func (c *client) send(text string) { io.WriteString(c.nc, text) }

func (c *client) next(t *testing.T) (line string, ok bool) {
	t.Helper()
	select {
	case line, ok = <-c.lines:
		return line, ok
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
		return "", false
	}
}

func (c *client) startTLS(p *player) {
	tc := tls.Client(c.nc, &tls.Config{InsecureSkipVerify: true})
	if err := tc.Handshake(); err != nil {
		p.fail("handshake: %v", err)
	}
	c.nc = tc
	c.read()
}

// finish checks that nothing was left unsaid.
func (p *player) finish() {
	if len(p.shown) > 0 {
		p.fail("not said: %q", p.shown)
	}
	for name, c := range p.clients {
		c.nc.Close()
		for line := range c.lines {
			p.t.Errorf("%s: %s was also told %q", p.file, name, line)
		}
	}
}

func addrPort(host string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(host), 40000)
}
