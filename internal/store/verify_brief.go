package store

import (
	"bytes"
	"errors"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// briefs checks that what is kept page by page is what the messages say.
func (v *verifier) briefs(live map[mail.MailboxID]bool) error {
	return v.snap.r.Scan([]byte{famBrief}, []byte{famBrief + 1}, false, func(k, record []byte) bool {
		box := mail.MailboxID(keyNum(k, 0))
		if v.doomed[box] {
			return true
		}
		what := "its mailbox is not there"
		if live[box] {
			what = v.brief(box, BriefKind(keyNum(k, 1)), keyNum(k, 2), record)
		}
		if what != "" {
			v.problem(0, "brief %d of page %d in mailbox %d: %s", keyNum(k, 1), keyNum(k, 2), box, what)
		}
		return true
	})
}

// brief tells what is wrong with a brief, "" if nothing is.
func (v *verifier) brief(box mail.MailboxID, kind BriefKind, number uint64, record []byte) string {
	var b brief
	if err := b.decode(record); err != nil {
		return fault.Say(err)
	}
	p, err := v.snap.page(box, number)
	switch {
	case err != nil:
		return fault.Say(err)
	case p == nil:
		return "there is no such page"
	case b.present == 0: // too large
		return ""
	case b.present != p.present:
		return "the page has other messages"
	}
	wrong := errors.New("it is not what the messages say")
	err = v.snap.eachOfKind(kind, p.messageIDs(), func(i int, row []byte, ok bool) error {
		if !ok || !bytes.Equal(row, b.rows[i]) {
			return wrong
		}
		return nil
	})
	switch {
	case errors.Is(err, wrong):
		return wrong.Error()
	case err != nil:
		return fault.Say(err)
	}
	return ""
}
