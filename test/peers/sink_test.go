package peers

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// sink is an SMTP server that takes everything and keeps the bytes as they came.
type sink struct {
	ln net.Listener
	mu sync.Mutex
	// got is what came, by recipient; seen is how often.
	got  map[string][]byte
	seen map[string]int
}

func startSink(t *testing.T) *sink {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{ln: ln, got: map[string][]byte{}, seen: map[string]int{}}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s
}

func (s *sink) hostPort() (string, string) {
	host, port, _ := net.SplitHostPort(s.ln.Addr().String())
	return host, port
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func (s *sink) message(to string) ([]byte, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[to], s.seen[to]
}

// serve speaks as much SMTP as a client needs that sends mail.
func (s *sink) serve(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Minute))
	r := bufio.NewReaderSize(c, 1<<16)
	fmt.Fprint(c, "220 sink.test ESMTP\r\n")
	var to []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(verb) {
		case "EHLO", "HELO":
			fmt.Fprint(c, "250-sink.test\r\n250-PIPELINING\r\n250-SIZE 100000000\r\n250-SMTPUTF8\r\n250 8BITMIME\r\n")
		case "RCPT":
			_, rest, _ = strings.Cut(rest, "<")
			addr, _, _ := strings.Cut(rest, ">")
			to = append(to, addr)
			fmt.Fprint(c, "250 ok\r\n")
		case "DATA":
			fmt.Fprint(c, "354 go on\r\n")
			data, err := readData(r)
			if err != nil {
				return
			}
			s.mu.Lock()
			for _, a := range to {
				s.got[a] = data
				s.seen[a]++
			}
			s.mu.Unlock()
			to = nil
			fmt.Fprint(c, "250 kept\r\n")
		case "QUIT":
			fmt.Fprint(c, "221 bye\r\n")
			return
		case "MAIL", "RSET":
			to = nil
			fmt.Fprint(c, "250 ok\r\n")
		default:
			fmt.Fprint(c, "502 not here\r\n")
		}
	}
}

// readData reads up to CRLF.CRLF; only CRLF ends a line.
func readData(r *bufio.Reader) ([]byte, error) {
	var out []byte
	for start := true; ; {
		chunk, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return nil, err
		}
		if start {
			if string(chunk) == ".\r\n" {
				return out, nil
			}
			chunk = bytes.TrimPrefix(chunk, []byte("."))
		}
		out = append(out, chunk...)
		start = bytes.HasSuffix(out, []byte("\r\n"))
	}
}
