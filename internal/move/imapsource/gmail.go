package imapsource

import (
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// At Gmail a message lies once in All Mail and has labels, which IMAP shows as mailboxes: to
// read each would be to read much of it many times. So All Mail is read, and tells of the
// labels; Spam and Trash, which it does not hold, are read apart.

// importantKeyword is what the label \Important is here (RFC 8457).
const importantKeyword = "$Important"

// Advice says how the account wants to be read. See move.Advised.
func (s *Source) Advice() move.Advice {
	return move.Advice{Throttles: s.gmail && s.opt.IMAP.Host == gmailHost}
}

// labels sets up the list of Gmail's mailboxes. If All Mail is hidden from IMAP by the
// account's settings, the labels have to be read each, and what has two is there twice.
func (s *Source) labels(all []move.Mailbox) {
	whole := false
	for i := range all {
		whole = whole || all[i].Role == mail.RoleAll
	}
	if !whole {
		return
	}
	s.places = map[string]string{}
	for i := range all {
		m := &all[i]
		switch m.Role {
		case mail.RoleAll:
			// What has no label is what Gmail calls archived.
			m.Name, m.Role, m.Scattered = "Archive", mail.RoleArchive, true
			continue
		case mail.RoleJunk, mail.RoleTrash:
			continue
		case mail.RoleFlagged, mail.RoleImportant:
			m.Skip = "it is a view: its messages are flagged or have the keyword " + importantKeyword
		case mail.RoleInbox:
			s.places[imap.LabelInbox] = m.Name
		case mail.RoleSent:
			m.Name = "Sent"
			s.places[imap.LabelSent] = m.Name
		case mail.RoleDrafts:
			m.Name = "Drafts"
			s.places[imap.LabelDraft] = m.Name
		default:
			s.places[s.boxes[m.Source].Name] = m.Name
		}
		if m.Messages != 0 && m.Skip == "" {
			m.Skip = "it is a label: its messages are read with all mail, and get it"
		}
	}
}

// label gives an item what the labels of a message say.
func (s *Source) label(it *move.Item, m *imapc.Message) {
	for _, l := range m.Labels {
		switch place := s.places[l]; {
		case l == imap.LabelStarred:
			it.Flags |= mail.Flagged
		case l == imap.LabelImportant:
			if !slices.Contains(it.Keywords, importantKeyword) {
				it.Keywords = append(it.Keywords, importantKeyword)
			}
		case l == imap.LabelAll:
		case place != "" && (s.opt.Labels == LabelMailboxes || imap.IsSystemLabel(l)):
			it.Places = append(it.Places, place)
		case imap.IsSystemLabel(l):
			it.Keywords = append(it.Keywords, strings.TrimPrefix(l, `\`))
		case s.opt.Labels == LabelKeywords:
			it.Keywords = append(it.Keywords, l)
		default: // a label that is hidden from IMAP
			it.Places = append(it.Places, strings.ReplaceAll(text(l), "//", "/"))
		}
	}
}
