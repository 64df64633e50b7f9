package former

import (
	"log/slog"

	"github.com/martlet-mail/martlet/internal/move"
)

// mostTold is how many skipped messages of a mailbox are logged.
const mostTold = 50

// tell logs what was fetched, and what was not.
func tell(log *slog.Logger, r *move.Report, p progress) {
	var sum move.MailboxReport
	for i := range r.Mailboxes {
		m := &r.Mailboxes[i]
		sum.Messages += m.Messages
		sum.Brought += m.Brought
		sum.Before += m.Before
		sum.Skipped += m.Skipped
		sum.Differs += m.Differs
		if m.Problem != "" {
			log.Warn("a mailbox was not fetched whole", "mailbox", m.Source, "why", m.Problem)
		}
		for _, s := range m.Skips[:min(len(m.Skips), mostTold)] {
			log.Warn("a message was not fetched", "mailbox", m.Source, "key", s.Key, "bytes", s.Bytes, "why", s.Why)
		}
	}
	log.Info("mail "+p.State, "mailboxes", len(r.Mailboxes), "messages", sum.Messages, "new", sum.Brought, "skipped", sum.Skipped, "differ", sum.Differs, "why", p.Why)
}
