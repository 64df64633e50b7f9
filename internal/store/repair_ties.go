package store

import (
	"bytes"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// A tie whose message is not here any more says that its owner has deleted it, and whoever
// keeps the source in step may delete it there. So what a repair loses must not look like that:
// its tie goes, in the commit in which the message does, and it comes again from where it came.

// tiesOf returns the keys of the ties of a message.
func (r *mender) tiesOf(id mail.MessageID) ([][]byte, error) {
	if r.tied == nil {
		tied := map[mail.MessageID][][]byte{}
		err := r.a.View(r.ctx, func(s *Snapshot) error {
			clear(tied)
			return s.r.Scan([]byte{famTie}, []byte{famTie + 1}, false, func(k, v []byte) bool {
				if t, err := decodeTie(k, v); err == nil && t.Message != 0 {
					tied[t.Message] = append(tied[t.Message], bytes.Clone(k))
				}
				return true
			})
		})
		if err != nil {
			return nil, err
		}
		r.tied = tied
	}
	return r.tied[id], nil
}

// retie has ties lead to the message that was appended last, which is the same one.
func (tx *Tx) retie(keys [][]byte, at mail.MailboxID, uid mail.UID) error {
	for _, key := range keys {
		v, ok, err := tx.w.Get(key)
		if err != nil || !ok {
			return err
		}
		t, err := decodeTie(key, v)
		if err != nil {
			return err
		}
		t.Message, t.Mailbox, t.UID = mail.MessageID(tx.acct.nextMessage-1), at, uid
		if err := tx.w.Put(key, t.encode()); err != nil {
			return err
		}
	}
	return nil
}

// untie forgets that a message came, and how far its mailbox there was read.
func (tx *Tx) untie(keys [][]byte) error {
	for _, key := range keys {
		if err := tx.w.Delete(key); err != nil {
			return err
		}
		box := append([]byte{famTiedBox}, key[1:tieKeyAt]...)
		v, ok, err := tx.w.Get(box)
		if err != nil {
			return err
		}
		if b, bad := decodeTiedBox(v); ok && bad == nil {
			b.State = nil
			if err := tx.w.Put(box, b.encode()); err != nil {
				return err
			}
		}
	}
	return nil
}

// blankTies has ties lead to no message if there is no record of theirs: it may be lost without
// a trace as well as deleted, and is neither deleted at its source nor brought again.
func (tx *Tx) blankTies() error {
	var blank []Tie
	var keys [][]byte
	var bad error
	err := tx.w.Scan([]byte{famTie}, []byte{famTie + 1}, false, func(k, v []byte) bool {
		t, err := decodeTie(k, v)
		if err != nil || t.Message == 0 {
			return true // mended before
		}
		_, there, err := tx.w.Get(engine.Key(famFacts, uint64(t.Message)))
		if bad = err; err == nil && !there {
			t.Message = 0
			blank, keys = append(blank, t), append(keys, bytes.Clone(k))
		}
		return bad == nil
	})
	for i := range blank {
		if err == nil && bad == nil {
			err = tx.w.Put(keys[i], blank[i].encode())
		}
	}
	if err == nil {
		err = bad
	}
	return err
}
