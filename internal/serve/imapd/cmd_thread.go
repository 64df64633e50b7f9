package imapd

import (
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// threadCommand is THREAD and UID THREAD (RFC 5256, 3).
func (s *session) threadCommand(cmd *command, args imap.Thread) (reply, error) {
	cmd.finds, cmd.numbers = true, cmd.uid && usesNumbers(&args.Key)
	if usesModSeq(&args.Key) {
		s.enableCondstore()
	}
	found, err := s.findFor(s.view, &args.Search)
	cmd.missed = found.missed
	if found.lowest > 0 { // RFC 9738, 3.3
		err = tooMany(s.srv.opt.MessageLimit)
	}
	if err != nil {
		return reply{}, err
	}
	t, err := s.threaded(found.set, args.By)
	if err != nil {
		return reply{}, err
	}
	return ok(cmd.row.name + " done"), s.tellThreads(cmd, t)
}

// threadMessages reads what threading looks at, of those messages of a set that there are;
// references only if they are wanted.
func (s *session) threadMessages(set mail.UIDSet, references bool) ([]mail.UID, []threadMessage, error) {
	set = s.view.pic.Existing(set)
	msgs := make([]threadMessage, set.Len())
	rows := s.listed(set, func(i int, m *store.Message) { msgs[i].date = m.Internal })
	var folded []byte
	var refs []uint64 // of all messages, in large pieces
	err := s.eachKeys(rows.ids, func(i int, keys *store.Keys) (err error) {
		m := &msgs[i]
		if keys.Dated {
			m.date = keys.Date
		}
		if len(keys.Base) > 0 {
			folded = s.comparator.AppendFold(folded[:0], keys.Base)
			m.subject = s.srv.arranged.subjectKey(folded)
		}
		m.reply = keys.Reply
		if !references {
			return nil
		}
		m.named, m.id = keys.Named, keys.ID
		if cap(refs)-len(refs) < 128 {
			refs = make([]uint64, 0, 8192)
		}
		from := len(refs)
		refs, err = keys.AppendReferences(refs)
		m.refs = refs[from:len(refs):len(refs)]
		return err
	})
	return rows.uids, msgs, err
}

// tellThreads writes the THREAD response (RFC 5256, 4).
func (s *session) tellThreads(cmd *command, t *wholeThreads) error {
	e := s.enc
	e.Raw("* THREAD")
	if len(t.uids) > 0 {
		e.SP()
	}
	var err error
	for what := range t.arranged.walk {
		switch what {
		case listBegins:
			e.Raw("(")
		case listEnds:
			e.Raw(")")
		case numberFollows:
			e.SP()
		default:
			e.Number(s.number(cmd, t.uids[what]))
			err = s.flushFull()
		}
		if err != nil {
			return err
		}
	}
	e.CRLF()
	return nil
}
