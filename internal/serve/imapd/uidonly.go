package imapd

import (
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// UIDONLY (RFC 9586): a client that has enabled it neither uses nor gets sequence
// numbers. FETCH responses are UIDFETCH, expunges are VANISHED.

// uidRequired is the answer to a sequence number.
func uidRequired() error {
	return answered{"BAD", "UIDREQUIRED", fault.New(fault.Invalid, "sequence numbers are not possible after UIDONLY was enabled")}
}

// byNumber tells whether a command counts by sequence numbers: it has a UID form. That
// of EXPUNGE only restricts it.
func (s *session) byNumber(r *row) bool {
	return r.name != "EXPUNGE" && s.srv.rows["UID "+r.name] != nil
}

// openFetch begins a FETCH response up to its parenthesis.
func (s *session) openFetch(uid mail.UID) {
	if s.uidOnly {
		s.enc.Raw("* ").Number(uint64(uid)).Raw(" UIDFETCH (")
		return
	}
	s.enc.Raw("* ").Number(uint64(s.view.seq(uid))).Raw(" FETCH (")
}
