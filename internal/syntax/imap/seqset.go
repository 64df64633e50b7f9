package imap

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/martlet-mail/martlet/internal/mail"
)

// SeqRange is two ends of a sequence set in the order given; 0 stands for '*'.
type SeqRange struct{ From, To uint32 }

// SeqSet is a sequence set before anybody knows how many messages there are: of
// sequence numbers or of UIDs (RFC 9051, 9 "sequence-set").
type SeqSet struct {
	Ranges []SeqRange
	Saved  bool // "$": the result of the last SEARCH that saved (RFC 5182, 2.1)
}

// ExpectSeqSet reads a sequence set or $.
func (d *Decoder) ExpectSeqSet(out *SeqSet) bool {
	return d.seqSet(out) || d.expected("a message set")
}

// seqSet reads a sequence set if one begins here.
func (d *Decoder) seqSet(out *SeqSet) bool {
	if d.Special('$') {
		*out = SeqSet{Saved: true}
		return true
	}
	if c, ok := d.peek(); !ok || c != '*' && !isDigit(c) {
		return false
	}
	var set SeqSet
	for {
		var r SeqRange
		if !d.seqNumber(&r.From) {
			return false
		}
		r.To = r.From
		if d.Special(':') && !d.seqNumber(&r.To) {
			return false
		}
		set.Ranges = append(set.Ranges, r)
		if d.err != nil {
			return false
		}
		if !d.Special(',') {
			*out = set
			return d.err == nil
		}
	}
}

func (d *Decoder) seqNumber(out *uint32) bool {
	if d.Special('*') {
		*out = 0
		return true
	}
	if !d.atDigit() {
		return d.expected("a message number or '*'")
	}
	if !d.ExpectNumber(out) {
		return false
	}
	return *out != 0 || d.Fail("message numbers begin at 1")
}

// Resolve returns the numbers of s with '*' standing for most, the largest number
// in use. It costs O(n log n) in the ranges written, whatever they span. Saved is
// the caller's to resolve.
func (s SeqSet) Resolve(most uint32) mail.UIDSet {
	ranges := make([]mail.Range, 0, len(s.Ranges))
	for _, r := range s.Ranges {
		if r.From == 0 {
			r.From = most
		}
		if r.To == 0 {
			r.To = most
		}
		if r.From == 0 || r.To == 0 { // '*' of an empty mailbox
			r.From, r.To = max(r.From, r.To), max(r.From, r.To)
		}
		if r.From != 0 {
			ranges = append(ranges, mail.Range{From: mail.UID(min(r.From, r.To)), To: mail.UID(max(r.From, r.To))})
		}
	}
	slices.SortFunc(ranges, func(a, b mail.Range) int { return cmp.Compare(a.From, b.From) })
	var set mail.UIDSet
	for _, r := range ranges {
		set.AddRange(r.From, r.To)
	}
	return set
}

// HasStar tells whether '*' is written in s.
func (s SeqSet) HasStar() bool {
	return slices.ContainsFunc(s.Ranges, func(r SeqRange) bool { return r.From == 0 || r.To == 0 })
}

// AppendText appends s as the client wrote it.
func (s SeqSet) AppendText(b []byte) []byte {
	if s.Saved {
		return append(b, '$')
	}
	number := func(n uint32) {
		if n == 0 {
			b = append(b, '*')
		} else {
			b = strconv.AppendUint(b, uint64(n), 10)
		}
	}
	for i, r := range s.Ranges {
		if i > 0 {
			b = append(b, ',')
		}
		number(r.From)
		if r.To != r.From {
			b = append(b, ':')
			number(r.To)
		}
	}
	return b
}

// String returns s as the client wrote it.
func (s SeqSet) String() string { return string(s.AppendText(nil)) }

// expectUIDs reads a set of numbers that knows no '*' or '$' (RFC 9051, "uid-set").
func (d *Decoder) expectUIDs(out *mail.UIDSet) bool {
	var s SeqSet
	if !d.ExpectSeqSet(&s) {
		return false
	}
	if s.Saved || s.HasStar() {
		return d.Fail("this set must name numbers only")
	}
	*out = s.Resolve(0)
	return true
}
