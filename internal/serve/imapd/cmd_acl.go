package imapd

import (
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
)

// anyone is the identifier of everybody (RFC 4314, 2).
const anyone = "anyone"

// setACL is SETACL (RFC 4314, 3.1).
func (s *session) setACL(_ *command, args imap.SetACL) (reply, error) {
	at, box, err := s.mailbox(args.Mailbox, mail.RightAdminister)
	if err != nil {
		return reply{}, err
	}
	who, err := s.identified(args.Identifier)
	if err == nil {
		err = at.acct.Grant(s.ctx, box.ID, who, args.Negative, args.Change.Apply)
	}
	if err == nil {
		s.c.Log().Info("rights changed", "mailbox", at.shown(box.Name), "of", who, "negative", args.Negative, "rights", args.Change.String())
	}
	return ok("SETACL done"), err
}

// deleteACL is DELETEACL (RFC 4314, 3.2). One who has no entry is not missed.
func (s *session) deleteACL(_ *command, args imap.SetACL) (reply, error) {
	at, box, err := s.mailbox(args.Mailbox, mail.RightAdminister)
	if err != nil {
		return reply{}, err
	}
	who, err := s.identified(args.Identifier)
	switch {
	case err == nil:
		if err = at.acct.Revoke(s.ctx, box.ID, who, args.Negative); err == nil {
			s.c.Log().Info("rights removed", "mailbox", at.shown(box.Name), "of", who, "negative", args.Negative)
		}
	case fault.Is(err, fault.NotFound):
		err = nil
	}
	return ok("DELETEACL done"), err
}

// identified returns the account of an identifier, 0 for anyone: a user name, which is
// an address, in any of its forms (RFC 4314, 3). Other identifiers there are none.
func (s *session) identified(identifier string) (mail.AccountID, error) {
	name, err := sasl.PrepareIdentifier(identifier)
	if err != nil {
		return 0, misuse(fault.New(fault.Invalid, "an identifier is empty or has characters that it cannot have"))
	}
	if name == anyone {
		return 0, nil
	}
	unknown := coded("CANNOT", fault.New(fault.NotFound, "there is no user of this name"))
	addr, err := mail.ParseAddress(name)
	if err != nil {
		return 0, unknown
	}
	account, err := s.srv.opt.Directory.Lookup(s.ctx, addr)
	if fault.Is(err, fault.NotFound) {
		return 0, unknown
	}
	return account.ID, err
}

// getACL is GETACL (RFC 4314, 3.3). Accounts that have been removed are left out.
func (s *session) getACL(_ *command, name string) (reply, error) {
	at, box, err := s.mailbox(name, mail.RightAdminister)
	if err != nil {
		return reply{}, err
	}
	type pair struct {
		identifier string
		rights     mail.Rights
	}
	var list []pair
	for _, g := range at.acct.ACL(&box) {
		who := anyone
		if g.Who != 0 {
			account, err := s.srv.opt.Directory.AccountByID(s.ctx, g.Who)
			if fault.Is(err, fault.NotFound) {
				continue
			}
			if err != nil {
				return reply{}, err
			}
			who = account.Address.String()
		}
		if g.Negative {
			who = "-" + who
		}
		list = append(list, pair{who, g.Rights})
	}
	s.enc.Raw("* ACL ").Mailbox(at.shown(box.Name))
	for _, p := range list {
		s.enc.SP().AString(p.identifier).SP().AString(p.rights.String())
	}
	s.enc.CRLF()
	return ok("GETACL done"), nil
}

// listRights is LISTRIGHTS (RFC 4314, 3.4): no right is tied to another, and the owner
// keeps some.
func (s *session) listRights(_ *command, args imap.SetACL) (reply, error) {
	at, box, err := s.mailbox(args.Mailbox, mail.RightAdminister)
	if err != nil {
		return reply{}, err
	}
	who, err := s.identified(args.Identifier)
	if err != nil {
		return reply{}, err
	}
	identifier := args.Identifier
	if args.Negative {
		identifier = "-" + identifier
	}
	var always mail.Rights
	if who == at.acct.ID() && !args.Negative {
		always = store.OwnerKeeps
	}
	e := s.enc
	e.Raw("* LISTRIGHTS ").Mailbox(at.shown(box.Name)).SP().AString(identifier).SP().AString(always.String())
	for _, c := range mail.AllRights.String() { // c and d, too: what they stand for is not tied (RFC 4314, 2.1.1)
		if one, _ := mail.ParseRights(string(c)); one&^always != 0 {
			e.SP().Raw(string(c))
		}
	}
	e.CRLF()
	return ok("LISTRIGHTS done"), nil
}

// someRights are those of which MYRIGHTS needs one (RFC 4314, 4).
const someRights = mail.RightLookup | mail.RightRead | mail.RightInsert | mail.RightCreate | mail.RightDelete | mail.RightAdminister

// myRights is MYRIGHTS (RFC 4314, 3.5).
func (s *session) myRights(_ *command, name string) (reply, error) {
	at, box, err := s.mailbox(name, 0)
	if err == nil && at.acct.Rights(&box)&someRights == 0 {
		err = noMailbox()
	}
	if err != nil {
		return reply{}, err
	}
	s.tellMyRights(&at.owner, &box)
	return ok("MYRIGHTS done"), nil
}

// tellMyRights writes a MYRIGHTS response (RFC 4314, 3.8).
func (s *session) tellMyRights(of *owner, box *store.Mailbox) {
	s.enc.Raw("* MYRIGHTS ").Mailbox(of.shown(box.Name)).SP().AString(of.acct.Rights(box).String()).CRLF()
}
