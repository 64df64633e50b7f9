package imapd

import (
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// status is STATUS (RFC 9051, 6.3.11). It reads the mailbox record and no message.
func (s *session) status(_ *command, args imap.Status) (reply, error) {
	at, box, err := s.mailbox(args.Mailbox, mail.RightRead)
	if err != nil {
		return reply{}, err
	}
	return ok("STATUS done"), s.tellStatus(&at.owner, &box, args.Items)
}

// tellStatus answers for a mailbox of which STATUS or LIST asks.
func (s *session) tellStatus(of *owner, box *store.Mailbox, items imap.StatusItems) error {
	if items&imap.StatusHighestModSeq != 0 {
		s.enableCondstore() // RFC 7162, 3.1
	}
	if items&imap.StatusObjectID != 0 {
		s.enableObjectID()
	}
	return s.writeStatus(of, box, items)
}

// writeStatus writes a STATUS response (RFC 9051, 7.3.4).
func (s *session) writeStatus(of *owner, box *store.Mailbox, items imap.StatusItems) error {
	e := s.enc
	e.Raw("* STATUS ").Mailbox(of.shown(box.Name)).Raw(" (")
	first := true
	for item := imap.StatusItems(1); item != 0; item <<= 1 {
		if items&item == 0 {
			continue
		}
		if !first {
			e.SP()
		}
		first = false
		if item == imap.StatusMailboxID {
			e.Raw("MAILBOXID (").Raw(of.mailboxID(box.ID)).Raw(")")
			continue
		}
		if item == imap.StatusObjectID {
			e.Raw("OBJECTID ").Raw(of.pair(box.ID))
			continue
		}
		value, err := s.statusValue(of, box, item)
		if err != nil {
			return err
		}
		e.Raw(item.Names()[0]).SP().Number(value)
	}
	e.Raw(")").CRLF()
	return nil
}

func (s *session) statusValue(of *owner, box *store.Mailbox, item imap.StatusItems) (uint64, error) {
	switch item {
	case imap.StatusMessages:
		return uint64(box.Messages), nil
	case imap.StatusRecent:
		if s.view.is(of, box.ID) {
			return uint64(s.view.recentCount()), nil
		}
		n, err := of.acct.Recent(s.ctx, box.ID)
		return uint64(n), err
	case imap.StatusUIDNext:
		return uint64(box.UIDNext), nil
	case imap.StatusUIDValidity:
		return uint64(box.UIDValidity), nil
	case imap.StatusUnseen:
		return uint64(box.Unseen), nil
	case imap.StatusDeleted:
		return uint64(box.Deleted), nil
	case imap.StatusSize:
		return uint64(box.Bytes), nil
	case imap.StatusHighestModSeq:
		return uint64(box.HighestModSeq), nil
	case imap.StatusDeletedBytes:
		return s.deletedBytes(of, box)
	default: // imap.StatusAppendLimit: the same for every mailbox (RFC 7889, 3)
		return uint64(s.srv.opt.Store.MaxMessage()), nil
	}
}
