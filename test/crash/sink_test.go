package crash

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
)

// elsewhere is a domain that is not this server's.
const elsewhere = "elsewhere.example"

// sink is another host, which takes all mail and lives until the tests end.
type sink struct {
	ln net.Listener

	mu     sync.Mutex
	seen   map[string]int // how often a message was taken, by token
	refuse string         // in answer to each recipient; "" takes all
}

func startSink(t *testing.T) *sink {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{ln: ln, seen: map[string]int{}}
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

// smarthost is the configuration of a server that sends all its mail here.
func (s *sink) smarthost() map[string]string {
	host, port, _ := net.SplitHostPort(s.ln.Addr().String())
	return map[string]string{
		"queue.smarthost.host": fmt.Sprintf("%q", host), "queue.smarthost.port": port, "queue.smarthost.tls": `"none"`,
	}
}

// serve speaks as much SMTP as it takes.
func (s *sink) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	say := func(reply string) { _, _ = fmt.Fprintf(c, "%s\r\n", reply) } // the next read finds out
	say("220 sink")
	data, token := false, ""
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, _, _ := strings.Cut(line, " ")
		switch {
		case data && line == ".":
			data = false
			s.takes(token) // before the answer: then whoever sent it must not send it again
			say("250 taken")
		case data:
			if rest, ok := strings.CutPrefix(line, tokenField); ok {
				token = rest
			}
		case strings.EqualFold(verb, "RCPT") && s.refusal() != "":
			say(s.refusal())
		case strings.EqualFold(verb, "DATA"):
			data, token = true, ""
			say("354 go on")
		case strings.EqualFold(verb, "QUIT"):
			say("221 bye")
			return
		default:
			say("250 sink")
		}
	}
}

func (s *sink) takes(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[token]++
}

// begin forgets all that came; from now on mail is refused, or, with "", taken.
func (s *sink) begin(refuse string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.seen)
	s.refuse = refuse
}

func (s *sink) refusal() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refuse
}

func (s *sink) forget(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, token)
}

func (s *sink) all() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.seen)
}

// counts returns how many messages came, and how many more times.
func (s *sink) counts() (once, again int) {
	for _, n := range s.all() {
		once++
		again += n - 1
	}
	return once, again
}

// compareOut compares what came to the other host with the ledger.
func (k *killer) compareOut() (wrong []string) {
	seen := k.sink.all()
	for d, f := range k.sent {
		if d.account == elsewhere && seen[d.token] < f.least {
			wrong = append(wrong, fmt.Sprintf("%v was not sent on", d))
		}
	}
	for token := range seen {
		if k.sent[delivery{token, elsewhere}] == nil {
			wrong = append(wrong, fmt.Sprintf("%q was sent on, but never sent", token))
		}
	}
	return wrong
}
