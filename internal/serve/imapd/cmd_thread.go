package imapd

import (
	"crypto/sha256"

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
	rows := make([]store.Message, 0, found.set.Len())
	for _, m := range s.view.pic.Messages(found.set) {
		rows = append(rows, m)
	}
	msgs, err := s.threadMessages(rows, args.By != imap.OrderedSubject)
	if err != nil {
		return reply{}, err
	}
	return ok(cmd.row.name + " done"), s.tellThreads(cmd, rows, threads(msgs, args.By))
}

// threadMessages reads what threading looks at; references only if they are wanted.
func (s *session) threadMessages(rows []store.Message, references bool) ([]threadMessage, error) {
	msgs := make([]threadMessage, len(rows))
	for i := range rows {
		msgs[i].date = rows[i].Internal
	}
	var folded []byte
	var refs []uint64 // of all messages, in large pieces
	err := s.eachKeys(rows, func(i int, keys *store.Keys) (err error) {
		m := &msgs[i]
		if keys.Dated {
			m.date = keys.Date
		}
		if len(keys.Base) > 0 {
			folded = s.comparator.AppendFold(folded[:0], keys.Base)
			sum := sha256.Sum256(folded)
			copy(m.subject[:], sum[:])
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
	return msgs, err
}

// tellThreads writes the THREAD response (RFC 5256, 4).
func (s *session) tellThreads(cmd *command, rows []store.Message, a *arranged) error {
	e := s.enc
	e.Raw("* THREAD")
	if len(rows) > 0 {
		e.SP()
	}
	var err error
	for what := range a.walk {
		switch what {
		case listBegins:
			e.Raw("(")
		case listEnds:
			e.Raw(")")
		case numberFollows:
			e.SP()
		default:
			e.Number(s.number(cmd, rows[what].UID))
		}
		if err = s.flushFull(); err != nil {
			return err
		}
	}
	e.CRLF()
	return nil
}
