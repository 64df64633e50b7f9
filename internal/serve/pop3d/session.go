package pop3d

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// session is one connection.
type session struct {
	srv  *Server
	conn *netsrv.Conn
	ctx  context.Context

	user     string // what USER said, for PASS
	utf8     bool   // UTF8 was said
	account  directory.Account
	drop     *drop // the INBOX; nil before login
	locked   bool  // the INBOX is this session's
	errors   int
	failures int  // of login
	over     bool // after the present answer

	renew, leave func(context.Context) error // of the INBOX, before other nodes; nil: it is not had
	renewed      time.Time
}

// state is where in the dialogue a session is (RFC 1939, 3).
type state uint8

const (
	authorization state = 1 << iota
	transaction
	anywhere = authorization | transaction
)

// command is a row of the table. run writes the positive answer; the error it returns
// becomes the negative one.
type command struct {
	in      state
	minArgs int
	maxArgs int // rest: the argument may hold spaces and is taken as it is
	run     func(s *session, ctx context.Context, args []string) error
}

// rest marks a command whose one argument is the rest of its line.
const rest = -1

var commands = map[string]command{
	"CAPA": {anywhere, 0, 0, (*session).capa},
	"USER": {authorization, 1, rest, (*session).userName},
	"PASS": {authorization, 1, rest, (*session).pass},
	"APOP": {authorization, 0, rest, (*session).apop},
	"AUTH": {authorization, 0, 2, (*session).auth},
	"STLS": {authorization, 0, 0, (*session).stls},
	"UTF8": {authorization, 0, 0, (*session).utf8Mode},
	"LANG": {anywhere, 0, 1, (*session).lang},
	"STAT": {transaction, 0, 0, (*session).stat},
	"LIST": {transaction, 0, 1, (*session).list},
	"UIDL": {transaction, 0, 1, (*session).uidl},
	"RETR": {transaction, 1, 1, (*session).retr},
	"TOP":  {transaction, 2, 2, (*session).top},
	"DELE": {transaction, 1, 1, (*session).dele},
	"RSET": {transaction, 0, 0, (*session).rset},
	"NOOP": {transaction, 0, 0, (*session).noop},
	"QUIT": {anywhere, 0, 0, (*session).quit},
}

const (
	maxCommand = 255                // bytes of a command with CRLF (RFC 2449, 4)
	maxAuth    = sasl.MaxLine + 100 // of AUTH with a long initial response, which clients send
)

func (s *session) state() state {
	if s.drop == nil {
		return authorization
	}
	return transaction
}

// Resume is of netsrv.Session: it reads a command and answers it. A client that is idle
// for too long is left without a word and without removing anything (RFC 1939, 3). One that
// would wait in vain for the answer to its next command, as the server stops, has it now.
func (s *session) Resume(_ bool, err error) {
	if err != nil {
		if s.conn.Stopping() {
			s.conn.W.WriteString("-ERR [SYS/TEMP] the server is stopping, try again shortly\r\n")
		}
		return
	}
	line, err := smtp.ReadLine(s.conn.R, s.longestLine())
	switch kind := fault.Of(err); {
	case err == nil:
		s.dispatch(s.ctx, string(line))
	case kind == fault.Invalid || kind == fault.TooLarge:
		s.mistake(err)
	default:
		return
	}
	if !s.over {
		s.conn.Hold(s.drop != nil && s.drop.count < s.drop.picture.Len()) // QUIT is to come
		s.conn.Park(s, false)
	}
}

// Close is of netsrv.Session.
func (s *session) Close() { s.unlock() }

func (s *session) longestLine() int {
	if s.state() == authorization {
		return maxAuth
	}
	return maxCommand
}

// dispatch finds the command's row, checks what the row demands and runs it.
func (s *session) dispatch(ctx context.Context, line string) {
	verb, arg, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	row, known := commands[verb]
	args := arguments(row, arg)
	var bad error
	switch {
	case !known:
		bad = fault.New(fault.Invalid, "unknown command")
	case len(line) > maxCommand-2 && verb != "AUTH":
		bad = fault.New(fault.Invalid, "line is too long")
	case row.in&s.state() == 0:
		bad = fault.Newf(fault.Invalid, "%s is not allowed now", verb)
	case len(args) < row.minArgs:
		bad = fault.Newf(fault.Invalid, "%s needs an argument", verb)
	case row.maxArgs != rest && len(args) > row.maxArgs:
		bad = fault.Newf(fault.Invalid, "%s has too many arguments", verb)
	}
	if bad != nil {
		s.mistake(bad)
		return
	}
	err := s.still(ctx, verb == "QUIT" && s.drop != nil && s.drop.count < s.drop.picture.Len())
	if err == nil {
		err = row.run(s, ctx, args)
	} else if fault.Is(err, fault.Busy) { // nothing is removed
		s.over = true
	}
	switch {
	case err == nil:
	case fault.Is(err, fault.Invalid) || fault.Is(err, fault.Unsupported):
		s.mistake(err)
	default:
		s.refuse(err)
	}
}

// arguments splits what follows the verb.
func arguments(row command, arg string) []string {
	if row.maxArgs != rest {
		return strings.Fields(arg)
	}
	if arg == "" {
		return nil
	}
	return []string{arg}
}

// ok writes a positive answer, or the first line of a longer one.
func (s *session) ok(format string, args ...any) {
	fmt.Fprintf(s.conn.W, "+OK "+format+"\r\n", args...)
}

// mistake refuses a wrong command, and one too many ends the session.
func (s *session) mistake(err error) {
	s.refuse(err)
	if s.errors++; s.errors >= s.srv.opt.MaxErrors {
		s.over = true
	}
}

// refuse writes a negative answer. Its code tells a failure of ours from one of the
// client's (RFC 3206, 4); a failure of ours goes to the log and names the connection.
func (s *session) refuse(err error) {
	code, id := "", ""
	switch kind := fault.Of(err); {
	case kind == fault.Closed && s.over:
		return // nobody is left to hear it
	case kind == fault.Unauthenticated || kind == fault.Denied:
		code = "[AUTH] "
	case kind == fault.Internal || kind == fault.Corrupt:
		code = "[SYS/PERM] "
	case kind == fault.Busy:
		code = "[IN-USE] "
	case kind.Temporary():
		code = "[SYS/TEMP] "
	}
	if strings.HasPrefix(code, "[SYS") && !fault.Is(err, fault.Limited) {
		s.conn.Log().Error("failed", "err", err)
		id = " (" + s.conn.ID() + ")"
	}
	fmt.Fprintf(s.conn.W, "-ERR %s%s%s\r\n", code, fault.Say(err), id)
}
