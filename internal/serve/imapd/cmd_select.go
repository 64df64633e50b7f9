package imapd

import (
	"context"
	"fmt"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// selectCommand is SELECT (RFC 9051, 6.3.2).
func (s *session) selectCommand(cmd *command, args imap.Select) (reply, error) {
	return s.open(cmd, args, false)
}

// examine is EXAMINE (RFC 9051, 6.3.3).
func (s *session) examine(cmd *command, args imap.Select) (reply, error) {
	return s.open(cmd, args, true)
}

func (s *session) open(cmd *command, args imap.Select, readOnly bool) (reply, error) {
	if args.Resync != nil && !s.qresync {
		return bad("QRESYNC has to be enabled first"), nil
	}
	if s.uidOnly && args.Resync != nil && len(args.Resync.Seqs) > 0 {
		return reply{}, uidRequired()
	}
	// The mailbox may be the one that is left: who attends to its account need not look twice.
	defer s.acct.Attend()()
	s.leave(true)
	if args.CondStore {
		s.enableCondstore()
	}
	if args.ObjectID != nil {
		s.enableObjectID()
	}
	at, box, err := s.named(&args)
	if err != nil {
		return reply{}, err
	}
	pic, err := at.acct.PictureSince(s.ctx, box.ID, cmd.begun)
	if err != nil {
		return reply{}, err
	}
	s.view = &view{owner: at.owner, rights: at.acct.Rights(&box), box: box.ID, readOnly: readOnly,
		annotate: args.Annotate, noted: pic.ModSeq(), left: at.acct.Attend()}
	s.view.show(pic)
	s.state = selected
	s.followSelected()
	s.tellOpened()
	if args.Resync != nil {
		if err := s.resync(args.Resync); err != nil {
			s.leave(false)
			return reply{}, err
		}
	}
	if readOnly {
		return okCode("READ-ONLY", "EXAMINE done"), nil
	}
	if s.view.rights&(mail.RightInsert|mail.RightExpunge|mail.RightWrite|mail.RightDeleted) == 0 { // RFC 4314, 5.2
		return okCode("READ-ONLY", "SELECT done"), nil
	}
	return okCode("READ-WRITE", "SELECT done"), nil
}

// tellOpened writes what SELECT must tell of a mailbox (RFC 9051, 6.3.2; RFC 3501,
// 6.3.1).
func (s *session) tellOpened() {
	v, e := s.view, s.enc
	box := v.pic.Mailbox()
	s.tellFlags()
	e.Raw("* ").Number(uint64(v.pic.Len())).Raw(" EXISTS").CRLF()
	if s.rev2 {
		s.tellOldName(v.use(&box), v.shown(box.Name), s.dec.OldName)
	} else {
		v.findRecent()
		s.tellRecent(true)
		if first := v.pic.FirstUnseen(); first > 0 && !s.uidOnly && !s.old {
			s.note("OK", fmt.Sprint("UNSEEN ", first), "first unseen message")
		}
	}
	if s.old { // IMAP2 has no more to say, and its clients show what they do not know
		return
	}
	s.note("OK", fmt.Sprint("UIDVALIDITY ", box.UIDValidity), "UIDs are valid")
	s.note("OK", fmt.Sprint("UIDNEXT ", box.UIDNext), "next UID")
	s.note("OK", s.ids(&v.owner, box.ID), "id of the mailbox")
	s.note("OK", v.noteSupport(), "size of annotations")
	s.tellModSeq()
}

// leave closes the selected mailbox, if there is one. With told, the client learns
// where the news of the old mailbox ends (RFC 9051, 7.1 "CLOSED").
func (s *session) leave(told bool) {
	if s.view == nil {
		return
	}
	s.leftBehind(s.view)
	s.view.close()
	s.view, s.saved, s.state = nil, nil, signedIn
	if told && !s.old {
		s.note("OK", "CLOSED", "the previous mailbox is closed")
	}
}

// closeMailbox is CLOSE: expunge without a word, then leave (RFC 9051, 6.4.1).
func (s *session) closeMailbox(*command) (reply, error) {
	v := s.view
	s.leave(false)
	if !v.readOnly && v.rights.Has(mail.RightExpunge) {
		if err := s.expungeDeleted(v, store.All()); err != nil && !fault.Is(err, fault.Denied) { // RFC 4314, 4
			return reply{}, err
		}
	}
	return ok("CLOSE done"), nil
}

// unselect is UNSELECT (RFC 9051, 6.4.2).
func (s *session) unselect(*command) (reply, error) {
	s.leave(false)
	return ok("UNSELECT done"), nil
}

// expunge is EXPUNGE (RFC 9051, 6.4.3). The sync after it tells what went.
func (s *session) expunge(*command) (reply, error) {
	err := s.expungeDeleted(s.view, store.All())
	return ok("EXPUNGE done"), err
}

// expungeDeleted removes what has \Deleted among the messages of a set.
func (s *session) expungeDeleted(v *view, set mail.UIDSet) error {
	if err := v.may(mail.RightExpunge); err != nil {
		return err
	}
	return s.await(v.pic, set, func(ctx context.Context) error {
		_, err := v.acct.Expunge(ctx, v.box, set, true)
		return err
	})
}

// uidExpunge is UID EXPUNGE (RFC 9051, 6.4.9; RFC 4315, 2.1).
func (s *session) uidExpunge(cmd *command, set imap.SeqSet) (reply, error) {
	uids, _, err := s.resolve(set, true)
	if err == nil {
		uids, err = s.limitDeleted(cmd, uids)
	}
	if err == nil {
		err = s.expungeDeleted(s.view, uids)
	}
	return ok("UID EXPUNGE done"), err
}

// copyUID is the response code that tells where messages went (RFC 4315, 3).
func copyUID(validity uint32, moved []store.Moved) string {
	var from, to mail.UIDSet
	for _, m := range moved {
		from.Add(m.From)
		to.Add(m.To)
	}
	return fmt.Sprintf("COPYUID %d %s %s", validity, from, to)
}
