package store

import (
	"context"
	"slices"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// maxGrants is how many entries the list of a mailbox's rights may have.
const maxGrants = 256

// Grant is one entry of a mailbox's list of rights (RFC 4314, 2). Accounts stand in it
// by their ids, so that a later account of the same address inherits nothing.
type Grant struct {
	Who      mail.AccountID // 0: anyone, that is every account of this server
	Negative bool           // takes rights away
	Rights   mail.Rights
}

// The owner has all rights unless the list says otherwise: then an entry of the
// owner's, which may be empty, stands in it.

// OwnerKeeps are the rights that no list takes from the owner: to see the mailbox and
// to change the list.
const OwnerKeeps = mail.RightLookup | mail.RightAdminister

func encodeGrants(e *enc, list []Grant) {
	e.U(uint64(len(list)))
	for _, g := range list {
		e.U(uint64(g.Who))
		e.Bool(g.Negative)
		e.U(uint64(g.Rights))
	}
}

func decodeGrants(d *dec) []Grant {
	list := make([]Grant, d.Count())
	for i := range list {
		list[i] = Grant{mail.AccountID(d.U()), d.Bool(), mail.Rights(d.U())}
	}
	return list
}

// ACL returns the whole list of rights: the owner first, with or without
// an entry, then the others as they were entered.
func (a *Account) ACL(m *Mailbox) []Grant {
	if i := m.grant(a.id, false); i >= 0 {
		own := m.Grants[i]
		rest := slices.Delete(slices.Clone(m.Grants), i, i+1)
		if own.Rights == 0 {
			return rest
		}
		own.Rights |= OwnerKeeps
		return slices.Insert(rest, 0, own)
	}
	return slices.Insert(slices.Clone(m.Grants), 0, Grant{Who: a.id, Rights: mail.AllRights})
}

// grant returns the place of an entry, or -1.
func (m *Mailbox) grant(who mail.AccountID, negative bool) int {
	return slices.IndexFunc(m.Grants, func(g Grant) bool { return g.Who == who && g.Negative == negative })
}

// Rights returns what the user of the handle may do with a mailbox of the account: what
// the user and anyone were given together, without what either was taken (RFC 4314, 2).
func (a *Account) Rights(m *Mailbox) mail.Rights {
	if a.as == 0 || len(m.Grants) == 0 && a.as == a.id {
		return mail.AllRights
	}
	return m.rightsOf(a.as, a.as == a.id)
}

func (m *Mailbox) rightsOf(who mail.AccountID, owner bool) mail.Rights {
	var given, taken mail.Rights
	if owner && m.grant(who, false) < 0 {
		given = mail.AllRights
	}
	for _, g := range m.Grants {
		switch {
		case g.Who != who && g.Who != 0:
		case g.Negative:
			taken |= g.Rights
		default:
			given |= g.Rights
		}
	}
	given &^= taken
	if owner {
		given |= OwnerKeeps
	}
	return given
}

// Refusal is the fault for one who lacks a right on a mailbox: Denied, or NotFound for
// one who must not learn that the mailbox is there (RFC 4314, 6).
func Refusal(have mail.Rights) error {
	if have&(mail.RightLookup|mail.RightRead) == 0 {
		return fault.New(fault.NotFound, "no such mailbox")
	}
	return fault.New(fault.Denied, "you have no right to do this here")
}

// need fails unless the user of the handle has rights on a mailbox.
func (tx *Tx) need(b *txBox, rights mail.Rights) error {
	if have := tx.account.Rights(&b.Mailbox); !have.Has(rights) {
		return Refusal(have)
	}
	return nil
}

// needAbove fails unless the user may make a mailbox of a name: on the nearest mailbox
// above it that is there (RFC 4314, 4). With none above, only the owner may.
func (tx *Tx) needAbove(clean string) error {
	if tx.account.as == 0 {
		return nil
	}
	above, err := tx.above(clean)
	switch {
	case err != nil:
		return err
	case above != nil:
		if tx.account.Rights(&above.Mailbox).Has(mail.RightCreate) {
			return nil
		}
	case tx.account.guest() == 0:
		return nil
	}
	return fault.New(fault.Denied, "you have no right to make a mailbox there")
}

// above returns the nearest mailbox above a name, nil if there is none.
func (tx *Tx) above(clean string) (*txBox, error) {
	for up := Parent(clean); up != ""; up = Parent(up) {
		id, exists, err := tx.lookup(up)
		if err != nil {
			return nil, err
		}
		if exists {
			return tx.open(id)
		}
	}
	return nil, nil
}

// Grant changes the entry of an account (0: anyone), or its negative one, in the list
// of a mailbox's rights: change is given what the entry has now. An entry left without
// rights goes, but for the owner's. Faults: NotFound, Denied, Limited at maxGrants.
//
// That a mailbox may be shared with somebody is noted with them before it is, so that
// they always find it; a note may be left over.
func (a *Account) Grant(ctx context.Context, box mail.MailboxID, who mail.AccountID, negative bool, change func(had mail.Rights) mail.Rights) error {
	if !negative && who != a.id {
		if err := a.noteSharer(ctx, who); err != nil {
			return err
		}
	}
	return a.Update(ctx, func(tx *Tx) error {
		b, err := tx.open(box)
		if err != nil {
			return err
		}
		if err := tx.need(b, mail.RightAdminister); err != nil {
			return err
		}
		if box == tx.acct.kept {
			return keptOnly()
		}
		g := Grant{Who: who, Negative: negative}
		i := b.grant(who, negative)
		switch {
		case i >= 0:
			g = b.Grants[i]
		case who == a.id && !negative:
			g.Rights = mail.AllRights
		}
		g.Rights = change(g.Rights)
		return tx.putGrant(b, i, g)
	})
}

// Revoke removes the entry of an account (0: anyone), or its negative one, from the
// list of a mailbox's rights, if it is there. Faults: NotFound, Denied.
func (a *Account) Revoke(ctx context.Context, box mail.MailboxID, who mail.AccountID, negative bool) error {
	return a.Update(ctx, func(tx *Tx) error {
		b, err := tx.open(box)
		if err != nil {
			return err
		}
		if err := tx.need(b, mail.RightAdminister); err != nil {
			return err
		}
		return tx.putGrant(b, b.grant(who, negative), Grant{Who: who, Negative: negative})
	})
}

// putGrant writes an entry at its place, -1 for a new one.
func (tx *Tx) putGrant(b *txBox, i int, g Grant) error {
	owner := g.Who == tx.account.id && !g.Negative
	list := slices.Clone(b.Grants)
	switch gone := g.Rights == 0 && !owner || owner && g.Rights == mail.AllRights; {
	case gone && i >= 0:
		list = slices.Delete(list, i, i+1)
	case gone:
	case i >= 0:
		list[i] = g
	case len(list) >= maxGrants:
		return fault.Newf(fault.Limited, "the rights of a mailbox may have %d entries", maxGrants)
	default:
		list = append(list, g)
	}
	b.Grants = list
	b.dirty, tx.acctDirty = true, true // no message has changed: no modseq
	tx.account0.Changed.Add(mail.UID(b.ID))
	return nil
}
