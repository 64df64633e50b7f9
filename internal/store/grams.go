package store

import (
	"context"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Grams are what a search has noted of a message so that the next one need not read it.
// They follow from the message and may be absent at any time; what their bytes mean is
// the search's to know.
type Grams struct {
	UID   mail.UID
	ID    mail.MessageID
	Bytes []byte // at most 64 KB
}

// keepBytes is how much one Update writes of them.
const keepBytes = 4 << 20

// EachGrams reads what was noted of many messages, as EachFacts does; ok is false where
// there is nothing. b is valid during the call only.
func (s *Snapshot) EachGrams(ids []mail.MessageID, fn func(i int, b []byte, ok bool) error) error {
	return s.each(famGrams, ids, func(i int, v []byte) error {
		if v == nil {
			return fn(i, nil, false)
		}
		p, err := unseal(recGrams, v)
		if err != nil {
			return err
		}
		return fn(i, p, true)
	})
}

// KeepGrams keeps what a search has noted of messages of a mailbox. Those that are gone
// meanwhile are passed over. It changes nothing that anybody can see.
func (a *Account) KeepGrams(ctx context.Context, box mail.MailboxID, list []Grams) error {
	for len(list) > 0 {
		n, size := 0, 0
		for n < len(list) && size < keepBytes {
			size += len(list[n].Bytes) + 64
			n++
		}
		err := a.As(0).Update(ctx, func(tx *Tx) error { return tx.keepGrams(box, list[:n]) })
		if err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func (tx *Tx) keepGrams(box mail.MailboxID, list []Grams) error {
	b, err := tx.open(box)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := tx.w.Put(engine.Key(famGrams), seal(recGrams, nil)); err != nil {
		return err
	}
	for _, g := range list {
		m, ok, err := tx.message(b, g.UID)
		if err != nil {
			return err
		}
		if !ok || m.ID != g.ID {
			continue
		}
		if err := tx.w.Put(engine.Key(famGrams, uint64(g.ID)), seal(recGrams, g.Bytes)); err != nil {
			return err
		}
	}
	return nil
}

// dropGrams forgets what was noted of a message. An account in which nobody ever looked
// for a text pays one look for it in each change.
func (tx *Tx) dropGrams(id mail.MessageID) error {
	if tx.gramsKept == nil {
		_, ok, err := tx.w.Get(engine.Key(famGrams))
		if err != nil {
			return err
		}
		tx.gramsKept = &ok
	}
	if !*tx.gramsKept {
		return nil
	}
	return tx.w.Delete(engine.Key(famGrams, uint64(id)))
}
