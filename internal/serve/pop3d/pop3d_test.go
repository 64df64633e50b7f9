package pop3d

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"
	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
)

// Whatever bytes a message has, RETR brings them back.
func TestRetrieveExactly(t *testing.T) {
	messages := []string{
		"", ".", "..", "\r\n", "\r\n.\r\n", ".\r\n.\r\n", "Subject: x\r\n\r\nno end of line", "Subject: x\r\n\r\n.\r\n..\r\n",
		"Subject: x\r\n\r\nends in CR\r", "nul \x00 and \xff\xfe\r\n", "Subject: x\r\n\r\n" + strings.Repeat("y", 100_000) + "\r\n.",
		strings.Repeat(".\r\n", 50_000), strings.Repeat(strings.Repeat("x", 16383)+"\r\n.", 20) + "\r\n",
	}
	w := newWorld(t, netsrv.Options{})
	for _, m := range messages {
		w.deliver([]byte(m))
	}
	c := w.login("A")
	for i, m := range messages {
		if got := c.ask(t, fmt.Sprint("RETR ", i+1)); got != fmt.Sprintf("+OK %d octets", len(m)) {
			t.Errorf("message %d: %s", i+1, got)
		}
		want := m
		if m != "" && !strings.HasSuffix(m, "\r\n") {
			want += "\r\n"
		}
		if got := c.lines(t); got != want {
			t.Errorf("message %d: %d bytes %.60q, want %d %.60q", i+1, len(got), got, len(want), want)
		}
	}
	if got := c.ask(t, "NOOP"); got != "+OK done" {
		t.Error(got)
	}
}

// What doubling dots makes of bare line feeds: nothing, but where a client that takes
// them for line ends would see the end of the answer.
func TestBareLineFeeds(t *testing.T) {
	for message, want := range map[string]string{
		"a\n.\n+OK false\r\n":   "a\n..\n+OK false\r\n.\r\n",
		"a\n.\r\n+OK false\r\n": "a\n..\r\n+OK false\r\n.\r\n",
		"a\n.":                  "a\n..\r\n.\r\n", // the line end that is added would make it one
		"a\n.b\r\n":             "a\n.b\r\n.\r\n",
		"a\n..\r\n":             "a\n..\r\n.\r\n",
		"a\n.\rb\r\n":           "a\n.\rb\r\n.\r\n",
		"a\n.\r":                "a\n.\r\r\n.\r\n",
		"\n\n.\n.\n":            "\n\n..\n..\n\r\n.\r\n",
		"a\r\n.\n.b\r\n..\r\n":  "a\r\n..\n.b\r\n...\r\n.\r\n",
		"a\r.\r\n":              "a\r.\r\n.\r\n",
	} {
		var b bytes.Buffer
		out := bufio.NewWriter(&b)
		d := newDotWriter(out)
		io.WriteString(d, message)
		d.close()
		out.Flush()
		if got := b.String(); got != want {
			t.Errorf("%q came as %q, want %q", message, got, want)
		}
	}
}

// However a message is cut into writes, the answer is the same; it has exactly one end,
// for strict clients and for those that take LF for a line end; and what a strict
// client gets is the message, but for a dot more in a line that is a dot between bare
// line feeds.
func TestDotWriter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.SampledFrom([]string{".", "\r\n", "\r", "\n", "x", "..", "\r\n.\r\n", "\n.\n", "yz"})
		var message strings.Builder
		var b bytes.Buffer
		out := bufio.NewWriter(&b)
		d := newDotWriter(out)
		for range rapid.IntRange(0, 30).Draw(t, "writes") {
			part := strings.Join(rapid.SliceOfN(piece, 0, 3).Draw(t, "part"), "")
			message.WriteString(part)
			if n, err := d.Write([]byte(part)); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
		}
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
		out.Flush()
		text, ok := strings.CutSuffix(b.String(), ".\r\n")
		if !ok || text != "" && !strings.HasSuffix(text, "\r\n") {
			t.Fatalf("%q has no end", b.String())
		}
		for _, line := range strings.Split(text, "\n") {
			if line == "." || line == ".\r" {
				t.Fatalf("%q ends early in %q", message.String(), b.String())
			}
		}
		var got strings.Builder
		for line := range strings.SplitAfterSeq(text, "\r\n") {
			got.WriteString(strings.TrimPrefix(line, "."))
		}
		if want := asSeen(message.String()); got.String() != want {
			t.Fatalf("%q came as %q, want %q", message.String(), got.String(), want)
		}
	})
}

// asSeen is a message as a strict client sees it.
func asSeen(message string) string {
	if message != "" && !strings.HasSuffix(message, "\r\n") {
		message += "\r\n"
	}
	lines := strings.SplitAfter(message, "\n")
	for i, line := range lines {
		if i > 0 && !strings.HasSuffix(lines[i-1], "\r\n") && (line == ".\n" || line == ".\r\n") {
			lines[i] = "." + line
		}
	}
	return strings.Join(lines, "")
}

// The first lines of a message are the same however it is read.
func TestFirstLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		header := rapid.StringMatching(`([a-z]{0,5}\n){0,4}\n`).Draw(t, "header")
		body := rapid.StringMatching(`([a-z]{0,5}\n){0,6}[a-z]{0,3}`).Draw(t, "body")
		n := rapid.IntRange(0, 8).Draw(t, "lines")
		step := rapid.IntRange(1, 9).Draw(t, "step")
		want := header
		for i, line := range strings.SplitAfter(body, "\n") {
			if i < n {
				want += line
			}
		}
		f := &firstLines{r: strings.NewReader(header + body), whole: int64(len(header)), lines: uint64(n)}
		var got bytes.Buffer
		if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{f}, make([]byte, step)); err != nil || got.String() != want {
			t.Fatalf("%q, %v; want %q", got.String(), err, want)
		}
	})
}

// A body that cannot be read to its end is not passed off as whole.
func TestMessageCutShort(t *testing.T) {
	w := newWorld(t, netsrv.Options{})
	ours, theirs := net.Pipe()
	got := make(chan string)
	go func() { all, _ := io.ReadAll(ours); got <- string(all) }()
	w.net.ServeConn(w.ctx, theirs, netsrv.Service{Handle: func(_ context.Context, c *netsrv.Conn) {
		s := &session{srv: w.pop, conn: c}
		s.send(io.MultiReader(strings.NewReader("begun\r\n"), failing{}))
		if !s.over {
			t.Error("the session goes on")
		}
	}})
	if text := <-got; text != "begun\r\n" {
		t.Errorf("%q", text)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("disk failure") }

func TestManyDeletions(t *testing.T) {
	w := newWorld(t, netsrv.Options{})
	const n = 300
	for range n {
		w.deliver([]byte("Subject: x\r\n\r\n"))
	}
	c := w.login("A")
	var commands, want strings.Builder
	var keep mail.UIDSet
	for i := n; i > 0; i-- {
		if i%7 == 0 {
			keep.Add(mail.UID(i))
			continue
		}
		fmt.Fprintf(&commands, "DELE %d\r\n", i)
		fmt.Fprintf(&want, "+OK message %d is marked\r\n", i)
	}
	go io.WriteString(c, commands.String()+"QUIT\r\n")
	want.WriteString("+OK bye\r\n")
	got, err := io.ReadAll(c.r)
	if string(got) != want.String() {
		t.Errorf("%d bytes of answers, want %d; %v", len(got), want.Len(), err)
	}
	if left := w.left(); left != keep.String() {
		t.Errorf("left %s, want %s", left, keep)
	}
}

// QUIT that cannot remove says so and removes nothing.
func TestQuitFails(t *testing.T) {
	w := newWorld(t, netsrv.Options{})
	w.deliver([]byte("Subject: x\r\n\r\n"))
	c := w.login("A")
	c.ask(t, "DELE 1")
	accounts, err := w.st.Accounts(w.ctx)
	if err != nil || len(accounts) != 1 {
		t.Fatal(accounts, err)
	}
	if err := w.st.DeleteAccount(w.ctx, accounts[0]); err != nil {
		t.Fatal(err)
	}
	if got := c.ask(t, "QUIT"); got != "-ERR [SYS/TEMP] some deleted messages were not removed (conn1)" {
		t.Error(got)
	}
	if _, err := c.read(); err == nil {
		t.Error("the connection is still open")
	}
	if !w.pop.lock(accounts[0]) {
		t.Error("the INBOX is still locked")
	}
}

// An account with too many connections, by whatever protocol, is refused for now and
// leaves no lock behind.
func TestConnectionsOfOneAccount(t *testing.T) {
	w := newWorld(t, netsrv.Options{MaxPerAccount: 1})
	ours, theirs := net.Pipe()
	defer ours.Close()
	counted := make(chan error)
	go w.net.ServeConn(w.ctx, theirs, netsrv.Service{Handle: func(_ context.Context, c *netsrv.Conn) {
		counted <- c.SignIn("alice@example.org")
		counted <- nil // until the test lets it go
	}})
	if err := <-counted; err != nil {
		t.Fatal(err)
	}
	c := w.connect("A", false)
	c.read()
	for range 2 {
		c.ask(t, "USER alice@example.org")
		if got := c.ask(t, "PASS "+password); got != "-ERR [SYS/TEMP] too many connections of this account at the same time" {
			t.Error(got)
		}
	}
	<-counted
	io.ReadAll(ours) // the other is gone
	for w.net.Stats().Open > 1 {
		time.Sleep(time.Millisecond)
	}
	c.ask(t, "USER alice@example.org")
	if got := c.ask(t, "PASS "+password); got != "+OK 0 messages (0 octets)" {
		t.Error(got)
	}
}

func selfSigned(t *testing.T) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// STLS brings what plain text did not allow, among it a login bound to the channel.
func TestSTLS(t *testing.T) {
	cert := selfSigned(t)
	w := newWorld(t, netsrv.Options{Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }})
	c := w.connect("A", true)
	c.read()
	c.ask(t, "CAPA")
	if capa := c.lines(t); !strings.Contains(capa, "\r\nSTLS\r\n") || strings.Contains(capa, "SASL") {
		t.Errorf("before TLS: %q", capa)
	}
	if got := c.ask(t, "STLS"); got != "+OK begin TLS" {
		t.Fatal(got)
	}
	secure := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	c = &client{secure, bufio.NewReader(secure)}
	w.clients["A"] = c
	c.ask(t, "CAPA")
	if capa := c.lines(t); strings.Contains(capa, "STLS") || !strings.Contains(capa, "\r\nSASL SCRAM-SHA-256-PLUS ") {
		t.Errorf("under TLS: %q", capa)
	}
	if got := c.ask(t, "STLS"); !strings.HasPrefix(got, "-ERR") {
		t.Error(got)
	}
	st := secure.ConnectionState()
	binding, err := scram.NewTLSExporterBinding(&st)
	if err != nil {
		t.Fatal(err)
	}
	user, err := scram.SHA256.NewClient("alice@example.org", password, "")
	if err != nil {
		t.Fatal(err)
	}
	conv := user.NewConversationWithChannelBinding(binding)
	message, _ := conv.Step("")
	got := c.ask(t, "AUTH SCRAM-SHA-256-PLUS "+sasl.Encode([]byte(message)))
	for strings.HasPrefix(got, "+ ") {
		challenge, err := sasl.Decode([]byte(got[2:]))
		if err != nil {
			t.Fatal(err)
		}
		if message, err = conv.Step(string(challenge)); err != nil {
			t.Fatal(err)
		}
		got = c.ask(t, sasl.Encode([]byte(message)))
	}
	if got != "+OK 0 messages (0 octets)" || !conv.Valid() {
		t.Errorf("%s, the client believes %v", got, conv.Valid())
	}
}

// What comes with STLS was sent in plain text by anybody: it must not be read as if
// it had come under TLS.
func TestNothingIsCarriedAcrossSTLS(t *testing.T) {
	cert := selfSigned(t)
	w := newWorld(t, netsrv.Options{Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }})
	c := w.connect("A", true)
	c.read()
	if got := c.ask(t, "STLS\r\nUSER mallory@example.org"); got != "-ERR nothing may be sent before the answer to STLS" {
		t.Error(got)
	}
	if got, err := c.read(); err == nil {
		t.Errorf("read %q, and the connection should be closed", got)
	}
}

func TestOverlongLines(t *testing.T) {
	w := newWorld(t, netsrv.Options{})
	c := w.connect("A", false)
	c.read()
	for _, line := range []string{"USER " + strings.Repeat("x", 300), strings.Repeat("y", 20_000), "AUTH PLAIN " + strings.Repeat("A", sasl.MaxLine+80)} {
		if got := c.ask(t, line); !strings.HasPrefix(got, "-ERR") {
			t.Errorf("%.20s...: %s", line, got)
		}
	}
	if got := c.ask(t, "USER "+strings.Repeat("x", maxCommand-7)); !strings.HasPrefix(got, "+OK") {
		t.Error("the longest command there may be:", got)
	}
}

// Every kind of fault has its code, and only a failure of ours names the connection.
func TestRefusals(t *testing.T) {
	w := newWorld(t, netsrv.Options{})
	for kind, want := range map[fault.Kind]string{
		fault.Unauthenticated: "-ERR [AUTH] x", fault.Denied: "-ERR [AUTH] x", fault.Busy: "-ERR [IN-USE] x",
		fault.NotFound: "-ERR x", fault.Limited: "-ERR [SYS/TEMP] x", fault.Unavailable: "-ERR [SYS/TEMP] x (c)",
		fault.Corrupt: "-ERR [SYS/PERM] x (c)", fault.Internal: "-ERR [SYS/PERM] internal error, it has been logged (c)",
	} {
		done := make(chan string)
		opt := netsrv.Options{NewID: func() string { return "c" }}
		ours, theirs := net.Pipe()
		go func() { line, _ := bufio.NewReader(ours).ReadString('\n'); done <- line }()
		netsrv.New(opt).ServeConn(w.ctx, theirs, netsrv.Service{Handle: func(_ context.Context, c *netsrv.Conn) {
			(&session{srv: w.pop, conn: c}).refuse(fault.New(kind, "x"))
		}})
		if got := <-done; got != want+"\r\n" {
			t.Errorf("%v: %q, want %q", kind, got, want)
		}
	}
}
