package backup

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
			if back, err = w.copy(ctx, at); err != nil {
				a.done.Messages--
			}
		}
		if err == nil && !back {
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
		p.fail(err)
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

// fail notes that a message does not come back.
func (p *portion) fail(err error) {
	p.done.Messages--
	p.done.Failed++
	p.opt.problem("a message of " + p.was.Name + " cannot be brought back: " + fault.Say(err))
}

// flush puts what was gathered into the mailbox, as one change; if that cannot be, each
// message by itself.
func (p *portion) flush(ctx context.Context) error {
	list, ids := p.list, p.ids
	p.list, p.ids, p.bytes = nil, nil, 0
	if len(list) == 0 {
		return nil
	}
	err := p.put(ctx, list, ids)
	if err == nil || !passable(err) || p.box == 0 {
		if err != nil {
			p.done.Messages -= int64(len(list))
		}
		return err
	}
	for i := range list {
		err := p.put(ctx, list[i:i+1], ids[i:i+1])
		if err != nil && !passable(err) {
			p.done.Messages -= int64(len(list) - i)
			return err
		}
		if err != nil {
			p.fail(err)
		}
	}
	return nil
}

// put puts some messages into the mailbox.
func (p *portion) put(ctx context.Context, list []store.NewMessage, ids []mail.MessageID) error {
	var uids []mail.UID
	left := 0 // keywords
	err := p.into(ctx, func(tx *store.Tx) error {
		uids, left = uids[:0], 0
		box, err := tx.MailboxByID(p.box)
		if err != nil {
			return err
		}
		room := newKeywordRoom(box.Keywords)
		for _, n := range list {
			all := len(n.Keywords)
			n.Keywords = room.fit(n.Keywords)
			left += all - len(n.Keywords)
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
	if left > 0 {
		p.opt.problem(fmt.Sprintf("%s has the most keywords that a mailbox may have: of messages that come back some are left out (%d)", p.to, left))
	}
	for i, id := range ids {
		p.fresh[id] = spotOf{p.box, uids[i]}
	}
	return nil
}

// keywordRoom is which keywords a mailbox knows, and may yet learn.
type keywordRoom map[string]bool

func newKeywordRoom(known []string) keywordRoom {
	r := keywordRoom{}
	for _, k := range known {
		r[strings.ToLower(k)] = true
	}
	return r
}

// fit returns those of the keywords for which there is room.
func (r keywordRoom) fit(keywords []string) (fit []string) {
	for _, k := range keywords {
		low := strings.ToLower(k)
		if r[low] || len(r) < store.MaxKeywords {
			r[low] = true
			fit = append(fit, k)
		}
	}
	return fit
}

// copy puts a message that has come back into another mailbox that it lay in, too. done is
// false if it cannot be copied from there any more.
func (p *portion) copy(ctx context.Context, at spotOf) (done bool, err error) {
	if err := p.flush(ctx); err != nil {
		return false, err
	}
	err = p.into(ctx, func(tx *store.Tx) error {
		copied, err := tx.Copy(at.box, mail.SetOf(at.uid), p.box)
		done = len(copied) > 0
		return err
	})
	if p.box != 0 && passable(err) { // it has gone from there, or has a keyword too many
		return false, nil
	}
	return done, err
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
