package cluster

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// sinkDomain is where mail goes that leaves.
const sinkDomain = "elsewhere.example"

// Sink is another mail host, that takes everything and counts it.
type Sink struct {
	*lab.Host
	mu   sync.Mutex
	seen map[string]int // how often each message came, by token
}

func newSink(h *lab.Host) (*Sink, error) {
	s := &Sink{Host: h, seen: map[string]int{}}
	in, err := h.Listen("tcp", h.IPv4.String()+":25")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := in.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s, nil
}

// serve speaks as much SMTP as a sender needs.
func (s *Sink) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	say := func(text string) { fmt.Fprintf(c, "%s\r\n", text) }
	say("220 mx." + sinkDomain)
	for {
		c.SetDeadline(time.Now().Add(time.Minute))
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch verb := strings.ToUpper(line[:min(4, len(line))]); verb {
		case "EHLO", "HELO", "MAIL", "RCPT", "RSET", "NOOP":
			say("250 yes")
		case "DATA":
			say("354 go on")
			token, whole := data(r)
			if !whole {
				return
			}
			s.mu.Lock()
			s.seen[token]++
			s.mu.Unlock()
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("502 no")
		}
	}
}

// data reads a message and returns its token.
func data(r *bufio.Reader) (token string, whole bool) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", false
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "." {
			return token, true
		}
		if t, ok := strings.CutPrefix(line, tokenField); ok {
			token = t
		}
	}
}

// Seen returns how often each message came.
func (s *Sink) Seen() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.seen)
}
