package imapd

import (
	"bytes"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// title is what the keys of a message say of it. They are short and lie apart, so they
// are asked before anything else that has to be read.
type title struct {
	sent    time.Time // zero if there is no date
	known   bool      // the subject is all that the header says of it, if it does at all
	titled  bool
	subject []byte // folded
}

// isTitle tells whether a condition is about the subject alone.
func (c *cond) isTitle() bool {
	return c.op == imap.SearchHeader && !c.loose && strings.EqualFold(c.field, "Subject")
}

// askTitle says what the keys of a message tell of a condition.
func (c *cond) askTitle(t *title) verdict {
	switch c.op {
	case imap.SearchSentBefore, imap.SearchSentOn, imap.SearchSentSince:
		return verdictOf(c.sent(t.sent))
	case imap.SearchHeader:
		if c.titled && t.known {
			return verdictOf(t.titled && bytes.Contains(t.subject, c.sought))
		}
	}
	return open
}

// askKeys reads the keys of messages and returns those that may fit.
func (q *search) askKeys(list []store.Message) (rest []*candidate, err error) {
	ids := make([]mail.MessageID, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	var fit []mail.UID
	var folded []byte
	err = q.v.acct.View(q.s.ctx, func(snap *store.Snapshot) error {
		fit, rest = nil, nil
		var t title
		probe := candidate{title: &t}
		return snap.EachKeys(ids, func(i int, k *store.Keys, ok bool) error {
			if !ok { // expunged meanwhile: it fits nothing
				q.missed = true
				return nil
			}
			folded = q.s.comparator.AppendFold(folded[:0], k.Subject)
			t = title{known: k.Known, titled: k.Titled, subject: folded}
			if q.dated {
				t.sent = k.Sent()
			}
			probe.m = list[i]
			switch verdict := q.root.ask(&probe); {
			case verdict == met && q.scores == nil:
				fit = append(fit, list[i].UID)
			case verdict != unmet:
				rest = append(rest, &candidate{m: list[i], title: &title{sent: t.sent}})
			}
			return nil
		})
	})
	q.found = append(q.found, fit...)
	return rest, err
}
