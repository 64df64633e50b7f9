package move

import (
	"context"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

func tied(box Box) store.TiedBox { return store.TiedBox{Source: box.Source, Mailbox: box.Mailbox} }

// Ties returns the ties of keys.
func (l *Local) Ties(ctx context.Context, box Box, keys []string) (list []*Tie, err error) {
	err = l.account.View(ctx, func(s *store.Snapshot) error {
		list = make([]*Tie, len(keys))
		b := tied(box)
		for i, key := range keys {
			t, ok, err := s.Tie(b, key)
			if err != nil {
				return err
			}
			if ok {
				list[i] = tieOf(&t)
			}
		}
		return nil
	})
	return list, err
}

func tieOf(t *store.Tie) *Tie {
	tie := &Tie{
		Key: t.Key, Message: t.Message, Mailbox: t.Mailbox, UID: t.UID, Flags: t.Flags, Keywords: t.Keywords,
		Size: t.Size, Content: t.Content, Stored: t.Stored, Changed: t.Changed,
	}
	if t.Date != 0 {
		tie.Date = mail.BoundDate(time.Unix(t.Date, 0)) // earlier versions kept any
	}
	return tie
}

// tiesAtOnce is how many ties one View reads, with what they lead to.
const tiesAtOnce = 500

// EachTie goes through the ties of a mailbox of a source.
func (l *Local) EachTie(ctx context.Context, box Box, fn func(t Tie, now *Now) error) error {
	for behind := ""; ; {
		list, err := l.TiesBehind(ctx, box, behind)
		if err != nil || len(list) == 0 {
			return err
		}
		for i := range list {
			if err := fn(*list[i].Tie, list[i].Now); err != nil {
				return err
			}
		}
		behind = list[len(list)-1].Tie.Key
	}
}

// TiesBehind returns the next few hundred ties that EachTie tells of behind a key; none at the
// end.
func (l *Local) TiesBehind(ctx context.Context, box Box, behind string) ([]Looked, error) {
	found, err := l.someTies(ctx, box, behind)
	if err == nil {
		err = l.prove(ctx, found)
	}
	list := make([]Looked, len(found))
	for i := range found {
		list[i] = Looked{tieOf(&found[i].tie), found[i].now}
	}
	return list, err
}

// State returns what was kept of a mailbox of a source.
func (l *Local) State(ctx context.Context, box Box) (state []byte, err error) {
	err = l.account.View(ctx, func(s *store.Snapshot) error {
		b, err := s.TiedBox(box.Source, box.Mailbox)
		if state = nil; len(b.State) > 0 { // a mailbox that was opened has a record without one
			state = b.State
		}
		return err
	})
	return state, err
}

// SetState keeps something of a mailbox of a source.
func (l *Local) SetState(ctx context.Context, box Box, state []byte) error {
	return l.account.Update(ctx, func(tx *store.Tx) error {
		b, err := tx.TiedBox(box.Source, box.Mailbox)
		if err != nil {
			return err
		}
		b.State = state
		return tx.PutTiedBox(b)
	})
}

// Forget forgets what was brought from a source, or from one of its mailboxes: it would come
// again. Faults: NotFound.
func (l *Local) Forget(ctx context.Context, source, mailbox string) error {
	return l.account.Update(ctx, func(tx *store.Tx) error { return tx.Forget(source, mailbox) })
}

// Sources returns what was ever brought from, mailbox by mailbox, with where it goes.
func (l *Local) Sources(ctx context.Context) (list []Brought, err error) {
	err = l.account.View(ctx, func(s *store.Snapshot) error {
		list = nil
		boxes, err := s.TiedBoxes()
		if err != nil {
			return err
		}
		for _, b := range boxes {
			if strings.HasPrefix(b.Mailbox, "\x00") { // no mailbox: what a link notes for itself
				continue
			}
			br := Brought{Box: Box{b.Source, b.Mailbox}}
			if m, err := s.MailboxByID(b.At); err == nil {
				br.At = m.Name
			} else if !fault.Is(err, fault.NotFound) {
				return err
			}
			list = append(list, br)
		}
		return nil
	})
	return list, err
}

// Brought is a mailbox of a source from which mail came, and the mailbox here it goes into,
// "" if that is gone.
type Brought struct {
	Box
	At string `json:"at"`
}
