package imapd

import (
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// What a listener for old clients does besides (Options.Legacy). It serves IMAP2 (RFC
// 1176), IMAP2bis (RFC 1732, RFC 2061) and IMAP4 (RFC 1730; RFC 2062), and who speaks
// IMAP3 (RFC 1203) is told that nobody else does here.
//
// Old clients cannot be told from new ones by what they say first. So the listener shows
// its capabilities to who asks and not in its greeting: who asks, or says what IMAP2 has
// no word for, is a client of IMAP4 and is served as everywhere, with what is obsolete
// besides. Until then session.old holds, and the answers are those of IMAP2: no codes of
// mailboxes, dates and strings of the old form, COPY that makes its target.

// withLegacy returns the table of a legacy server: today's rows, of which some have
// their old form and the others say that the client is none of IMAP2's, and the rows
// that are of the past alone.
func withLegacy(today []row) []row {
	past := legacyCommands()
	for i := range today {
		r := &today[i]
		if at := slices.IndexFunc(past, func(p row) bool { return p.name == r.name }); at >= 0 {
			past[at].caps = r.caps
			*r = past[at]
			past = slices.Delete(past, at, at+1)
		} else if !slices.Contains(imap2Commands, r.name) {
			r.run = modern(r.run)
			continue
		}
		r.run = plain(r.run)
	}
	return append(today, past...)
}

// imap2Commands are those of IMAP2 and IMAP2bis that need no old form.
var imap2Commands = []string{"NOOP", "LOGOUT", "CREATE", "DELETE", "RENAME", "SELECT", "EXAMINE", "SEARCH"}

// legacyCommands is every command that differs, or is there, for old clients only.
func legacyCommands() []row {
	const in = signedIn | selected
	rows := []row{
		{name: "LOGIN", in: fresh, run: handle((*imap.Decoder).ExpectOldLogin, (*session).oldLogin)},
		{name: "FIND", in: in, after: tellAll, run: handle((*imap.Decoder).ExpectFind, (*session).findNames)},
		{name: "BBOARD", in: in, run: handle((*imap.Decoder).ExpectMailbox, (*session).board)},
		{name: "SUBSCRIBE", in: in, after: tellAll, run: handle((*imap.Decoder).ExpectOldMailbox, (*session).subscribe)},
		{name: "UNSUBSCRIBE", in: in, after: tellAll, run: handle((*imap.Decoder).ExpectOldMailbox, (*session).unsubscribe)},
		{name: "APPEND", in: in, after: tellAll, run: (*session).oldAppend},
		{name: "CHECK", in: selected, after: tellAll, run: bare((*session).oldCheck)},
		{name: "EXPUNGE", in: selected, writes: true, after: tellAll, run: bare((*session).oldExpunge)},
		{name: "COPY", in: selected, after: tellAll, run: handle((*imap.Decoder).ExpectCopy, (*session).oldCopy)},
		{name: "STORE", in: selected, writes: true, after: keepSeqs, run: handle((*imap.Decoder).ExpectStore, (*session).oldStore)},
		{name: "FETCH", in: selected, after: keepSeqs, run: handle((*imap.Decoder).ExpectFetch, (*session).oldFetch)},
		{name: "PARTIAL", in: selected, after: keepSeqs, run: handle((*imap.Decoder).ExpectPartialCommand, (*session).oldFetch)},
		{name: "UID PARTIAL", in: selected, after: tellAll, run: modern(handle((*imap.Decoder).ExpectPartialCommand, (*session).fetch))},
	}
	for _, name := range []string{
		"SUPPORTED.VERSIONS", "SELECT.VERSION", "SELECT.FEATURES", "READONLY", "READWRITE", "FLAGS", "SET.FLAGS",
	} {
		rows = append(rows, row{name: name, in: anyState, run: refuseIMAP3})
	}
	return rows
}

// modern makes a handler of a command that no client of IMAP2 sends.
func modern(run handler) handler {
	return func(s *session, cmd *command) (reply, error) {
		s.old = false
		return run(s, cmd)
	}
}

// plain makes a handler of a command that IMAP2 has. Its clients show response codes to
// people as they stand; they know that of SELECT.
func plain(run handler) handler {
	return func(s *session, cmd *command) (reply, error) {
		rep, err := run(s, cmd)
		if s.old && rep.status == "OK" && !strings.HasPrefix(rep.code, "READ-") {
			rep.code = ""
		}
		return rep, err
	}
}

// refuseIMAP3 answers what only IMAP3 has. Its clients go on with IMAP2, as RFC 1203
// has it ("SELECT.VERSION").
func refuseIMAP3(s *session, cmd *command) (reply, error) {
	s.c.Log().Info("client asks for IMAP3", "command", cmd.row.name)
	return reply{}, imap.ErrIMAP3()
}

// oldLogin is LOGIN.
func (s *session) oldLogin(_ *command, args imap.OldLogin) (reply, error) {
	return s.login(args.User, args.Password)
}

// findNames is FIND (RFC 1176; RFC 2062, 6.3.OBS.1 and 6.3.OBS.2). Bulletin boards are
// what other users share. Without ALL it finds what is subscribed; to a client of IMAP2,
// which cannot subscribe, all boards, and all of the user's own mailboxes but INBOX.
func (s *session) findNames(_ *command, args imap.Find) (reply, error) {
	names, err := s.names("", []string{"*"})
	if err != nil {
		return reply{}, err
	}
	what, pattern := "* MAILBOX ", imap.NewOldPattern(args.Pattern)
	if args.Boards {
		what = "* BBOARD "
	}
	for _, n := range names {
		board := n.of.prefix != ""
		switch {
		case n.box == nil, args.Boards && !board, !pattern.Match(n.full):
			continue
		case args.All:
		case s.old && board != args.Boards, s.old && n.full == "INBOX", !s.old && !n.subscribed:
			continue
		}
		full := n.full
		if !s.enc.UTF8 {
			full = imap.EncodeUTF7(full)
		}
		s.enc.Raw(what).Raw(full).CRLF() // as it stands, up to the line end (RFC 1730, 9)
		if err := s.flushFull(); err != nil {
			return reply{}, err
		}
	}
	return ok("FIND done"), nil
}

// board is BBOARD (RFC 1176): SELECT of a bulletin board.
func (s *session) board(cmd *command, name string) (reply, error) {
	at, err := s.place(name)
	if err != nil {
		return reply{}, err
	}
	if at.prefix == "" {
		return no("NONEXISTENT", "there is no such bulletin board"), nil
	}
	return s.open(cmd, imap.Select{Mailbox: name}, false)
}
