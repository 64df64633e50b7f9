package imapd

import (
	"bytes"
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

// notebook is what one who reads for a search notes.
type notebook struct {
	head, body *gramSet // of the message that is being read
	cut        bool     // its body was not read to the end
	list       []store.Grams
	bytes      int
	room       []byte // what is left of where notes are put
}

// noteRoom is how much is made at once to put notes into, of which one takes 16 KB at most.
const noteRoom = 256 << 10

// gramSet gathers the grams of texts, in as many bits as they may need.
type gramSet struct {
	all   [gramBits / 64]uint64
	words []uint64 // those of all that are in use, a power of two
	mask  uint32
}

func gramHash(x uint32) uint32 { return x * 0x9E3779B1 >> 16 }

// reset empties the set for texts of about so many bytes.
func (g *gramSet) reset(bytes int64) {
	n := 1 << bits.Len64(uint64(min(max(bytes, 64), gramBits/8)*8-1)) // bits
	g.words, g.mask = g.all[:n/64], uint32(n-1)
	clear(g.words)
}

// add enters the grams of a folded text.
func (g *gramSet) add(text []byte) {
	if len(text) < 3 {
		return
	}
	x := uint32(text[0])<<16 | uint32(text[1])<<8
	for _, c := range text[2:] {
		h := gramHash(x|uint32(c)) & g.mask
		g.words[h>>6] |= 1 << (h & 63)
		x = (x | uint32(c)) << 8 & 0xffffff
	}
}

// encode appends the filter to b, folded to the power of two from the number of grams
// on, so that about half of its bits are set.
func (g *gramSet) encode(b []byte) []byte {
	n := 0 // bits that are set
	for _, w := range g.words {
		n += bits.OnesCount64(w)
	}
	if n > gramBits/2 {
		return append(b, unknown)
	}
	k := max(bits.Len(uint(n)), 6) - 6
	size := min(1<<k, len(g.words))
	k = bits.Len(uint(size)) - 1
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
func (r *reading) note(c *candidate) {
	read := c.texts != nil && !r.notes.cut
	if !r.q.sifts || c.noted && (c.wholly || !read) {
		return
	}
	if cap(r.notes.room) < noteRoom/8 {
		r.notes.room = make([]byte, 0, noteRoom)
	}
	b := r.noteHeader(r.notes.room, c.header)
	if read {
		b = r.notes.body.encode(b)
	} else {
		b = append(b, unknown)
	}
	b, r.notes.room = b[:len(b):len(b)], b[len(b):]
	r.notes.list = append(r.notes.list, store.Grams{UID: c.m.UID, ID: c.m.ID, Bytes: b})
	if r.notes.bytes += len(b); r.notes.bytes > keepMost {
		r.q.keep(r.notes.list)
		r.notes.list, r.notes.bytes = nil, 0
	}
}

// noteHeader appends the filter of a header: of its lines, and of its addresses as
// addressed reads them.
func (r *reading) noteHeader(b []byte, h *headerText) []byte {
	r.notes.head.reset(2 * int64(len(h.head)))
	for i := range h.fields {
		f := &h.fields[i]
		r.notes.head.add(h.line(f))
		if f.named("From") || f.named("To") || f.named("Cc") || f.named("Bcc") {
			r.noteAddresses(h, f)
		}
	}
	return r.notes.head.encode(b)
}

// noteAddresses enters the addresses of a field as they are shown, unless its line has
// them so.
func (r *reading) noteAddresses(h *headerText, f *headerField) {
	h.plain = mime.AppendUnfold(h.plain[:0], f.raw)
	switch shape := shapeOf(h.plain); shape {
	case addressNamed:
	case addressBare:
		line := append(append(append([]byte(nil), " <"...), h.plain...), '>')
		r.notes.head.add(h.by.AppendFold(nil, line))
	default:
		for _, a := range mime.ParseAddressList(string(h.plain)) {
			r.notes.head.add(h.by.AppendFold(nil, []byte(h.shown(a))))
		}
	}
}

// Shapes of a field with one address.
const (
	addressOther = iota
	addressBare  // ann@example.org
	addressNamed // Ann Example <ann@example.org>
)

// shapeOf tells whether a field is one address in a form in which it is also shown.
func shapeOf(field []byte) int {
	name, rest, named := bytes.Cut(field, []byte(" <"))
	if !named {
		rest = field
	} else if len(rest) == 0 || rest[len(rest)-1] != '>' || !plainRuns(name, ' ') {
		return addressOther
	} else {
		rest = rest[:len(rest)-1]
	}
	local, host, ok := bytes.Cut(rest, []byte("@"))
	switch {
	case !ok || !plainRuns(local, '.') || !plainRuns(host, '.'):
		return addressOther
	case named:
		return addressNamed
	}
	return addressBare
}

// plainRuns tells whether b is runs of ASCII letters, digits, hyphens and underscores with
// one byte between two of them.
func plainRuns(b []byte, between byte) bool {
	was := between
	for _, c := range b {
		switch {
		case c == between:
			if was == between {
				return false
			}
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
		was = c
	}
	return was != between
}

// keepNotes writes the notes that are left and waits for all.
func (q *search) keepNotes() {
	var all []store.Grams
	for _, r := range q.readings {
		all = append(all, r.notes.list...)
		r.notes.list, r.notes.bytes = nil, 0
	}
	q.keep(all)
	q.keeping.Wait()
}

// keep writes notes while the search goes on; only then the next ones. One that cannot be
// written is made again some time.
func (q *search) keep(list []store.Grams) {
	if len(list) < worth {
		return
	}
	q.writing.Lock()
	q.keeping.Go(func() {
		defer q.writing.Unlock()
		q.v.acct.KeepGrams(q.s.ctx, q.v.pic.Mailbox().ID, list)
	})
}
