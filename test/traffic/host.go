package traffic

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
)

// Host is another host, which takes mail until the tests end.
type Host struct {
	ln   net.Listener
	ehlo string
	take func(to []string, text []byte)

	mu     sync.Mutex
	refuse string // in answer to each recipient; "" takes all
}

// StartHost starts one that answers EHLO with these lines and gives what comes to take,
// byte for byte, before it answers: then whoever sent it must not send it again.
func StartHost(t testing.TB, take func(to []string, text []byte), ehlo ...string) *Host {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{ln: ln, take: take}
	for _, l := range ehlo {
		h.ehlo += "250-" + l + "\r\n"
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go h.serve(c)
		}
	}()
	return h
}

// HostPort is where it listens.
func (h *Host) HostPort() (host, port string) {
	host, port, _ = net.SplitHostPort(h.ln.Addr().String())
	return host, port
}

// Smarthost is the configuration of a server that sends all its mail here.
func (h *Host) Smarthost() map[string]string {
	host, port := h.HostPort()
	return map[string]string{
		"queue.smarthost.host": fmt.Sprintf("%q", host), "queue.smarthost.port": port, "queue.smarthost.tls": `"none"`,
	}
}

// serve speaks as much SMTP as it takes.
func (h *Host) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 1<<16)
	say := func(reply string) { fmt.Fprintf(c, "%s\r\n", reply) } // the next read finds out
	say("220 host.test")
	var to []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(verb) {
		case "EHLO", "HELO":
			say(h.ehlo + "250 host.test")
		case "RCPT":
			if no := h.refusal(); no != "" {
				say(no)
				continue
			}
			_, rest, _ = strings.Cut(rest, "<")
			address, _, _ := strings.Cut(rest, ">")
			to = append(to, address)
			say("250 ok")
		case "DATA":
			say("354 go on")
			text, err := readData(r)
			if err != nil {
				return
			}
			h.take(to, text)
			to = nil
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		case "MAIL", "RSET":
			to = nil
			say("250 ok")
		default:
			say("502 not here")
		}
	}
}

func (h *Host) refusal() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refuse
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

// Elsewhere is a domain that is not the server's.
const Elsewhere = "elsewhere.example"

// Sink is another host that counts what it takes.
type Sink struct {
	*Host
	seen map[string]int // how often a message came, by token
}

// StartSink starts one.
func StartSink(t testing.TB) *Sink {
	t.Helper()
	s := &Sink{seen: map[string]int{}}
	s.Host = StartHost(t, func(_ []string, text []byte) {
		_, rest, _ := bytes.Cut(text, []byte("\r\n"+TokenField))
		token, _, _ := strings.Cut(string(rest[:min(len(rest), 1000)]), "\r\n")
		s.takes(token, 1)
	})
	return s
}

func (s *Sink) takes(token string, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[token] += times
	if s.seen[token] == 0 {
		delete(s.seen, token)
	}
}

// Begin forgets all that came; from now on mail is refused, or, with "", taken.
func (s *Sink) Begin(refuse string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.seen)
	s.refuse = refuse
}

// Seen is how often each message came.
func (s *Sink) Seen() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.seen)
}
