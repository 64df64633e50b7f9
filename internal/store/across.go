package store

import (
	"context"
	"errors"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Limits of what one Update takes in from another account.
const (
	acrossMessages = 2000
	acrossBytes    = 4 << 20 // of records
)

// crossing is a message on its way from one account to another. Its body stays where it
// is, for bodies belong to no account.
type crossing struct {
	row      Message
	keywords []string
	notes    []NoteChange // that the user may take along
	body     mail.BlobRef
	content  content
}

// CopyTo copies messages into a mailbox of another account: those of the set, with
// their dates and as much of their flags as the user may set there. All or none of them
// are there when it returns, unless the other account cannot be reached for taking back what
// has come. Of the same account it is Copy. Faults: those of Copy; ErrSetBack if what had come was
// lost meanwhile.
func (a *Account) CopyTo(ctx context.Context, from mail.MailboxID, set mail.UIDSet, target *Account, to mail.MailboxID) ([]Moved, error) {
	if a.id == target.id {
		return a.Copy(ctx, from, set, to)
	}
	all, err := a.copyTo(ctx, from, set, target, to)
	return movedOf(all), err
}

// copyTo is CopyTo of another account.
func (a *Account) copyTo(ctx context.Context, from mail.MailboxID, set mail.UIDSet, target *Account, to mail.MailboxID) (all []arrival, err error) {
	pic, err := a.Picture(ctx, from)
	if err != nil {
		return nil, err
	}
	left := pic.Existing(set)
	for on := target; len(left) > 0; {
		load, rest, err := a.load(ctx, pic, left)
		var in arrival
		if err == nil {
			in, err = on.takeIn(ctx, to, load)
			all = append(all, in)
		}
		if len(in.moved) > 0 && err == nil {
			err = a.store.noteCrossing(ctx, a.id, target.id)
		}
		if err != nil {
			return nil, target.takeBack(ctx, to, all, err)
		}
		dealtWith(ctx, len(in.moved))
		on, left = in.after(target), rest
	}
	return all, nil
}

// MoveTo is CopyTo and Expunge: the copies are durable before a message goes here. If
// the expunge fails, the copies of those messages are taken back that are surely still here;
// what it returns then has come, and has gone from here or may have. To this account it is a
// deletion, so what goes is kept here. Of the same account it is Move, which is one change.
// Faults: those of Move.
func (a *Account) MoveTo(ctx context.Context, from mail.MailboxID, set mail.UIDSet, target *Account, to mail.MailboxID) ([]Moved, error) {
	if a.id == target.id {
		return a.Move(ctx, from, set, to)
	}
	err := a.View(ctx, func(s *Snapshot) error {
		m, err := s.mailbox(from)
		if err != nil {
			return err
		}
		if have := a.Rights(&m); !have.Has(moveRights) {
			return Refusal(have)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	copies, err := a.copyTo(ctx, from, set, target, to)
	if err != nil {
		return nil, err
	}
	moved := movedOf(copies)
	var going mail.UIDSet
	for _, m := range moved {
		going.Add(m.From)
	}
	_, stay, err := a.expunge(ctx, from, going, false, a.store.opt.Keep.For > 0)
	if err == nil {
		return moved, nil
	}
	if errors.Is(err, ErrSetBack) { // who knows what is here still
		stay = nil
	}
	var gone []Moved
	for i, in := range copies {
		var back []Moved
		for _, m := range in.moved {
			if stay.Contains(m.From) {
				back = append(back, m)
			} else {
				gone = append(gone, m)
			}
		}
		copies[i].moved = back
	}
	return gone, target.takeBack(ctx, to, copies, err)
}

// load reads messages of a picture until they are enough for one Update, and returns
// which are left. One that is gone meanwhile is passed over.
func (a *Account) load(ctx context.Context, pic *Picture, set mail.UIDSet) (list []crossing, left mail.UIDSet, err error) {
	err = a.View(ctx, func(s *Snapshot) error {
		list, left = nil, nil
		m, err := s.mailbox(pic.box.ID)
		if err != nil {
			return err
		}
		if have := a.Rights(&m); !have.Has(mail.RightRead) {
			return Refusal(have)
		}
		bytes := 0
		for _, row := range pic.Messages(set) {
			if len(list) == acrossMessages || bytes > acrossBytes {
				left.Add(row.UID)
				continue
			}
			c, err := s.crossing(row)
			if fault.Is(err, fault.NotFound) {
				continue
			}
			if err != nil {
				return err
			}
			c.keywords = pic.Keywords(row)
			if pic.box.HasNotes() {
				err = s.EachNote(pic.box.ID, mail.SetOf(row.UID), func(n Note) bool {
					if n.Value != nil {
						c.notes = append(c.notes, NoteChange{n.Name, n.Private, n.Value})
						bytes += len(n.Name) + len(n.Value)
					}
					return true
				})
				if err != nil {
					return err
				}
			}
			list = append(list, c)
			bytes += len(c.content.facts) + len(c.content.keys) + len(c.content.header) + len(c.content.body)
		}
		return nil
	})
	return list, left, err
}

func (s *Snapshot) crossing(row Message) (c crossing, err error) {
	f, err := s.Facts(row.ID)
	if err != nil {
		return c, err
	}
	keys, err := s.Keys(row.ID)
	if err != nil {
		return c, err
	}
	refs, err := keys.AppendReferences(nil)
	if err != nil {
		return c, err
	}
	c = crossing{row: row, body: f.Body}
	c.content = content{references: refs, named: keys.Named, name: keys.ID}
	if c.content.facts, c.content.keys, err = s.sharedFacts(row.ID, &f); err != nil {
		return c, err
	}
	header, ok, err := s.getLong(famHeader, uint64(row.ID))
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "no such message")
	}
	c.content.header = append([]byte(nil), header...)
	if err == nil && f.small() {
		c.content.body, err = s.smallRecord(row.ID)
	}
	return c, err
}

// takeIn puts messages of another account into a mailbox, as one change. Each body is
// made young first, so that no sweep takes it between the expunge there and the arrival
// here.
func (a *Account) takeIn(ctx context.Context, box mail.MailboxID, list []crossing) (arrival, error) {
	for i := range list {
		if err := a.store.makeYoung(ctx, list[i].body); err != nil {
			return arrival{}, err
		}
	}
	return a.arrive(ctx, box, func(tx *Tx) (moved []Moved, err error) {
		for i := range list {
			c := &list[i]
			uid, err := tx.insert(box, Message{Flags: c.row.Flags, Size: c.row.Size, Internal: c.row.Internal}, c.keywords, &c.content)
			if err != nil {
				return nil, err
			}
			if err := tx.bringNotes(box, uid, c.notes); err != nil {
				return nil, err
			}
			moved = append(moved, Moved{c.row.UID, uid})
		}
		return moved, nil // the mailbox must be there though there are none
	})
}

// makeYoung keeps a body that is there from being swept for a while.
func (s *Store) makeYoung(ctx context.Context, body mail.BlobRef) error {
	if body.IsZero() {
		return nil
	}
	s.seeClock()
	defer s.seeClock()
	return s.eng.Blobs().Put(ctx, body, 1, missing{})
}

// missing is the content of a body that must be there already.
type missing struct{}

func (missing) Read([]byte) (int, error) {
	return 0, fault.New(fault.Corrupt, "the body of a message is not there")
}
