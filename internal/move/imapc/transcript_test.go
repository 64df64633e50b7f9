package imapc

import (
	"bufio"
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

var update = flag.Bool("update", false, "write what the client says into the transcripts")

// Transcripts are conversations as text: "C: " is what the client is to say, "S: " what the
// server says ("S< " in one go, with \r and \n), "> " what the client is asked to do before, and
// "= " what it makes of it. A file may begin with "! " and options.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d transcripts: %v", len(files), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(text))
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				t.Errorf("the conversation is another:\n%s", got)
			}
		})
	}
}

// near is an address on this machine.
type near struct{ net.Conn }

func (near) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 143} }

func testOptions() Options {
	return Options{Host: "imap.example.net", Security: OfferedTLS, Now: time.Now, Random: rand.Reader, Timeout: 5 * time.Second, Compress: CompressNever}
}

// play runs a transcript and returns it as it went.
func play(t *testing.T, text string) string {
	t.Helper()
	opt := testOptions()
	var out strings.Builder
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	p := &player{t: t, out: &out, r: bufio.NewReader(server), conn: server}
	var conn net.Conn = near{client}
	for len(lines) > 0 {
		l := lines[0]
		switch {
		case strings.HasPrefix(l, "! far"):
			conn = client
			opt.Security = StartTLS
			fmt.Fprintln(&out, l)
			lines = lines[1:]
		case strings.HasPrefix(l, "! version"):
			opt.Version = "1.0"
			fmt.Fprintln(&out, l)
			lines = lines[1:]
		case strings.HasPrefix(l, "> "):
			n := 1
			for n < len(lines) && !strings.HasPrefix(lines[n], "> ") {
				n++
			}
			fmt.Fprintln(&out, l)
			p.act(conn, opt, l[2:], lines[1:n])
			lines = lines[n:]
		default:
			fmt.Fprintln(&out, l)
			lines = lines[1:]
		}
	}
	return out.String()
}

type player struct {
	t    *testing.T
	out  *strings.Builder
	conn net.Conn
	r    *bufio.Reader
	c    *Client
}

// act has the client do something while the server keeps to the lines.
func (p *player) act(conn net.Conn, opt Options, what string, lines []string) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 5*time.Second)
	defer cancel()
	done := make(chan []string)
	go func() {
		var made []string
		say := func(format string, args ...any) { made = append(made, fmt.Sprintf(format, args...)) }
		if what == "connect" {
			c, err := New(ctx, conn, opt)
			if err != nil {
				conn.Close()
			}
			p.c = c
			say("%v", outcome(err))
		} else if p.c == nil {
			say("not connected")
		} else {
			p.do(ctx, what, say)
		}
		done <- made
	}()
	p.conn.SetDeadline(time.Now().Add(2 * time.Second))
	broken := false
	for _, l := range lines {
		switch {
		case strings.HasPrefix(l, "C: "):
			got := ""
			if !broken {
				line, err := p.r.ReadString('\n')
				if got = strings.TrimRight(line, "\r\n"); err != nil {
					broken = true
					got = fmt.Sprint(got, " (", err, ")")
				}
			}
			fmt.Fprintln(p.out, "C: "+got)
		case strings.HasPrefix(l, "S: "):
			io.WriteString(p.conn, l[3:]+"\r\n")
			fmt.Fprintln(p.out, l)
		case strings.HasPrefix(l, "S< "):
			io.WriteString(p.conn, strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(l[3:]))
			fmt.Fprintln(p.out, l)
		case l == "S closes":
			p.conn.Close()
			fmt.Fprintln(p.out, l)
		case strings.HasPrefix(l, "= "):
		default:
			fmt.Fprintln(p.out, l)
		}
	}
	more := make(chan string, 1)
	go func() { // what the client says and the transcript does not have
		b, _ := io.ReadAll(readSome{p})
		more <- string(b)
	}()
	made := <-done
	p.conn.SetReadDeadline(time.Now())
	for _, l := range strings.Split(strings.TrimRight(<-more, "\r\n"), "\r\n") {
		if l != "" {
			fmt.Fprintln(p.out, "C: "+l)
		}
	}
	for _, m := range made {
		fmt.Fprintln(p.out, "= "+m)
	}
}

type readSome struct{ p *player }

func (r readSome) Read(b []byte) (int, error) { return r.p.r.Read(b) }

func outcome(err error) string {
	if err == nil {
		return "done"
	}
	return fmt.Sprintf("%v: %v", ProblemOf(err), err)
}

// do does one thing and says what came of it.
func (p *player) do(ctx context.Context, what string, say func(string, ...any)) {
	f := strings.Fields(what)
	arg := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		return ""
	}
	c := p.c
	switch f[0] {
	case "login":
		say("%s", outcome(c.Login(ctx, Credentials{User: arg(1), Password: arg(2), Mechanism: arg(3)})))
	case "proxy-login":
		say("%s", outcome(c.Login(ctx, Credentials{User: arg(1), Password: arg(2), Authz: arg(3)})))
	case "token":
		say("%s", outcome(c.Login(ctx, Credentials{User: arg(1), Token: arg(2), Mechanism: arg(3)})))
	case "list":
		all, err := c.List(ctx)
		for _, m := range all {
			say("%s %q sep %q role %q noselect %v subscribed %v%s", m.Wire, m.Name, string(rune(m.Separator)), m.Role, m.NoSelect, m.Subscribed, statusText(m.Status))
		}
		say("%s", outcome(err))
	case "status":
		list, err := c.Status(ctx, f[1:]...)
		for i, st := range list {
			say("%s%s", f[i+1], statusText(st))
		}
		say("%s", outcome(err))
	case "namespaces":
		ns, err := c.Namespaces(ctx)
		say("%+v %s", ns, outcome(err))
	case "select", "resync":
		how := Select{}
		if f[0] == "resync" {
			how.Since = &Resync{UIDValidity: 7, ModSeq: 100}
		}
		sel, err := c.Select(ctx, arg(1), how)
		if sel != nil {
			say("%+v", *sel)
		}
		say("%s", outcome(err))
	case "fetch", "bodies", "labels", "changed":
		q := Query{UIDs: mail.UIDSet{{From: 1, To: 9}}, Flags: f[0] != "bodies", Date: f[0] == "fetch", Size: f[0] == "fetch", MessageID: f[0] == "fetch", Body: f[0] == "bodies", Gmail: f[0] == "labels"}
		if f[0] == "changed" {
			q.ChangedSince = 12
		}
		if arg(1) != "" {
			q.UIDs = mail.SetOf(3)
		}
		say("%s", outcome(c.Fetch(ctx, q, func(m *Message) error { say("%s", messageText(m)); return nil })))
	case "search":
		set, err := c.Search(ctx, "ALL")
		say("%v %s", set, outcome(err))
	case "store":
		say("%s", outcome(c.Store(ctx, mail.SetOf(3), AddFlags, mail.Seen, []string{"$Junk"})))
	case "move":
		to, err := c.Move(ctx, mail.SetOf(3, 5), arg(1))
		say("%+v %s", to, outcome(err))
	case "append":
		var list []Appending
		for _, text := range f[2:] {
			list = append(list, Appending{Flags: mail.Seen, Keywords: []string{"$Forwarded"}, Date: time.Date(2009, 2, 3, 4, 5, 6, 0, time.UTC), Size: int64(len(text)), Body: strings.NewReader(text)})
		}
		out, err := c.Append(ctx, arg(1), list)
		for _, a := range out {
			say("%d.%d %s", a.UIDValidity, a.UID, outcome(a.Err))
		}
		say("%s", outcome(err))
	case "create":
		say("%s", outcome(c.Create(ctx, arg(1), mail.Role(arg(2)))))
	case "idle":
		say("%s", outcome(c.Idle(ctx, func(n News) bool {
			say("news %d exist, %d expunged, vanished %v, fetch %v", n.Exists, n.Expunged, n.Vanished, n.Fetch != nil)
			return n.Exists == 5
		})))
	case "noop":
		c.OnNews(func(n News) { say("news %d exist, %d expunged", n.Exists, n.Expunged) })
		say("%s", outcome(c.Noop(ctx)))
	case "logout":
		say("%s", outcome(c.Logout(ctx)))
	default:
		p.t.Errorf("nobody can %q", what)
	}
}

func statusText(st *Status) string {
	if st == nil {
		return ""
	}
	return fmt.Sprintf(" %+v", *st)
}

func messageText(m *Message) string {
	s := fmt.Sprintf("%d uid %d flags [%v] %v size %d date %s", m.Seq, m.UID, m.Flags, m.Keywords, m.Size, m.Date.UTC().Format("2006-01-02T15:04:05"))
	if m.MessageID != "" {
		s += " id " + m.MessageID
	}
	if m.GmailID != 0 {
		s += fmt.Sprintf(" gmail %d thread %d labels %q", m.GmailID, m.Thread, m.Labels)
	}
	if m.Body != nil {
		b, err := io.ReadAll(m.Body)
		s += fmt.Sprintf(" body of %d %q %v", m.BodySize, b, err)
	}
	return s
}
