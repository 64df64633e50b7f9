package store

import (
	"cmp"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// CreateMailbox makes a mailbox and those above it that are missing (RFC 9051,
// 6.3.4). role may be "". It inherits the list of rights of the nearest mailbox above it
// (RFC 4314, 4). Faults: Exists, Invalid, Denied, OverQuota at MaxMailboxes.
func (tx *Tx) CreateMailbox(name string, role mail.Role) (Mailbox, error) {
	clean, err := CleanName(name)
	if err != nil {
		return Mailbox{}, err
	}
	if err := cmp.Or(tx.needAbove(clean), tx.unreserved(clean)); err != nil {
		return Mailbox{}, err
	}
	_, exists, err := tx.lookup(clean)
	if err != nil {
		return Mailbox{}, err
	}
	if exists {
		return Mailbox{}, fault.New(fault.Exists, "a mailbox of this name exists already")
	}
	if err := tx.createParents(clean); err != nil {
		return Mailbox{}, err
	}
	return tx.create(clean, role)
}

func (tx *Tx) createParents(clean string) error {
	parent := Parent(clean)
	if parent == "" {
		return nil
	}
	_, exists, err := tx.lookup(parent)
	if err != nil || exists {
		return err
	}
	if err := tx.createParents(parent); err != nil {
		return err
	}
	_, err = tx.create(parent, "")
	return err
}

func (tx *Tx) create(clean string, role mail.Role) (Mailbox, error) {
	if tx.acct.mailboxes >= MaxMailboxes {
		return Mailbox{}, fault.Newf(fault.OverQuota, "the account has %d mailboxes, the most it may have", MaxMailboxes)
	}
	return tx.make(clean, role)
}

// validityAt is the UIDVALIDITY that goes with a time. A clock that is off by a century
// leaves room for others.
func validityAt(now time.Time) uint32 { return uint32(min(max(now.Unix(), 0), 1<<32-1<<27)) }

// make makes one mailbox, of a name that is free.
func (tx *Tx) make(clean string, role mail.Role) (Mailbox, error) {
	if _, taken, err := tx.lookup(clean); err != nil || taken {
		return Mailbox{}, cmp.Or(err, error(fault.Newf(fault.Internal, "a second mailbox was to be called %q", clean)))
	}
	tx.acct.validity = max(tx.acct.validity+1, validityAt(tx.now))
	m := Mailbox{
		ID: mail.MailboxID(tx.acct.nextMailbox), Name: clean, Role: role,
		UIDValidity: tx.acct.validity, UIDNext: 1, Created: tx.mod,
	}
	above, err := tx.above(clean)
	if err != nil {
		return Mailbox{}, err
	}
	if above != nil {
		m.Grants = above.Grants
	}
	tx.acct.nextMailbox++
	tx.acct.mailboxes++
	b := newTxBox(m)
	tx.boxes[m.ID] = b
	tx.touch(b)
	tx.account0.Arrived.Add(mail.UID(m.ID))
	if err := tx.putName(clean, m.ID); err != nil {
		return Mailbox{}, err
	}
	// Written now too, so that Mailboxes of this Tx finds it.
	return b.Mailbox, tx.w.Put(engine.Key(famMailbox, uint64(m.ID)), b.encode())
}

func (tx *Tx) putName(clean string, id mail.MailboxID) error {
	var e enc
	e.U(uint64(id))
	return tx.w.Put(engine.KeyString(famName, clean), seal(recName, e))
}

// SetRole gives a mailbox a role, or takes it with "" (RFC 6154).
func (tx *Tx) SetRole(id mail.MailboxID, role mail.Role) error {
	b, err := tx.open(id)
	if err != nil {
		return err
	}
	if tx.account.guest() != 0 {
		return fault.New(fault.Denied, "the special use of a mailbox is its owner's to say")
	}
	if id == tx.acct.kept {
		return keptOnly()
	}
	b.Role = role
	b.dirty, tx.acctDirty = true, true // its messages have not changed: no modseq
	tx.account0.Changed.Add(mail.UID(id))
	return nil
}

// RenameMailbox renames a mailbox with all below it; ids, UIDs and UIDVALIDITY
// stay, subscriptions follow. INBOX cannot be renamed by this: see
// Account.RenameInbox. Faults: NotFound, Exists, Invalid.
func (tx *Tx) RenameMailbox(from, to string) error {
	old, err := CleanName(from)
	if err != nil {
		return err
	}
	clean, err := CleanName(to)
	if err != nil {
		return err
	}
	switch {
	case old == "INBOX":
		return fault.New(fault.Invalid, "INBOX cannot be renamed")
	case strings.HasPrefix(clean, old+Separator):
		return fault.New(fault.Invalid, "a mailbox cannot become its own child")
	}
	moves, err := tx.family(old)
	if err != nil {
		return err
	}
	if err := cmp.Or(tx.needMove(old, moves, clean), tx.unreserved(clean)); err != nil {
		return err
	}
	if _, exists, err := tx.lookup(clean); err != nil {
		return err
	} else if exists {
		return fault.New(fault.Exists, "a mailbox of the new name exists already")
	}
	if err := tx.createParents(clean); err != nil {
		return err
	}
	for _, m := range moves {
		if err := tx.renameOne(m, clean+strings.TrimPrefix(m.Name, old)); err != nil {
			return err
		}
	}
	return nil
}

// needMove fails unless the user may rename what is at a name and below it (RFC 4314,
// 4). Of a name that is no mailbox, the rights on those below it count.
func (tx *Tx) needMove(old string, moves []Mailbox, clean string) error {
	if len(moves) == 0 {
		return fault.New(fault.NotFound, "no such mailbox")
	}
	for _, m := range moves {
		b, err := tx.open(m.ID)
		if err != nil {
			return err
		}
		if err := tx.need(b, mail.RightDelete); err != nil {
			return err
		}
		if m.Name == old {
			break
		}
	}
	return tx.needAbove(clean)
}

// family returns the mailboxes at a name and below it. The name itself need not
// exist (a \NonExistent parent may be renamed too).
func (tx *Tx) family(name string) ([]Mailbox, error) {
	all, err := tx.mailboxes()
	var list []Mailbox
	for _, m := range all {
		if m.Name == name || strings.HasPrefix(m.Name, name+Separator) {
			list = append(list, m)
		}
	}
	return list, err
}

func (tx *Tx) renameOne(m Mailbox, name string) error {
	if _, err := CleanName(name); err != nil { // a child may have become too long
		return err
	}
	if _, exists, err := tx.lookup(name); err != nil {
		return err
	} else if exists {
		return fault.New(fault.Exists, "a mailbox of the new name exists already")
	}
	b, err := tx.open(m.ID)
	if err == nil && m.ID == tx.acct.kept {
		err = keptOnly()
	}
	if err != nil {
		return err
	}
	if err := tx.w.Delete(engine.KeyString(famName, m.Name)); err != nil {
		return err
	}
	if err := tx.putName(name, m.ID); err != nil {
		return err
	}
	if err := tx.renamedTied(b); err != nil {
		return err
	}
	b.Name = name
	b.dirty, tx.acctDirty = true, true
	tx.account0.Changed.Add(mail.UID(m.ID))
	_, subscribed, err := tx.w.Get(engine.KeyString(famSub, m.Name))
	if err != nil || !subscribed {
		return err
	}
	if err := tx.Subscribe(m.Name, false); err != nil {
		return err
	}
	return tx.Subscribe(name, true)
}

// Subscribe puts a name on the list of subscriptions or takes it off. The name need
// not be a mailbox's (RFC 9051, 6.3.7). Faults: Invalid.
func (tx *Tx) Subscribe(name string, on bool) error {
	clean, err := CleanName(name)
	if err != nil {
		return err
	}
	tx.acctDirty = true
	tx.account0.Changed.AddRange(0, 0)
	if !on {
		return tx.w.Delete(engine.KeyString(famSub, clean))
	}
	return tx.w.Put(engine.KeyString(famSub, clean), seal(recSub, nil))
}

// DeleteMailbox removes a mailbox; those below it stay. Its messages leave quota
// and mailbox at once, and their records with the next Account.Reap, if they are not kept
// (Options.Keep). INBOX cannot be deleted, nor can the mailbox of deleted mail. Faults:
// NotFound, Denied, Unsupported for these two, Invalid.
func (tx *Tx) DeleteMailbox(name string) error {
	found, err := tx.find(name)
	if err != nil {
		return err
	}
	b, err := tx.open(found)
	if err != nil {
		return err
	}
	m := &b.Mailbox
	if err := tx.need(b, mail.RightDelete); err != nil {
		return err
	}
	if m.Name == "INBOX" {
		return fault.New(fault.Unsupported, "INBOX cannot be deleted")
	}
	if m.ID == tx.acct.kept {
		return keptOnly()
	}
	return tx.doom(b)
}

// doom removes a mailbox, and leaves its messages to Reap.
func (tx *Tx) doom(b *txBox) error {
	m := &b.Mailbox
	if b.dirty { // pages of this very Tx must be on record for Reap to find them
		if err := tx.flushBox(b); err != nil {
			return err
		}
	}
	b.gone = true
	tx.acctDirty = true
	tx.acct.mailboxes--
	tx.acct.usage.Bytes -= b.Bytes
	tx.acct.usage.Messages -= int64(b.Messages)
	tx.account0.Expunged.Add(mail.UID(m.ID))
	id := uint64(m.ID)
	if err := tx.w.DeleteRange(engine.Key(famLog, id), engine.Key(famLog, id+1)); err != nil {
		return err
	}
	if err := tx.dropEntries(m.ID); err != nil {
		return err
	}
	if err := tx.dropURLKeysOf(m.ID); err != nil {
		return err
	}
	if err := tx.dropGuests(b); err != nil {
		return err
	}
	if err := tx.w.Delete(engine.Key(famMailbox, id)); err != nil {
		return err
	}
	if err := tx.w.Delete(engine.KeyString(famName, m.Name)); err != nil {
		return err
	}
	if tx.keeps(b) && b.Messages > 0 {
		return cmp.Or(tx.noteLost(b), tx.putKeptDoomed(b))
	}
	if tx.acct.kept != 0 { // some of what is kept may have lain there
		if err := tx.noteLost(b); err != nil {
			return err
		}
	}
	return cmp.Or(tx.dropAllNotes(b), tx.w.Put(doomedKey(m.ID), seal(recDoomed, nil)))
}
