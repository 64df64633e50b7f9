package store

import (
	"bytes"
	"cmp"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// A tie whose message is not here any more says that its owner has deleted it, and whoever
// keeps the source in step may delete it there. So what a repair loses must not look like that:
// its tie goes, in the commit in which the message does, and it comes again from where it came.

// findTies looks for the ties of messages that are about to be mended: of those alone, as an
// account may have very many.
func (r *mender) findTies(ids []mail.MessageID) error {
	r.tied = map[mail.MessageID][][]byte{}
	if len(ids) == 0 {
		return nil
	}
	for _, id := range ids {
		r.tied[id] = nil
	}
	return r.a.View(r.ctx, func(s *Snapshot) error {
		return s.r.Scan([]byte{famTie}, []byte{famTie + 1}, false, func(k, v []byte) bool {
			if t, err := decodeTie(k, v); err == nil && t.Message != 0 {
				if keys, asked := r.tied[t.Message]; asked {
					r.tied[t.Message] = append(keys, bytes.Clone(k))
				}
			}
			return true
		})
	})
}

// retie has ties lead to the message that was appended last, which is the same one.
func (tx *Tx) retie(keys [][]byte, at mail.MailboxID, uid mail.UID) error {
	for _, key := range keys {
		v, ok, err := tx.w.Get(key)
		if err != nil {
			return err
		}
		if !ok {
			continue // forgotten meanwhile
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

// mendTies makes damaged ties anew: what they say is lost, but not that the message came.
func (r *mender) mendTies() error {
	return r.rewrite([]byte{famTie}, []byte{famTiedBox + 1}, func(n int) {
		r.note(0, "what is known of mail that was brought from elsewhere is lost in part (%d records): it does not come again", n)
	}, func(_ *Snapshot, k, v []byte) (value []byte, change bool, err error) {
		if k[0] != famTie {
			_, err = decodeTiedBox(v)
			return nil, err != nil, nil
		}
		if _, err = decodeTie(k, v); err != nil && len(k) > tieKeyAt {
			value = new(Tie).encode()
		}
		return value, err != nil, nil
	})
}

// blankTies has ties lead to no message if there is no record of theirs: it may be lost without
// a trace as well as deleted, and is neither deleted at its source nor brought again.
func (r *mender) blankTies() error {
	return r.rewrite([]byte{famTie}, []byte{famTie + 1}, func(int) {}, func(s *Snapshot, k, v []byte) ([]byte, bool, error) {
		t, err := decodeTie(k, v)
		if err != nil || t.Message == 0 {
			return nil, false, nil // mended before
		}
		_, there, err := s.r.Get(engine.Key(famFacts, uint64(t.Message)))
		t.Message = 0
		return t.encode(), !there, err
	})
}

// mendBytes is how much of many records one commit writes: some 10,000 ties.
const mendBytes = 1 << 20

// rewrite writes the records between two keys of which change says so anew, or removes them
// (nil), in as many commits as it takes; before each, note is told how many records it writes.
func (r *mender) rewrite(from, to []byte, note func(int), change func(s *Snapshot, k, v []byte) ([]byte, bool, error)) error {
	for from != nil {
		var list [][2][]byte
		var next []byte
		err := r.a.View(r.ctx, func(s *Snapshot) error {
			var bad error
			size := 0
			err := s.r.Scan(from, to, false, func(k, v []byte) bool {
				if size > mendBytes {
					next = bytes.Clone(k)
					return false
				}
				var value []byte
				var some bool
				if value, some, bad = change(s, k, v); some && bad == nil {
					list = append(list, [2][]byte{bytes.Clone(k), value})
					size += len(k) + len(value)
				}
				return bad == nil
			})
			return cmp.Or(err, bad)
		})
		if err == nil && len(list) > 0 {
			err = r.told(func(tx *Tx) error { note(len(list)); return tx.putAll(list) })
		}
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}

// putAll writes records, and removes those without a value.
func (tx *Tx) putAll(list [][2][]byte) error {
	for _, kv := range list {
		var err error
		if kv[1] == nil {
			err = tx.w.Delete(kv[0])
		} else {
			err = tx.w.Put(kv[0], kv[1])
		}
		if err != nil {
			return err
		}
	}
	return nil
}
