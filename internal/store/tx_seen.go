package store

import (
	"maps"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// maxGuests is how many users besides the owner may have seen messages of one mailbox:
// each costs something when messages are expunged.
const maxGuests = 1000

// guestSeen is what a Tx has read and changed of the seen messages of its user.
type guestSeen struct {
	chunks map[uint64]*seenChunk
	stale  map[uint64]bool
	delta  int
}

// hasSeen tells whether the user of the Tx, a guest, has seen a message.
func (tx *Tx) hasSeen(b *txBox, uid mail.UID) (bool, error) {
	c, err := tx.seenBits(b, uid)
	return err == nil && c.has(uid), err
}

func (tx *Tx) seenBits(b *txBox, uid mail.UID) (*seenChunk, error) {
	n := chunkOf(pageOf(uid))
	if c := b.seen.chunks[n]; c != nil {
		return c, nil
	}
	c, err := tx.Snapshot.seenChunk(b.ID, n, tx.account.guest())
	if err != nil {
		return nil, err
	}
	if b.seen.chunks == nil {
		b.seen.chunks, b.seen.stale = map[uint64]*seenChunk{}, map[uint64]bool{}
	}
	b.seen.chunks[n] = c
	return c, nil
}

// setSeen notes whether the user of the Tx, a guest, has seen a message, and tells
// whether that is new. Faults: Limited at maxGuests.
func (tx *Tx) setSeen(b *txBox, uid mail.UID, on bool) (bool, error) {
	c, err := tx.seenBits(b, uid)
	if err != nil || c.has(uid) == on {
		return false, err
	}
	if on && b.guests >= maxGuests {
		_, known, err := tx.seenCount(b.ID, tx.account.guest())
		if err != nil {
			return false, err
		}
		if !known {
			return false, fault.Newf(fault.Limited, "the mailbox knows for %d users what they have seen, the most it can", maxGuests)
		}
	}
	c.set(uid, on)
	b.seen.stale[chunkOf(pageOf(uid))] = true
	if b.seen.delta++; !on {
		b.seen.delta -= 2
	}
	return true, nil
}

// arriveSeen is setSeen for a message that comes in: too many guests do not stop it.
func (tx *Tx) arriveSeen(b *txBox, uid mail.UID, seen bool) error {
	if !seen {
		return nil
	}
	_, err := tx.setSeen(b, uid, true)
	if fault.Is(err, fault.Limited) {
		return nil
	}
	return err
}

// carrySeen lets what guests have seen go along with messages that move. That of the
// user of the Tx has gone already; for guests that are too many for the mailbox there is
// no place.
func (tx *Tx) carrySeen(src, dst *txBox, moved []Moved) error {
	var guests []mail.AccountID
	from := engine.Key(famGuest, uint64(src.ID))
	err := tx.w.Scan(from, engine.After(from), false, func(k, _ []byte) bool {
		if guest := mail.AccountID(keyNum(k, 1)); guest != tx.account.guest() {
			guests = append(guests, guest)
		}
		return true
	})
	for i := 0; err == nil && i < len(guests); i++ {
		err = tx.carryOne(src, dst, moved, guests[i])
	}
	return err
}

func (tx *Tx) carryOne(src, dst *txBox, moved []Moved, guest mail.AccountID) error {
	_, known, err := tx.seenCount(dst.ID, guest)
	if err != nil || !known && dst.guests >= maxGuests {
		return err
	}
	chunks := map[[2]uint64]*seenChunk{} // by mailbox and number
	chunk := func(b *txBox, uid mail.UID) *seenChunk {
		id := [2]uint64{uint64(b.ID), chunkOf(pageOf(uid))}
		if chunks[id] == nil && err == nil {
			chunks[id], err = tx.Snapshot.seenChunk(b.ID, id[1], guest)
		}
		return chunks[id]
	}
	changed := map[uint64]bool{}
	n := 0
	for _, m := range moved {
		was, is := chunk(src, m.From), chunk(dst, m.To)
		if err != nil {
			return err
		}
		if was.has(m.From) && is.set(m.To, true) {
			changed[chunkOf(pageOf(m.To))] = true
			n++
		}
	}
	for _, number := range slices.Sorted(maps.Keys(changed)) {
		if err := tx.putSeen(seenKey(dst.ID, number, guest), chunks[[2]uint64{uint64(dst.ID), number}]); err != nil {
			return err
		}
	}
	return tx.countSeen(dst, guest, n)
}

// flushSeen writes what the Tx has changed of its user's seen messages, and takes the
// messages that it has expunged out of everybody's.
func (tx *Tx) flushSeen(b *txBox) error {
	guest := tx.account.guest()
	for _, n := range slices.Sorted(maps.Keys(b.seen.stale)) {
		if err := tx.putSeen(seenKey(b.ID, n, guest), b.seen.chunks[n]); err != nil {
			return err
		}
	}
	if err := tx.countSeen(b, guest, b.seen.delta); err != nil {
		return err
	}
	b.seen = guestSeen{}
	if b.guests == 0 || b.log.Expunged.IsEmpty() {
		return nil
	}
	gone := map[uint64]*seenChunk{}
	for uid := range b.log.Expunged.All() {
		n := chunkOf(pageOf(uid))
		if gone[n] == nil {
			gone[n] = &seenChunk{}
		}
		gone[n].set(uid, true)
	}
	fewer := map[mail.AccountID]int{}
	for _, n := range slices.Sorted(maps.Keys(gone)) {
		if err := tx.pruneSeen(b, n, gone[n], fewer); err != nil {
			return err
		}
	}
	for _, who := range slices.Sorted(maps.Keys(fewer)) {
		if err := tx.countSeen(b, who, -fewer[who]); err != nil {
			return err
		}
	}
	return nil
}

// pruneSeen takes messages out of one chunk of all guests and adds up how many of each
// guest's these were.
func (tx *Tx) pruneSeen(b *txBox, n uint64, gone *seenChunk, fewer map[mail.AccountID]int) error {
	type change struct {
		key  []byte
		left *seenChunk
	}
	var changes []change
	var bad error
	from := engine.Key(famSeen, uint64(b.ID), n)
	err := tx.w.Scan(from, engine.After(from), false, func(k, v []byte) bool {
		var c *seenChunk
		if c, bad = decodeSeen(v); bad != nil {
			return false
		}
		had := c.count()
		for i := range c {
			c[i] &^= gone[i]
		}
		if less := had - c.count(); less > 0 {
			fewer[mail.AccountID(keyNum(k, 2))] += less
			changes = append(changes, change{slices.Clone(k), c})
		}
		return true
	})
	if err == nil {
		err = bad
	}
	for i := 0; err == nil && i < len(changes); i++ {
		err = tx.putSeen(changes[i].key, changes[i].left)
	}
	return err
}

func (tx *Tx) putSeen(key []byte, c *seenChunk) error {
	if *c == (seenChunk{}) {
		return tx.w.Delete(key)
	}
	return tx.w.Put(key, c.encode())
}

// countSeen changes the number of messages that a guest has seen. One who has seen none
// is no guest.
func (tx *Tx) countSeen(b *txBox, guest mail.AccountID, by int) error {
	if by == 0 {
		return nil
	}
	had, known, err := tx.seenCount(b.ID, guest)
	if err != nil {
		return err
	}
	if !known {
		b.guests++
	}
	now := int(had) + by
	if now <= 0 {
		b.guests--
		return tx.w.Delete(guestKey(b.ID, guest))
	}
	var e enc
	e.U(uint64(now))
	return tx.w.Put(guestKey(b.ID, guest), seal(recGuest, e))
}

// dropGuest forgets what a guest has seen in a mailbox.
func (tx *Tx) dropGuest(b *txBox, guest mail.AccountID) error {
	_, known, err := tx.seenCount(b.ID, guest)
	if err != nil || !known {
		return err
	}
	last := chunkOf(pageOf(b.UIDNext))
	for n := uint64(0); n <= last; n++ {
		if err := tx.w.Delete(seenKey(b.ID, n, guest)); err != nil {
			return err
		}
	}
	b.guests--
	b.dirty, tx.acctDirty = true, true
	return tx.w.Delete(guestKey(b.ID, guest))
}

// dropGuests forgets what all guests have seen in a mailbox that is deleted.
func (tx *Tx) dropGuests(b *txBox) error {
	if b.guests == 0 {
		return nil
	}
	for _, family := range [...]byte{famGuest, famSeen} {
		err := tx.w.DeleteRange(engine.Key(family, uint64(b.ID)), engine.Key(family, uint64(b.ID)+1))
		if err != nil {
			return err
		}
	}
	return nil
}
