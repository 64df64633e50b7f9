package imapd

import (
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// create is CREATE (RFC 9051, 6.3.4; RFC 6154, 3 for the special use).
func (s *session) create(_ *command, args imap.Create) (reply, error) {
	var role mail.Role
	switch len(args.Use) {
	case 0:
	case 1:
		role = args.Use[0]
	default:
		return no("USEATTR", "a mailbox has one special use here, not %d", len(args.Use)), nil
	}
	var made store.Mailbox
	err := s.acct.Update(s.ctx, func(tx *store.Tx) (err error) {
		made, err = tx.CreateMailbox(args.Mailbox, role)
		return err
	})
	if err != nil {
		return reply{}, err
	}
	s.tellNormal(useAttribute(&made), made.Name)
	return okCode("MAILBOXID ("+s.mailboxID(made.ID)+")", "CREATE done"), nil
}

// tellNormal is tellOldName if the client wrote the name of its command otherwise.
func (s *session) tellNormal(attrs, is string) {
	if s.rev2 && s.dec.OldName != "" {
		s.tellOldName(attrs, is, s.dec.OldName)
	}
}

// tellOldName tells a client of IMAP4rev2 the normal form of a name; wrote is how it
// wrote it, "" if just so (RFC 9051, 6.3.2 to 6.3.6 and 6.3.9.7).
func (s *session) tellOldName(attrs, is, wrote string) {
	e := s.enc.Raw("* LIST (").Raw(attrs).Raw(`) "/" `).Mailbox(is)
	if wrote != "" {
		e.Raw(` ("OLDNAME" (`).Mailbox(wrote).Raw("))")
	}
	e.CRLF()
}
