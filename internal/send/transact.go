package send

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// attempt tries one target for all open recipients. It tells whether the next
// target should be tried for those that stay open.
func (c *Courier) attempt(ctx context.Context, t target, j *job) (goOn bool) {
	r, err := c.rule(ctx, j, t)
	if err != nil {
		j.hold(resultOf(err))
		return true
	}
	key := c.key(j, t, &r)
	waits := c.reused(ctx, key)
	for todo := slices.Clone(j.open); ; {
		s := waits
		if waits = nil; s == nil {
			if s, err = c.connect(ctx, j, t, &r, key); err != nil {
				j.hold(resultOf(err))
				return true
			}
		}
		if j.mustRequire() && !s.has("REQUIRETLS") {
			c.leave(s)
			lacks := ours(450, "4.7.30", t.host+" does not offer REQUIRETLS, which the sender asks for")
			lacks.Line = s.line
			j.hold(lacks.Result)
			return true
		}
		if late := s.deadline(j); late != nil {
			c.leave(s)
			late.Line = s.line
			j.settleAll(late.Result)
			j.lack(late.Result)
			return true
		}
		rest, goOn := s.deliver(ctx, j, todo)
		// A connection that had waited may be over without anybody having said so: a new one
		// has its try. Not if the end of a message was sent: then nobody knows what the host
		// has.
		if stale := s.dead && s.reused && !s.dotted; stale {
			rest = slices.Clone(j.open)
		}
		c.leave(s)
		if len(rest) == 0 || ctx.Err() != nil {
			return goOn
		}
		todo = rest
	}
}

// mustRequire tells whether the next host has to know REQUIRETLS. A report goes out
// without, too (RFC 8689, 5).
func (j *job) mustRequire() bool { return j.env.RequireTLS && !j.env.From.IsZero() }

// hold settles what a target that could not be used means for all. For a message that
// asks for protection a target without it is as good as none (RFC 8689, 4.2.1).
func (j *job) hold(r Result) {
	j.settleAll(r)
	if !j.mustRequire() {
		return
	}
	switch {
	case r.Enhanced == "4.7.30":
	case r.Host != "": // it says so for now
		return
	case r.Line.Failure != "" && r.Line.Failure != mail.DNSSECInvalid && r.Line.Failure != mail.STSFetchError:
		r.Enhanced = "4.7.10"
	default:
		return
	}
	j.lack(r)
}

// lack notes that a target cannot do what the sender asks for.
func (j *job) lack(r Result) {
	j.unfit++
	j.lacking = r
	j.lacking.Enhanced = "5" + r.Enhanced[1:]
}

// deliver sends the message to recipients that are open, in as many transactions as the
// peer's limits ask for. rest are those that need another connection to the same host.
func (s *session) deliver(ctx context.Context, j *job, todo []int) (rest []int, goOn bool) {
	for len(todo) > 0 && !s.dead {
		if s.spent() {
			return todo, true
		}
		n := min(len(todo), s.batch())
		later, again := s.transact(ctx, j, todo[:n])
		todo = append(later, todo[n:]...)
		switch again {
		case thisHost:
		case nextHost:
			return nil, true
		case noHost:
			return nil, false
		}
	}
	return nil, true
}

// spent tells whether the connection has had as many transactions as it may.
func (s *session) spent() bool { return s.mails >= s.mailMax() }

// batch is how many recipients one transaction may have (RFC 9422, 4).
func (s *session) batch() int { return min(maxRecipients, s.limit("RCPTMAX")) }

// again says where a transaction that is over leaves us.
type again uint8

const (
	thisHost again = iota // the session can go on
	nextHost              // this host can do no more now; another may
	noHost                // trying elsewhere now could only do harm
)

// transact runs one mail transaction. later are recipients that this host will take
// in a transaction of their own.
func (s *session) transact(ctx context.Context, j *job, who []int) (later []int, _ again) {
	who, utf8 := s.fitting(j, who)
	if len(who) == 0 {
		return nil, thisHost
	}
	f, err := s.form(ctx, j)
	if err != nil {
		r := resultOf(err)
		j.settle(who, r)
		if r.Code/100 == 4 {
			return nil, noHost // the fault is ours
		}
		return nil, thisHost
	}
	cmds := []string{s.mailFrom(j, f, utf8)}
	for _, i := range who {
		cmds = append(cmds, s.rcptTo(j, j.env.To[i], utf8))
	}
	s.mails++
	s.ready = false
	replies, err := s.exchange(cmds)
	if len(replies) == 0 || replies[0].Code != 250 {
		if len(replies) > 0 && err == nil {
			err = s.refusedBy(j, replies[0], false)
		}
		j.settle(who, resultOf(err))
		return nil, nextHost
	}
	accepted, later := s.sortOut(j, who, replies[1:], err)
	if s.dead {
		return nil, nextHost
	}
	if j.probe {
		for n, i := range who {
			if replies[1+n].Code/100 == 2 {
				j.settle([]int{i}, s.result(replies[1+n]))
			}
		}
		accepted = nil
	}
	if len(accepted) == 0 {
		if _, err := s.cmd("RSET"); err != nil {
			return nil, nextHost
		}
		s.ready = true
		return nil, thisHost
	}
	return later, s.data(ctx, j, f, accepted)
}

// exchange sends commands, in one go if the peer can take it (RFC 2920, 3.1), and
// returns the answers there were. Without PIPELINING it ends after a refused MAIL.
func (s *session) exchange(cmds []string) (replies []*smtp.Reply, err error) {
	piped := s.has("PIPELINING")
	if piped {
		for _, c := range cmds {
			s.w.WriteString(c)
			s.w.WriteString("\r\n")
		}
		if err := s.flush(); err != nil {
			return nil, err
		}
	}
	for i, c := range cmds {
		if !piped {
			if err := s.write(c); err != nil {
				return replies, err
			}
		}
		rep, err := s.reply(s.c.opt.Timeouts.Command)
		if err != nil {
			return replies, err
		}
		replies = append(replies, rep)
		if !piped && i == 0 && rep.Code != 250 {
			break
		}
	}
	return replies, nil
}

// sortOut reads the answers to RCPT. A host that has had enough recipients for one
// transaction gets the others in another (RFC 5321, 4.5.3.1.10).
func (s *session) sortOut(j *job, who []int, replies []*smtp.Reply, err error) (accepted, later []int) {
	for n, i := range who {
		if n >= len(replies) {
			j.settle([]int{i}, resultOf(err))
			continue
		}
		rep := replies[n]
		switch {
		case rep.Code/100 == 2:
			accepted = append(accepted, i)
		case len(accepted) > 0 && (rep.Code == 452 && rep.Enhanced != "4.2.2" || rep.Code == 552 && rep.Enhanced != "5.2.2"):
			later = append(later, i)
			j.settle([]int{i}, s.softened(rep).Result)
		default:
			j.settle([]int{i}, s.refusedBy(j, rep, true).Result)
		}
	}
	return accepted, later
}

// fitting settles the recipients that this host cannot serve and returns the rest,
// and whether the transaction must be one of SMTPUTF8.
func (s *session) fitting(j *job, who []int) (rest []int, utf8 bool) {
	if s.has("SMTPUTF8") {
		for _, i := range who {
			utf8 = utf8 || !j.env.To[i].Address.IsASCII()
		}
		return who, utf8 || j.msg.NeedsUTF8 || !j.env.From.IsASCII()
	}
	if j.msg.NeedsUTF8 || needsUTF8(j.env.From) {
		j.settle(who, s.verdict(550, "5.6.7", s.t.host+" does not take internationalized mail (SMTPUTF8)"))
		return nil, false
	}
	for _, i := range who {
		if needsUTF8(j.env.To[i].Address) {
			j.settle([]int{i}, s.verdict(550, "5.6.7", s.t.host+" does not take internationalized addresses (SMTPUTF8)"))
			continue
		}
		rest = append(rest, i)
	}
	return rest, false
}

// verdict is our own judgement on what a host offers.
func (s *session) verdict(code int, enhanced, text string) Result {
	return ours(code, enhanced, text).Result
}

// needsUTF8 tells whether an address cannot be written in ASCII: a domain can
// (RFC 6531, 3.2), a local part cannot.
func needsUTF8(a mail.Address) bool {
	if (mail.Address{Local: a.Local}).IsASCII() {
		_, err := dnsx.ASCII(a.Domain)
		return err != nil && !a.IsASCII()
	}
	return true
}

// mailFrom writes MAIL with the parameters that the peer knows and the mail needs.
func (s *session) mailFrom(j *job, f form, utf8 bool) string {
	m := smtp.Mail{From: written(j.env.From, utf8), UTF8: utf8}
	if s.has("SIZE") {
		m.Size = f.size
	}
	switch {
	case f.binary:
		m.Body = smtp.BodyBinary
	case (f.eight || utf8) && s.has("8BITMIME"):
		m.Body = smtp.Body8Bit
	}
	if s.has("DSN") {
		m.Ret, m.EnvID = j.env.Ret, j.env.EnvID
	}
	m.RequireTLS = j.env.RequireTLS && s.tls != "" && s.has("REQUIRETLS")
	m.Ask = s.ask(j)
	return string(smtp.AppendMail(nil, m))
}

// rcptTo writes RCPT.
func (s *session) rcptTo(j *job, r mail.Recipient, utf8 bool) string {
	r.Address, r.Notify = written(r.Address, utf8), s.notify(j, r)
	return string(smtp.AppendRcpt(nil, r, s.has("DSN"), utf8))
}

// written is an address as this transaction may write it: without SMTPUTF8 the
// domain is in A-labels.
func written(a mail.Address, utf8 bool) mail.Address {
	if !utf8 {
		if d, err := dnsx.ASCII(a.Domain); err == nil {
			a.Domain = d
		}
	}
	return a
}

// data sends the message for the accepted recipients and records the answer.
func (s *session) data(ctx context.Context, j *job, f form, accepted []int) again {
	body, err := j.msg.Open(ctx)
	if err != nil {
		s.dead = true
		j.settle(accepted, unread(err).Result)
		return noHost
	}
	defer body.Close()
	if !f.binary {
		if err := s.askData(); err != nil {
			r := resultOf(err)
			j.settle(accepted, r)
			return s.after(r)
		}
	}
	if own, err := s.stream(j, f, body); err != nil {
		j.settle(accepted, resultOf(err))
		if own {
			return noHost
		}
		return nextHost
	}
	rep, err := s.reply(s.c.opt.Timeouts.Final)
	switch {
	case err == nil && rep.Code/100 == 2:
		r := s.result(rep)
		s.ready = true
		j.settle(accepted, r)
		if j.settled != nil && len(j.open) > 0 {
			j.settled(accepted, r)
		}
		return thisHost
	case err == nil:
		r := s.refused(rep).Result
		j.settle(accepted, r)
		return s.after(r)
	case rep != nil: // 421: an answer, too
		j.settle(accepted, resultOf(err))
		return nextHost
	}
	// Nobody can know whether the peer has the message (RFC 5321, 4.5.3.2.6 and
	// RFC 1047). Another host now would make a second copy likely.
	unsure := ours(451, "4.4.2", resultOf(err).Text+
		" after the whole message was sent; it may have been taken, and could arrive twice").Result
	unsure.Unsure = true
	j.settle(accepted, unsure)
	return noHost
}

// after tells where a refusal of the message itself leads: a temporary one may be
// the host's alone, a permanent one is the mail's.
func (s *session) after(r Result) again {
	if s.dead || r.Code/100 == 4 {
		return nextHost
	}
	return thisHost
}

func (s *session) askData() error {
	if err := s.write("DATA"); err != nil {
		return err
	}
	rep, err := s.reply(s.c.opt.Timeouts.Data)
	if err != nil {
		return err
	}
	if rep.Code != 354 {
		return s.refused(rep)
	}
	return nil
}

// stream writes the message: dot-stuffed, or as one chunk if it is binary (RFC 3030,
// 2). The end is only marked when all of it was read, so that half a message can
// never be taken for a whole one. own tells that the fault is on our side.
func (s *session) stream(j *job, f form, body io.Reader) (own bool, _ error) {
	src := &source{r: body}
	room := s.c.rooms.get()
	defer s.c.rooms.put(room)
	out := room.out
	out.Reset(&timedWriter{s})
	var err error
	if f.binary {
		s.dotted = true
		fmt.Fprintf(out, "BDAT %d LAST\r\n", j.msg.Size)
		_, err = io.CopyN(out, src, j.msg.Size)
	} else {
		dots := smtp.NewDotWriter(out)
		if err = f.copyTo(dots, src, j, room.in); err == nil {
			s.dotted = true
			dots.Close()
		}
	}
	switch {
	case src.err != nil && src.err != io.EOF:
		s.dead = true
		return true, unread(src.err)
	case err == io.EOF, fault.Is(err, fault.Corrupt): // shorter than it should be
		s.dead = true
		return true, ours(451, "4.3.0", "the message could not be read here: it is incomplete")
	case fault.Is(err, fault.Invalid):
		s.dead = true
		return true, ours(554, "5.6.3", fault.Say(err))
	case err == nil:
		err = out.Flush()
	}
	if err == nil {
		return false, nil
	}
	// A host that closes early has often said why.
	s.conn.SetReadDeadline(time.Now().Add(min(2*time.Second, s.c.opt.Timeouts.Command)))
	if rep, readErr := smtp.ReadReply(s.r); readErr == nil && rep.Code/100 >= 4 {
		s.dead = true
		return false, s.refused(rep)
	}
	return false, s.lost(err)
}

// rooms are what messages are copied through.
type rooms struct{ free sync.Pool }

type room struct {
	in  []byte
	out *bufio.Writer
}

func (r *rooms) get() *room {
	if free, ok := r.free.Get().(*room); ok {
		return free
	}
	return &room{make([]byte, 16<<10), bufio.NewWriterSize(nil, 32<<10)}
}

func (r *rooms) put(used *room) {
	used.out.Reset(nil) // it holds nobody's connection
	r.free.Put(used)
}

// source remembers how reading the message ended, to tell a fault of ours from one
// of the connection.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil {
		s.err = err
	}
	return n, err
}

// timedWriter gives each block its own time.
type timedWriter struct{ s *session }

func (t *timedWriter) Write(b []byte) (int, error) {
	t.s.conn.SetWriteDeadline(time.Now().Add(t.s.c.opt.Timeouts.Block))
	return t.s.conn.Write(b)
}
