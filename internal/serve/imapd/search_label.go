package imapd

import (
	"slices"
	"strings"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// preparedTest tests ids, the keys of X-GM-EXT-1 and ANNOTATION, as far as the row of a
// message answers them once something else has been read.
func (q *search) preparedTest(k *imap.SearchKey) (func(*store.Message) bool, error) {
	switch k.Op {
	case imap.SearchEmailID:
		id, ok := parseObjectID(emailID, q.v.acct, k.Text)
		return func(m *store.Message) bool { return ok && uint64(m.ID) == id }, nil
	case imap.SearchThreadID:
		id, ok := parseObjectID(threadID, q.v.acct, k.Text)
		return func(m *store.Message) bool { return ok && uint64(m.Thread) == id }, nil
	case imap.SearchAnnotation:
		return q.noteTest(k)
	case imap.SearchGmailID:
		return func(m *store.Message) bool { return gmailID(q.v.acct, uint64(m.ID)) == k.Number }, nil
	case imap.SearchGmailThread:
		return func(m *store.Message) bool { return gmailID(q.v.acct, uint64(m.Thread)) == k.Number }, nil
	case imap.SearchFromSecond:
		return func(m *store.Message) bool { return m.Internal >= int64(k.Number) }, nil
	case imap.SearchUntilSecond:
		return func(m *store.Message) bool { return m.Internal < int64(k.Number) }, nil
	}
	switch k.Text {
	case imap.LabelStarred:
		return func(m *store.Message) bool { return m.Flags.Has(mail.Flagged) }, nil
	case imap.LabelImportant:
		has := q.v.pic.HasKeyword(keywordImportant)
		return func(m *store.Message) bool { return has(*m) }, nil
	}
	return q.labelTest(k)
}

// labelTest tests whether a message lies in a mailbox that the label means. All messages
// have that of the mailbox that is searched, though FETCH does not say so.
func (q *search) labelTest(k *imap.SearchKey) (func(*store.Message) bool, error) {
	var boxes []mail.MailboxID
	messages := 0
	err := q.v.acct.View(q.s.ctx, func(snap *store.Snapshot) error {
		all, err := snap.Mailboxes()
		boxes, messages = nil, 0
		for i := range all {
			m := &all[i]
			if means(k, m) && q.v.acct.Rights(m).Has(mail.RightLookup|mail.RightRead) {
				boxes = append(boxes, m.ID)
				messages += int(m.Messages)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if slices.Contains(boxes, q.v.box) {
		return func(*store.Message) bool { return true }, nil
	}
	ids, err := q.labelled(boxes, messages)
	return func(m *store.Message) bool {
		_, found := slices.BinarySearch(ids, m.ID)
		return found
	}, err
}

// means tells whether a label means a mailbox.
func means(k *imap.SearchKey, m *store.Mailbox) bool {
	label := labelOf(m)
	if k.Op == imap.SearchLabel {
		return label == k.Text || m.Name == k.Text
	}
	text := loosely(k.Text)
	return text == loosely(m.Name) || text == loosely(strings.TrimPrefix(label, `\`))
}

// loosely is how labels compare in a query: people write my-friends for "My friends"
// and for "my/friends".
func loosely(label string) string {
	return strings.NewReplacer(" ", "-", "/", "-").Replace(strings.ToLower(label))
}

// labelled returns which messages lie in the mailboxes, in order. It reads whichever is
// less: the mailboxes, or where the messages lie that are searched.
func (q *search) labelled(boxes []mail.MailboxID, messages int) (ids []mail.MessageID, err error) {
	switch {
	case messages == 0:
		return nil, nil
	case q.v.pic.Len() < messages/4:
		ids, err = q.placed(boxes)
	default:
		for _, box := range boxes {
			pic, err := q.v.acct.Picture(q.s.ctx, box)
			if fault.Is(err, fault.NotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			for _, m := range pic.Messages(store.All()) {
				ids = append(ids, m.ID)
			}
		}
	}
	slices.Sort(ids)
	return ids, err
}

// placed returns the messages of the view that lie in the mailboxes too.
func (q *search) placed(boxes []mail.MailboxID) (found []mail.MessageID, err error) {
	var chunk []mail.MessageID
	do := func() error {
		slices.Sort(chunk)
		err := q.v.acct.View(q.s.ctx, func(snap *store.Snapshot) error {
			return snap.EachPlaces(chunk, func(i int, in []mail.MailboxID) error {
				if slices.ContainsFunc(in, func(b mail.MailboxID) bool { return slices.Contains(boxes, b) }) {
					found = append(found, chunk[i])
				}
				return nil
			})
		})
		chunk = chunk[:0]
		return err
	}
	for _, m := range q.v.pic.Messages(store.All()) {
		if chunk = append(chunk, m.ID); len(chunk) == 4*chunkMessages {
			if err := do(); err != nil {
				return nil, err
			}
		}
	}
	return found, do()
}

// hasFile tells whether the name of a part holds the text, which is folded.
func (c *candidate) hasFile(text string) bool {
	return slices.ContainsFunc(c.files, func(name string) bool { return strings.Contains(c.header.by.Fold(name), text) })
}
