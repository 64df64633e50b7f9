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
	at, err := s.target(args.Mailbox)
	if err != nil {
		return reply{}, noTarget(err)
	}
	here := at.acct.ID() == s.view.acct.ID()
	if here && at.room < 1<<62 {
		at.room += old.Size
	}
	a, err := s.readMessage(&at.room)
	if err != nil {
		return reply{}, err
	}
	a.take()
	if a.err != nil {
		return reply{}, a.err
	}
	var more bool
	if !d.ExpectAppendEnd(a.form, &more) || more && !d.Fail("one message replaces one") || !d.ExpectCRLF() {
		return reply{}, d.Err()
	}
	if err := s.view.may(mail.RightDeleted | mail.RightExpunge); err != nil { // RFC 8508, 4.1
		return reply{}, err
	}
	uid, err := s.exchange(at, old.UID, a.message, here)
	if err != nil {
		return reply{}, noTarget(err)
	}
	s.tellNormal(at.use(&at.box), at.shown(at.box.Name))
	s.note("OK", fmt.Sprintf("APPENDUID %d %d", at.box.UIDValidity, uid), "replaced")
	return ok(cmd.row.name + " done"), nil
}

// exchange takes a message out of the selected mailbox and puts another in where it
// goes. In one account that is one change; in two, the new message is there first.
func (s *session) exchange(at *target, old mail.UID, message store.NewMessage, here bool) (uid mail.UID, err error) {
	take := func(tx *store.Tx) error {
		gone, err := tx.Expunge(s.view.box, mail.SetOf(old), false)
		if err == nil && gone.IsEmpty() {
			err = noMessage()
		}
		return err
	}
	acct := at.acct
	if here {
		acct = s.view.acct // which goes on from what the client knows
	}
	err = acct.Update(s.ctx, func(tx *store.Tx) (err error) {
		if here {
			err = take(tx)
		}
		if err == nil {
			uid, err = tx.Append(at.box.ID, message)
		}
		return err
	})
	if err == nil && !here {
		err = s.view.acct.Update(s.ctx, take)
	}
	return uid, err
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
