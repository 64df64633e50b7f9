package imapc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/test/memory"
)

// said is a connection to a server that has said everything already.
type said struct {
	io.Reader
	wrote bytes.Buffer
}

func (s *said) Write(p []byte) (int, error)      { return s.wrote.Write(p) }
func (*said) Close() error                       { return nil }
func (*said) LocalAddr() net.Addr                { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (*said) RemoteAddr() net.Addr               { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (*said) SetDeadline(time.Time) error        { return nil }
func (*said) SetReadDeadline(t time.Time) error  { return nil }
func (*said) SetWriteDeadline(t time.Time) error { return nil }

// endless says one thing for ever.
type endless struct {
	what string
	at   int
	sent int64
	most int64
}

func (e *endless) Read(p []byte) (int, error) {
	if e.sent > e.most {
		return 0, errors.New("the client reads on and on")
	}
	for i := range p {
		p[i] = e.what[e.at%len(e.what)]
		e.at++
	}
	e.sent += int64(len(p))
	return len(p), nil
}

const greeting = "* PREAUTH [CAPABILITY IMAP4rev1 ESEARCH QRESYNC LITERAL+ MOVE UIDPLUS] x\r\n"

// everything asks for what there is until the connection is dead, and writes down what came.
func everything(ctx context.Context, r io.Reader) string {
	var out strings.Builder
	c, err := New(ctx, &said{Reader: r}, testOptions())
	if err != nil {
		return outcome(err)
	}
	all := mail.UIDSet{{From: 1, To: 1<<32 - 1}}
	for _, do := range []func() error{
		func() error {
			list, err := c.List(ctx)
			for _, m := range list {
				fmt.Fprintf(&out, "%q %q %v\n", m.Wire, m.Name, m.Role)
			}
			return err
		},
		func() error {
			sel, err := c.Select(ctx, "INBOX", Select{})
			if sel != nil {
				fmt.Fprintf(&out, "%d %d\n", sel.Exists, sel.UIDValidity)
			}
			return err
		},
		func() error {
			return c.Fetch(ctx, Query{UIDs: all, Flags: true, Size: true, MessageID: true, Gmail: true}, func(m *Message) error {
				fmt.Fprintf(&out, "%d %d %v %q %q %q\n", m.Seq, m.UID, m.Flags, m.Keywords, m.MessageID, m.Labels)
				return nil
			})
		},
		func() error {
			return c.Fetch(ctx, Query{UIDs: all, Body: true}, func(m *Message) error {
				n, err := io.Copy(io.Discard, m.Body)
				fmt.Fprintf(&out, "%d: %d of %d\n", m.UID, n, m.BodySize)
				return err
			})
		},
		func() error {
			set, err := c.Search(ctx, "ALL")
			fmt.Fprintf(&out, "%.200v\n", set.String())
			return err
		},
		func() error { _, err := c.Move(ctx, mail.SetOf(1), "x"); return err },
		func() error { _, err := c.Namespaces(ctx); return err },
		func() error { _, err := c.Status(ctx, "a", "b"); return err },
		func() error {
			_, err := c.Append(ctx, "x", []Appending{{Size: 2, Body: strings.NewReader("ab")}})
			return err
		},
	} {
		fmt.Fprintf(&out, "%s\n", outcome(do()))
		if c.Dead() != nil {
			break
		}
	}
	return out.String()
}

// Whatever a server says, it costs bounded memory and ends in an error that tells what is
// wrong.
func TestHostileServers(t *testing.T) {
	deep := strings.Repeat("(", 100_000)
	for name, c := range map[string]struct {
		said string
		then string // for ever
		want string
		most int // bytes of memory
	}{
		"an endless line":            {"* LIST (", "\\A ", "a response is too long", 8 << 20},
		"an endless atom":            {"* LIST (", "A", "a word is too long", 1 << 20},
		"an endless string":          {`* LIST () "/" "`, "A", "a string is too long", 1 << 20},
		"endless text":               {"* OK ", "A", "a response is too long", 1 << 20},
		"an endless code":            {"* OK [X ", "A", "is too long", 8 << 20},
		"an endless tag":             {"", "A", "a word is too long", 1 << 20},
		"nested lists":               {"* 1 FETCH (UID 1 X " + deep, "(", "nested too deeply", 1 << 20},
		"a nested list of LIST":      {"* LIST " + deep, "(", "where a word should be", 1 << 20},
		"a huge literal as a name":   {`* LIST () "/" {99999999999}` + "\r\n", "A", "where a short one should be", 1 << 20},
		"a literal over all numbers": {`* LIST () "/" {99999999999999999999999}` + "\r\n", "A", "a number is too large", 1 << 20},
		"a negative literal":         {`* LIST () "/" {-1}` + "\r\n", "A", "where a number should be", 1 << 20},
		"many short literals":        {"* 1 FETCH (UID 1", " BODY[HEADER.FIELDS (X)] {1000000}\r\n" + strings.Repeat("A", 1_000_000), "where a short one should be", 40 << 20},
		"many mailboxes":             {"", "* LIST () \"/\" \"\"\r\n", "mailboxes", 200 << 20},
		"no number":                  {"* 99999999999999999999 EXISTS\r\n", "A", "a number is too large", 1 << 20},
		"a bare parenthesis":         {"* 1 FETCH (UID 1 X ))\r\n", "A", "too many", 1 << 20},
		"NUL":                        {"", "\x00", "where a word should be", 1 << 20},
		"capabilities":               {"* CAPABILITY", " A1 A2 A3 A4", "is too long", 2 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			r := io.MultiReader(strings.NewReader(greeting+c.said), &endless{what: c.then, most: 1 << 30})
			memory.Once(t, c.most, func() { got = everything(t.Context(), r) })
			if !strings.Contains(got, c.want) || !strings.HasPrefix(got, "protocol error: ") {
				t.Errorf("got %.300s, want %s", got, c.want)
			}
		})
	}
}

// A body may have any size; it is not held.
func TestHugeBodyIsStreamed(t *testing.T) {
	const size = 3 << 30
	n := int64(0)
	c, err := New(t.Context(), &said{Reader: io.MultiReader(strings.NewReader(greeting+"* 1 FETCH (UID 7 BODY[] {"+fmt.Sprint(size)+"}\r\n"),
		io.LimitReader(untouched{}, size), strings.NewReader(")\r\nm1 OK done\r\n"))}, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	memory.Once(t, 1<<20, func() {
		err = c.Fetch(t.Context(), Query{UIDs: mail.SetOf(7), Body: true}, func(m *Message) error {
			n, err = io.Copy(countOnly{}, m.Body)
			return err
		})
	})
	if err != nil || n != size {
		t.Fatalf("%d of %d bytes, %v", n, int64(size), err)
	}
}

// untouched gives whatever is in the buffer.
type untouched struct{}

func (untouched) Read(p []byte) (int, error) { return len(p), nil }

type countOnly struct{}

func (countOnly) Write(p []byte) (int, error) { return len(p), nil }

// A server that is silent is given up after the timeout, and one that ctx gives up at once.
func TestSilence(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	opt := testOptions()
	opt.Timeout = 50 * time.Millisecond
	if _, err := New(t.Context(), near{client}, opt); ProblemOf(err) != Timeout {
		t.Errorf("silent: %v", err)
	}
	client, server = net.Pipe()
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	opt.Timeout = time.Hour
	if _, err := New(ctx, near{client}, opt); ProblemOf(err) != Lost {
		t.Errorf("cancelled: %v", err)
	}
}

// What a program is told of a server's name that does not exist, and so on.
func TestDialErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Problem
	}{
		{&net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}, NoHost},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errRefused)}, Refused},
		{context.DeadlineExceeded, Timeout},
		{context.Canceled, Lost},
		{errors.New("network is unreachable"), Refused},
	} {
		opt := testOptions()
		opt.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, c.err }
		if _, err := Dial(t.Context(), opt); ProblemOf(err) != c.want {
			t.Errorf("%v: %v, want %v", c.err, err, c.want)
		}
	}
}

// FuzzResponses: whatever a server says is read the same in pieces of any size, in bounded
// memory, to an end.
func FuzzResponses(f *testing.F) {
	files, _ := filepath.Glob("testdata/transcripts/*.txt")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var said strings.Builder
		for _, l := range strings.Split(string(text), "\n") {
			if s, ok := strings.CutPrefix(l, "S: "); ok {
				said.WriteString(s + "\r\n")
			}
		}
		f.Add([]byte(said.String()))
	}
	for _, s := range []string{
		"m1 OK\r\n", "* SEARCH 1 2 3\r\nm1 OK x\r\n", "m1 OK x\r\nm2 OK x\r\nm3 OK x\r\nm4 OK x\r\n* ESEARCH (TAG \"m5\") UID ALL 5:1,4294967295\r\nm5 OK x\r\n",
		"* LIST (\\Noselect) NIL {3}\r\nabc\r\nm1 OK x\r\n* 1 EXISTS\r\n* OK [UIDVALIDITY 3] x\r\nm2 OK [READ-ONLY] x\r\n",
		"m1 OK x\r\nm2 OK x\r\nm3 OK x\r\n* 1 FETCH (BODY[] {3}\r\nabc UID 4)\r\nm4 OK x\r\n", "+ go\r\n* BYE [ALERT] x\r\n",
		"* VANISHED (EARLIER) 1:3,5\r\n* OK [COPYUID 1 1:3 4:6] x\r\n* ENABLED X\r\n* 3 EXPUNGE\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		ctx := t.Context()
		stream := func() io.Reader { return io.MultiReader(strings.NewReader(greeting), bytes.NewReader(said)) }
		var whole string
		memory.Bounded(t, 64*len(said)+2<<20, func() { whole = everything(ctx, stream()) })
		if whole == "" {
			t.Fatal("nothing came of it")
		}
		if pieces := everything(ctx, iotest.OneByteReader(stream())); pieces != whole {
			t.Fatalf("byte by byte it is another:\n%s\n%s", whole, pieces)
		}
	})
}
