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
		subscribed, _, err := subscriptions(s)
		if err != nil {
			return err
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

// subscriptions returns the names that are subscribed, as a set and in order.
func subscriptions(s *store.Snapshot) (set map[string]bool, names []string, err error) {
	if names, err = s.Subscriptions(); err != nil {
		return nil, nil, err
	}
	set = make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set, names, nil
}
