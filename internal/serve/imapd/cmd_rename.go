package imapd

import (
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// renaming is the arguments of RENAME.
type renaming struct {
	from, to string
	wrote    string // from as the client wrote it, if it wrote from or to in another form
}

func expectRename(d *imap.Decoder, out *renaming) bool {
	if !d.ExpectMailbox(&out.from) || !d.ExpectSP() {
		return false
	}
	out.wrote = d.OldName
	if !d.ExpectMailbox(&out.to) {
		return false
	}
	if out.wrote == "" && d.OldName != "" {
		out.wrote = out.from
	}
	return true
}

// rename is RENAME (RFC 9051, 6.3.6). Renaming INBOX moves its mail and leaves it
// empty.
func (s *session) rename(_ *command, args renaming) (reply, error) {
	from, err := s.place(args.from)
	if err != nil {
		return reply{}, err
	}
	if from.prefix != "" { // whoever may not see it is told of nothing, nor that there is such a user
		if _, _, err := s.mailbox(args.from, mail.RightLookup); err != nil {
			return reply{}, err
		}
	}
	to, err := s.newPlace(args.to)
	if err != nil {
		return reply{}, err
	}
	switch {
	case from.acct.ID() != to.acct.ID() && to.prefix != "":
		return reply{}, noRightThere()
	case from.acct.ID() != to.acct.ID() || from.prefix != "" && from.name == "INBOX":
		return no("CANNOT", "a mailbox stays with its owner; messages can be moved"), nil
	case from.name == "INBOX":
		err = s.acct.RenameInbox(s.ctx, to.name)
	default:
		err = from.acct.Update(s.ctx, func(tx *store.Tx) error { return tx.RenameMailbox(from.name, to.name) })
	}
	if err == nil && s.rev2 && args.wrote != "" {
		s.tellOldName("", args.to, args.wrote)
	}
	rep := ok("RENAME done")
	if err == nil && s.objectID {
		at, box, err := s.mailbox(args.to, mail.RightLookup)
		if err != nil {
			return rep, nil // renamed or deleted already
		}
		rep.code = s.ids(&at.owner, box.ID)
	}
	return rep, err
}
