package imap

// Batches is the arguments of UIDBATCHES (RFC 10022, 4).
type Batches struct {
	Size     uint32 // messages of a batch
	Ranged   bool   // only the batches From to To are wanted, counted from 1
	From, To uint32 // in the order they were written; a wrong one is not a matter of grammar
}

// ExpectBatches reads the arguments of UIDBATCHES.
func (d *Decoder) ExpectBatches(out *Batches) bool {
	var b Batches
	if !d.nonZero(&b.Size, "a batch has a message at least") {
		return false
	}
	if b.Ranged = d.SP(); b.Ranged {
		const say = "batches are counted from 1"
		if !d.nonZero(&b.From, say) || !d.ExpectSpecial(':') || !d.nonZero(&b.To, say) {
			return false
		}
	}
	*out = b
	return true
}

// nonZero reads an nz-number; say is what is wrong with 0.
func (d *Decoder) nonZero(out *uint32, say string) bool {
	return d.ExpectNumber(out) && (*out > 0 || d.Fail(say))
}

// AppendText appends the arguments as a client writes them.
func (b Batches) AppendText(buf []byte) []byte {
	buf = appendNumber(buf, uint64(b.Size))
	if b.Ranged {
		buf = appendNumber(append(buf, ' '), uint64(b.From))
		buf = appendNumber(append(buf, ':'), uint64(b.To))
	}
	return buf
}

// uniqueID reads a UID (RFC 9051, 9 "uniqueid").
func (d *Decoder) uniqueID(out *uint64) bool {
	var n uint32
	if !d.nonZero(&n, "UIDs begin at 1") {
		return false
	}
	*out = uint64(n)
	return true
}
