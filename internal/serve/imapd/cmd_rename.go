package imapd

import (
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// renaming is the arguments of RENAME.
type renaming struct{ from, to string }

func expectRename(d *imap.Decoder, out *renaming) bool {
	return d.ExpectMailbox(&out.from) && d.ExpectSP() && d.ExpectMailbox(&out.to)
}

// rename is RENAME (RFC 9051, 6.3.6). Renaming INBOX moves its mail and leaves it
// empty.
func (s *session) rename(_ *command, args renaming) (reply, error) {
	var err error
	if args.from == "INBOX" {
		err = s.acct.RenameInbox(s.ctx, args.to)
	} else {
		err = s.acct.Update(s.ctx, func(tx *store.Tx) error { return tx.RenameMailbox(args.from, args.to) })
	}
	return ok("RENAME done"), err
}
