package send

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/mail"
)

// BenchmarkSend sends short messages to a host that takes everything, over connections that
// are used again and over new ones.
func BenchmarkSend(b *testing.B) {
	for _, tc := range []struct {
		name string
		idle time.Duration
	}{{"again", time.Second}, {"new", -1}} {
		b.Run(tc.name, func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer ln.Close()
			go func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					go swallow(conn)
				}
			}()
			c, err := New(Options{
				Hostname: "mx.martlet.test", Resolver: nowhere{}, Port: uint16(ln.Addr().(*net.TCPAddr).Port), AllowPrivate: true,
				Shuffle: func(int, func(i, j int)) {}, Now: time.Now, Dial: new(net.Dialer).DialContext, Reuse: Reuse{Idle: tc.idle},
			})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			msg := text(strings.Repeat("Subject: a message\r\n", 70))
			env := envelope("s@martlet.test")
			env.To = []mail.Recipient{{Address: mail.Address{Local: "a", Domain: "[127.0.0.1]"}}}
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if r := c.Send(b.Context(), env, msg, nil)[0]; r.Code != 250 {
						b.Errorf("%+v", r)
					}
				}
			})
		})
	}
}

// nowhere is a resolver that is not asked.
type nowhere struct{ dnsx.Resolver }

// swallow is the least that a mail host can do.
func swallow(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	io.WriteString(conn, "220 x\r\n")
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		answer := "250 x\r\n"
		switch line[0] {
		case 'E':
			answer = "250-x\r\n250 PIPELINING\r\n"
		case 'D':
			answer = "354 x\r\n"
		case 'Q':
			return
		}
		io.WriteString(conn, answer)
		if answer[0] == '3' {
			for string(line) != ".\r\n" {
				if line, err = r.ReadSlice('\n'); err != nil {
					return
				}
			}
			io.WriteString(conn, "250 x\r\n")
		}
	}
}
