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

// setQuota is SETQUOTA: quotas are the administrator's to set, by other means.
func (s *session) setQuota(*command, imap.SetQuota) (reply, error) {
	return no("NOPERM", "quotas cannot be set here"), nil
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
