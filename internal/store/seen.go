package store

import (
	"encoding/binary"
	"maps"
	"math/bits"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// maxGuests is how many users besides the owner may have seen messages of one mailbox:
// each costs something when messages are expunged.
const maxGuests = 1000

// Each user has seen what that user has seen. The owner's \Seen is a flag of the
// message. A guest's lies beside it: a bit for each message seen, in chunks of as many
// pages as a page has messages, and their number, so that what is unseen is known
// without looking. A guest's bits are of messages that are there: an expunge takes them
// out.
//
// The key of a chunk has the guest last, so that an expunge finds all guests of a chunk
// in one place.

// chunkPages is how many pages share a chunk.
const chunkPages = 64

// seenChunk is the bits of a chunk, a word for each page.
type seenChunk [chunkPages]uint64

func chunkOf(page uint64) uint64 { return page / chunkPages }

func guestKey(box mail.MailboxID, guest mail.AccountID) []byte {
	return engine.Key(famGuest, uint64(box), uint64(guest))
}

func seenKey(box mail.MailboxID, chunk uint64, guest mail.AccountID) []byte {
	return engine.Key(famSeen, uint64(box), chunk, uint64(guest))
}

func (c *seenChunk) has(uid mail.UID) bool {
	return c[pageOf(uid)%chunkPages]>>(uid%pageSize)&1 != 0
}

// set sets or clears the bit of a message and tells whether it was otherwise.
func (c *seenChunk) set(uid mail.UID, on bool) bool {
	if c.has(uid) == on {
		return false
	}
	c[pageOf(uid)%chunkPages] ^= 1 << (uid % pageSize)
	return true
}

func (c *seenChunk) count() (n int) {
	for _, w := range c {
		n += bits.OnesCount64(w)
	}
	return n
}

// encode writes which words there are and then these: they are runs of ones mostly,
// and of no length worth more thought.
func (c *seenChunk) encode() []byte {
	var which uint64
	var words []byte
	for i, w := range c {
		if w != 0 {
			which |= 1 << i
			words = binary.BigEndian.AppendUint64(words, w)
		}
	}
	var e enc
	e.U(which)
	e.Raw(words...)
	return seal(recSeen, e)
}

func decodeSeen(b []byte) (*seenChunk, error) {
	p, err := unseal(recSeen, b)
	if err != nil {
		return nil, err
	}
	d := dec{Rest: p}
	c := &seenChunk{}
	for which := d.U(); which != 0; which &= which - 1 {
		if w := d.Take(8); w != nil {
			c[bits.TrailingZeros64(which)] = binary.BigEndian.Uint64(w)
		}
	}
	return c, d.End("seen messages")
}

// seenChunk returns what a guest has seen in a chunk, empty if nothing.
func (s *Snapshot) seenChunk(box mail.MailboxID, chunk uint64, guest mail.AccountID) (*seenChunk, error) {
	v, ok, err := s.r.Get(seenKey(box, chunk, guest))
	if err != nil {
		return nil, err
	}
	if !ok {
		return &seenChunk{}, nil
	}
	return decodeSeen(v)
}

// seenCount returns how many messages of a mailbox a guest has seen; ok is false if
// nothing is kept of this guest.
func (s *Snapshot) seenCount(box mail.MailboxID, guest mail.AccountID) (n uint32, ok bool, err error) {
	v, ok, err := s.r.Get(guestKey(box, guest))
	if err != nil || !ok {
		return 0, false, err
	}
	p, err := unseal(recGuest, v)
	if err != nil {
		return 0, false, err
	}
	d := dec{Rest: p}
	return uint32(d.U()), true, d.End("count of seen messages")
}

// personal makes a mailbox record what the user of the handle is to see of it.
func (s *Snapshot) personal(m *Mailbox) error {
	guest := s.account.guest()
	if guest == 0 {
		return nil
	}
	n, _, err := s.seenCount(m.ID, guest)
	m.Unseen = m.Messages - min(n, m.Messages)
	return err
}

// seenAs returns the sheet with \Seen as the bits of its pages' words say; the sheet
// itself if it is so already. All else is shared with it.
func (sh *sheet) seenAs(words []uint64) *sheet {
	same := true
	row := 0
	for i, word := range sh.present {
		for ; word != 0 && same; word &= word - 1 {
			same = sh.marking(row).flags.Has(mail.Seen) == (words[i]&word&-word != 0)
			row++
		}
	}
	if same {
		return sh
	}
	d := sh.marks.draft()
	for i, word := range d.present {
		for ; word != 0; word &= word - 1 {
			slot := i*pageSize + bits.TrailingZeros64(word)
			k := d.kinds[d.kind[slot]]
			if k.flags &^= mail.Seen; words[i]&word&-word != 0 {
				k.flags |= mail.Seen
			}
			d.kind[slot] = d.kindOf(k)
		}
	}
	d.tidy()
	return &sheet{marks: d.marks(), pages: sh.pages}
}

// asGuest returns a picture as a guest sees it. was and had are an earlier picture and
// what the guest saw then: of sheets that are the same still nothing is read, for
// whenever somebody has seen a message, its modseq rises.
func (s *Snapshot) asGuest(now, was, had *Picture, guest mail.AccountID) (*Picture, error) {
	m := now.box
	if err := s.personal(&m); err != nil {
		return nil, err
	}
	sheets := make([]*sheet, len(now.sheets))
	var chunk *seenChunk
	loaded := uint64(1) << 63
	j := 0
	for i, n := range now.numbers {
		if was != nil {
			for j < len(was.numbers) && was.numbers[j] < n {
				j++
			}
			if j < len(was.numbers) && was.numbers[j] == n && was.sheets[j] == now.sheets[i] {
				sheets[i] = had.sheets[j]
				continue
			}
		}
		first := n * sheetPages // of the pages of the sheet, which all lie in one chunk
		if chunkOf(first) != loaded {
			var err error
			if chunk, err = s.seenChunk(m.ID, chunkOf(first), guest); err != nil {
				return nil, err
			}
			loaded = chunkOf(first)
		}
		sheets[i] = now.sheets[i].seenAs(chunk[first%chunkPages : first%chunkPages+sheetPages])
	}
	return newPicture(m, now.numbers, sheets).inLine(now.line), nil
}

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

// guests checks what is kept of the guests of the account's mailboxes: each bit of a
// message that is there, all together as many as are counted.
func (v *verifier) guests(boxes []Mailbox) error {
	byID := map[mail.MailboxID]Mailbox{}
	for _, m := range boxes {
		byID[m.ID] = m
	}
	type seenBy struct {
		box   mail.MailboxID
		guest mail.AccountID
	}
	found, counted := map[seenBy]int{}, map[seenBy]int{}
	guests := map[mail.MailboxID]uint32{}
	err := v.snap.r.Scan([]byte{famGuest}, []byte{famGuest + 1}, false, func(k, _ []byte) bool {
		id := seenBy{mail.MailboxID(keyNum(k, 0)), mail.AccountID(keyNum(k, 1))}
		n, _, err := v.snap.seenCount(id.box, id.guest)
		if err != nil {
			v.problem(0, "record %x: %s", k, fault.Say(err))
		}
		counted[id] = int(n)
		guests[id.box]++
		return true
	})
	if err != nil {
		return err
	}
	err = v.snap.r.Scan([]byte{famSeen}, []byte{famSeen + 1}, false, func(k, val []byte) bool {
		id := seenBy{mail.MailboxID(keyNum(k, 0)), mail.AccountID(keyNum(k, 2))}
		c, err := decodeSeen(val)
		if err != nil {
			v.problem(0, "record %x: %s", k, fault.Say(err))
			return true
		}
		found[id] += c.count()
		for i, w := range c {
			number := keyNum(k, 1)*chunkPages + uint64(i)
			if w == 0 {
				continue
			}
			p, err := v.snap.page(id.box, number)
			if err != nil || p == nil || w&^p.present != 0 {
				v.problem(lowestUID(number, w), "guest %d of mailbox %d has seen a message that is not there", id.guest, id.box)
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	if !maps.Equal(found, counted) {
		v.problem(0, "guests have seen %v and it is counted as %v", found, counted)
	}
	for id, n := range guests {
		if m, ok := byID[id]; !ok || m.guests != n {
			v.problem(0, "mailbox %d counts %d guests and has %d", id, m.guests, n)
		}
	}
	for _, m := range boxes {
		if m.guests != 0 && guests[m.ID] == 0 {
			v.problem(0, "mailbox %d counts %d guests and has none", m.ID, m.guests)
		}
	}
	return nil
}
