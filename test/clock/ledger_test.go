package clock

import (
	"fmt"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// promised is what clients were told and may rely on: none of it is taken back, whatever the
// clock says.
type promised struct {
	mod      mail.ModSeq                    // state of the account
	newest   mail.MailboxID                 // id given last
	message  mail.MessageID                 // id given last
	next     map[mail.MailboxID]mail.UID    // UIDNEXT
	highest  map[mail.MailboxID]mail.ModSeq // HIGHESTMODSEQ
	validity map[string]uint32              // by name: of the mailbox that had it last
	holder   map[string]mail.MailboxID      // and its id
	names    map[mail.MailboxID]uint32      // UIDVALIDITY by id
	checks   int
}

func newPromised() *promised {
	return &promised{next: map[mail.MailboxID]mail.UID{}, highest: map[mail.MailboxID]mail.ModSeq{},
		validity: map[string]uint32{}, holder: map[string]mail.MailboxID{}, names: map[mail.MailboxID]uint32{}}
}

// look holds the mailboxes of an account against what was promised and returns what was
// broken. changed tells that there was a change since the last look.
func (p *promised) look(mod mail.ModSeq, boxes []store.Mailbox, changed bool) (broken []string) {
	wrong := func(ok bool, format string, args ...any) {
		p.checks++
		if !ok {
			broken = append(broken, fmt.Sprintf(format, args...))
		}
	}
	wrong(mod >= p.mod && (mod > p.mod || !changed), "the account's state went from %d to %d", p.mod, mod)
	p.mod = mod
	for _, b := range boxes {
		_, known := p.next[b.ID]
		wrong(known || b.ID > p.newest, "mailbox %d was made after %d", b.ID, p.newest)
		p.newest = max(p.newest, b.ID)
		wrong(b.UIDNext >= p.next[b.ID], "%s: UIDNEXT went from %d to %d", b.Name, p.next[b.ID], b.UIDNext)
		wrong(b.HighestModSeq >= p.highest[b.ID], "%s: HIGHESTMODSEQ went from %d to %d", b.Name, p.highest[b.ID], b.HighestModSeq)
		wrong(!known || p.names[b.ID] == b.UIDValidity, "%s: UIDVALIDITY went from %d to %d without need", b.Name, p.names[b.ID], b.UIDValidity)
		if last, had := p.holder[b.Name]; had && last != b.ID {
			wrong(b.UIDValidity > p.validity[b.Name], "%s: made anew with UIDVALIDITY %d after %d", b.Name, b.UIDValidity, p.validity[b.Name])
		}
		wrong(b.UIDValidity != 0, "%s: UIDVALIDITY 0", b.Name)
		p.next[b.ID], p.highest[b.ID], p.names[b.ID] = b.UIDNext, b.HighestModSeq, b.UIDValidity
		p.holder[b.Name], p.validity[b.Name] = b.ID, b.UIDValidity
	}
	return broken
}

// arrived is told of the id of a new message.
func (p *promised) arrived(id mail.MessageID) (broken []string) {
	p.checks++
	if id <= p.message {
		broken = append(broken, fmt.Sprintf("message %d came after %d", id, p.message))
	}
	p.message = max(p.message, id)
	return broken
}
