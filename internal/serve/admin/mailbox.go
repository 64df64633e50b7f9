package admin

import (
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

type mailboxLine struct {
	Name          string      `json:"name"`
	Role          mail.Role   `json:"role,omitempty"`
	Subscribed    bool        `json:"subscribed"`
	Messages      uint32      `json:"messages"`
	Unseen        uint32      `json:"unseen"`
	Deleted       uint32      `json:"deleted"`
	Bytes         int64       `json:"bytes"`
	UIDValidity   uint32      `json:"uidvalidity"`
	UIDNext       mail.UID    `json:"uidnext"`
	HighestModSeq mail.ModSeq `json:"highestmodseq"`
}

func (a *api) listMailboxes(r *request) error {
	acct, err := a.lookup(r)
	if err != nil {
		return err
	}
	var lines []mailboxLine
	err = a.Store.Account(acct.ID).View(r.ctx, func(s *store.Snapshot) error {
		boxes, err := s.Mailboxes()
		if err != nil {
			return err
		}
		names, err := s.Subscriptions()
		if err != nil {
			return err
		}
		subscribed := make(map[string]bool, len(names))
		for _, n := range names {
			subscribed[n] = true
		}
		lines = nil
		for _, b := range boxes {
			lines = append(lines, mailboxLine{b.Name, b.Role, subscribed[b.Name], b.Messages, b.Unseen, b.Deleted,
				b.Bytes, b.UIDValidity, b.UIDNext, b.HighestModSeq})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, line := range lines {
		if err := r.send(line); err != nil {
			return err
		}
	}
	return nil
}
