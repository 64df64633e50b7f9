package imapd

import (
	"bytes"
	"errors"
	"slices"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// oldAppend is APPEND. That its target could be made is said to a client of IMAP2bis
// before the answer and not in it (RFC 2061).
func (s *session) oldAppend(cmd *command) (reply, error) {
	rep, err := s.append(cmd)
	var a answered
	if s.old && errors.As(err, &a) && a.code == "TRYCREATE" {
		s.note("OK", a.code, fault.Say(err))
	}
	return rep, err
}

// oldCheck is CHECK, which tells how many messages there are even if none has come (RFC
// 1176).
func (s *session) oldCheck(cmd *command) (reply, error) {
	if s.old {
		if err := s.tellCounts(cmd); err != nil {
			return reply{}, err
		}
	}
	return s.noop(cmd)
}

// oldExpunge is EXPUNGE, which tells how many messages are left.
func (s *session) oldExpunge(cmd *command) (reply, error) {
	rep, err := s.expunge(cmd)
	if s.old && err == nil {
		err = s.tellCounts(cmd)
	}
	return rep, err
}

// tellCounts brings the view forward and tells EXISTS and RECENT.
func (s *session) tellCounts(cmd *command) error {
	if err := s.sync(cmd, tellAll); err != nil {
		return err
	}
	s.tellArrived()
	return nil
}

// oldCopy is COPY. For a client of IMAP2 it makes the target if need be, tells of each
// message that was copied and marks it as seen (RFC 1176; RFC 1732).
func (s *session) oldCopy(cmd *command, args imap.Copy) (reply, error) {
	rep, err := s.copyCommand(cmd, args)
	if !s.old {
		return rep, err
	}
	if fault.Is(err, fault.NotFound) {
		if _, err := s.create(cmd, imap.Create{Mailbox: args.Mailbox}); err != nil {
			return reply{}, err
		}
		rep, err = s.copyCommand(cmd, args)
	}
	if err != nil || rep.status != "OK" {
		return rep, err
	}
	uids, _, err := s.resolve(args.Set, false)
	if err != nil {
		return reply{}, err
	}
	for uid := range s.view.pic.Existing(uids).All() {
		s.enc.Raw("* ").Number(uint64(s.view.seq(uid))).Raw(" COPY").CRLF()
		if err := s.flushFull(); err != nil {
			return reply{}, err
		}
	}
	if !s.view.readOnly {
		if s.markSeen(cmd, uids); cmd.own != nil {
			cmd.own.silent = false
		}
	}
	return rep, nil
}

// oldStore is STORE. Its answers are called STORE as well to a client of IMAP2: what
// RFC 1176 shows, and what that of 1988 waits for.
func (s *session) oldStore(cmd *command, args imap.Store) (reply, error) {
	rep, err := s.store(cmd, args)
	s.old = s.old && !args.Silent && !args.Conditional
	if err != nil || !s.old {
		return rep, err
	}
	from := s.enc.Len()
	if err := s.sync(cmd, keepSeqs); err != nil {
		return reply{}, err
	}
	cmd.own = nil
	told := s.enc.Bytes()
	copy(told[min(from, len(told)):], bytes.ReplaceAll(told[min(from, len(told)):], []byte(" FETCH (FLAGS"), []byte(" STORE (FLAGS")))
	return rep, nil
}

// oldFetch is FETCH and PARTIAL. Who asks for what IMAP2bis has not is none of its
// clients.
func (s *session) oldFetch(cmd *command, args imap.Fetch) (reply, error) {
	s.old = s.old && !args.Changed && !args.Paged &&
		!slices.ContainsFunc(args.Items, func(it imap.FetchItem) bool { return !isIMAP2(&it) })
	return s.fetch(cmd, args)
}

// isIMAP2 tells whether IMAP2 or IMAP2bis has an item (RFC 1732 lists what they have
// not).
func isIMAP2(it *imap.FetchItem) bool {
	switch it.Kind {
	case imap.FetchFlags, imap.FetchInternalDate, imap.FetchSize, imap.FetchEnvelope, imap.FetchBody:
		return true
	case imap.FetchSection:
		switch it.Old {
		case "RFC822", "RFC822.TEXT":
			return !it.Peek
		case "RFC822.HEADER":
			return len(it.Fields) == 0
		}
		return !it.Peek && it.Text == imap.SectionAll && len(it.Path) > 0 && (!it.Partial || it.Old != "")
	}
	return false
}

// wire writes an ENVELOPE or BODY as it is kept; to a client of IMAP2, which knows no
// escapes in quoted strings, with literals instead.
func (w *fetchWriter) wire(b []byte) {
	if w.s.old && bytes.ContainsAny(b, `\{%`) {
		b = imap.AppendUnescaped(nil, b)
	}
	w.s.enc.RawBytes(b)
}
