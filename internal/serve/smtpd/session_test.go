package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
	"github.com/xdg-go/scram"

	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// talker is a client in a Go test.
type talker struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
}

func (w *world) talk(kind Kind, mode netsrv.TLSMode) *talker {
	w.t.Helper()
	o := w.options
	o.Kind = kind
	tk := &talker{t: w.t, nc: w.connect(o, mode, "127.0.0.1")}
	if mode == netsrv.ImplicitTLS {
		tk.nc = tls.Client(tk.nc, &tls.Config{InsecureSkipVerify: true})
	}
	tk.r = bufio.NewReader(tk.nc)
	tk.expect("", 220)
	return tk
}

// expect sends text, if it is not empty, and reads a reply with the code.
func (tk *talker) expect(text string, code int) *smtp.Reply {
	tk.t.Helper()
	if text != "" {
		io.WriteString(tk.nc, text+"\r\n")
	}
	r, err := smtp.ReadReply(tk.r)
	if err != nil || r.Code != code {
		tk.t.Fatalf("after %.60q: %v, %v; want %d", text, r, err, code)
	}
	return r
}

// begin brings a client to its message.
func (tk *talker) begin(rcpt string) {
	tk.t.Helper()
	tk.expect("HELO c.test", 250)
	tk.expect("MAIL FROM:<x@far.test>", 250)
	tk.expect("RCPT TO:<"+rcpt+">", 250)
}

func TestLoopIsRefused(t *testing.T) {
	w := newWorld(t)
	tk := w.talk(Relay, netsrv.NoTLS)
	tk.begin("alice@here.test")
	tk.expect("DATA", 354)
	r := tk.expect(strings.Repeat("Received: from a by b; now\r\n", 101)+"\r\n.", 554)
	if r.Enhanced != "5.4.6" || len(w.inbox("alice")) != 0 {
		t.Errorf("got %v", r)
	}
}

// TestConnectionLost ends a connection in the middle of a message, by DATA and by
// BDAT: nobody gets anything, and no goroutine stays behind.
func TestConnectionLost(t *testing.T) {
	w := newWorld(t)
	before := runtime.NumGoroutine()
	for _, text := range []string{"DATA\r\nSubject: half\r\n\r\nbody\r\n.\r", "BDAT 10\r\n0123456789BDAT 5 LAST\r\n0123"} {
		tk := w.talk(Relay, netsrv.NoTLS)
		tk.begin("alice@here.test")
		go io.Copy(io.Discard, tk.r)
		for _, part := range strings.SplitAfterN(text, "\r\n", 2) {
			io.WriteString(tk.nc, part)
		}
		tk.nc.Close()
	}
	w.done.Wait()
	if got := w.inbox("alice"); len(got) != 0 {
		t.Errorf("delivered: %q", got)
	}
	for i := 0; runtime.NumGoroutine() > before+2; i++ {
		if i == 1000 {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestLastWords looks at the reply with which a server ends a session.
func TestLastWords(t *testing.T) {
	short := func(o netsrv.Options) func(w *world) {
		return func(w *world) { w.net = netsrv.New(o) }
	}
	tests := []struct {
		name    string
		prepare func(w *world)
		act     func(w *world, tk *talker)
		want    string
	}{
		{"idle", short(netsrv.Options{Idle: 20 * time.Millisecond}), func(*world, *talker) {}, "421 4.4.2 mx.here.test closes the connection: idle for too long"},
		{"half a command", short(netsrv.Options{Stall: 20 * time.Millisecond}), func(_ *world, tk *talker) {
			io.WriteString(tk.nc, "NOO")
		}, "421 4.4.2 mx.here.test closes the connection: too slow"},
		{"byte by byte", short(netsrv.Options{Stall: 50 * time.Millisecond, MinRate: 1 << 20}), func(_ *world, tk *talker) {
			tk.begin("alice@here.test")
			tk.expect("DATA", 354)
			go func() {
				for {
					if _, err := io.WriteString(tk.nc, "x"); err != nil {
						return
					}
					time.Sleep(time.Millisecond)
				}
			}()
		}, "421 4.4.2 mx.here.test closes the connection: too slow"},
		{"stopping", func(*world) {}, func(w *world, _ *talker) { w.stop() }, "421 4.3.2 mx.here.test is stopping, try again later"},
		{"endless line", func(*world) {}, func(_ *world, tk *talker) {
			go io.Copy(tk.nc, strings.NewReader(strings.Repeat("x", 1<<20)))
		}, "421 4.4.2 mx.here.test closes the connection: line without an end"},
		{"endless message", func(*world) {}, func(_ *world, tk *talker) {
			tk.begin("alice@here.test")
			tk.expect("DATA", 354)
			go func() {
				block := strings.Repeat("x", 64<<10)
				for {
					if _, err := io.WriteString(tk.nc, block); err != nil {
						return
					}
				}
			}()
		}, "421 4.4.2 mx.here.test closes the connection: message does not end"},
		{"endless chunk", func(*world) {}, func(_ *world, tk *talker) {
			tk.begin("alice@here.test")
			go func() {
				block := strings.Repeat("x", 64<<10)
				io.WriteString(tk.nc, "BDAT 9000000000000000000\r\n")
				for {
					if _, err := io.WriteString(tk.nc, block); err != nil {
						return
					}
				}
			}()
		}, "552 5.3.4 a message may have 100000 bytes"},
		{"no-ops", func(*world) {}, func(_ *world, tk *talker) {
			for range maxIdle {
				tk.expect("NOOP", 250)
			}
		}, "421 4.7.0 too many commands without a message"},
		{"empty chunks", func(*world) {}, func(_ *world, tk *talker) {
			tk.begin("alice@here.test")
			for range maxIdle - 1 { // HELO was one
				tk.expect("BDAT 0", 250)
			}
		}, "421 4.7.0 too many commands without a message"},
		{"surplus recipients", func(w *world) { w.options.MaxRecipients = 2 }, func(_ *world, tk *talker) {
			tk.begin("alice@here.test")
			tk.expect("RCPT TO:<bob@here.test>", 250)
			for range 3 {
				tk.expect("RCPT TO:<sales@here.test>", 452)
			}
		}, "421 4.7.0 too many recipients"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.prepare(w)
			tk := w.talk(Relay, netsrv.NoTLS)
			tt.act(w, tk)
			code, _ := strconv.Atoi(tt.want[:3])
			if got := tk.expect("", code).String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if rest, err := io.ReadAll(tk.r); len(rest) > 0 || err != nil {
				t.Errorf("then %q, %v", rest, err)
			}
			if got := w.inbox("alice"); len(got) != 0 {
				t.Errorf("delivered: %q", got)
			}
		})
	}
}

// TestLoginAborted begins logins without end.
func TestLoginAborted(t *testing.T) {
	w := newWorld(t)
	tk := w.talk(Submission, netsrv.NoTLS)
	tk.expect("EHLO c.test", 250)
	for range 10 {
		tk.expect("AUTH PLAIN", 334)
		tk.expect("*", 501)
	}
	tk.expect("", 421)
}

// TestBusyCommandOutlivesStop stops the server while a message is on its way; the
// message is delivered and answered.
func TestBusyCommandOutlivesStop(t *testing.T) {
	w := newWorld(t)
	tk := w.talk(Relay, netsrv.NoTLS)
	tk.begin("alice@here.test")
	tk.expect("DATA", 354)
	io.WriteString(tk.nc, "Subject: last\r\n")
	w.stop()
	tk.expect("\r\nbody\r\n.", 250)
	tk.expect("", 421)
	if got := w.inbox("alice"); len(got) != 1 {
		t.Errorf("%d messages", len(got))
	}
}

// TestTransactionOutlivesStop stops the server between the commands of a message: it is
// taken all the same, and then the session ends.
func TestTransactionOutlivesStop(t *testing.T) {
	w := newWorld(t)
	tk := w.talk(Relay, netsrv.NoTLS)
	tk.begin("alice@here.test")
	w.stop()
	tk.expect("RCPT TO:<alice@here.test>", 250)
	tk.expect("DATA", 354)
	tk.expect("Subject: last\r\n\r\nbody\r\n.", 250)
	tk.expect("", 421)
	if got := w.inbox("alice"); len(got) != 1 {
		t.Errorf("%d messages", len(got))
	}
}

// TestScram logs in with an independent client, without and with channel binding,
// and with the binding of another connection.
func TestScram(t *testing.T) {
	w := newWorld(t)
	for mechanism, hash := range map[string]scram.HashGeneratorFcn{"SCRAM-SHA-1": scram.SHA1, "SCRAM-SHA-256": scram.SHA256} {
		for _, plus := range []bool{false, true} {
			for _, password := range []string{"secret", "wrong"} {
				tk := w.talk(Submission, netsrv.ImplicitTLS)
				tk.expect("EHLO c.test", 250)
				client, err := hash.NewClient("alice@here.test", password, "")
				w.must(err)
				conv, name := client.NewConversation(), mechanism
				if plus {
					st := tk.nc.(*tls.Conn).ConnectionState()
					binding, err := scram.NewTLSExporterBinding(&st)
					w.must(err)
					conv, name = client.NewConversationWithChannelBinding(binding), mechanism+"-PLUS"
				}
				want := 235
				if password == "wrong" {
					want = 535
				}
				if got := tk.exchange(name, conv); got != want {
					t.Errorf("%s, password %s: %d, want %d", name, password, got, want)
				}
				tk.nc.Close()
			}
		}
	}
}

// exchange carries a SCRAM conversation and returns the code of the last reply.
func (tk *talker) exchange(mechanism string, conv *scram.ClientConversation) int {
	tk.t.Helper()
	first, err := conv.Step("")
	if err != nil {
		tk.t.Fatal(err)
	}
	encode := base64.StdEncoding.EncodeToString
	io.WriteString(tk.nc, "AUTH "+mechanism+" "+encode([]byte(first))+"\r\n")
	for {
		r, err := smtp.ReadReply(tk.r)
		if err != nil {
			tk.t.Fatal(err)
		}
		if r.Code != 334 {
			return r.Code
		}
		challenge, err := base64.StdEncoding.DecodeString(r.Text())
		if err != nil {
			tk.t.Fatal(err)
		}
		response, err := conv.Step(string(challenge))
		if err != nil {
			response = ""
		}
		io.WriteString(tk.nc, encode([]byte(response))+"\r\n")
	}
}

// TestGoSMTP is a second opinion: an independent client submits a message with dots,
// long lines and 8-bit bytes, which must arrive byte for byte behind our fields.
func TestGoSMTP(t *testing.T) {
	w := newWorld(t)
	o := w.options
	o.Kind = Submission
	c := gosmtp.NewClient(w.connect(o, netsrv.NoTLS, "127.0.0.1"))
	w.must(c.Hello("laptop.test"))
	w.must(c.Auth(sasl.NewPlainClient("", "alice@here.test", "secret")))
	body := "Date: x\r\nMessage-ID: <1@x>\r\n\r\n.\r\n..\r\n" + strings.Repeat("long ", 4000) + "\r\ngr\xfc\xdfe\r\n"
	w.must(c.SendMail("alice@here.test", []string{"bob@here.test"}, strings.NewReader(body)))
	w.must(c.Quit())
	got := w.inbox("bob")
	if len(got) != 1 || !strings.HasSuffix(got[0], body) {
		t.Errorf("%d messages, %.300q", len(got), got)
	}
}

// TestEverySplit sends a whole session in pieces of every size; the outcome is the
// same. (What must wait for an answer is sent after it.)
func TestEverySplit(t *testing.T) {
	w := newWorld(t)
	text := "Subject: split\r\n\r\n..\r\n.a\r\n.\r\nNOOP\r\n"
	for size := 1; size <= len(text); size++ {
		tk := w.talk(Relay, netsrv.NoTLS)
		tk.begin("bob@here.test")
		tk.expect("DATA", 354)
		go func() {
			for rest := text; rest != ""; {
				n := min(size, len(rest))
				io.WriteString(tk.nc, rest[:n])
				rest = rest[n:]
			}
		}()
		tk.expect("", 250)
		if r := tk.expect("", 250); r.Text() != "still here" {
			t.Fatalf("in pieces of %d: %v", size, r)
		}
		tk.nc.Close()
		got := w.inbox("bob")
		if len(got) != size || !strings.HasSuffix(got[size-1], "\r\n\r\n.\r\na\r\n") {
			t.Fatalf("in pieces of %d: %q", size, got[len(got)-1])
		}
	}
}

// TestCompleter adds what is missing wherever the pieces of a message are cut.
func TestCompleter(t *testing.T) {
	long := "X: " + strings.Repeat("y", maxLookAhead) + "\r\n\r\n"
	tests := []struct{ in, want string }{
		{"Subject: a\r\n\r\nDate: no field\r\n", "+D+M"},
		{"Date: a\r\n\r\n", "+M"},
		{"message-id: a\r\nDATE : b\r\n\r\nbody", ""},
		{"\r\nMessage-ID: no field\r\n", "+D+M"},
		{"", "+D+M"},
		{"Date: a", "+M"},
		{long, ""},
	}
	s := &session{Options: &Options{Hostname: "mx.here.test", Now: func() time.Time { return start }}, conn: testConn(t)}
	for _, tt := range tests {
		for _, size := range []int{1, 2, 3, 1000, 1 << 20} {
			got, err := io.ReadAll(s.completed(&pieces{[]byte(tt.in), size}))
			if err != nil {
				t.Fatal(err)
			}
			added, ok := strings.CutSuffix(string(got), tt.in)
			marks := ""
			if strings.Contains(added, "Date: Wed, 04 Mar 2026 05:06:07 +0000\r\n") {
				marks += "+D"
			}
			if strings.Contains(added, "Message-ID: <") {
				marks += "+M"
			}
			if !ok || marks != tt.want {
				t.Errorf("%.30q in pieces of %d: added %q, want %s", tt.in, size, added, tt.want)
			}
		}
	}
}

// testConn is a connection that nobody speaks over.
func testConn(t *testing.T) *netsrv.Conn {
	t.Helper()
	got := make(chan *netsrv.Conn, 1)
	client, server := net.Pipe()
	client.Close()
	netsrv.New(netsrv.Options{}).ServeConn(context.Background(), server, netsrv.Service{Handle: func(_ context.Context, c *netsrv.Conn) { got <- c }})
	return <-got
}

type pieces struct {
	b []byte
	n int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.b[:min(p.n, len(p.b))])
	p.b = p.b[n:]
	return n, nil
}

// FuzzSession throws bytes at a listener. Whatever they are, replies are well formed,
// and what reached a mailbox was asked for by RCPT and ends as data ends.
func FuzzSession(f *testing.F) {
	f.Add([]byte("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<alice@here.test>\r\nDATA\r\n"), []byte("hi\r\n.\r\nQUIT\r\n"))
	f.Add([]byte("HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<bob@here.test>\r\nBDAT 3 LAST\r\nabcRSET\r\n"), []byte("NOOP\r\n"))
	f.Add([]byte("MAIL\r\n\x00\nBDAT -1\r\n"), []byte("x"))
	w := newWorld(f)
	seen := map[string]int{}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		w.t = t
		nc := w.serve(w.options, netsrv.NoTLS, "192.0.2.1")
		go func() {
			nc.Write(first)
			nc.Write(second)
			io.WriteString(nc, "\r\n.\r\nQUIT\r\n")
			nc.Close()
		}()
		r := bufio.NewReader(nc)
		for {
			reply, err := smtp.ReadReply(r)
			if err != nil {
				if r.Buffered() > 0 {
					t.Fatalf("no reply: %v", err)
				}
				break
			}
			if reply.Code < 200 || reply.Code > 599 {
				t.Fatalf("reply %v", reply)
			}
		}
		w.done.Wait()
		all := bytes.ToLower(append(append([]byte{}, first...), second...))
		for _, name := range []string{"alice", "bob"} {
			n := len(w.inbox(name))
			if n > seen[name] && !bytes.Contains(all, []byte("rcpt")) {
				t.Fatalf("%s has %d messages more that nobody sent", name, n-seen[name])
			}
			seen[name] = n
		}
	})
}
