package move

import (
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// exactBox returns the mailbox that one of an account goes into which is to be as it was. The
// mailboxes that a new account has are made to be those of the source: the empty "Sent" here becomes
// "Gesendet" if that is what the mailbox with its role was called. Nothing is changed of a mailbox
// that has ever had a message: then it goes into the one with its role, else of its name.
func exactBox(tx *store.Tx, m *Mailbox) (store.Mailbox, error) {
	name := NameHere(m.Name)
	if m.Role == mail.RoleInbox || name == "INBOX" {
		return tx.Mailbox("INBOX")
	}
	boxes, err := tx.Mailboxes()
	if err != nil {
		return store.Mailbox{}, err
	}
	boxes = slices.DeleteFunc(boxes, func(b store.Mailbox) bool { return tx.Accepts(b.ID) != nil })
	holder := slices.IndexFunc(boxes, func(b store.Mailbox) bool { return m.Role != "" && b.Role == m.Role })
	named := slices.IndexFunc(boxes, func(b store.Mailbox) bool { return b.Name == name })
	switch {
	case named >= 0 && boxes[named].Role == m.Role:
		return boxes[named], nil
	case holder < 0 && named < 0:
		return boxNamed(tx, name, m.Role)
	}
	if holder >= 0 {
		if fresh, err := untouched(tx, &boxes[holder]); err != nil || !fresh {
			return boxes[holder], err
		}
		if named < 0 && mayBecome(tx, boxes, &boxes[holder], name) {
			if err := tx.RenameMailbox(boxes[holder].Name, name); err != nil {
				return store.Mailbox{}, err
			}
			return tx.MailboxByID(boxes[holder].ID)
		}
	}
	if named < 0 {
		made, err := boxNamed(tx, name, "")
		if err != nil {
			return made, err
		}
		boxes, named = append(boxes, made), len(boxes)
	}
	if fresh, err := untouched(tx, &boxes[named]); err != nil || !fresh {
		if holder >= 0 {
			named = holder
		}
		return boxes[named], err
	}
	if holder >= 0 {
		if err := tx.SetRole(boxes[holder].ID, ""); err != nil {
			return store.Mailbox{}, err
		}
	}
	if err := tx.SetRole(boxes[named].ID, m.Role); err != nil {
		return store.Mailbox{}, err
	}
	return tx.MailboxByID(boxes[named].ID)
}

// mayBecome tells whether a mailbox can have another name, and no other changes its name with it.
func mayBecome(tx *store.Tx, boxes []store.Mailbox, box *store.Mailbox, name string) bool {
	below := box.Name + store.Separator
	if strings.HasPrefix(name, below) || slices.ContainsFunc(boxes, func(b store.Mailbox) bool { return strings.HasPrefix(b.Name, below) }) {
		return false
	}
	_, err := tx.Mailbox(name) // that of deleted mail may have it
	return fault.Is(err, fault.NotFound)
}

// untouched tells whether a mailbox has never had a message, and nothing was to go into it.
func untouched(tx *store.Tx, box *store.Mailbox) (bool, error) {
	if box.UIDNext != 1 {
		return false, nil
	}
	ties, err := tx.TiedBoxes()
	return !slices.ContainsFunc(ties, func(t store.TiedBox) bool { return t.At == box.ID }), err
}

// subscribeExactly subscribes what the source's account has subscribed, and nothing else of a
// mailbox that has never had a message.
func subscribeExactly(tx *store.Tx, box *store.Mailbox, m *Mailbox) error {
	for _, name := range m.Subscriptions {
		if err := subscribe(tx, NameHere(name)); err != nil {
			return err
		}
	}
	if m.Subscribed {
		return subscribe(tx, box.Name)
	}
	fresh, err := untouched(tx, box)
	if err == nil && fresh {
		err = tx.Subscribe(box.Name, false)
	}
	return err
}
