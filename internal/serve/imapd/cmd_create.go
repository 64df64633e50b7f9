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
	s.tellRenamed(args.Mailbox, made.Name)
	return ok("CREATE done"), nil
}

// tellRenamed tells a client of IMAP4rev2 that a name came out in another form than
// it wrote it (RFC 9051, 6.3.4 and 6.3.9.7).
func (s *session) tellRenamed(wrote, is string) {
	if s.rev2 && wrote != is && wrote != is+store.Separator {
		s.enc.Raw(`* LIST () "/" `).Mailbox(is).Raw(` ("OLDNAME" (`).Mailbox(wrote).Raw("))").CRLF()
	}
}
