package imapd

import (
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// page returns the UIDs of the set that a range of results means (RFC 9394, 3.1), in
// time linear in the ranges of the set.
func page(set mail.UIDSet, p imap.PartialRange) mail.UIDSet {
	from, to := p.Of(set.Len())
	var out mail.UIDSet
	before := 0 // messages in the ranges already passed
	for _, r := range set {
		n := int(r.To-r.From) + 1
		lo, hi := max(from-before, 0), min(to-before, n)
		if lo < hi {
			out.AddRange(r.From+mail.UID(lo), r.From+mail.UID(hi-1))
		}
		if before += n; before >= to {
			break
		}
	}
	return out
}
