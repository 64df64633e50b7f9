package imapd

import (
	"context"
	"errors"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// session is one connection. All of it belongs to the goroutine that carries it on: while
// it waits there is none, and it holds as little as it can (netsrv.Session).
type session struct {
	srv *Server
	ctx context.Context
	c   *netsrv.Conn
	dec *imap.Decoder
	enc *imap.Encoder // what is to be written next; flush moves it on

	state    stateSet // one of fresh, signedIn, selected; 0 when the session is over
	bad      int      // commands answered BAD since the last good one
	failures int      // logins that failed

	acct *store.Account // once signed in

	rev2      bool // ENABLE IMAP4rev2
	condstore bool // the client knows modseqs (RFC 7162, 3.1)
	utf8      bool // ENABLE UTF8=ACCEPT (RFC 6855)
	qresync   bool // it is told of expunges by VANISHED (RFC 7162, 3.2)
	uidOnly   bool // no sequence numbers, neither way (RFC 9586)
	objectID  bool // ids come together (OBJECTID+)
	admin     bool // it may set quotas (RFC 9208)
	old       bool // it knows IMAP2 at best, for all it has said (legacy.go)

	meta   *metaWatch // of annotations, or nil
	notify *notify    // NOTIFY was used
	feed   *feed      // what happens in other mailboxes, or nil

	idling *idling // IDLE is under way

	torn bool // a literal was announced and its bytes cannot be had: nothing may follow

	view  *view       // the selected mailbox, or nil
	saved mail.UIDSet // what $ stands for (RFC 5182)

	progress progress // of the command under way (RFC 9585)

	lang *language // of texts for people, nil for i-default (RFC 5255, 3)

	comparator imap.Comparator // of SEARCH, SORT and THREAD (RFC 5255, 4)
}

// command is one command under way.
type command struct {
	tag string
	uid bool // its UID form
	row *row
	own *ownChange // flags it changed, for the sync after it

	numbers bool     // a UID command whose arguments count by sequence numbers
	finds   bool     // a SEARCH or the like, which does not find what is gone
	missed  bool     // it met messages that are gone
	begun   uint64   // what others had done by then is told in its answer
	lowest  mail.UID // if it was cut short: the lowest one dealt with (RFC 9738)
}

func newSession(ctx context.Context, srv *Server, c *netsrv.Conn) *session {
	s := &session{
		srv: srv, ctx: ctx, c: c, state: fresh, old: srv.opt.Legacy,
		dec: imap.NewDecoder(c.R, imap.LoginLimits), enc: imap.NewEncoder(),
	}
	s.dec.Old = srv.opt.Legacy
	s.dec.Continue = func() error { return s.ask(s.say("ready for the literal")) }
	return s
}

// Close is of netsrv.Session.
func (s *session) Close() {
	s.flush()
	s.enc.Release()
	s.endIdle()
	s.unfollow()
	s.view.close()
	s.view = nil
}

// flush hands what is encoded to the connection, which sends it when a buffer is
// full, before it waits for input, and at the end. It may block on a slow client,
// so no Snapshot may be open.
func (s *session) flush() error {
	if s.enc.Len() == 0 {
		return nil
	}
	_, err := s.c.W.Write(s.enc.Bytes())
	s.enc.Reset()
	return err
}

// flushAt is how many encoded bytes are gathered before they are written.
const flushAt = 64 << 10

// flushFull flushes if there is much to write.
func (s *session) flushFull() error {
	if s.enc.Len() < flushAt {
		return nil
	}
	return s.flush()
}

// ask sends a continuation request (RFC 9051, 7.6).
func (s *session) ask(text string) error {
	s.enc.Raw("+ ").Raw(text).CRLF()
	return s.flush()
}

// greet writes the greeting.
func (s *session) greet() {
	code := "CAPABILITY " + s.capabilities()
	if s.old {
		code = ""
	}
	s.note("OK", code, "Martlet is ready")
}

// Resume is of netsrv.Session: the client has sent something, or there may be news.
func (s *session) Resume(input bool, err error) {
	switch {
	case err != nil:
	case s.idling != nil:
		err = s.idle(input)
	case input:
		err = s.next()
	default:
		err = s.between()
	}
	s.rest(err)
}

// rest ends what Resume began: with an error the session is over, else it waits for its
// client.
func (s *session) rest(err error) {
	if err == nil {
		err = s.flush()
	}
	if err != nil {
		s.goodbye(err)
	}
	if s.state == 0 {
		return
	}
	if s.c.R.Buffered() == 0 {
		s.enc.Release() // an idle connection holds no buffers
	}
	s.c.Park(s, s.idling != nil)
}

// next reads one command, carries it out and answers it. The error it returns ends
// the session.
func (s *session) next() error {
	s.dec.Begin()
	if s.dec.CRLF() { // an empty line: some clients end a literal with one
		return s.countBad()
	}
	cmd, ok := s.readCommand()
	var rep reply
	var err error
	if ok {
		rep, err = s.dispatch(cmd)
	} else {
		err = s.dec.Err()
	}
	return s.conclude(cmd, rep, err)
}

// conclude answers a command with what its handler has returned.
func (s *session) conclude(cmd *command, rep reply, err error) error {
	if broken := s.dec.Skip(); broken != nil {
		return broken
	}
	if wrong := s.dec.Err(); wrong != nil {
		err = wrong
		if !fault.Is(wrong, fault.Unsupported) {
			err = misuse(wrong)
		}
	}
	if err != nil {
		if fault.Is(err, fault.Closed) || isFatal(err) || errors.Is(err, store.ErrSetBack) {
			return err
		}
		rep = s.refusal(cmd, err)
	}
	if rep.sent {
		return nil
	}
	return s.finish(cmd, rep)
}

// finish tells the news that the command allows and writes its tagged answer.
func (s *session) finish(cmd *command, rep reply) error {
	if s.view != nil && cmd.row != nil && cmd.row.after != tellNone {
		after := cmd.row.after
		if cmd.numbers { // RFC 7162, 3.2.10.2
			after = keepSeqs
		}
		if err := s.sync(cmd, after); err != nil {
			if errors.Is(err, errRenumbered) && cmd.tag != "" { // what was done is told
				s.answer(cmd.tag, rep)
			}
			return err
		}
		if cmd.finds && (cmd.missed || len(s.view.gone) > 0) && rep.status == "OK" && rep.code == "" { // RFC 5530, 3
			rep.code, rep.text = "EXPUNGEISSUED", "some of the messages no longer exist"
		}
		s.noteModSeq(&rep)
	}
	if cmd.row != nil && cmd.row.after != tellNone {
		s.prove(cmd)
		if err := s.tellMetadata(); err != nil {
			return err
		}
		if err := s.tellNews(); err != nil {
			return err
		}
	}
	tag := cmd.tag
	if tag == "" {
		tag = "*"
	}
	s.answer(tag, rep)
	switch {
	case rep.status == "BAD", rep.status == "NO" && s.state == fresh:
		return s.countBad()
	case s.state != fresh: // before login a client must not earn itself more tries
		s.bad = 0
	}
	return s.flushFull()
}

func (s *session) countBad() error {
	if s.failures >= s.srv.opt.MaxFailures {
		return fault.New(fault.Limited, "too many failed logins")
	}
	if s.bad++; s.bad < s.srv.opt.MaxBad {
		return nil
	}
	return fault.New(fault.Limited, "too many bad commands")
}

// readCommand reads the tag and the name of a command. With ok false the decoder
// holds the error; the command then has whatever was read of it.
func (s *session) readCommand() (cmd *command, ok bool) {
	cmd = &command{}
	var tag, name string
	if !s.dec.ExpectTag(&tag) {
		return cmd, false
	}
	cmd.tag = tag
	if !s.dec.ExpectSP() || !s.dec.ExpectWord(&name, "a command") {
		return cmd, false
	}
	if name == "UID" {
		var of string
		if !s.dec.ExpectSP() || !s.dec.ExpectWord(&of, "a command after UID") {
			return cmd, false
		}
		name, cmd.uid = "UID "+of, true
	}
	cmd.row = s.srv.rows[name]
	if cmd.row == nil {
		if len(name) > 40 {
			name = name[:40] + "..."
		}
		return cmd, s.dec.Fail("there is no command " + name)
	}
	return cmd, true
}

// dispatch checks that the command may be used now and runs it.
func (s *session) dispatch(cmd *command) (reply, error) {
	switch r := cmd.row; {
	case r.in&s.state == 0:
		return bad("%s", r.wrongState(s.state)), nil
	case r.writes && s.view.readOnly:
		return no("READ-ONLY", "this mailbox was opened for reading only"), nil
	case s.uidOnly && s.byNumber(r):
		return reply{}, uidRequired()
	}
	cmd.begun = s.srv.opt.Store.Moment()
	if cmd.row.after != tellNone {
		if err := s.mayStay(); err != nil {
			return reply{}, err
		}
	}
	s.beginProgress(cmd)
	rep, err := cmd.row.run(s, cmd)
	if err == nil {
		s.noteLimit(cmd, &rep)
	}
	return rep, err
}

// refusal turns a handler's error into its answer and logs what the client must not
// see.
func (s *session) refusal(cmd *command, err error) reply {
	kind := fault.Of(err)
	name := "?"
	if cmd.row != nil {
		name = cmd.row.name
	}
	switch kind {
	case fault.Internal, fault.Corrupt, fault.Unknown, fault.Unavailable:
		s.c.Log().Error("command failed", "command", name, "err", err)
	default:
		s.c.Log().Debug("command refused", "command", name, "err", err)
	}
	rep := no(codes[kind], "%s", fault.Say(err))
	var a answered
	switch {
	case errors.As(err, &a):
		rep.status, rep.code = a.status, a.code
	case errors.Is(err, imap.ErrCharset):
		rep.code = "BADCHARSET (UTF-8 US-ASCII)"
	case errors.Is(err, imap.ErrUse):
		rep.code = "USEATTR"
	case errors.Is(err, imap.ErrNoteSize):
		rep.code = "ANNOTATE TOOBIG"
	}
	if kind == fault.Internal {
		rep.text = "internal error, it has been logged as " + s.c.ID()
	}
	return rep
}

// goodbye writes the BYE that fits the end of the session, if the client is there.
func (s *session) goodbye(err error) {
	log := s.c.Log()
	switch kind := fault.Of(err); {
	case s.c.Stopping():
		s.note("BYE", "UNAVAILABLE", "the server is stopping, try again shortly")
	case kind == fault.Closed || errors.Is(err, io.ErrUnexpectedEOF):
		log.Debug("client is gone", "err", err)
		s.enc.Reset()
	case s.torn:
		log.Error("message could not be sent to its end", "err", err)
		s.enc.Reset()
	default:
		log.Info("session ended by the server", "err", err)
		s.note("BYE", "", fault.Say(err))
	}
	s.state = 0
}
