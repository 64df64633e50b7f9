package imapd

import (
	"encoding/binary"
	"math/bits"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// A search that reads a message notes which runs of three bytes its folded text has
// (Bloom's filter, one hash). The next search then reads only messages that may have
// the text it looks for: what is found is always verified. Notes are made by the first
// search of a message, not at its delivery, and only for the default comparator.
//
// A note is two filters, of the header and of the rest: a byte k and 8<<k bytes of bits
// each, or the byte unknown and nothing.

const (
	gramBits = 1 << 16 // of a filter before it is folded to its size
	unknown  = 0xff    // in place of k
	worth    = 64      // fewer notes than this are not kept: reading the messages is cheap
	keepMost = 4 << 20 // bytes of notes held back in memory
)

// notebook is what a search notes.
type notebook struct {
	head, body *gramSet // of the message that is being read
	cut        bool     // its body was not read to the end
	list       []store.Grams
	bytes      int
}

// gramSet gathers the grams of texts.
type gramSet struct {
	words [gramBits / 64]uint64
	n     int // bits that are set
}

func gramHash(x uint32) uint32 { return x * 0x9E3779B1 >> 16 }

// add enters the grams of a folded text.
func (g *gramSet) add(text []byte) {
	if len(text) < 3 {
		return
	}
	x := uint32(text[0])<<8 | uint32(text[1])
	for _, c := range text[2:] {
		x = (x<<8 | uint32(c)) & 0xffffff
		h := gramHash(x)
		if bit := uint64(1) << (h & 63); g.words[h>>6]&bit == 0 {
			g.words[h>>6] |= bit
			g.n++
		}
	}
}

// encode appends the filter to b, folded to the power of two from the number of grams
// on, so that about half of its bits are set.
func (g *gramSet) encode(b []byte) []byte {
	k := max(bits.Len(uint(g.n)), 6) - 6
	if g.n > gramBits/2 {
		return append(b, unknown)
	}
	size := 1 << k
	for n := len(g.words); n > size; n /= 2 {
		for i := range n / 2 {
			g.words[i] |= g.words[n/2+i]
		}
	}
	b = append(b, byte(k))
	for _, w := range g.words[:size] {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// filters is a note, taken apart; a filter that is not known is nil.
type filters struct{ header, body []byte }

func parseFilters(b []byte) (f filters) {
	f.header, b = cutFilter(b)
	f.body, _ = cutFilter(b)
	return f
}

func cutFilter(b []byte) (filter, rest []byte) {
	if len(b) == 0 {
		return nil, nil
	}
	if k := b[0]; k <= 10 && len(b) > 8<<k {
		return b[1 : 1+8<<k], b[1+8<<k:]
	}
	return nil, b[1:]
}

// gramsOf returns the hashes of a folded text's grams, none if it is too short.
func gramsOf(text string) []uint32 {
	var out []uint32
	for i := 0; i+3 <= len(text); i++ {
		out = append(out, gramHash(uint32(text[i])<<16|uint32(text[i+1])<<8|uint32(text[i+2])))
	}
	return out
}

// may tells whether a filter has all the grams.
func may(filter []byte, grams []uint32) bool {
	if filter == nil {
		return true
	}
	mask := uint32(len(filter)*8 - 1)
	for _, h := range grams {
		if h &= mask; filter[h>>3]&(1<<(h&7)) == 0 {
			return false
		}
	}
	return true
}

// sift says what the notes of a message tell of a condition.
func (c *cond) sift(f *filters) verdict {
	if len(c.grams) == 0 || len(c.words) > 0 {
		return open
	}
	fits := true
	switch c.op {
	case imap.SearchHeader, imap.SearchAddress:
		fits = may(f.header, c.grams)
	case imap.SearchBody:
		fits = may(f.body, c.grams)
	case imap.SearchText:
		fits = may(f.header, c.grams) || may(f.body, c.grams)
	}
	if !fits {
		return unmet
	}
	return open
}

// sieve reads the notes of messages and returns those that may fit.
func (q *search) sieve(list []*candidate) (rest []*candidate, err error) {
	if !q.sifts || len(list) == 0 {
		return list, nil
	}
	ids := make([]mail.MessageID, len(list))
	for i := range list {
		ids[i] = list[i].m.ID
	}
	var fit []*candidate
	err = q.v.acct.View(q.s.ctx, func(snap *store.Snapshot) error {
		fit, rest = nil, nil
		return snap.EachGrams(ids, func(i int, b []byte, _ bool) error {
			f := parseFilters(b)
			probe := candidate{m: list[i].m, title: list[i].title, filters: &f}
			verdict := q.root.ask(&probe)
			if verdict == unmet {
				return nil
			}
			c := list[i]
			c.noted, c.wholly = f.header != nil, f.body != nil
			if verdict == met && q.scores == nil {
				fit = append(fit, c)
			} else {
				rest = append(rest, c)
			}
			return nil
		})
	})
	for _, c := range fit {
		q.accept(c)
	}
	return rest, err
}

// note makes the note of a message that was read, unless there is one already.
func (q *search) note(c *candidate) {
	read := c.texts != nil && !q.notes.cut
	if !q.sifts || c.noted && (c.wholly || !read) {
		return
	}
	b := q.noteHeader(nil, c.header)
	if read {
		b = q.notes.body.encode(b)
	} else {
		b = append(b, unknown)
	}
	q.notes.list = append(q.notes.list, store.Grams{UID: c.m.UID, ID: c.m.ID, Bytes: b})
	if q.notes.bytes += len(b); q.notes.bytes > keepMost {
		q.keepNotes()
	}
}

// noteHeader appends the filter of a header: of its lines, and of its addresses as
// addressed reads them.
func (q *search) noteHeader(b []byte, h *headerText) []byte {
	*q.notes.head = gramSet{}
	for i := range h.fields {
		f := &h.fields[i]
		q.notes.head.add(h.line(f))
		if f.named("From") || f.named("To") || f.named("Cc") || f.named("Bcc") {
			for _, a := range mime.ParseAddressList(mime.Unfold(f.raw)) {
				q.notes.head.add(h.by.AppendFold(nil, []byte(h.shown(a))))
			}
		}
	}
	return q.notes.head.encode(b)
}

// keepNotes writes the notes. One that cannot be written is made again some time.
func (q *search) keepNotes() {
	if len(q.notes.list) >= worth {
		q.v.acct.KeepGrams(q.s.ctx, q.v.pic.Mailbox().ID, q.notes.list)
	}
	q.notes.list, q.notes.bytes = nil, 0
}
