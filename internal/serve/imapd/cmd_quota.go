package imapd

import (
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// An account has one quota root for all its mailboxes (RFC 9208, 3.1.1): "" for the
// user's own, and for another's what the names of that owner's mailboxes begin with.
const quotaRoot = ""

// getQuota is GETQUOTA (RFC 9208, 4.1.1).
func (s *session) getQuota(_ *command, root string) (reply, error) {
	if root == quotaRoot {
		return ok("GETQUOTA done"), s.tellQuota(s.acct, root)
	}
	if s.admin {
		at, err := s.quotaPlace(root)
		if err != nil {
			return reply{}, err
		}
		return ok("GETQUOTA done"), s.tellQuota(at.acct, root)
	}
	at, err := s.place(root)
	if err == nil && at.prefix != root {
		err = noMailbox()
	}
	var boxes []store.Mailbox
	if err == nil { // one who may not ask for the root must not ask for it by name either
		boxes, err = at.acct.Shared(s.ctx, mail.RightRead)
	}
	switch {
	case err == nil && len(boxes) > 0:
		return ok("GETQUOTA done"), s.tellQuota(at.acct, root)
	case err == nil || fault.Is(err, fault.NotFound):
		return reply{}, fault.New(fault.NotFound, "there is no such quota root")
	}
	return reply{}, err
}

// getQuotaRoot is GETQUOTAROOT (RFC 9208, 4.1.2; 6 for the right it needs). A mailbox of
// the user's own need not exist; that of another counts for its owner.
func (s *session) getQuotaRoot(_ *command, name string) (reply, error) {
	at, root := s.self(), quotaRoot
	if inOtherUsers(name) {
		p, _, err := s.mailbox(name, mail.RightRead)
		if err != nil {
			return reply{}, err
		}
		at, root = p.owner, p.prefix
	}
	s.enc.Raw("* QUOTAROOT ").Mailbox(name).SP().String(root).CRLF()
	return ok("GETQUOTAROOT done"), s.tellQuota(at.acct, root)
}

// setQuota is SETQUOTA, for administrators alone (RFC 9208, 4.1.3). Limits that are not
// named are none any more.
func (s *session) setQuota(_ *command, args imap.SetQuota) (reply, error) {
	if !s.admin {
		return no("NOPERM", "quotas are the administrator's to set"), nil
	}
	quota, err := quotaOf(args.Limits)
	if err != nil {
		return reply{}, err
	}
	acct := s.acct
	if args.Root != quotaRoot {
		at, err := s.quotaPlace(args.Root)
		if err != nil {
			return reply{}, err
		}
		acct = at.acct
	}
	// As its owner has it: what it may take is none of the rights that users give.
	err = acct.As(0).Update(s.ctx, func(tx *store.Tx) error {
		tx.SetQuota(quota)
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	s.c.Log().Info("quota set", "root", args.Root, "bytes", quota.Bytes, "messages", quota.Messages)
	return ok("SETQUOTA done"), s.tellQuota(acct, args.Root)
}

// quotaPlace returns whose root one of another user is.
func (s *session) quotaPlace(root string) (place, error) {
	at, err := s.place(root)
	if err == nil && at.prefix != root || fault.Is(err, fault.NotFound) {
		err = fault.New(fault.NotFound, "there is no such quota root")
	}
	return at, err
}

// quotaOf reads limits. There is one on mailboxes, too, which is the same for all.
func quotaOf(limits []imap.QuotaLimit) (q store.Quota, err error) {
	for _, l := range limits {
		most := uint64(1 << 52)
		to, unit := &q.Messages, int64(1)
		switch l.Resource {
		case "STORAGE":
			to, unit = &q.Bytes, 1024
		case "MESSAGE":
		default:
			return q, fault.Newf(fault.Unsupported, "no limit can be set on %s", l.Resource)
		}
		if l.Limit == 0 || l.Limit > most {
			return q, fault.Newf(fault.Invalid, "a limit is 1 to %d; one that is left out is none", most)
		}
		*to = int64(l.Limit) * unit
	}
	return q, nil
}

// tellQuota writes a QUOTA response: what is limited, with usage and limit (RFC 9208,
// 4.2.1 and 5).
func (s *session) tellQuota(acct *store.Account, root string) error {
	var quota store.Quota
	var usage store.Usage
	var boxes int
	err := acct.View(s.ctx, func(snap *store.Snapshot) error {
		quota, usage = snap.Quota()
		boxes = snap.MailboxCount()
		return nil
	})
	if err != nil {
		return err
	}
	e := s.enc
	e.Raw("* QUOTA ").String(root).Raw(" (")
	if quota.Bytes > 0 {
		e.Raw("STORAGE ").Number(kilobytes(usage.Bytes)).SP().Number(kilobytes(quota.Bytes)).SP()
	}
	if quota.Messages > 0 {
		e.Raw("MESSAGE ").Number(uint64(usage.Messages)).SP().Number(uint64(quota.Messages)).SP()
	}
	e.Raw("MAILBOX ").Number(uint64(boxes)).SP().Number(store.MaxMailboxes).Raw(")").CRLF()
	return nil
}

// kilobytes is the unit of STORAGE: 1,024 bytes, begun ones count (RFC 9208, 5.1).
func kilobytes(n int64) uint64 { return uint64(n+1023) / 1024 }

// deletedBytes is the sizes of the messages with \Deleted, for STATUS (RFC 9208,
// 4.1.4). Only if there are any are the messages looked at.
func (s *session) deletedBytes(of *owner, box *store.Mailbox) (uint64, error) {
	if box.Deleted == 0 {
		return 0, nil
	}
	pic, err := of.acct.Picture(s.ctx, box.ID)
	if err != nil {
		return 0, err
	}
	var sum uint64
	for _, m := range pic.Messages(store.All()) {
		if m.Flags.Has(mail.Deleted) {
			sum += uint64(m.Size)
		}
	}
	return sum, nil
}
