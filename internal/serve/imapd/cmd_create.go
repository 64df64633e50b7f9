package imapd

import (
	"github.com/martlet-mail/martlet/internal/fault"
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
	at, err := s.newPlace(args.Mailbox)
	if err != nil {
		return reply{}, err
	}
	if at.prefix != "" && role != "" {
		return no("USEATTR", "the special use of a mailbox is its owner's to say"), nil
	}
	var made store.Mailbox
	err = at.acct.Update(s.ctx, func(tx *store.Tx) (err error) {
		made, err = tx.CreateMailbox(at.name, role)
		return err
	})
	if err != nil {
		return reply{}, err
	}
	s.tellNormal(at.use(&made), at.shown(made.Name))
	return okCode(s.ids(&at.owner, made.ID), "CREATE done"), nil
}

// newPlace is place for a name that a mailbox is to get.
func (s *session) newPlace(name string) (place, error) {
	p, err := s.place(name)
	switch {
	case name == otherUsers:
		return p, fault.New(fault.Invalid, "this name is where the mailboxes of other users lie")
	case fault.Is(err, fault.NotFound): // no other answer than for a user who gives no right
		return p, noRightThere()
	}
	return p, err
}

func noRightThere() error {
	return fault.New(fault.Denied, "you have no right to make a mailbox there")
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
