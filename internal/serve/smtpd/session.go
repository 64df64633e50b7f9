package smtpd

import (
	"context"
	"strings"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/receive"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// session is one connection.
type session struct {
	*Options
	conn *netsrv.Conn
	ctx  context.Context

	helo     string // the client's name; "" before EHLO, HELO or LHLO
	extended bool   // it said EHLO or LHLO
	account  directory.Account
	loggedIn bool

	tx       *transaction // nil between messages
	accepted int          // messages
	closing  bool         // after the present reply

	made     tally // mistakes since the last message that was accepted
	failures int   // of login
	noted    int   // refusals kept in the trace
}

// tally counts what a client does that brings no message nearer.
type tally struct {
	errors   int // wrong commands
	rejected int // refused recipients
	surplus  int // recipients over the limit
	idle     int // commands that got nobody further
}

// transaction is a message under way (RFC 5321, 3.3).
type transaction struct {
	env  mail.Envelope
	size int   // of the recipients, as they are kept
	body *body // what BDAT has brought so far; nil before the first

	party string // whose work the message is
}

// state is where in the dialogue a session is; rows of the table combine several.
type state uint8

const (
	fresh     state = 1 << iota // no EHLO yet
	greeted                     // between messages
	mailing                     // after MAIL
	addressed                   // after the first good RCPT
	chunking                    // after the first BDAT
	anywhere  = fresh | greeted | mailing | addressed | chunking
)

// command is a row of the table.
type command struct {
	kinds Kind  // listeners that know the command
	in    state // where it is allowed
	arg   argument
	last  bool // the client must wait for the answer before it sends more (RFC 2920, 3.1)
	run   func(s *session, ctx context.Context, arg string) *smtp.Reply
}

type argument uint8

const (
	anyArg argument = iota
	noArg
)

const everyKind = Relay | Submission | LMTP

// commands is the table. BDAT looks at its state itself, for it must read its chunk
// even where it is out of place.
var commands = map[string]command{
	"EHLO":     {Relay | Submission, anywhere, anyArg, false, (*session).ehlo},
	"HELO":     {Relay | Submission, anywhere, anyArg, false, (*session).hello},
	"LHLO":     {LMTP, anywhere, anyArg, false, (*session).ehlo},
	"STARTTLS": {everyKind, fresh | greeted, noArg, true, (*session).startTLS},
	"AUTH":     {Submission, greeted, anyArg, true, (*session).auth},
	"MAIL":     {everyKind, greeted, anyArg, false, (*session).mail},
	"RCPT":     {everyKind, mailing | addressed, anyArg, false, (*session).rcpt},
	"DATA":     {everyKind, addressed, noArg, true, (*session).data},
	"BDAT":     {everyKind, anywhere, anyArg, false, (*session).bdat},
	"BURL":     {Submission, anywhere, anyArg, false, (*session).burl},
	"RSET":     {everyKind, anywhere, noArg, false, (*session).rset},
	"NOOP":     {everyKind, anywhere, anyArg, false, (*session).noop},
	"VRFY":     {everyKind, anywhere, anyArg, false, (*session).vrfy},
	"EXPN":     {everyKind, anywhere, anyArg, false, (*session).expn},
	"HELP":     {everyKind, anywhere, anyArg, false, (*session).help},
	"QUIT":     {everyKind, anywhere, noArg, false, (*session).quit},
}

// foreign verbs begin requests of HTTP, in whose body a web page could have a browser
// send us commands. Whoever says one is not listened to any longer.
var foreign = map[string]bool{"GET": true, "POST": true, "PUT": true, "HEAD": true, "OPTIONS": true, "CONNECT": true}

func (s *session) state() state {
	switch {
	case s.tx != nil && s.tx.body != nil:
		return chunking
	case s.tx != nil && len(s.tx.env.To) > 0:
		return addressed
	case s.tx != nil:
		return mailing
	case s.helo != "":
		return greeted
	}
	return fresh
}

// Resume is of netsrv.Session: it reads a command and answers it.
func (s *session) Resume(_ bool, err error) {
	if err != nil {
		s.send(s.hangUp(err))
		return
	}
	line, err := smtp.ReadLine(s.conn.R, s.longestLine())
	if err != nil {
		s.send(s.badLine(err))
	} else {
		reply := s.dispatch(s.ctx, line)
		if reply != nil && reply.Code >= 500 && s.stranger() {
			s.conn.Delay(s.ctx, s.Tarpit)
		}
		s.send(reply)
		if why := s.tooMuch(); why != nil && !s.closing {
			s.send(why)
			return
		}
	}
	if !s.closing {
		s.conn.Hold(s.tx != nil)
		s.conn.Park(s, false)
	}
}

// Close is of netsrv.Session.
func (s *session) Close() { s.reset() }

// dispatch finds the command's row, checks what the row demands and runs it.
func (s *session) dispatch(ctx context.Context, line []byte) *smtp.Reply {
	verb, arg, bad := smtp.ParseCommand(line)
	row, known := commands[verb]
	switch {
	case bad != nil:
	case foreign[verb]:
		s.closing = true
		bad = smtp.NewReply(500, "5.5.1", "this is a mail server")
	case !known || row.kinds&s.Kind == 0:
		bad = smtp.NewReply(500, "5.5.1", "command not recognised")
	case len(line) > smtp.MaxCommand-2 && verb != "AUTH":
		bad = smtp.NewReply(500, "5.5.2", "line is too long")
	case row.arg == noArg && arg != "":
		bad = smtp.NewReply(501, "5.5.4", verb+" takes no argument")
	case row.in&s.state() == 0:
		bad = s.misplaced(verb)
	case row.last && s.conn.R.Buffered() > 0:
		// What follows was sent without knowing the answer. It could be data, which
		// must not be read as commands.
		s.closing = true
		bad = smtp.NewReply(503, "5.5.0", "nothing may be sent before the answer to "+verb)
	}
	if bad != nil {
		s.made.errors++
		return bad
	}
	if verb != "AUTH" { // a login may be made to wait; anything else is finished even while the server stops
		ctx = context.WithoutCancel(ctx)
	}
	reply := row.run(s, ctx, arg)
	s.count(verb, reply)
	return reply
}

// misplaced says what should have come first.
func (s *session) misplaced(verb string) *smtp.Reply {
	text := verb + " is not allowed now"
	switch at := s.state(); {
	case at == fresh:
		text = "say " + s.helloVerb() + " first"
	case at == greeted && verb != "STARTTLS" && verb != "AUTH":
		text = "say MAIL first"
	case at == mailing && verb == "DATA":
		text = "there is no valid recipient"
	}
	return smtp.NewReply(503, "5.5.1", text)
}

// count keeps the tally of a command that ran. Refused recipients have their own
// count, as lists have dead addresses.
func (s *session) count(verb string, reply *smtp.Reply) {
	if reply == nil {
		return
	}
	switch {
	case verb == "RCPT" && reply.Enhanced == tooManyRecipients:
		s.made.surplus++
	case verb == "RCPT" && reply.Code >= 400:
		s.made.rejected++
	case verb == "RCPT", verb == "DATA", verb == "BDAT":
	case reply.Code >= 500:
		s.made.errors++
	case verb != "MAIL" && verb != "AUTH" && verb != "BURL":
		s.made.idle++
	}
}

// Limits that Options does not have.
const (
	maxIdle      = 200 // commands without a message
	rejectFactor = 10  // refused recipients, as a multiple of MaxErrors
)

// tooMuch ends the session of a client that only makes work.
func (s *session) tooMuch() *smtp.Reply {
	text := ""
	switch {
	case s.made.errors >= s.MaxErrors:
		text = "too many errors"
	case s.made.rejected >= rejectFactor*s.MaxErrors:
		text = "too many refused recipients"
	case s.made.surplus > s.MaxRecipients:
		text = "too many recipients"
	case s.made.idle >= maxIdle:
		text = "too many commands without a message"
	default:
		return nil
	}
	return smtp.NewReply(421, "4.7.0", text)
}

// refusal is the reply to an error of the layers below, whose cause goes to the log.
// With a failure of ours it names the connection, so that the two can be brought
// together.
func (s *session) refusal(err error) *smtp.Reply {
	kind := fault.Of(err)
	reply := s.replyOf(receive.Result{Err: err})
	if kind.Temporary() && kind != fault.OverQuota && kind != fault.Limited {
		s.conn.Log().Error("failed", "err", err)
		reply.Lines[0] += " (" + s.conn.ID() + ")"
	}
	return reply
}

// replyOf returns the answer to a result. A store that others work on too is not full when it
// cannot be had: it cannot be reached.
func (s *session) replyOf(r receive.Result) *smtp.Reply {
	code, status, text := r.Reply()
	if fault.Is(r.Err, fault.Unavailable) && r.Status == "" && s.Store.IsShared() {
		code, status = 451, "4.3.2"
	}
	return smtp.NewReply(code, status, text)
}

// send writes a reply; nil is none. It leaves with the next wait.
func (s *session) send(r *smtp.Reply) {
	if r == nil {
		return
	}
	if r.Code >= 400 {
		s.conn.Log().Debug("refused", "reply", r.String())
	}
	s.conn.W.Write(r.Append(s.conn.W.AvailableBuffer()))
}

// longestLine is how long a command may be just now, in bytes with CRLF.
func (s *session) longestLine() int {
	if s.Kind == Submission && s.state() == greeted {
		return smtp.MaxAuth
	}
	return smtp.MaxCommand
}

// badLine answers a line that could not be read.
func (s *session) badLine(err error) *smtp.Reply {
	switch fault.Of(err) {
	case fault.Invalid, fault.TooLarge:
		if s.made.errors++; s.made.errors >= s.MaxErrors {
			s.closing = true
		}
		return smtp.NewReply(500, "5.5.2", fault.Say(err))
	}
	return s.hangUp(err)
}

// hangUp ends the session after an error of the connection. Its reply is the last
// word, where anybody is left to hear it (RFC 5321, 3.8).
func (s *session) hangUp(err error) *smtp.Reply {
	s.closing = true
	switch {
	case s.conn.Stopping():
		return smtp.NewReply(421, "4.3.2", s.Hostname+" is stopping, try again later")
	case fault.Is(err, fault.Limited):
		return smtp.NewReply(421, "4.4.2", s.Hostname+" closes the connection: "+fault.Say(err))
	}
	return nil
}

// reset forgets the message under way (RFC 5321, 4.1.1.5).
func (s *session) reset() {
	if s.tx != nil && s.tx.body != nil {
		s.tx.body.abandon()
	}
	s.tx = nil
	s.conn.WorkFor("")
}

// beginMessage makes what follows, until reset, the work of who gets it: nobody
// may lack a processor because others get much mail.
func (s *session) beginMessage() { s.conn.WorkFor(s.tx.party) }

// partyOf is who gets a message by its first recipient: the mail of the account that this
// leads to, by whatever name. It is a party beside the account, which strangers who send it
// much must not slow down where it reads.
func partyOf(rcpt, account mail.Address) string {
	if account.IsZero() {
		account = rcpt
	}
	return "in:" + account.Folded().String()
}

func (s *session) dialect() string {
	if s.Kind == LMTP {
		return "LMTP"
	}
	return "ESMTP"
}

func (s *session) helloVerb() string {
	if s.Kind == LMTP {
		return "LHLO"
	}
	return "EHLO"
}

// protocol names the way a message comes (RFC 3848; RFC 6531, 4.3).
func (s *session) protocol(utf8 bool) string {
	var b strings.Builder
	switch {
	case s.Kind == LMTP && utf8:
		b.WriteString("UTF8LMTP")
	case s.Kind == LMTP:
		b.WriteString("LMTP")
	case utf8:
		b.WriteString("UTF8SMTP")
	case s.extended:
		b.WriteString("ESMTP")
	default:
		return "SMTP"
	}
	if _, secure := s.conn.TLS(); secure {
		b.WriteByte('S')
	}
	if s.loggedIn {
		b.WriteByte('A')
	}
	return b.String()
}
