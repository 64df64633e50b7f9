package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"testing"
)

// These benchmarks say what the client itself costs: the server behind them sends what
// it has ready, and nothing else. It runs in the same process, so that a figure is the
// upper bound of the client's share of a measurement. BenchmarkReading is the client
// without the network.

// canned replies are of the size and form that servers send.
func canned(kind string, n int) []byte {
	var b bytes.Buffer
	l := newLetters("large", Small)
	for i := range n {
		switch kind {
		case "flags":
			fmt.Fprintf(&b, "* %d FETCH (UID %d FLAGS (\\Seen))\r\n", i+1, i+1)
		case "envelope":
			fmt.Fprintf(&b, "* %d FETCH (UID %d FLAGS (\\Seen) ENVELOPE (\"Mon, 01 Jan 2024 08:00:00 +0000\" \"Note %d on harbour invoice\" "+
				"((\"Ada Example\" NIL \"ada\" \"example.org\")) ((\"Ada Example\" NIL \"ada\" \"example.org\")) ((\"Ada Example\" NIL \"ada\" \"example.org\")) "+
				"((\"Reader\" NIL \"reader\" \"example.net\")) NIL NIL NIL \"<large.%d@bench.example>\"))\r\n", i+1, i+1, i, i)
		case "headers":
			head, _, _ := bytes.Cut(l.append(nil, i), []byte("MIME-Version"))
			fmt.Fprintf(&b, "* %d FETCH (BODY[HEADER.FIELDS (FROM TO SUBJECT DATE MESSAGE-ID)] {%d}\r\n%s\r\n)\r\n", i+1, len(head)+2, head)
		case "whole":
			m := l.append(nil, i)
			fmt.Fprintf(&b, "* %d FETCH (BODY[] {%d}\r\n%s)\r\n", i+1, len(m), m)
		}
	}
	return b.Bytes()
}

// echo is a server that answers each line with a reply and OK.
func echo(b *testing.B, reply []byte) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "* OK\r\n")
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			tag, command, _ := bytes.Cut(line, []byte(" "))
			end := fmt.Appendf(nil, "%s OK\r\n", tag)
			if bytes.HasPrefix(command, []byte("FETCH")) {
				c.Write(reply)
			}
			c.Write(end)
		}
	}()
	return ln.Addr().String()
}

var replies = []struct {
	kind string
	n    int
}{{"flags", 100_000}, {"envelope", 100_000}, {"headers", 100_000}, {"whole", 1_000}}

func BenchmarkFetch(b *testing.B) {
	for _, c := range replies {
		b.Run(fmt.Sprint(c.kind, "-", c.n), func(b *testing.B) {
			reply := canned(c.kind, c.n)
			conn, err := dialIMAP(context.Background(), Target{IMAP: echo(b, reply)})
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			r := newRunner(Target{}, Options{}, nil)
			b.SetBytes(int64(len(reply)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.fetch(conn, "FETCH", c.n); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReading(b *testing.B) {
	for _, c := range replies {
		b.Run(fmt.Sprint(c.kind, "-", c.n), func(b *testing.B) {
			reply := canned(c.kind, c.n)
			w := wire{buf: make([]byte, wide)}
			b.SetBytes(int64(len(reply)))
			b.ReportAllocs()
			for b.Loop() {
				w.src = bytes.NewReader(reply)
				t := tally{}
				for t.got < c.n {
					line, err := w.line()
					if err != nil {
						b.Fatal(err)
					}
					t.see(line)
					w.count(&t)
				}
			}
		})
	}
}

// BenchmarkMaking makes messages; this is done before the clock runs.
func BenchmarkMaking(b *testing.B) {
	for _, sizes := range []Sizes{Small, Mixed, Corpus} {
		b.Run(string(sizes), func(b *testing.B) {
			l := newLetters("x", sizes)
			var buf []byte
			n, size := 0, 0
			for b.Loop() {
				buf = l.append(buf[:0], n)
				n++
				size += len(buf)
			}
			b.SetBytes(int64(size / n))
		})
	}
}

// BenchmarkDelivery delivers to a server that throws everything away.
func BenchmarkDelivery(b *testing.B) {
	for _, sizes := range []Sizes{Small, Mixed} {
		b.Run(string(sizes), func(b *testing.B) {
			r := newRunner(Target{LMTP: sink(b)}, Options{}, nil)
			c, err := r.dialMail(context.Background(), lmtp, newLetters("x", sizes), "a@b")
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				c.prepare(n)
				if _, refusal, err := c.deliver(); err != nil || refusal != "" {
					b.Fatal(refusal, err)
				}
				n++
			}
		})
	}
}

// sink is an LMTP server that takes everything and keeps nothing.
func sink(b *testing.B) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "220 sink\r\n")
		buf, hello := make([]byte, 1<<20), []byte("250-sink\r\n250 PIPELINING\r\n")
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			switch {
			case hello != nil:
				c.Write(hello)
				hello = nil
			case bytes.HasSuffix(buf[:n], []byte("DATA\r\n")):
				io.WriteString(c, "250 ok\r\n250 ok\r\n354 go\r\n")
			case bytes.HasSuffix(buf[:n], []byte("\r\n.\r\n")):
				io.WriteString(c, "250 ok\r\n")
			}
		}
	}()
	return ln.Addr().String()
}
