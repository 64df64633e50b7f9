package store

import (
	"bytes"
	"fmt"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

// strays puts messages that lie in no mailbox back into one.
func (r *mender) strays() error {
	var list []Facts
	var ids []mail.MessageID
	err := r.a.View(r.ctx, func(s *Snapshot) error {
		list, ids = nil, nil
		found, err := s.placed()
		if err != nil {
			return err
		}
		return s.r.Scan([]byte{famFacts}, []byte{famFacts + 1}, false, func(k, _ []byte) bool {
			id := mail.MessageID(keyNum(k, 0))
			if len(found[id]) > 0 || s.doomedAny() {
				return true
			}
			if f, err := s.Facts(id); err == nil {
				list, ids = append(list, Facts{Size: f.Size, home: f.home}), append(ids, id)
			}
			return true
		})
	})
	if err == nil {
		err = r.findTies(ids)
	}
	for i, f := range list {
		if err == nil {
			err = r.stray(ids[i], f)
		}
	}
	if err != nil {
		return err
	}
	return r.orphans()
}

// orphans puts messages back of which neither a page nor their facts tell, and drops
// records that are of no message any more.
func (r *mender) orphans() error {
	var ids []mail.MessageID
	err := r.a.View(r.ctx, func(s *Snapshot) error {
		ids = nil
		placed, err := s.placed()
		if err != nil || s.doomedAny() {
			return err
		}
		for _, family := range []byte{famHeader, famKeys, famBody} {
			err := s.r.Scan([]byte{family}, []byte{family + 1}, false, func(k, _ []byte) bool {
				id := mail.MessageID(keyNum(k, 0))
				if len(placed[id]) == 0 {
					placed[id] = []place{{}} // once
					ids = append(ids, id)
				}
				return true
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = r.findTies(ids)
	}
	for _, id := range ids {
		if err == nil {
			err = r.stray(id, Facts{Size: r.sizeOf(id)})
		}
	}
	return err
}

// sizeOf returns the size of a message by its header and small body.
func (r *mender) sizeOf(id mail.MessageID) (n int64) {
	_ = r.a.View(r.ctx, func(s *Snapshot) error {
		head, err := s.Head(nil, id)
		if err != nil {
			return err
		}
		n = -1 // it may have had a large body
		f := Facts{Size: 1 << 40}
		b, err := s.body(id, &f)
		if err != nil || len(b.small) == 0 {
			return err
		}
		small, err := unpack(s.account.store.pack.unbody, nil, b.small)
		if err == nil {
			n = int64(len(head) + len(small))
		}
		return err
	})
	return n
}

// dropRecords removes all records of a message but where it lies.
func (tx *Tx) dropRecords(id mail.MessageID) error {
	for _, family := range []byte{famFacts, famKeys, famHeader} {
		if err := tx.deleteLong(family, uint64(id), true); err != nil {
			return err
		}
	}
	if err := tx.w.Delete(engine.Key(famBody, uint64(id))); err != nil {
		return err
	}
	return tx.deletePlaces(id)
}

// stray puts one message back, or takes out what is left of it.
func (r *mender) stray(id mail.MessageID, f Facts) error {
	var all []byte
	err := r.a.View(r.ctx, func(s *Snapshot) error { all = s.rescue(r.ctx, Message{ID: id, Size: f.Size}); return nil })
	if err != nil {
		return err
	}
	if all == nil {
		return r.lostStray(id)
	}
	ties := r.tied[id]
	p, err := r.a.store.Receive(r.ctx, bytes.NewReader(all))
	if err != nil {
		return err
	}
	return r.told(func(tx *Tx) error {
		b, err := tx.homeOf(f)
		if err != nil {
			return err
		}
		r.box = b.Mailbox
		uid, err := tx.Append(b.ID, NewMessage{Parcel: p})
		if err == nil {
			err = tx.retie(ties, b.ID, uid)
		}
		if err != nil {
			return err
		}
		r.note(uid, "a message that lay in no mailbox any more is here again, without its flags")
		return tx.dropRecords(id)
	})
}

// lostStray takes out a message of which not all bytes are there.
func (r *mender) lostStray(id mail.MessageID) error {
	ties := r.tied[id]
	r.box = Mailbox{}
	return r.told(func(tx *Tx) error {
		r.found = append(r.found, Mended{Problem: Problem{Account: r.a.id, What: fmt.Sprintf("message %d lay in no mailbox any more, and its bytes are not all there", id)}, Lost: true})
		if err := tx.untie(ties); err != nil {
			return err
		}
		return tx.dropRecords(id)
	})
}

// homeOf is the mailbox that a message was delivered to, the inbox if that is not there.
func (tx *Tx) homeOf(f Facts) (*txBox, error) {
	b, err := tx.open(f.home.box)
	if err == nil {
		return b, nil
	}
	m, err := tx.Mailbox("INBOX")
	if err != nil {
		return nil, err
	}
	return tx.open(m.ID)
}

// doomedAny tells whether messages of deleted mailboxes are still to be released.
func (s *Snapshot) doomedAny() (some bool) {
	_ = s.r.Scan([]byte{famDoomed}, []byte{famDoomed + 1}, false, func(_, _ []byte) bool { some = true; return false })
	return some
}
