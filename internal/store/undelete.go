package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// DeletedQuery says which deleted messages are meant: those that meet all of it.
type DeletedQuery struct {
	Mailbox string      // in which they lay, by its name now or when it was deleted; "": any
	UIDs    mail.UIDSet // that they had there; nil: any
	Since   time.Time   // they were deleted then or later; zero: at any time
	Subject string      // is in their subject, in whatever case
}

// Deleted is a deleted message that is kept.
type Deleted struct {
	Mailbox  string // in which it lay
	UID      mail.UID
	At       time.Time // when it was deleted
	Subject  string
	From     string // as it is shown
	Size     int64
	Restored mail.UID // its UID in the mailbox now; 0 if it was not given back
}

// undeleteAtOnce is how many deleted messages are looked at in one View or Update.
const undeleteAtOnce = 2000

// Deleted calls fn for deleted messages that are kept, those first that were deleted first.
func (a *Account) Deleted(ctx context.Context, q DeletedQuery, fn func(Deleted) error) error {
	return a.eachDeleted(ctx, q, fn, func(part mail.UIDSet, find *deletedFinder) (list []Deleted, err error) {
		err = a.View(ctx, func(s *Snapshot) error {
			found, err := s.deleted(part, find)
			list = list[:0]
			for i := range found {
				list = append(list, found[i].Deleted)
			}
			return err
		})
		return list, err
	})
}

// Undelete puts deleted messages back where they lay, with flags, keywords, annotations
// and dates, and calls fn for each when that is durable. A mailbox that was deleted is made
// again. A message that lies there already is not put there twice. No quota is asked.
func (a *Account) Undelete(ctx context.Context, q DeletedQuery, fn func(Deleted) error) error {
	return a.eachDeleted(ctx, q, fn, func(part mail.UIDSet, find *deletedFinder) (list []Deleted, err error) {
		err = a.Update(ctx, func(tx *Tx) error {
			found, err := tx.deleted(part, find)
			list = list[:0]
			for i := 0; err == nil && i < len(found); i++ {
				if err = tx.restore(&found[i]); err == nil {
					list = append(list, found[i].Deleted)
				}
			}
			return err
		})
		return list, err
	})
}

// eachDeleted goes through what is kept, portion by portion.
func (a *Account) eachDeleted(ctx context.Context, q DeletedQuery, fn func(Deleted) error, do func(mail.UIDSet, *deletedFinder) ([]Deleted, error)) error {
	find := &deletedFinder{DeletedQuery: q}
	find.Subject = strings.ToLower(q.Subject)
	if q.Mailbox != "" {
		var err error
		if find.Mailbox, err = CleanName(q.Mailbox); err != nil {
			return err
		}
	}
	if err := a.Reap(ctx); err != nil { // what is on its way there
		return err
	}
	if err := a.View(ctx, func(s *Snapshot) error { find.box = s.acct.kept; return nil }); err != nil || find.box == 0 {
		return err
	}
	parts, err := a.copyPortions(ctx, find.box, All(), undeleteAtOnce)
	if err != nil {
		return err
	}
	for _, part := range parts {
		list, err := do(part, find)
		for i := 0; err == nil && i < len(list); i++ {
			err = fn(list[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// deletedFinder is a query under way.
type deletedFinder struct {
	DeletedQuery
	box mail.MailboxID // of deleted mail
}

// deletedMessage is one that was found.
type deletedMessage struct {
	Deleted
	kept Message // its UID and date alone
	from mail.MailboxID
	lost lostMailbox // its mailbox, if that was deleted
}

// deleted returns those of a portion that are meant.
func (s *Snapshot) deleted(part mail.UIDSet, find *deletedFinder) (list []deletedMessage, err error) {
	if s.acct.kept != find.box { // purged and begun anew meanwhile
		return nil, nil
	}
	first, last := part[0].From, part[len(part)-1].To
	var bad error
	err = s.r.Scan(pageKey(find.box, pageOf(first)), pageKey(find.box, pageOf(last)+1), false, func(k, v []byte) bool {
		var p *page
		if p, bad = decodePage(v); bad != nil {
			return false
		}
		row := 0
		for word := p.present; word != 0; word &= word - 1 {
			m := Message{UID: lowestUID(keyNum(k, 1), word)}
			p.fill(&m, row)
			row++
			if part.Contains(m.UID) && m.Saved >= find.second() {
				list = append(list, deletedMessage{Deleted: Deleted{At: time.Unix(m.Saved, 0), Size: m.Size}, kept: m})
			}
		}
		return true
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return nil, err
	}
	out := list[:0]
	for i := range list {
		ok, err := s.describe(&list[i], find)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, list[i])
		}
	}
	return out, nil
}

func (q *DeletedQuery) second() int64 {
	if q.Since.IsZero() {
		return -1 << 62
	}
	return q.Since.Unix()
}

// describe says what a deleted message is, and whether it is meant.
func (s *Snapshot) describe(d *deletedMessage, find *deletedFinder) (bool, error) {
	at, err := s.origin(d.kept.UID)
	if err != nil {
		return false, err
	}
	d.from, d.UID = at.box, at.uid
	if d.Mailbox, err = s.placeName(d); err != nil {
		return false, err
	}
	if find.Mailbox != "" && find.Mailbox != d.Mailbox || find.UIDs != nil && !find.UIDs.Contains(d.UID) {
		return false, nil
	}
	keys, err := s.Keys(d.kept.ID)
	if err != nil {
		return false, err
	}
	d.Subject, d.From = string(keys.Subject), string(keys.DisplayFrom)
	return find.Subject == "" || strings.Contains(strings.ToLower(d.Subject), find.Subject), nil
}

// placeName returns the name of the mailbox where a deleted message lay.
func (s *Snapshot) placeName(d *deletedMessage) (string, error) {
	m, err := s.mailbox(d.from)
	if err == nil || !fault.Is(err, fault.NotFound) {
		return m.Name, err
	}
	v, ok, err := s.r.Get(lostKey(d.from))
	if err != nil || !ok {
		return "INBOX", err
	}
	d.lost, err = decodeLost(v)
	return d.lost.name, err
}

// restore puts a deleted message back.
func (tx *Tx) restore(d *deletedMessage) error {
	src, err := tx.open(tx.acct.kept)
	if err != nil {
		return err
	}
	dst, err := tx.restoreTo(d)
	if err != nil {
		return err
	}
	m, ok, err := tx.message(src, d.kept.UID)
	if err != nil || !ok {
		return err
	}
	list, err := tx.placesFrom(src.ID, m)
	if err == nil {
		err = tx.takeOut(src, m)
	}
	if err != nil {
		return err
	}
	d.Mailbox = dst.Name
	list = slices.DeleteFunc(list, func(p place) bool { return p == place{src.ID, m.UID} })
	if i := slices.IndexFunc(list, func(p place) bool { return p.box == dst.ID }); i >= 0 {
		d.Restored = list[i].uid
		if err := tx.dropNotes(src, m.UID); err != nil {
			return err
		}
		return tx.putPlaces(m.ID, list)
	}
	back := m
	back.Flags &^= mail.Deleted
	names := src.keywordNames(m.Keywords)
	if back.Keywords, err = tx.keywordSet(dst, names); fault.Is(err, fault.Limited) {
		back.Keywords, err = dst.knownKeywords(names), nil
	}
	if err == nil {
		d.Restored, err = tx.place(dst, back)
	}
	if err == nil {
		err = tx.moveNotes(src, m.UID, dst, d.Restored)
	}
	if err != nil {
		return err
	}
	return tx.putPlaces(m.ID, append(list, place{dst.ID, d.Restored}))
}

// restoreTo returns the mailbox where a deleted message lay, or one of its name. If there
// is neither it is made, with its special use if no other has that now, and subscribed if
// it was.
func (tx *Tx) restoreTo(d *deletedMessage) (*txBox, error) {
	b, err := tx.open(d.from)
	if err == nil || !fault.Is(err, fault.NotFound) {
		return b, err
	}
	kept, err := tx.open(tx.acct.kept)
	if err != nil {
		return nil, err
	}
	name := besideKept(d.Mailbox, kept.Name)
	id, there, err := tx.lookup(name)
	if err != nil {
		return nil, err
	}
	if there {
		return tx.open(id)
	}
	role := d.lost.role
	boxes, err := tx.mailboxes()
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(boxes, func(m Mailbox) bool { return m.Role == role }) {
		role = ""
	}
	if err := tx.createParents(name); err != nil {
		return nil, err
	}
	m, err := tx.create(name, role)
	if err != nil {
		return nil, err
	}
	_, subscribed, err := tx.w.Get(engine.KeyString(famSub, m.Name))
	if err == nil && d.lost.subscribed && !subscribed {
		err = tx.Subscribe(m.Name, true)
	}
	if err != nil {
		return nil, err
	}
	return tx.open(m.ID)
}

// besideKept returns the name under which a mailbox comes back: its own, but if that has become
// the one of the mailbox of deleted mail, or one below it, another.
func besideKept(name, kept string) string {
	if name != kept && !strings.HasPrefix(name, kept+Separator) {
		return name
	}
	return kept + " 2" + name[len(kept):]
}
