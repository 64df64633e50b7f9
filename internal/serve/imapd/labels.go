package imapd

import (
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// Gmail's extension X-GM-EXT-1. A label is a mailbox that holds the same message. As
// Gmail does, the selected mailbox is not told among the labels, and mailboxes with a
// role go by the words that Gmail has for them; \Starred and \Important are a flag and a
// keyword. A mailbox of all mail (\All) is no label.

// keywordImportant is what \Important means (RFC 8457).
const keywordImportant = "$Important"

// roleLabels are the roles that have a word of their own.
var roleLabels = map[mail.Role]string{
	mail.RoleInbox: imap.LabelInbox, mail.RoleSent: imap.LabelSent, mail.RoleDrafts: imap.LabelDraft,
	mail.RoleTrash: imap.LabelTrash, mail.RoleJunk: imap.LabelSpam, mail.RoleAll: imap.LabelAll,
}

// labelOf returns the label that a mailbox is.
func labelOf(m *store.Mailbox) string {
	if l := roleLabels[m.Role]; l != "" {
		return l
	}
	return m.Name
}

// gmailID returns the number of a message or thread as X-GM-MSGID and X-GM-THRID have
// it. Like an object id it holds the account, so that no other message of the server has
// the same one, as long as there are no more than eight million accounts: beyond, it
// would still be a message's own within its account.
func gmailID(acct *store.Account, n uint64) uint64 { return uint64(acct.ID())<<40 + n }

// labelNames are the labels of some messages, and of the mailboxes met so far.
type labelNames struct {
	important func(store.Message) bool
	of        map[mail.MessageID][]string // those that are mailboxes; without it there are none
	boxes     map[mail.MailboxID]string   // "" for what is no label, or nobody's to see
}

// readLabels finds the labels of messages of the view's mailbox, in place of those it
// had found before.
func (s *session) readLabels(l *labelNames, list []store.Message) error {
	if l.of == nil {
		l.important = s.view.pic.HasKeyword(keywordImportant)
		l.of, l.boxes = map[mail.MessageID][]string{}, map[mail.MailboxID]string{s.view.box: ""}
	}
	ids := make([]mail.MessageID, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	return s.view.acct.View(s.ctx, func(snap *store.Snapshot) error {
		clear(l.of)
		return snap.EachPlaces(ids, func(i int, boxes []mail.MailboxID) error {
			var labels []string
			for _, box := range boxes {
				label, err := s.label(snap, l, box)
				if err != nil {
					return err
				}
				if label != "" {
					labels = append(labels, label)
				}
			}
			if labels != nil {
				l.of[ids[i]] = labels
			}
			return nil
		})
	})
}

// label returns the label that a mailbox is to the user, or "".
func (s *session) label(snap *store.Snapshot, l *labelNames, box mail.MailboxID) (string, error) {
	label, known := l.boxes[box]
	if known {
		return label, nil
	}
	m, err := snap.MailboxByID(box)
	switch {
	case fault.Is(err, fault.NotFound): // deleted
	case err != nil:
		return "", err
	case s.view.acct.Rights(&m).Has(mail.RightLookup) && m.Role != mail.RoleAll:
		label = labelOf(&m)
	}
	l.boxes[box] = label
	return label, nil
}

// all returns all labels of a message, system labels first.
func (l *labelNames) all(m store.Message) []string {
	labels := slices.Clone(l.of[m.ID])
	if m.Flags.Has(mail.Flagged) {
		labels = append(labels, imap.LabelStarred)
	}
	if l.important(m) {
		labels = append(labels, imap.LabelImportant)
	}
	slices.SortFunc(labels, func(a, b string) int {
		if imap.IsSystemLabel(a) != imap.IsSystemLabel(b) {
			if imap.IsSystemLabel(a) {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return slices.Compact(labels)
}

// writeLabels writes the X-GM-LABELS item of a message.
func (s *session) writeLabels(l *labelNames, m store.Message) {
	s.enc.Raw("X-GM-LABELS (")
	for i, label := range l.all(m) {
		if i > 0 {
			s.enc.SP()
		}
		s.enc.Label(label)
	}
	s.enc.Raw(")")
}
