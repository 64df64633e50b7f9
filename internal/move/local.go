package move

import (
	"cmp"
	"context"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// Local is an account of a store in this process.
type Local struct {
	store   *store.Store
	account *store.Account
}

var _ Target = (*Local)(nil)

// NewLocal returns an account, which must exist when its methods are called. Nobody's rights
// are asked: it is for the account's owner, or who administers it.
func NewLocal(s *store.Store, id mail.AccountID) *Local {
	return &Local{store: s, account: s.Account(id)}
}

func placeOf(m *store.Mailbox) Place {
	return Place{ID: m.ID, Name: m.Name, Role: m.Role, UIDValidity: m.UIDValidity, UIDNext: m.UIDNext, Messages: m.Messages, Bytes: m.Bytes}
}

// MaxMessage returns how many bytes a message may have.
func (l *Local) MaxMessage(context.Context) (int64, error) { return l.store.MaxMessage(), nil }

// Mailboxes lists the account's mailboxes, but that of deleted mail.
func (l *Local) Mailboxes(ctx context.Context) (list []Place, err error) {
	err = l.account.View(ctx, func(s *store.Snapshot) error {
		list = nil
		boxes, err := s.Mailboxes()
		for i := range boxes {
			if s.Accepts(boxes[i].ID) == nil {
				list = append(list, placeOf(&boxes[i]))
			}
		}
		return err
	})
	return list, err
}

// Open finds or makes the mailbox that one of a source goes into. It stays the same as long
// as it is there, whatever it is called meanwhile.
func (l *Local) Open(ctx context.Context, source string, m Mailbox) (at Place, kept bool, err error) {
	err = l.account.Update(ctx, func(tx *store.Tx) error {
		tie, err := tx.TiedBox(source, m.Source)
		if err != nil {
			return err
		}
		box, err := openBox(tx, tie.At, &m)
		if err != nil {
			return err
		}
		switch {
		case m.Exact && tie.At == 0: // later it is as its owner has it
			err = subscribeExactly(tx, &box, &m)
		case m.Subscribed:
			err = subscribe(tx, box.Name)
		}
		if err != nil {
			return err
		}
		if kept, err = keepsUIDs(tx, &tie, &box, m.UIDValidity); err != nil {
			return err
		}
		if tie.At != box.ID || kept && tie.Validity != m.UIDValidity {
			tie.At, tie.Validity = box.ID, 0
			if kept {
				tie.Validity = m.UIDValidity
			}
			if err := tx.PutTiedBox(tie); err != nil {
				return err
			}
		}
		box, err = tx.MailboxByID(box.ID)
		at = placeOf(&box)
		return err
	})
	return at, kept, err
}

// openBox returns the mailbox that had been found before, or has the role, or the name.
func openBox(tx *store.Tx, before mail.MailboxID, m *Mailbox) (store.Mailbox, error) {
	if before != 0 {
		box, err := tx.MailboxByID(before)
		if err == nil || !fault.Is(err, fault.NotFound) {
			return box, err
		}
	}
	if m.Exact {
		return exactBox(tx, m)
	}
	role := m.Role
	switch role {
	case mail.RoleAll, mail.RoleFlagged, mail.RoleImportant: // of mailboxes that are views of others
		role = ""
	case mail.RoleInbox:
		return tx.Mailbox("INBOX")
	}
	if role != "" {
		boxes, err := tx.Mailboxes()
		if err != nil {
			return store.Mailbox{}, err
		}
		for _, box := range boxes {
			if box.Role == role && tx.Accepts(box.ID) == nil {
				return box, nil
			}
		}
	}
	return boxNamed(tx, m.Name, role)
}

// boxNamed finds or makes the mailbox of a name.
func boxNamed(tx *store.Tx, name string, role mail.Role) (store.Mailbox, error) {
	name = NameHere(name)
	box, err := tx.Mailbox(name)
	if err == nil {
		if err = tx.Accepts(box.ID); err == nil {
			return box, nil
		}
		name += " 2" // that of deleted mail has this name
		box, err = tx.Mailbox(name)
	}
	if fault.Is(err, fault.NotFound) {
		box, err = tx.CreateMailbox(name, role)
	}
	return box, err
}

func subscribe(tx *store.Tx, name string) error {
	on, err := tx.Subscribed(name)
	if err == nil && !on {
		err = tx.Subscribe(name, true)
	}
	return err
}

// keepsUIDs tells whether a mailbox keeps the UIDs of the source's, having taken over the
// UIDVALIDITY now if it can.
func keepsUIDs(tx *store.Tx, tie *store.TiedBox, box *store.Mailbox, validity uint32) (bool, error) {
	switch {
	case validity == 0:
		return false, nil
	case tie.At == box.ID && tie.Validity == validity:
		return box.UIDValidity == validity, nil
	case box.UIDNext != 1:
		return false, nil
	}
	others, err := tx.TiedBoxes()
	if err != nil {
		return false, err
	}
	for _, o := range others {
		if o.At == box.ID && o.Validity != 0 && (o.Source != tie.Source || o.Mailbox != tie.Mailbox) {
			return false, nil // it has no message yet, and keeps the UIDs of another
		}
	}
	return tx.TakeValidity(box.ID, validity)
}

// sameKeywords tells whether keywords here are those of a source.
func sameKeywords(here, source []string) bool {
	want := mail.Compatible(keywordsHere(source))
	if len(here) != len(want) {
		return false
	}
	for _, k := range want {
		if !hasFold(here, k) {
			return false
		}
	}
	return true
}

// keywordsHere returns what stands for keywords of elsewhere, each once.
func keywordsHere(names []string) []string {
	var list []string
	for _, n := range names {
		if k := KeywordHere(n); !hasFold(list, k) {
			list = append(list, k)
		}
	}
	return list
}

func hasFold(list []string, name string) bool {
	for _, n := range list {
		if cmp.Compare(len(n), len(name)) == 0 && strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}
