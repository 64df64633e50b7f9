// Package outbound shows what becomes of mail that was accepted for other hosts: a whole
// server hands it to a peer that keeps to a script, over real sockets and a real DNS server
// of the tests.
package outbound

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/internal/send"
	"github.com/martlet-mail/martlet/test/house"
)

// deed is what the peer does at one attempt to bring it one message.
type deed int

const (
	takes           deed = iota // 250, and the sender hears it
	greylists                   // 450 to the recipient
	cutsInData                  // the connection ends in the middle of the message
	losesReply                  // it has the message, and the connection ends before the reply
	resets                      // the same with a reset
	answersLate                 // it has the message, and the sender does not wait so long
	failsAtEnd                  // 451 to the whole message
	refuses                     // 550 to the recipient, for good
	refusesAtEnd                // 554 to the whole message
	talksNonsense               // an answer that is none
	takesAndLeaves              // 250, and the connection, which waits for more mail, ends without a word
	takesAndTires               // 250, and 421 to the next message over the connection
	takesAndMutters             // 250, and something that nobody asked for
)

// what the peer has of one message.
type receipts struct {
	attempts int
	unheard  int // copies whose reply the sender did not hear
	heard    int // copies whose reply it heard
	after    int // copies that came when it had heard one

	from string // the last one's sender
}

// peer is the one host of all domains of the test.
type peer struct {
	script func(token string, attempt int) deed
	late   time.Duration // how long answersLate waits

	mu  sync.Mutex
	got map[string]*receipts
}

// attempt counts an attempt for a token and returns what is to happen.
func (p *peer) attempt(token, from string) deed {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.of(token)
	r.attempts++
	r.from = from
	return p.script(token, r.attempts)
}

func (p *peer) of(token string) *receipts {
	r := p.got[token]
	if r == nil {
		r = &receipts{}
		p.got[token] = r
	}
	return r
}

// took notes a copy.
func (p *peer) took(token string, heard bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.of(token)
	if r.heard > 0 {
		r.after++
	}
	if heard {
		r.heard++
	} else {
		r.unheard++
	}
}

// copy of what it has.
func (p *peer) all() map[string]receipts {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := map[string]receipts{}
	for token, r := range p.got {
		m[token] = *r
	}
	return m
}

func (p *peer) serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			p.talk(c.(*net.TCPConn))
		}()
	}
}

// talk is one session. Each message has one recipient, whose local part is its token.
func (p *peer) talk(c *net.TCPConn) {
	in := bufio.NewReader(c)
	say := func(s string) { _, _ = io.WriteString(c, s+"\r\n") }
	say("220 peer.test")
	from, token, do, tired := "", "", takes, false
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(verb) {
		case "MAIL":
			if tired {
				say("421 4.4.2 enough for today")
				return
			}
			from, _, _ = strings.Cut(strings.TrimPrefix(arg, "FROM:"), " ")
			say("250 ok")
		case "EHLO", "HELO", "RSET", "NOOP":
			say("250 ok")
		case "RCPT":
			token, _, _ = strings.Cut(strings.TrimPrefix(arg, "TO:<"), "@")
			switch do = p.attempt(token, from); do {
			case greylists:
				say("450 4.7.1 come back later")
			case refuses:
				say("550 5.1.1 nobody of that name")
			case talksNonsense:
				say("what?")
			default:
				say("250 ok")
			}
		case "DATA":
			if do == greylists || do == refuses || do == talksNonsense {
				say("554 no recipient")
				continue
			}
			say("354 go on")
			if !p.message(c, in, token, do, say) {
				return
			}
			tired = do == takesAndTires
		case "QUIT":
			say("221 bye")
			return
		default:
			say("500 what")
		}
	}
}

// message reads one and does what the script says. It returns false if the connection is over.
func (p *peer) message(c *net.TCPConn, in *bufio.Reader, token string, do deed, say func(string)) bool {
	for first := true; ; first = false {
		line, err := in.ReadString('\n')
		if err != nil {
			return false
		}
		if do == cutsInData && first {
			return false
		}
		if line == ".\r\n" {
			break
		}
	}
	switch do {
	case losesReply:
		p.took(token, false)
		return false
	case resets:
		p.took(token, false)
		_ = c.SetLinger(0)
		return false
	case answersLate:
		p.took(token, false)
		time.Sleep(p.late)
		say("250 ok")
		return false
	case failsAtEnd:
		say("451 4.3.0 not now")
	case refusesAtEnd:
		say("554 5.6.0 not this")
	default:
		p.took(token, true)
		say("250 ok")
		if do == takesAndMutters {
			say("421 4.3.2 going down")
		}
	}
	return do != takesAndLeaves && do != takesAndMutters
}

// domains is how many domains the peer serves: d0.test and so on.
const domains = 20

// start starts the peer and a courier that finds it.
func (p *peer) start(t *testing.T, times send.Timeouts) house.Remote {
	t.Helper()
	p.got = map[string]*receipts{}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go p.serve(ln)
	var zone strings.Builder
	for n := range domains {
		fmt.Fprintf(&zone, "d%d.test. IN MX 10 mx.peer.test.\n", n)
	}
	names, err := dnstest.Start(zone.String() + "mx.peer.test. IN A 127.0.0.1\n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { names.Close() })
	resolver, err := dnsx.New(dnsx.Options{Servers: []string{names.Addr()}, Now: time.Now, ID: dns.Id, Dial: new(net.Dialer).DialContext})
	if err != nil {
		t.Fatal(err)
	}
	c, err := send.New(send.Options{
		Hostname: "mx.example.org", Resolver: resolver, Port: uint16(netip.MustParseAddrPort(ln.Addr().String()).Port()),
		AllowPrivate: true, Timeouts: times, Now: time.Now, Random: rand.Reader, Shuffle: func(int, func(i, j int)) {}, Dial: new(net.Dialer).DialContext,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return house.Remote{Courier: c}
}
