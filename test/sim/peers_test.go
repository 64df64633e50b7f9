package sim

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// peers are the mail hosts of the foreign domains.
type peers struct {
	w  *world
	mu sync.Mutex
	at []int // connections so far, by domain
	wg sync.WaitGroup

	doors []*listener
}

func (w *world) openPeers() *peers {
	p := &peers{w: w, at: make([]int, len(w.s.Domains))}
	for i, d := range w.s.Domains {
		for n := range 2 {
			if d.Dead {
				continue
			}
			l := w.net.listen(hostAddr(i, n).String(), false)
			p.doors = append(p.doors, l)
			p.wg.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					p.wg.Go(func() { p.serve(i, c.(*stream)) })
				}
			})
		}
	}
	return p
}

func (p *peers) close() {
	for _, l := range p.doors {
		l.Close()
	}
	p.wg.Wait()
}

// next is what happens to the next connection to a domain.
func (p *peers) next(domain int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	plan := p.w.s.Domains[domain].Plan
	n := p.at[domain]
	p.at[domain]++
	if n < len(plan) && !p.w.calm() {
		return plan[n]
	}
	return "ok"
}

// guest is a connection of our server to a foreign host.
type guest struct {
	w      *world
	domain domainPlan
	how    string
	c      *stream
	r      *bufio.Reader
	from   string
	to     []string
}

func (p *peers) serve(domain int, c *stream) {
	defer c.Close()
	g := &guest{w: p.w, domain: p.w.s.Domains[domain], how: p.next(domain), c: c, r: bufio.NewReaderSize(c, 512)}
	if g.how != "ok" {
		p.w.logf("%s: a connection, and %s", g.domain.Name, g.how)
		p.w.met("bad turns of hosts")
	}
	switch g.how {
	case "refuse":
		c.reset()
		return
	case "greet-4":
		g.say("421 4.3.2 come back later")
		return
	case "greet-5":
		g.say("554 5.3.2 not today")
		return
	case "silent":
		_, _ = io.Copy(io.Discard, g.r)
		return
	}
	g.say("220 mx.%s ESMTP", g.domain.Name)
	for g.command() {
	}
}

func (g *guest) say(format string, args ...any) {
	if g.domain.Slow > 0 {
		time.Sleep(ms(g.domain.Slow))
	}
	_, _ = fmt.Fprintf(g.c, format+"\r\n", args...)
}

func (g *guest) line() (string, bool) {
	s, err := g.r.ReadString('\n')
	return strings.TrimRight(s, "\r\n"), err == nil
}

// command answers one command, and tells whether another may follow.
func (g *guest) command() bool {
	line, ok := g.line()
	if !ok {
		return false
	}
	verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
	switch {
	case verb == "EHLO" && g.how == "reset":
		g.c.reset()
		return false
	case verb == "EHLO":
		ext := "250-mx." + g.domain.Name + "\r\n250-8BITMIME\r\n"
		if g.domain.Name != "c.test" {
			ext += "250-PIPELINING\r\n250-DSN\r\n"
		}
		g.say("%s250 SIZE 1000000", ext)
	case verb == "MAIL" && g.how == "mail-4":
		g.say("451 4.3.0 not now")
	case verb == "MAIL":
		g.from, g.to = between(line), nil
		g.say("250 2.1.0 ok")
	case verb == "RCPT":
		g.recipient(between(line))
	case verb == "DATA" && len(g.to) == 0:
		g.say("503 5.5.1 nobody")
	case verb == "DATA":
		return g.data()
	case verb == "RSET":
		g.to = nil
		g.say("250 2.0.0 ok")
	case verb == "QUIT":
		g.say("221 2.0.0 bye")
		return false
	default:
		g.say("502 5.5.1 what?")
	}
	return true
}

func between(line string) string {
	_, rest, _ := strings.Cut(line, "<")
	addr, _, _ := strings.Cut(rest, ">")
	return addr
}

func (g *guest) recipient(addr string) {
	if addr == "" {
		g.w.wrong("a message was sent to <>")
	}
	switch {
	case g.how == "rcpt-4":
		g.say("450 4.2.1 greylisted")
	case g.how == "rcpt-5" || strings.HasPrefix(addr, "bad@"):
		g.w.ledger.refusedBy(g.from, addr)
		g.say("550 5.1.1 no such user")
	default:
		g.to = append(g.to, addr)
		g.say("250 2.1.5 ok")
	}
}

func (g *guest) data() bool {
	if g.how == "data-4" {
		g.say("451 4.3.0 no room")
		return true
	}
	g.say("354 go on")
	if g.how == "drop-in-data" {
		_, _ = g.r.Peek(40)
		g.c.reset()
		return false
	}
	var text strings.Builder
	for {
		line, ok := g.line()
		if !ok {
			return false
		}
		if line == "." {
			break
		}
		text.WriteString(strings.TrimPrefix(line, ".") + "\r\n")
	}
	m := readLetter(text.String())
	switch g.how {
	case "drop-before":
		g.c.reset()
		return false
	case "final-4":
		g.say("451 4.3.0 not now")
		return true
	case "final-421":
		g.say("421 4.3.0 going down")
		return false
	case "final-5":
		for _, to := range g.to {
			g.w.ledger.refusedBy(g.from, to)
		}
		g.say("554 5.6.0 I do not like it")
		return true
	}
	taken := g.w.ledger.taken(m, g.from, g.to)
	switch g.how {
	case "drop-after":
		g.c.reset()
		return false
	case "mute-after":
		_, _ = io.Copy(io.Discard, g.r)
		return false
	case "late":
		time.Sleep(20 * time.Second)
	case "very-late":
		time.Sleep(11 * time.Minute)
	}
	g.say("250 2.0.0 taken")
	g.c.out.whenTaken(taken.seen)
	g.to = nil
	return true
}
