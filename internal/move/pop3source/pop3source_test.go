package pop3source

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/rfc822/rfc822test"
)

// server is a POP3 server for tests, as good or as bad as its fields say.
type server struct {
	capas    []string // nil: no CAPA
	mail     []string // with LF; a UIDL is "u1" and so on
	noUIDL   bool
	sameUIDL bool
	greeting string
	answer   map[string]string // to a command, by its beginning, instead of what is due: raw
	mu       sync.Mutex
	said     []string // commands
	removed  []int
	at       string
}

func (s *server) start(t testing.TB) *server {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.at = l.Addr().String()
	if s.greeting == "" {
		s.greeting = "+OK ready <1.2@test>"
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

func (s *server) commands() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.said, "|")
}

// gone are the numbers of messages that were removed.
func (s *server) gone() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint(s.removed)
}

func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "%s\r\n", s.greeting)
	in := bufio.NewReader(conn)
	var marked []int
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		s.mu.Lock()
		s.said = append(s.said, line)
		s.mu.Unlock()
		raw := ""
		for prefix, a := range s.answer {
			if strings.HasPrefix(line, prefix) {
				raw = a
			}
		}
		if raw == "" {
			raw = s.due(line, &marked)
		}
		if _, err := io.WriteString(conn, raw); err != nil || strings.HasPrefix(line, "QUIT") || raw == "CLOSE" {
			return
		}
	}
}

func dotted(text string) string {
	text = strings.ReplaceAll(strings.ReplaceAll("\n"+text, "\n.", "\n.."), "\n", "\r\n")[2:]
	return text + ".\r\n"
}

func (s *server) due(line string, marked *[]int) string {
	words := strings.Fields(line)
	n := 0
	if len(words) > 1 {
		_, _ = fmt.Sscan(words[1], &n)
	}
	var b strings.Builder
	switch strings.ToUpper(words[0]) {
	case "CAPA":
		if s.capas == nil {
			return "-ERR what?\r\n"
		}
		return "+OK\r\n" + strings.Join(s.capas, "\r\n") + "\r\n.\r\n"
	case "USER", "PASS":
		return "+OK\r\n"
	case "LIST":
		for i, m := range s.mail {
			fmt.Fprintf(&b, "%d %d\r\n", i+1, len(strings.ReplaceAll(m, "\n", "\r\n")))
		}
		return "+OK\r\n" + b.String() + ".\r\n"
	case "UIDL":
		if s.noUIDL {
			return "-ERR no\r\n"
		}
		for i := range s.mail {
			if s.sameUIDL {
				i = 0
			}
			fmt.Fprintf(&b, "%d u%[1]d\r\n", i+1)
		}
		return "+OK\r\n" + b.String() + ".\r\n"
	case "TOP":
		head, _, _ := strings.Cut(s.mail[n-1], "\n\n")
		return "+OK\r\n" + dotted(head+"\n\n")
	case "RETR":
		return "+OK\r\n" + dotted(s.mail[n-1])
	case "DELE":
		*marked = append(*marked, n)
		return "+OK\r\n"
	case "QUIT":
		s.mu.Lock()
		s.removed = append(s.removed, *marked...)
		s.mu.Unlock()
		return "+OK\r\n"
	}
	return "-ERR unknown\r\n"
}

func (s *server) source(change func(*Options)) *Source {
	host, port, _ := net.SplitHostPort(s.at)
	var p uint16
	_, _ = fmt.Sscan(port, &p)
	opt := Options{
		Host: host, Port: p, Security: OfferedTLS, Dial: (&net.Dialer{}).DialContext, Now: time.Now, Random: rand.Reader, Timeout: 5 * time.Second,
		User: "carol", Credentials: func(context.Context) (Credentials, error) { return Credentials{Password: "secret"}, nil },
	}
	if change != nil {
		change(&opt)
	}
	return New(opt)
}

var some = []string{"Subject: a\n\n.a\n..b\nc\n", "Subject: b\n\n", "Subject: c\n\n" + strings.Repeat("x", 200_000) + "\n.\n"}

func readAll(t *testing.T, s *Source, how move.Reading) (*rfc822test.Visitor, error) {
	t.Helper()
	defer s.Close()
	_, got, err := rfc822test.ReadAll(t.Context(), s, rfc822test.Reading{Reading: how})
	return got["INBOX"], err
}

func check(t *testing.T, what string, v *rfc822test.Visitor, err error) {
	t.Helper()
	if err != nil || v == nil || len(v.Got) != len(some) {
		t.Errorf("%s: %v %+v", what, err, v)
		return
	}
	for i, m := range v.Got {
		if m.Text != strings.ReplaceAll(some[i], "\n", "\r\n") {
			t.Errorf("%s: message %d is %.80q", what, i, m.Text)
		}
	}
}

func TestReading(t *testing.T) {
	for name, srv := range map[string]*server{
		"pipelined":  {capas: []string{"TOP", "UIDL", "USER", "PIPELINING"}, mail: some},
		"one by one": {capas: []string{"TOP", "UIDL", "USER"}, mail: some},
		"old":        {mail: some},
		"no UIDL":    {mail: some, noUIDL: true},
		"no TOP":     {capas: []string{"USER"}, mail: some},
		"same UIDL":  {capas: []string{"TOP", "UIDL", "USER"}, mail: some, sameUIDL: true},
	} {
		srv.start(t)
		v, err := readAll(t, srv.source(nil), move.Reading{})
		if name == "same UIDL" { // only the first has it: the others are named by their headers
			check(t, name, v, err)
			continue
		}
		check(t, name, v, err)
		again, err := readAll(t, srv.source(nil), move.Reading{})
		check(t, name, again, err)
		for i := range v.Got {
			if v.Got[i].Key != again.Got[i].Key {
				t.Errorf("%s: the key is %s, then %s", name, v.Got[i].Key, again.Got[i].Key)
			}
		}
		if strings.Contains(srv.commands(), "DELE") || srv.gone() != "[]" {
			t.Errorf("%s: something was removed", name)
		}
		plan, err := readAll(t, srv.source(nil), move.Reading{Plan: true})
		if err != nil || len(plan.Told) != len(some) || len(plan.Got) != 0 {
			t.Errorf("%s: plan: %v %+v", name, err, plan)
		}
	}
}

func TestRemoving(t *testing.T) {
	l := func() *ledger {
		l := &ledger{ties: map[string]*move.Looked{}}
		for i, text := range some {
			l.tie(fmt.Sprintf("u%d", i+1), text)
		}
		return l
	}
	remove := func(srv *server, keys ...string) error {
		_, err := srv.source(func(o *Options) { o.Ties = l() }).Remove(t.Context(), "INBOX", keys)
		return err
	}
	srv := (&server{capas: []string{"UIDL", "USER"}, mail: some}).start(t)
	if err := remove(srv, "u1", "u3", "u99"); err != nil {
		t.Fatal(err)
	}
	if srv.gone() != "[1 3]" {
		t.Error(srv.gone())
	}
	// One that cannot be removed keeps no other.
	srv = (&server{capas: []string{"UIDL", "USER"}, mail: some, answer: map[string]string{"DELE 3": "-ERR no\r\n"}}).start(t)
	if err := remove(srv, "u3", "u2", "u1"); err != nil || srv.gone() != "[1 2]" {
		t.Error(err, srv.gone())
	}
	srv = (&server{capas: []string{"UIDL", "USER"}, mail: some, answer: map[string]string{"QUIT": "CLOSE"}}).start(t)
	if err := remove(srv, "u1"); err == nil {
		t.Error("it is not known whether it was removed, and that is not said")
	}
}

func TestRefusals(t *testing.T) {
	for answer, want := range map[string]fault.Kind{
		"-ERR [IN-USE] locked":         fault.Busy,
		"-ERR [LOGIN-DELAY] later":     fault.Limited,
		"-ERR [SYS/TEMP] later":        fault.Unavailable,
		"-ERR [SYS/PERM] never":        fault.Denied,
		"-ERR [AUTH] wrong":            fault.Unauthenticated,
		"-ERR wrong \x1b[31m password": fault.Unauthenticated,
		"hello":                        fault.Invalid,
	} {
		srv := (&server{capas: []string{"UIDL", "USER"}, answer: map[string]string{"PASS": answer + "\r\n"}}).start(t)
		_, err := srv.source(nil).Mailboxes(t.Context())
		if !fault.Is(err, want) && !(want == fault.Denied && fault.Is(err, fault.Unauthenticated)) || strings.Contains(fault.Say(err), "\x1b") {
			t.Errorf("%q: %v", answer, err)
		}
	}
}

func TestSigningIn(t *testing.T) {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	apop := fmt.Sprintf("APOP carol %x", md5.Sum([]byte("<1.2@test>secret")))
	for _, c := range []struct {
		capas  []string
		cred   Credentials
		answer map[string]string
		want   string // a command that is to be sent
		not    string
		fails  fault.Kind
	}{
		{[]string{"USER", "SASL PLAIN"}, Credentials{Password: "secret"}, map[string]string{"AUTH": "+OK\r\n"}, "AUTH PLAIN " + b64("\x00carol\x00secret"), "PASS", 0},
		{[]string{"USER"}, Credentials{Password: "se cret"}, nil, "PASS se cret", "AUTH", 0},
		{[]string{"SASL XOAUTH2"}, Credentials{Token: "tok"}, map[string]string{"AUTH": "+OK\r\n"}, "AUTH XOAUTH2 " + b64("user=carol\x01auth=Bearer tok\x01\x01"), "PASS", 0},
		{[]string{"SASL OAUTHBEARER XOAUTH2"}, Credentials{Token: "tok"}, map[string]string{"AUTH": "+ " + b64("{}") + "\r\n", "AQ==": "-ERR [AUTH] bad token\r\n"}, "AQ==", "XOAUTH2", fault.Unauthenticated},
		{[]string{"USER"}, Credentials{Password: "secret", Mechanism: "APOP"}, map[string]string{"APOP": "+OK\r\n"}, apop, "PASS", 0},
		{[]string{"USER"}, Credentials{Token: "tok"}, nil, "", "PASS", fault.Unauthenticated},
		{[]string{"USER"}, Credentials{Password: "a\r\nDELE 1"}, nil, "", "DELE", fault.Invalid},
	} {
		srv := (&server{capas: append(c.capas, "UIDL"), answer: c.answer}).start(t)
		s := srv.source(func(o *Options) { o.Credentials = func(context.Context) (Credentials, error) { return c.cred, nil } })
		_, err := s.Mailboxes(t.Context())
		_ = s.Close()
		if c.fails == 0 && err != nil || c.fails != 0 && !fault.Is(err, c.fails) {
			t.Errorf("%v: %v", c.capas, err)
		}
		if said := srv.commands(); !strings.Contains(said, c.want) || strings.Contains(said, c.not) {
			t.Errorf("%v: said %q", c.capas, said)
		}
	}
}

// Whoever stands between, with a certificate of his own that --insecure lets pass, does not get
// the password by refusing the proof.
func TestAttackRefusedProofIsNotFollowedByThePassword(t *testing.T) {
	for _, insecure := range []bool{true, false} {
		srv := (&server{capas: []string{"SASL SCRAM-SHA-256 PLAIN", "USER", "UIDL"}, answer: map[string]string{"AUTH SCRAM": "-ERR [AUTH] no\r\n", "AUTH PLAIN": "+OK\r\n"}}).start(t)
		s := srv.source(nil)
		c, err := dial(t.Context(), s.opt)
		if err != nil {
			t.Fatal(err)
		}
		c.secure, c.opt.Insecure = true, insecure // TLS, with a certificate that was checked or was not
		err = c.login(t.Context(), s.opt)
		_ = c.conn.Close()
		if said := srv.commands(); (err != nil) != insecure || strings.Contains(said, "AUTH PLAIN") == insecure || strings.Contains(said, "PASS") {
			t.Errorf("insecure %v: %v, said %q", insecure, err, said)
		}
	}
}

// far is a line that does not end on this machine, as far as can be seen.
type far struct{ net.Conn }

func (far) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 110} }

func TestPasswordStaysOffTheLine(t *testing.T) {
	dial := func(ctx context.Context, network, at string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, at)
		return far{c}, err
	}
	for _, sec := range []Security{OfferedTLS, StartTLS} {
		srv := (&server{greeting: "+OK", capas: []string{"USER", "UIDL", "SASL PLAIN"}}).start(t)
		_, err := srv.source(func(o *Options) { o.Dial, o.Security = dial, sec }).Mailboxes(t.Context())
		if said := srv.commands(); !fault.Is(err, fault.Denied) || strings.Contains(said, "USER") || strings.Contains(said, "AUTH") {
			t.Errorf("%v, said %q", err, said)
		}
	}
	// Control: on this machine, or if it was asked for.
	srv := (&server{capas: []string{"USER", "UIDL"}}).start(t)
	if _, err := srv.source(func(o *Options) { o.Dial, o.Insecure = dial, true }).Mailboxes(t.Context()); err != nil {
		t.Error(err)
	}
}

// Attack 11: what follows the answer to STLS in the clear is not taken for what TLS protects.
func TestAttack11WordsBehindSTLS(t *testing.T) {
	srv := (&server{capas: []string{"STLS", "USER"}, answer: map[string]string{"STLS": "+OK\r\n+OK injected\r\n"}}).start(t)
	_, err := srv.source(func(o *Options) { o.Security = StartTLS }).Mailboxes(t.Context())
	if !fault.Is(err, fault.Denied) || strings.Contains(srv.commands(), "PASS") {
		t.Errorf("%v, said %q", err, srv.commands())
	}
}

// Attack 53, from the other side: a server that floods, lies and never ends is left.
func TestAttack53HostileServer(t *testing.T) {
	long := strings.Repeat("x", 100_000) + "\r\n"
	for name, answer := range map[string]map[string]string{
		"capabilities":    {"CAPA": "+OK\r\n" + strings.Repeat("A\r\n", 10) + numbered("X%d\r\n", 1000) + ".\r\n"},
		"a line":          {"LIST": "+OK " + long},
		"numbers go down": {"LIST": "+OK\r\n2 1\r\n1 1\r\n.\r\n"},
		"no numbers":      {"LIST": "+OK\r\nx y\r\n.\r\n"},
		"negative":        {"LIST": "+OK\r\n1 -5\r\n.\r\n"},
		"huge":            {"LIST": "+OK\r\n1 99999999999999999999\r\n.\r\n"},
		"long names":      {"UIDL": "+OK\r\n1 " + strings.Repeat("u", 5000) + "\r\n.\r\n"},
		"silence":         {"LIST": "CLOSE"},
		"not POP3":        {"LIST": "* OK IMAP4rev1\r\n"},
		"endless AUTH":    {"PASS": "+ x\r\n"},
	} {
		srv := (&server{capas: []string{"UIDL", "USER", "TOP"}, mail: some, answer: answer}).start(t)
		_, err := srv.source(nil).Mailboxes(t.Context())
		if k := fault.Of(err); err == nil || k == fault.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A message that goes on far beyond its size is passed over, and those behind it are read.
	srv := (&server{capas: []string{"UIDL", "USER", "PIPELINING"}, mail: some, answer: map[string]string{"RETR 2": "+OK\r\n" + strings.Repeat("no end\r\n", 1<<18)}}).start(t)
	v, err := readAll(t, srv.source(nil), move.Reading{})
	if err != nil || len(v.Got) != 2 || v.Got[1].Text != strings.ReplaceAll(some[2], "\n", "\r\n") || v.Skipped["u2"] == nil {
		t.Errorf("%v %+v", err, v)
	}
	// One message that cannot be had does not keep the others.
	srv = (&server{capas: []string{"UIDL", "USER", "PIPELINING"}, mail: some, answer: map[string]string{"RETR 2": "-ERR damaged\r\n"}}).start(t)
	if v, err := readAll(t, srv.source(nil), move.Reading{}); err != nil || len(v.Got) != 2 || v.Skipped["u2"] == nil {
		t.Errorf("%v %+v", err, v)
	}
}

// A list of names is bounded as a whole, and no name is kept that is longer than its key.
func TestNamesAreBounded(t *testing.T) {
	const n = maxUIDLs/maxUIDL + 1
	long := strings.Repeat("u", maxUIDL-8)
	for _, c := range []struct {
		n    int
		fits bool
	}{{n + n/50, false}, {1000, true}} {
		var list, names strings.Builder
		for i := 1; i <= c.n; i++ {
			fmt.Fprintf(&list, "%d 1\r\n", i)
			fmt.Fprintf(&names, "%d %s%08d\r\n", i, long, i)
		}
		srv := (&server{capas: []string{"UIDL", "USER"}, answer: map[string]string{"LIST": "+OK\r\n" + list.String() + ".\r\n", "UIDL": "+OK\r\n" + names.String() + ".\r\n"}}).start(t)
		s := srv.source(nil)
		_, err := s.Mailboxes(t.Context())
		if c.fits != (err == nil) || err != nil && !fault.Is(err, fault.TooLarge) {
			t.Errorf("%d: %v", c.n, err)
		}
		for _, e := range s.list {
			if e.uidl != "" || len(e.key) > 64 {
				t.Fatalf("%q is kept of %q", e.uidl, e.key)
			}
		}
		_ = s.Close()
	}
}

// Who stops waiting is let go, though the server says nothing.
func TestStopped(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it never greets
	srv := &server{at: l.Addr().String()}
	ctx, cancel := context.WithCancel(t.Context())
	s := srv.source(func(o *Options) { o.Timeout = time.Hour })
	done := make(chan error)
	go func() {
		_, err := s.Mailboxes(ctx)
		done <- err
	}()
	if c, err := l.Accept(); err == nil {
		defer c.Close()
	}
	cancel()
	if err := <-done; !fault.Is(err, fault.Closed) {
		t.Error(err)
	}
	// And one that has fallen silent is left.
	s = srv.source(func(o *Options) { o.Timeout = 10 * time.Millisecond })
	if _, err := s.Mailboxes(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
}

func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// FuzzText: what a server dots is read as it was, whatever the pieces; lines end in CRLF.
func FuzzText(f *testing.F) {
	for _, s := range []string{"a\r\n", ".\r\n", "..\r\n.x\r\n", "x\n.\ny\n", "\r\n\r\n", strings.Repeat("y", 70_000) + "\r\n", "a\rb\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 0 && b[len(b)-1] != '\n' {
			b = append(b, '\n')
		}
		var wire bytes.Buffer
		for line := range bytes.Lines(b) {
			if line[0] == '.' {
				wire.WriteByte('.')
			}
			wire.Write(line)
		}
		wire.WriteString(".\r\n+OK next\r\n")
		c := &client{in: bufio.NewReaderSize(&wire, 64)}
		r := &text{c: c, left: 1 << 30}
		got, err := io.ReadAll(r)
		want := bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%v\n%q\n%q", err, got, want)
		}
		if line, err := c.in.ReadString('\n'); err != nil || line != "+OK next\r\n" {
			t.Fatalf("%v %q: the next answer is not where it is", err, line)
		}
	})
}

// FuzzServer: whatever a server says, messages or a reason, within bounds.
func FuzzServer(f *testing.F) {
	f.Add([]byte("+OK <a@b>\r\n+OK\r\nUIDL\r\nTOP\r\nUSER\r\n.\r\n+OK\r\n+OK\r\n+OK\r\n.\r\n+OK\r\n1 5\r\n.\r\n+OK\r\n1 a\r\n.\r\n+OK\r\nA: 1\r\n\r\n.\r\n"))
	f.Add([]byte("-ERR [SYS/TEMP] no\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		said := &scripted{r: bytes.NewReader(b)}
		s := New(Options{
			Host: "h", Port: 110, Security: OfferedTLS, Insecure: true, User: "u", Now: time.Now, Random: rand.Reader,
			Dial:        func(context.Context, string, string) (net.Conn, error) { return said, nil },
			Credentials: func(context.Context) (Credentials, error) { return Credentials{Password: "p"}, nil },
		})
		list, err := s.Mailboxes(context.Background())
		if err == nil {
			v := &rfc822test.Visitor{Rough: true}
			err = s.Read(context.Background(), list[0], move.Reading{}, v)
			if len(v.Faults) > 0 {
				t.Fatal(v.Faults)
			}
		}
		var fe *fault.Error
		if err != nil && (!errors.As(err, &fe) || fe.Kind == fault.Internal || strings.ContainsAny(fe.Say, "\r\n\x00\x1b")) {
			t.Fatalf("%v", err)
		}
	})
}

// scripted is a connection that says the same whatever it is told.
type scripted struct {
	net.Conn
	r *bytes.Reader
}

func (s *scripted) Read(p []byte) (int, error)       { return s.r.Read(p) }
func (s *scripted) Write(p []byte) (int, error)      { return len(p), nil }
func (s *scripted) Close() error                     { return nil }
func (s *scripted) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (s *scripted) SetReadDeadline(time.Time) error  { return nil }
func (s *scripted) SetWriteDeadline(time.Time) error { return nil }
