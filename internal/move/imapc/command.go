package imapc

import (
	"context"
	"strconv"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
)

// status is OK, NO, BAD, BYE or PREAUTH with what follows.
type status struct {
	word string
	code string // in upper case
	args string // of the code, as sent
	text string
}

// Pending is a command that was sent and is not answered yet.
type Pending struct {
	tag   string
	name  string
	done  bool
	err   error
	st    status
	login bool // what is sent is not to be seen

	fetch    func(*Message) error // of FETCH responses
	query    Query                // that fetch is about
	untagged func(word string) bool
	more     func() error // the server says it waits for more
}

// start writes a command without sending it yet; more of it may be written until end.
func (c *Client) start(name string, line ...string) *Pending {
	c.tag++
	p := &Pending{tag: "m" + strconv.Itoa(c.tag), name: name}
	c.outMu.Lock()
	c.w.WriteString(p.tag)
	c.w.WriteByte(' ')
	for _, l := range line {
		c.w.WriteString(l)
	}
	c.outMu.Unlock()
	c.unsent = true
	c.trace(true, p.tag+" "+strings.Join(line, ""))
	c.queue = append(c.queue, p)
	return p
}

func (c *Client) trace(sent bool, line string) {
	if c.opt.Trace != nil {
		c.opt.Trace(sent, line)
	}
}

// end ends the line of the last command.
func (c *Client) end() { c.w.WriteString("\r\n") }

// command is start and end.
func (c *Client) command(name string, line ...string) *Pending {
	p := c.start(name, line...)
	c.end()
	return p
}

// flush sends what was written.
func (c *Client) flush() error {
	if !c.unsent {
		return nil
	}
	c.outMu.Lock()
	defer c.outMu.Unlock()
	c.unsent = false
	err := c.w.Flush()
	if err == nil && c.deflate != nil {
		err = c.deflate.Flush()
	}
	if err != nil {
		// What the server said before it closed tells more than that it has.
		return c.lose(c.lastWords(err))
	}
	return nil
}

// lastWords looks for a BYE behind a failed write.
func (c *Client) lastWords(err error) error {
	for range 20 {
		if c.wire.stopped.Load() || c.s.err != nil || c.bye.word != "" {
			break
		}
		c.response()
	}
	return c.lostError(err)
}

// wait sends what was written and reads until p is answered. Commands before it are
// answered on the way. The error is that of p.
func (c *Client) wait(ctx context.Context, p *Pending) error {
	if p.done {
		return p.err
	}
	if c.dead != nil {
		return c.dead
	}
	if err := ctx.Err(); err != nil {
		return c.lose(problem(Lost, "stopped", err))
	}
	defer c.watch(ctx)()
	if err := c.flush(); err != nil {
		return err
	}
	for !p.done {
		if err := c.response(); err != nil {
			return err
		}
	}
	return p.err
}

// simple sends a command and waits for its answer.
func (c *Client) simple(ctx context.Context, name string, line ...string) error {
	if c.dead != nil {
		return c.dead
	}
	return c.wait(ctx, c.command(name, line...))
}

// maxNoise is how many responses a server may send while it owes an answer. The most there
// are in truth is one for each message of a mailbox.
const maxNoise = 10_000_000

// response reads one response and acts on it. An error is the end of the connection.
func (c *Client) response() error {
	if c.dead != nil {
		return c.dead
	}
	s := &c.s
	s.begin()
	switch s.peek() {
	case '*':
		s.next()
		s.space()
		c.data()
		if c.noise++; c.noise > maxNoise {
			s.fail("it never comes to an answer")
		}
	case '+':
		s.next()
		c.goOn()
	default:
		c.tagged()
		c.noise = 0
	}
	if s.err != nil {
		return c.broken()
	}
	return nil
}

// tagged reads the answer to a command.
func (c *Client) tagged() {
	s := &c.s
	tag := s.atom()
	s.space()
	word := strings.ToUpper(s.atom())
	if s.err != nil {
		return
	}
	i := 0
	for i < len(c.queue) && c.queue[i].tag != tag {
		i++
	}
	if i == len(c.queue) {
		s.fail("an answer with the tag %q, which was not used", clip(tag))
		return
	}
	p := c.queue[i]
	st := c.readStatus(word)
	if s.err != nil {
		return
	}
	p.done, p.st = true, st
	c.queue = append(c.queue[:i], c.queue[i+1:]...)
	switch word {
	case "OK":
	case "NO", "BAD":
		if p.err == nil {
			p.err = c.refusal(p.name, st, p.login)
		}
	default:
		s.fail("%q where OK, NO or BAD should be", clip(word))
	}
}

// goOn is told that the server waits for more of the command before.
func (c *Client) goOn() {
	for _, p := range c.queue {
		if p.more != nil {
			if err := p.more(); err != nil {
				c.s.lost(err)
			}
			return
		}
	}
	c.s.text() // nobody waits for it: some servers say so of {n+} all the same
}

// readStatus reads what follows OK, NO, BAD, BYE or PREAUTH to the end of the line.
func (c *Client) readStatus(word string) status {
	s := &c.s
	st := status{word: word}
	s.spaces()
	if s.take('[') {
		st.code = strings.ToUpper(string(s.word(&codeBytes)))
		if s.take(' ') {
			if st.code == "CAPABILITY" {
				c.readCapabilities(&codeBytes)
			} else {
				st.args = c.codeArgs()
			}
		}
		s.expect(']')
		s.spaces()
	}
	st.text = s.text()
	c.trace(false, word+" ["+st.code+" "+clip(st.args)+"] "+st.text)
	if st.code == "ALERT" && s.err == nil {
		c.alert = st.text
	}
	return st
}

// codeArgs reads the arguments of a response code, strings with ']' in them too.
func (c *Client) codeArgs() string {
	s := &c.s
	var b strings.Builder
	for s.err == nil && s.peek() != ']' && !s.atLineEnd() {
		if s.peek() == '"' {
			b.WriteString(strconv.Quote(s.quoted()))
		} else {
			b.WriteByte(s.next())
		}
		if b.Len() > maxResponse {
			s.fail("a response code is too long")
		}
	}
	return b.String()
}

func (c *Client) readCapabilities(set *[256]bool) {
	s := &c.s
	c.caps, c.fresh = map[string]bool{}, true
	for s.err == nil && !s.atLineEnd() && s.peek() != ']' {
		if s.take(' ') {
			continue
		}
		c.caps[strings.ToUpper(string(s.word(set)))] = true
		if len(c.caps) > 1000 {
			s.fail("too many capabilities")
		}
	}
}

// state is the fault for a command that makes no sense now.
func state(say string) error { return fault.New(fault.Invalid, say) }
