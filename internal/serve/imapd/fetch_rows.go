package imapd

import (
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// What a FETCH tells of a message's row is asked by the hundred thousand: it is appended
// to the encoder's buffer as it is held, item by item, with no call of the encoder.

// fetchRows answers for all messages of the set with what their rows say.
func (s *session) fetchRows(cmd *command, plan *fetchPlan, uids mail.UIDSet) error {
	rows := s.inOrder(cmd, uids)
	if cmd.lowest == 0 && ofMarks(plan.items) {
		rows = s.view.pic.Marks(uids)
	}
	return s.answerRows(rows, func(b []byte, m *store.Message) []byte {
		return append(s.appendRow(b, plan.items, m), ")\r\n"...)
	})
}

// answerRows writes a FETCH response for each of many rows, of which fill appends all
// behind the opening. It flushes whenever there is much to write.
func (s *session) answerRows(rows iter.Seq2[int, store.Message], fill func([]byte, *store.Message) []byte) error {
	b := s.enc.Buffer()
	for seq, m := range rows {
		b = fill(s.appendOpening(b, seq, m.UID), &m)
		if len(b) < flushAt {
			continue
		}
		s.enc.SetBuffer(b)
		if err := s.flush(); err != nil {
			return err
		}
		b = s.enc.Buffer()
	}
	s.enc.SetBuffer(b)
	return nil
}

// ofMarks tells whether items need no more of a row than what changes.
func ofMarks(items []imap.FetchItem) bool {
	return !slices.ContainsFunc(items, func(it imap.FetchItem) bool {
		return it.Kind != imap.FetchFlags && it.Kind != imap.FetchUID && it.Kind != imap.FetchModSeq
	})
}

// appendOpening appends the beginning of a FETCH response, up to its parenthesis, for
// the seq-th message of the picture.
func (s *session) appendOpening(b []byte, seq int, uid mail.UID) []byte {
	b = append(b, "* "...)
	if s.uidOnly {
		b = strconv.AppendUint(b, uint64(uid), 10)
		return append(b, " UIDFETCH ("...)
	}
	b = strconv.AppendUint(b, uint64(seq+s.view.goneBelow(uid)), 10)
	return append(b, " FETCH ("...)
}

// appendRow appends items of a message that its row answers.
func (s *session) appendRow(b []byte, items []imap.FetchItem, m *store.Message) []byte {
	for i := range items {
		if i > 0 {
			b = append(b, ' ')
		}
		b, _ = s.appendItem(b, items[i].Kind, m)
	}
	return b
}

// appendItem appends an item if the row of a message answers it, and tells whether it
// does.
func (s *session) appendItem(b []byte, kind imap.FetchKind, m *store.Message) ([]byte, bool) {
	switch kind {
	case imap.FetchFlags:
		return s.appendFlags(b, m), true
	case imap.FetchUID:
		return strconv.AppendUint(append(b, "UID "...), uint64(m.UID), 10), true
	case imap.FetchSize:
		return strconv.AppendInt(append(b, "RFC822.SIZE "...), m.Size, 10), true
	case imap.FetchInternalDate:
		return s.appendDate(append(b, "INTERNALDATE "...), m.Internal), true
	case imap.FetchSaveDate:
		return imap.AppendDateTime(append(b, "SAVEDATE "...), time.Unix(m.Saved, 0).UTC()), true
	case imap.FetchModSeq:
		b = strconv.AppendUint(append(b, "MODSEQ ("...), uint64(m.ModSeq), 10)
		return append(b, ')'), true
	}
	return s.appendID(b, kind, m)
}

// appendID is appendItem for the names that a message has besides its UID.
func (s *session) appendID(b []byte, kind imap.FetchKind, m *store.Message) ([]byte, bool) {
	acct := s.view.acct
	switch kind {
	case imap.FetchEmailID:
		b = append(append(b, "EMAILID ("...), objectID(emailID, acct, uint64(m.ID))...)
	case imap.FetchThreadID:
		b = append(append(b, "THREADID ("...), objectID(threadID, acct, uint64(m.Thread))...)
	case imap.FetchObjectID:
		b = append(append(b, "OBJECTID (EMAILID "...), objectID(emailID, acct, uint64(m.ID))...)
		b = append(append(b, " THREADID "...), objectID(threadID, acct, uint64(m.Thread))...)
	case imap.FetchGmailID:
		return strconv.AppendUint(append(b, "X-GM-MSGID "...), gmailID(acct, uint64(m.ID)), 10), true
	case imap.FetchGmailThread:
		return strconv.AppendUint(append(b, "X-GM-THRID "...), gmailID(acct, uint64(m.Thread)), 10), true
	default:
		return b, false
	}
	return append(b, ')'), true
}

// appendFlags appends the FLAGS item of a message.
func (s *session) appendFlags(b []byte, m *store.Message) []byte {
	v := s.view
	b = append(b, "FLAGS ("...)
	b = v.pic.AppendFlags(b, *m)
	if len(v.recent) > 0 && !s.rev2 && v.recent.Contains(m.UID) {
		if b[len(b)-1] != '(' {
			b = append(b, ' ')
		}
		b = append(b, `\Recent`...)
	}
	return append(b, ')')
}

// appendDate appends an internal date, in the form that the client knows.
func (s *session) appendDate(b []byte, sec int64) []byte {
	at := time.Unix(sec, 0).UTC()
	if s.old {
		return imap.AppendOldDateTime(b, at)
	}
	return imap.AppendDateTime(b, at)
}
