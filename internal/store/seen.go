package store

import (
	"encoding/binary"
	"math/bits"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
)

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
