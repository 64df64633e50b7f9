package milter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	protocol "github.com/d--j/go-milter"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// program is a filter that does what a test says and remembers what it was shown.
type program struct {
	protocol.NoOpMilter
	at    string // step at which reply is given
	reply *protocol.Response
	edit  func(m protocol.Modifier) error
	seen  strings.Builder
}

func (p *program) answer(step string) (*protocol.Response, error) {
	if step == p.at {
		return p.reply, nil
	}
	return protocol.RespContinue, nil
}

func (p *program) Connect(host, family string, port uint16, addr string, m protocol.Modifier) (*protocol.Response, error) {
	fmt.Fprintf(&p.seen, "connect %s %s %s\n", host, family, addr)
	return p.answer("connect")
}

func (p *program) Helo(name string, m protocol.Modifier) (*protocol.Response, error) {
	fmt.Fprintf(&p.seen, "helo %s %s\n", name, m.Get(protocol.MacroTlsVersion))
	return p.answer("helo")
}

func (p *program) MailFrom(from, args string, m protocol.Modifier) (*protocol.Response, error) {
	fmt.Fprintf(&p.seen, "mail <%s> by %q\n", from, m.Get(protocol.MacroAuthAuthen))
	return p.answer("mail")
}

func (p *program) RcptTo(to, args string, m protocol.Modifier) (*protocol.Response, error) {
	fmt.Fprintf(&p.seen, "rcpt <%s>\n", to)
	return p.answer("rcpt " + to)
}

func (p *program) Header(name, value string, m protocol.Modifier) (*protocol.Response, error) {
	fmt.Fprintf(&p.seen, "%s=%q\n", name, value)
	return p.answer("header")
}

func (p *program) BodyChunk(chunk []byte, m protocol.Modifier) (*protocol.Response, error) {
	fmt.Fprintf(&p.seen, "body %d\n", len(chunk))
	return p.answer("body")
}

func (p *program) EndOfMessage(m protocol.Modifier) (*protocol.Response, error) {
	fmt.Fprintf(&p.seen, "end %s\n", m.Get(protocol.MacroQueueId))
	if p.edit != nil {
		if err := p.edit(m); err != nil {
			return nil, err
		}
	}
	return p.answer("end")
}

const header = "Subject: one\r\n two\r\nX-Spam: yes\r\nx-spam: no\r\n"

func sample(to ...string) Message {
	m := Message{
		Envelope: mail.Envelope{From: mail.Address{Local: "alice", Domain: "far.test"}, Helo: "mx.far.test", Peer: "192.0.2.7", ID: "c1-1", TLS: "TLS1.3 X"},
		Reverse:  "mx.far.test", Header: []byte(header),
		Body: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(strings.Repeat("text\r\n", 20_000))), nil
		},
	}
	for _, a := range append([]string{"bob@here.test"}, to...) {
		local, domain, _ := strings.Cut(a, "@")
		m.Envelope.To = append(m.Envelope.To, mail.Recipient{Address: mail.Address{Local: local, Domain: domain}})
	}
	return m
}

// run starts a program and returns the filter that asks it.
func run(t *testing.T, p protocol.Milter) *Filter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := protocol.NewServer(protocol.WithMilter(func() protocol.Milter { return p }), protocol.WithActions(protocol.AllClientSupportedActionMasks))
	go server.Serve(ln)
	t.Cleanup(func() { server.Close() })
	return filter("tcp", ln.Addr().String())
}

func filter(network, address string) *Filter {
	return New(Options{Name: "test", Network: network, Address: address, Timeout: 5 * time.Second, Hostname: "mx.here.test", Version: "Martlet", Dial: new(net.Dialer).DialContext})
}

// A program sees what Postfix would show it.
func TestShown(t *testing.T) {
	p := new(program)
	out, err := run(t, p).Ask(t.Context(), sample("carol@here.test"))
	if err != nil || out.Verb != Accept || out.Header != nil || out.Body != nil {
		t.Fatalf("%+v, %v", out, err)
	}
	want := `connect mx.far.test tcp4 192.0.2.7
helo mx.far.test TLS1.3
mail <alice@far.test> by ""
rcpt <bob@here.test>
rcpt <carol@here.test>
Subject="one\n two"
X-Spam="yes"
x-spam="no"
body 65535
body 54465
end c1-1
`
	if got := p.seen.String(); got != want {
		t.Errorf("shown\n%s\nwant\n%s", got, want)
	}
}

func TestAnswers(t *testing.T) {
	words, err := protocol.RejectWithCodeAndReason(554, "5.7.9 no\nthank you")
	if err != nil {
		t.Fatal(err)
	}
	later, err := protocol.RejectWithCodeAndReason(451, "4.7.5 later")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at    string
		reply *protocol.Response
		to    []string
		want  string
	}{
		{"connect", protocol.RespReject, nil, "reject 550 5.7.1 refused by a filter"},
		{"helo", protocol.RespTempFail, nil, "retry 451 4.7.1 a filter asks to try again later"},
		{"mail", protocol.RespAccept, nil, "accept"},
		{"rcpt bob@here.test", protocol.RespReject, nil, "reject 550 5.7.1 refused by a filter"},
		{"rcpt bob@here.test", protocol.RespReject, []string{"carol@here.test"}, "accept"},
		{"header", protocol.RespDiscard, nil, "discard thrown away by a filter"},
		{"body", words, nil, "reject 554 5.7.9 no thank you"},
		{"end", words, nil, "reject 554 5.7.9 no thank you"},
		{"end", later, nil, "retry 451 4.7.5 later"},
		{"end", protocol.RespAccept, nil, "accept"},
		{"end", protocol.RespDiscard, nil, "discard thrown away by a filter"},
	} {
		out, err := run(t, &program{at: c.at, reply: c.reply}).Ask(t.Context(), sample(c.to...))
		if err != nil {
			t.Errorf("at %s: %v", c.at, err)
			continue
		}
		verb := [...]string{"accept", "reject", "retry", "discard", "quarantine"}[out.Verb]
		got := verb
		if out.Code != 0 {
			got += fmt.Sprint(" ", out.Code, " ", out.Enhanced)
		}
		got = strings.TrimSpace(got + " " + out.Text)
		if got != c.want {
			t.Errorf("at %s: %q, want %q", c.at, got, c.want)
		}
	}
}

func TestChanges(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(m protocol.Modifier) error
		want string
	}{
		{"add", func(m protocol.Modifier) error { return m.AddHeader("X-Spam-Score", "5\n of 10") }, header + "X-Spam-Score: 5\r\n of 10\r\n"},
		{"insert", func(m protocol.Modifier) error { return m.InsertHeader(0, "X-First", "1") }, "X-First: 1\r\n" + header},
		{"insert far behind", func(m protocol.Modifier) error { return m.InsertHeader(1000, "X-Last", "1") }, header + "X-Last: 1\r\n"},
		{"change the second", func(m protocol.Modifier) error { return m.ChangeHeader(2, "X-Spam", "maybe") }, "Subject: one\r\n two\r\nX-Spam: yes\r\nX-Spam: maybe\r\n"},
		{"change one that is not there", func(m protocol.Modifier) error { return m.ChangeHeader(3, "X-Spam", "maybe") }, header + "X-Spam: maybe\r\n"},
		{"remove", func(m protocol.Modifier) error { return m.ChangeHeader(1, "SUBJECT", "") }, "X-Spam: yes\r\nx-spam: no\r\n"},
		{"remove one that is not there", func(m protocol.Modifier) error { return m.ChangeHeader(1, "X-Other", "") }, ""},
		{"a value that would begin a field", func(m protocol.Modifier) error { return m.AddHeader("X-A", "b\nBcc: everybody@here.test\n\nbody") }, header + "X-A: b\r\n\tBcc: everybody@here.test\r\n\tbody\r\n"},
	} {
		out, err := run(t, &program{edit: c.edit}).Ask(t.Context(), sample())
		if err != nil || string(out.Header) != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, out.Header, err, c.want)
		}
	}
	all := func(m protocol.Modifier) error {
		return errors.Join(m.ReplaceBody(strings.NewReader("nothing\r\n")), m.Quarantine("looks odd"), m.ChangeFrom("<>", ""), m.AddRecipient("<eve@here.test>", ""), m.DeleteRecipient("<bob@here.test>"))
	}
	out, err := run(t, &program{edit: all}).Ask(t.Context(), sample())
	if err != nil || out.Verb != Quarantine || out.Text != "looks odd" || string(out.Body) != "nothing\r\n" || out.From == nil || !out.From.IsZero() ||
		fmt.Sprint(out.Add, out.Remove) != "[eve@here.test] [bob@here.test]" {
		t.Errorf("%+v, %v", out, err)
	}
}

// A program that is not there, says nothing or nonsense, or goes, is a fault that passes.
func TestAway(t *testing.T) {
	for name, serve := range map[string]func(nc net.Conn){
		"closes at once": func(nc net.Conn) { nc.Close() },
		"says nothing":   func(nc net.Conn) {},
		"says nonsense":  func(nc net.Conn) { io.WriteString(nc, "HTTP/1.1 400 Bad Request\r\n\r\n"); nc.Close() },
		"a huge packet":  func(nc net.Conn) { nc.Write(bytes.Repeat([]byte{0xff}, 100)) },
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				serve(nc)
			}
		}()
		f := filter("tcp", ln.Addr().String())
		f.opt.Timeout = 200 * time.Millisecond
		if _, err := f.Ask(t.Context(), sample()); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: %v", name, err)
		}
		ln.Close()
		if _, err := f.Ask(t.Context(), sample()); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s, gone: %v", name, err)
		}
	}
}

func TestStopped(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		if _, err := ln.Accept(); err == nil {
			stop()
		}
	}()
	if _, err := filter("tcp", ln.Addr().String()).Ask(ctx, sample()); err == nil {
		t.Error("an answer")
	}
}

func FuzzFields(f *testing.F) {
	f.Add([]byte(header), "X-A", "b\n c", 1)
	f.Add([]byte("no colon\r\n"), "X A", "\r\n\r\n", 0)
	f.Add([]byte(" begins with space\r\nA:b\r\n"), "A", "", 1)
	f.Fuzz(func(t *testing.T, text []byte, name, value string, n int) {
		before := fields(text)
		e := &editor{fields: fields(text)}
		e.insert(max(0, min(n, 1000)), name, value)
		e.change(n, name, value)
		after := fields(e.bytes())
		if len(after) > len(before)+2 {
			t.Errorf("%q: %q became %q", value, before, after)
		}
	})
}
