package imapd

import (
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// xlistUses are the special uses by the names that XLIST has for them: Gmail's, from
// before RFC 6154. It has none for an archive.
var xlistUses = map[mail.Role]string{
	mail.RoleInbox: `\Inbox`, mail.RoleAll: `\AllMail`, mail.RoleDrafts: `\Drafts`, mail.RoleFlagged: `\Starred`,
	mail.RoleImportant: `\Important`, mail.RoleJunk: `\Spam`, mail.RoleSent: `\Sent`, mail.RoleTrash: `\Trash`,
}

// xlist is XLIST: the plain LIST with the special uses that clients of 2009 to 2013 look
// for.
func (s *session) xlist(_ *command, args imap.List) (reply, error) {
	if args.Root {
		s.enc.Raw(`* XLIST (\Noselect) "/" ""`).CRLF()
		return ok("XLIST done"), nil
	}
	names, err := s.names(args.Reference, args.Patterns)
	if err != nil {
		return reply{}, err
	}
	lookBelow(names, func(n *name) bool { return n.box != nil })
	for _, n := range names {
		if !n.matches || n.box == nil && !n.hiddenBelow {
			continue
		}
		attrs := make([]string, 0, 3)
		if n.box == nil {
			attrs = append(attrs, `\Noselect`)
		}
		if n.children {
			attrs = append(attrs, `\HasChildren`)
		} else {
			attrs = append(attrs, `\HasNoChildren`)
		}
		if n.box != nil && n.of.prefix == "" && xlistUses[n.box.Role] != "" {
			attrs = append(attrs, xlistUses[n.box.Role])
		}
		s.enc.Raw("* XLIST (").Raw(strings.Join(attrs, " ")).Raw(`) "/" `).Mailbox(n.full).CRLF()
		if err := s.flushFull(); err != nil {
			return reply{}, err
		}
	}
	return ok("XLIST done"), nil
}

// remote makes RLIST and RLSUB of LIST and LSUB: they name the mailboxes that lie on other
// servers, too, of which there are none (RFC 2193, 5).
func remote(list func(*session, *command, imap.List) (reply, error)) handler {
	return handle((*imap.Decoder).ExpectLSub, func(s *session, cmd *command, args imap.List) (reply, error) {
		rep, err := list(s, cmd, args)
		rep.text = cmd.row.name + " done"
		return rep, err
	})
}
