package imap

// PartialRange is a page of results counted from 1: from the first result on, or
// with FromEnd from the last one back (RFC 9394, 4 "partial-range"; RFC 5267, 4.4).
type PartialRange struct {
	From, To uint32 // From is not above To, in whichever order they were written
	FromEnd  bool   // -From:-To
}

// expectPartial reads the range of PARTIAL.
func (d *Decoder) expectPartial(out *PartialRange) bool {
	var r PartialRange
	r.FromEnd = d.Special('-')
	if !d.partialIndex(&r.From) || !d.ExpectSpecial(':') {
		return false
	}
	if d.Special('-') != r.FromEnd {
		return d.Fail("both ends of a PARTIAL range are counted from the same side")
	}
	if !d.partialIndex(&r.To) {
		return false
	}
	*out = PartialRange{From: min(r.From, r.To), To: max(r.From, r.To), FromEnd: r.FromEnd}
	return true
}

func (d *Decoder) partialIndex(out *uint32) bool {
	return d.ExpectNumber(out) && (*out > 0 || d.Fail("results are counted from 1"))
}

// Of returns which of n results the range means, as indexes from (counting from 0)
// up to and without to.
func (r PartialRange) Of(n int) (from, to int) {
	first, last := int64(r.From)-1, int64(r.To)
	if r.FromEnd {
		first, last = int64(n)-int64(r.To), int64(n)-int64(r.From)+1
	}
	from, to = int(min(max(first, 0), int64(n))), int(min(last, int64(n)))
	return from, max(from, to)
}

// AppendText appends the range as a client writes it, the smaller end first: that is
// how answers repeat it, since 4:2 is the same as 2:4 (RFC 9394, 4) and clients expect
// one of the two.
func (r PartialRange) AppendText(b []byte) []byte {
	sign := func() {
		if r.FromEnd {
			b = append(b, '-')
		}
	}
	sign()
	b = append(appendNumber(b, uint64(r.From)), ':')
	sign()
	return appendNumber(b, uint64(r.To))
}

// String returns the range as AppendText has it.
func (r PartialRange) String() string { return string(r.AppendText(nil)) }
