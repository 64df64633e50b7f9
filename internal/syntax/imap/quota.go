package imap

// QuotaLimit is a limit that SETQUOTA asks for (RFC 9208, 4.1.3).
type QuotaLimit struct {
	Resource string // in upper case: STORAGE, MESSAGE ...
	Limit    uint64
}

// SetQuota is the arguments of SETQUOTA.
type SetQuota struct {
	Root   string
	Limits []QuotaLimit
}

// ExpectSetQuota reads the arguments of SETQUOTA.
func (d *Decoder) ExpectSetQuota(out *SetQuota) bool {
	var q SetQuota
	if !d.expectAString(&q.Root, "a quota root") || !d.ExpectSP() {
		return false
	}
	if !d.ExpectList(func() bool {
		var l QuotaLimit
		if !d.ExpectWord(&l.Resource, "a resource") || !d.ExpectSP() || !d.ExpectNumber64(&l.Limit) {
			return false
		}
		q.Limits = append(q.Limits, l)
		return true
	}) {
		return false
	}
	*out = q
	return d.err == nil
}

// AppendText appends the arguments as a client writes them.
func (q SetQuota) AppendText(b []byte) []byte {
	b = append(AppendString(b, q.Root, true, true), " ("...)
	for i, l := range q.Limits {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendNumber(append(append(b, l.Resource...), ' '), l.Limit)
	}
	return append(b, ')')
}

// Replace is the beginning of the arguments of REPLACE: which message, and where the
// one goes that replaces it. An append-message follows (RFC 8508, 5).
type Replace struct {
	Number  uint32 // of the message, by sequence or UID; 0 is '*'
	Mailbox string
}

// ExpectReplace reads the beginning of the arguments of REPLACE, up to and with the
// space before the message.
func (d *Decoder) ExpectReplace(out *Replace) bool {
	var r Replace
	if !d.seqNumber(&r.Number) || !d.ExpectSP() || !d.ExpectMailbox(&r.Mailbox) || !d.ExpectSP() {
		return false
	}
	*out = r
	return true
}
