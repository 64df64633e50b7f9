package imapd

import (
	"fmt"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// replace is REPLACE and UID REPLACE (RFC 8508, 3): a message comes in and another one
// goes, as one change. The quota has to have room for the difference only.
func (s *session) replace(cmd *command) (reply, error) {
	d := s.dec
	var args imap.Replace
	if !d.ExpectSP() || !d.ExpectReplace(&args) {
		return reply{}, d.Err()
	}
	old, err := s.replaced(cmd, args.Number)
	if err != nil {
		return reply{}, err
	}
	var box store.Mailbox
	var room int64
	err = s.acct.View(s.ctx, func(snap *store.Snapshot) (err error) {
		box, err = snap.Mailbox(args.Mailbox)
		if room = left(snap); room < 1<<62 {
			room += old.Size
		}
		return err
	})
	if err != nil {
		return reply{}, noTarget(err)
	}
	form, message, err := s.readMessage(&room)
	if err != nil {
		return reply{}, err
	}
	var more bool
	if !d.ExpectAppendEnd(form, &more) || more && !d.Fail("one message replaces one") || !d.ExpectCRLF() {
		return reply{}, d.Err()
	}
	var uid mail.UID
	err = s.acct.Update(s.ctx, func(tx *store.Tx) error {
		gone, err := tx.Expunge(s.view.box, mail.SetOf(old.UID), false)
		if err == nil && gone.IsEmpty() {
			err = noMessage()
		}
		if err == nil {
			uid, err = tx.Append(box.ID, message)
		}
		return err
	})
	if err != nil {
		return reply{}, noTarget(err)
	}
	s.tellNormal(useAttribute(&box), box.Name)
	s.note("OK", fmt.Sprintf("APPENDUID %d %d", box.UIDValidity, uid), "replaced")
	return ok(cmd.row.name + " done"), nil
}

// replaced returns the message that a REPLACE names.
func (s *session) replaced(cmd *command, number uint32) (store.Message, error) {
	set := imap.SeqSet{Ranges: []imap.SeqRange{{From: number, To: number}}}
	uids, _, err := s.resolve(set, cmd.uid)
	if err != nil {
		return store.Message{}, err
	}
	if !uids.IsEmpty() {
		if m, there := s.view.pic.Message(uids[0].From); there {
			return m, nil
		}
	}
	return store.Message{}, noMessage()
}

// noMessage is the error for a message that is not there any more. Its kind is not
// NotFound, which would be that of the mailbox.
func noMessage() error {
	return coded("NONEXISTENT", fault.New(fault.Invalid, "there is no such message"))
}
