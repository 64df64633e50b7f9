package backup

import (
	"context"
	"slices"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// What comes back in one Update.
const (
	portionMessages = 100
	portionBytes    = 2 << 20 // of messages
)

// mailbox brings back what is missing of a mailbox of then.
func (a *returning) mailbox(ctx context.Context, was store.Mailbox, to string, total int64) error {
	pic, err := a.was.Picture(ctx, was.ID)
	if err != nil {
		return err
	}
	w := portion{returning: a, to: to, was: was}
	for _, m := range pic.Messages(store.All()) {
		if err := ctx.Err(); err != nil {
			return err
		}
		a.opt.progress(Progress{"messages", a.done.Messages + a.done.Present, total, a.done.Bytes})
		if slices.Contains(w.ids, m.ID) { // it lies here twice
			if err := w.flush(ctx); err != nil {
				return err
			}
		}
		at, back := a.fresh[m.ID]
		if !back {
			there, err := a.there(ctx, m, isTrash(&was))
			if err != nil {
				return err
			}
			if there {
				a.done.Present++
				continue
			}
		}
		a.done.Messages++
		if a.opt.Plan {
			a.fresh[m.ID] = spotOf{}
			continue
		}
		if back {
			err = w.copy(ctx, at)
		} else {
			err = w.add(ctx, pic, m)
		}
		if err != nil {
			return err
		}
	}
	return w.flush(ctx)
}

// there tells whether a message of then is still there. One message that lay in several
// mailboxes is asked about once.
func (a *returning) there(ctx context.Context, m store.Message, trash bool) (there bool, err error) {
	if there, known := a.seen[m.ID]; known {
		return there, nil
	}
	err = a.was.View(ctx, func(s *store.Snapshot) (err error) {
		there, err = a.have.has(ctx, s, m, trash)
		return err
	})
	if fault.Is(err, fault.Corrupt) {
		there, err = false, nil // add will tell of it
	}
	if there {
		a.seen[m.ID] = true
	}
	return there, err
}

// portion is messages on their way into one mailbox.
type portion struct {
	*returning
	to    string
	was   store.Mailbox
	box   mail.MailboxID // 0 as long as nobody has looked
	list  []store.NewMessage
	ids   []mail.MessageID // of then
	bytes int64
}

// add takes one message along.
func (p *portion) add(ctx context.Context, pic *store.Picture, m store.Message) error {
	parcel, err := p.read(ctx, m)
	if fault.Is(err, fault.Corrupt) || fault.Is(err, fault.TooLarge) || fault.Is(err, fault.NotFound) {
		p.done.Messages--
		p.done.Failed++
		p.opt.problem("a message of " + p.was.Name + " cannot be brought back: " + fault.Say(err))
		return nil
	}
	if err != nil {
		return err
	}
	n := store.NewMessage{Parcel: parcel, Flags: m.Flags &^ mail.Deleted, Keywords: pic.Keywords(m), InternalDate: time.Unix(m.Internal, 0)}
	if p.was.HasNotes() {
		if n.Notes, err = p.notes(ctx, m.UID); err != nil {
			return err
		}
	}
	p.list, p.ids = append(p.list, n), append(p.ids, m.ID)
	p.bytes += m.Size
	p.done.Bytes += m.Size
	if len(p.list) >= portionMessages || p.bytes >= portionBytes {
		return p.flush(ctx)
	}
	return nil
}

func (p *portion) read(ctx context.Context, m store.Message) (*store.Parcel, error) {
	r, err := p.returning.was.Open(ctx, m.ID, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return p.house.Store.Receive(ctx, r)
}

func (p *portion) notes(ctx context.Context, uid mail.UID) (list []store.NoteChange, err error) {
	err = p.returning.was.View(ctx, func(s *store.Snapshot) error {
		list = nil
		return s.EachNote(p.was.ID, mail.SetOf(uid), func(n store.Note) bool {
			if n.Value != nil {
				list = append(list, store.NoteChange{Name: n.Name, Private: n.Private, Value: n.Value})
			}
			return true
		})
	})
	return list, err
}

// flush puts what was gathered into the mailbox, as one change.
func (p *portion) flush(ctx context.Context) error {
	if len(p.list) == 0 {
		return nil
	}
	var uids []mail.UID
	err := p.into(ctx, func(tx *store.Tx) error {
		uids = uids[:0]
		for _, n := range p.list {
			uid, err := tx.Append(p.box, n)
			if err != nil {
				return err
			}
			uids = append(uids, uid)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, id := range p.ids {
		p.fresh[id] = spotOf{p.box, uids[i]}
	}
	p.list, p.ids, p.bytes = nil, nil, 0
	return nil
}

// copy puts a message that has come back into another mailbox that it lay in, too.
func (p *portion) copy(ctx context.Context, at spotOf) error {
	if err := p.flush(ctx); err != nil {
		return err
	}
	return p.into(ctx, func(tx *store.Tx) error {
		_, err := tx.Copy(at.box, mail.SetOf(at.uid), p.box)
		return err
	})
}

// into runs fn in an Update in which the mailbox is there.
func (p *portion) into(ctx context.Context, fn func(*store.Tx) error) error {
	made := false
	err := p.now.Update(ctx, func(tx *store.Tx) (err error) {
		made = false
		box, err := tx.Mailbox(p.to)
		if fault.Is(err, fault.NotFound) {
			made = true
			box, err = p.create(tx)
		}
		if err != nil {
			return err
		}
		p.box = box.ID
		return fn(tx)
	})
	if made && err == nil {
		p.done.Mailboxes++
	}
	if fault.Is(err, fault.OverQuota) {
		err = fault.Wrap(fault.OverQuota, "the account is full; raise its quota and run the restore again: it goes on where it stopped", err)
	}
	return err
}

// create makes the mailbox, with the role that it had if nobody has that now.
func (p *portion) create(tx *store.Tx) (store.Mailbox, error) {
	role := mail.Role("")
	if p.to == p.was.Name {
		all, err := tx.Mailboxes()
		if err != nil {
			return store.Mailbox{}, err
		}
		role = p.was.Role
		for i := range all {
			if all[i].Role == role {
				role = ""
			}
		}
	}
	m, err := tx.CreateMailbox(p.to, role)
	if err != nil {
		return m, err
	}
	return m, tx.Subscribe(p.to, true)
}
