package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// One Update has a size limit, so that one client's "1:*" on a huge mailbox cannot
// hold up the rest of the account. The methods here do the same as the verbs of Tx
// in as many Updates as it takes. Up to the limits below that is one.
const (
	bulkPages    = 3000  // pages touched by one Update
	bulkMessages = 40000 // messages copied, moved or expunged by one Update
	reapMessages = 500   // messages of a deleted mailbox released by one Update: nobody waits for it, others for the account
)

// portions cuts a set into sets within the limits, in order.
func portions(set mail.UIDSet, messages int) []mail.UIDSet {
	var out []mail.UIDSet
	var cur mail.UIDSet
	var n, pages int
	var last uint64 = 1 << 63
	for _, r := range set {
		for r.From <= r.To {
			end := min(uint64(r.To), (pageOf(r.From)+1)*pageSize-1)
			if pageOf(r.From) != last {
				pages++
				last = pageOf(r.From)
			}
			if pages > bulkPages || n >= messages {
				out, cur, n, pages = append(out, cur), nil, 0, 1
			}
			cur.AddRange(r.From, mail.UID(end))
			n += int(end-uint64(r.From)) + 1
			if end == 1<<32-1 {
				break
			}
			r.From = mail.UID(end + 1)
		}
	}
	if len(cur) > 0 {
		out = append(out, cur)
	}
	return out
}

// clamp cuts a set down to UIDs given out, so that 1:* costs what exists. Where it takes a
// look at the engine to know these, a small set stays as it is: a change passes over what
// is not there.
func (a *Account) clamp(ctx context.Context, box mail.MailboxID, set mail.UIDSet) (mail.UIDSet, error) {
	if a.store.shared != nil && set.Len() <= sheetSize {
		return set, nil
	}
	p, err := a.Picture(ctx, box)
	if err != nil {
		return nil, err
	}
	return p.Existing(set), nil
}

// merged joins ranges that touch.
func merged(s mail.UIDSet) mail.UIDSet {
	var out mail.UIDSet
	for _, r := range s {
		out.AddRange(r.From, r.To)
	}
	return out
}

// Expunge is Tx.Expunge for a set of any size.
func (a *Account) Expunge(ctx context.Context, box mail.MailboxID, set mail.UIDSet, onlyDeleted bool) (mail.UIDSet, error) {
	gone, _, err := a.expunge(ctx, box, set, onlyDeleted, a.store.opt.Keep.For > 0)
	return gone, err
}

// expunge is Expunge; with keep false nothing is kept. If it fails, stay are those of the set that
// it has surely not removed; the outcome of others may be unknown.
func (a *Account) expunge(ctx context.Context, box mail.MailboxID, set mail.UIDSet, onlyDeleted, keep bool) (gone, stay mail.UIDSet, err error) {
	ctx = engine.Freeing(ctx)
	there, err := a.clamp(ctx, box, set)
	if err != nil {
		return nil, set, err
	}
	parts := portions(there, bulkMessages)
	if keep {
		if parts, err = a.copyPortions(ctx, box, there, bulkMessages); err != nil {
			return nil, set, err
		}
	}
	for i, part := range parts {
		var some mail.UIDSet
		err := a.Update(ctx, func(tx *Tx) (err error) {
			some, err = tx.expunge(box, part, onlyDeleted, keep)
			return err
		})
		if err != nil {
			left := parts[i:]
			if fault.Is(err, fault.Unknown) {
				left = left[1:]
			}
			return merged(gone), merged(slices.Concat(left...)), err
		}
		dealtWith(ctx, part.Len())
		gone = append(gone, some...)
	}
	return merged(gone), nil, nil
}

// Copy is Tx.Copy for a set of any size. If it fails, what was copied is taken back
// (RFC 9051, 6.4.7).
func (a *Account) Copy(ctx context.Context, from mail.MailboxID, set mail.UIDSet, to mail.MailboxID) ([]Moved, error) {
	return a.transfer(ctx, from, set, to, (*Tx).Copy, true)
}

// Move is Tx.Move for a set of any size. Each message moves as one change; a very
// large set as several. If it fails, what has been moved stays moved.
func (a *Account) Move(ctx context.Context, from mail.MailboxID, set mail.UIDSet, to mail.MailboxID) ([]Moved, error) {
	return a.transfer(ctx, from, set, to, (*Tx).Move, false)
}

func (a *Account) transfer(ctx context.Context, from mail.MailboxID, set mail.UIDSet, to mail.MailboxID,
	verb func(*Tx, mail.MailboxID, mail.UIDSet, mail.MailboxID) ([]Moved, error), undo bool) ([]Moved, error) {
	parts, err := a.copyPortions(ctx, from, set, bulkMessages)
	if err != nil {
		return nil, err
	}
	var all []arrival
	on := a
	for _, part := range parts {
		in, err := on.arrive(ctx, to, func(tx *Tx) ([]Moved, error) { return verb(tx, from, part, to) })
		all = append(all, in)
		switch {
		case err != nil && undo:
			return nil, a.takeBack(ctx, to, all, err)
		case errors.Is(err, ErrSetBack): // of what has been moved some may be lost
			return nil, err
		case err != nil:
			return movedOf(all), err
		}
		dealtWith(ctx, part.Len())
		on = in.after(a) // which is after all that a is upon
	}
	return movedOf(all), nil
}

// copyPortions cuts a set of messages that are copied into sets of about so many: of
// few where they have large annotations.
func (a *Account) copyPortions(ctx context.Context, from mail.MailboxID, set mail.UIDSet, messages int) ([]mail.UIDSet, error) {
	p, err := a.Picture(ctx, from)
	if err != nil {
		return nil, err
	}
	set = p.Existing(set)
	if p.box.noteBytes > notesAtOnce/2 {
		return few(set, notedAtOnce), nil
	}
	return portions(set, messages), nil
}

// RenameInbox moves all messages of INBOX into a new mailbox and leaves INBOX empty
// with its children untouched (RFC 9051, 6.3.6). Faults: Exists, Invalid, Denied.
func (a *Account) RenameInbox(ctx context.Context, to string) error {
	var inbox, target Mailbox
	err := a.Update(ctx, func(tx *Tx) (err error) {
		if inbox, err = tx.Mailbox("INBOX"); err != nil {
			return err
		}
		if have := a.Rights(&inbox); !have.Has(mail.RightDelete) {
			return Refusal(have)
		}
		if target, err = tx.CreateMailbox(to, ""); err != nil {
			return err
		}
		return tx.copyEntries(inbox.ID, target.ID)
	})
	if err != nil {
		return err
	}
	_, err = a.Move(ctx, inbox.ID, All(), target.ID)
	return err
}

// DeleteMailbox is Tx.DeleteMailbox; the messages are released in the background.
func (a *Account) DeleteMailbox(ctx context.Context, name string) (mail.MailboxID, error) {
	var box Mailbox
	err := a.Update(engine.Freeing(ctx), func(tx *Tx) (err error) {
		if box, err = tx.Mailbox(name); err != nil {
			return err
		}
		return tx.DeleteMailbox(name)
	})
	if err != nil {
		return 0, err
	}
	a.store.background.Go(func() {
		if err := a.Reap(a.store.life); err != nil && !fault.Is(err, fault.Closed) {
			a.store.opt.Log.Warn("a deleted mailbox is released later", "err", err)
		}
	})
	return box.ID, nil
}

// Reap releases the messages of deleted mailboxes, or moves them to where deleted mail is
// kept, in portions and with pauses, so that
// the account can be used meanwhile. It is called after DeleteMailbox, and by Sweep for
// what a crash left over.
func (a *Account) Reap(ctx context.Context) error {
	for {
		more, began := false, a.store.opt.Now()
		err := a.Update(engine.Freeing(ctx), func(tx *Tx) (err error) {
			more, err = tx.reap()
			return err
		})
		if err != nil || !more {
			return err
		}
		select {
		case <-ctx.Done(): // the next Update says so
		case <-time.After(pauseOf(a.store.opt.Now().Sub(began))):
		}
	}
}

// pauseOf is the pause after a portion: as long as it took, if the clock was not set
// meanwhile.
func pauseOf(took time.Duration) time.Duration { return min(max(took, 0), time.Second) }

// reap releases one portion of one deleted mailbox and tells whether there is more.
func (tx *Tx) reap() (more bool, err error) {
	var box mail.MailboxID
	var record []byte
	err = tx.w.Scan([]byte{famDoomed}, []byte{famDoomed + 1}, false, func(k, v []byte) bool {
		box, record, more = mail.MailboxID(keyNum(k, 0)), slices.Clone(v), true
		return false
	})
	if err != nil || !more {
		return false, err
	}
	tx.acctDirty = true
	if len(record) > 0 && record[0] == recKeptDoomed {
		return true, tx.reapKept(record)
	}
	var rows []Message
	pages := 0
	err = tx.reapPages(box, func(number uint64, p *page) bool {
		pages++
		row := 0
		for word := p.present; word != 0; word &= word - 1 {
			m := Message{UID: lowestUID(number, word)}
			p.fill(&m, row)
			rows = append(rows, m)
			row++
		}
		return len(rows) < reapMessages
	})
	if err != nil {
		return false, err
	}
	if pages == 0 {
		return true, tx.w.Delete(doomedKey(box))
	}
	if err := tx.readPlaces(rows); err != nil {
		return false, err
	}
	for _, m := range rows {
		if err := tx.release(m, place{box, m.UID}); err != nil && !fault.Is(err, fault.NotFound) {
			return false, err
		}
	}
	return true, nil
}

// reapPages calls fn for pages of a deleted mailbox until it returns false, and deletes
// these and the marks of their sheets, one by one: a range costs every reader while it is
// young.
func (tx *Tx) reapPages(box mail.MailboxID, fn func(number uint64, p *page) bool) error {
	var keys [][]byte
	var bad error
	err := tx.w.Scan(pageKey(box, 0), pageKey(box+1, 0), false, func(k, v []byte) bool {
		var p *page
		if p, bad = decodePage(v); bad != nil {
			return false
		}
		number := keyNum(k, 1)
		if key := marksKey(box, number/sheetPages); len(keys) == 0 || !bytes.Equal(keys[len(keys)-1], key) {
			keys = append(keys, slices.Clone(k), key)
		} else { // the marks stay the last of the keys
			keys = append(keys[:len(keys)-1], slices.Clone(k), key)
		}
		return fn(number, p)
	})
	for i := 0; err == nil && bad == nil && i < len(keys); i++ {
		if err = tx.w.Delete(keys[i]); err == nil && keys[i][0] == famPage {
			err = tx.dropBrief(box, keyNum(keys[i], 1))
		}
	}
	return cmp.Or(err, bad)
}
