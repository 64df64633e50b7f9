package imapd

import (
	"fmt"
	"io"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// maxAppend is how many messages one APPEND may bring. Each costs the memory of its
// header, and of its body if that is small, until all are there, for they come in as one
// change (RFC 3502).
const maxAppend = 1000

// append is APPEND of one message or more (RFC 9051, 6.3.12; RFC 3502; RFC 3516 for
// literal8; RFC 7889 for the limit). What can be refused is refused before the
// client sends the message.
func (s *session) append(*command) (reply, error) {
	d := s.dec
	var name string
	if !d.ExpectSP() || !d.ExpectMailbox(&name) || !d.ExpectSP() {
		return reply{}, d.Err()
	}
	at, err := s.target(name)
	if err != nil {
		return reply{}, noTarget(err)
	}
	var in intake
	defer in.close()
	for more := true; more; {
		if limit := s.srv.opt.saveLimit(); limit > 0 && len(in.list) == limit {
			return reply{}, tooMany(limit)
		}
		if len(in.list) == maxAppend {
			return no("LIMIT", "one APPEND may bring %d messages", maxAppend), nil
		}
		if err := in.failed(); err != nil {
			return reply{}, err
		}
		a, err := s.readMessage(&at.room)
		if err != nil {
			return reply{}, err
		}
		if !d.ExpectAppendEnd(a.form, &more) {
			return reply{}, d.Err()
		}
		in.add(a, more)
	}
	if !d.ExpectCRLF() {
		return reply{}, d.Err()
	}
	messages, err := in.messages()
	if err != nil {
		return reply{}, err
	}
	return s.appendAll(at, messages)
}

// target is where messages go.
type target struct {
	place
	box  store.Mailbox
	room int64 // bytes that its owner's quota leaves
}

// target finds the mailbox of a name for messages to go into.
func (s *session) target(name string) (t *target, err error) {
	t = &target{}
	if t.place, err = s.place(name); err != nil {
		return nil, err
	}
	err = t.acct.View(s.ctx, func(snap *store.Snapshot) (err error) {
		if t.box, err = t.lookup(snap, mail.RightInsert); err != nil {
			return err
		}
		t.room = left(snap)
		return snap.Accepts(t.box.ID)
	})
	return t, err
}

// readMessage reads one message of APPEND or REPLACE up to its end, for ExpectAppendEnd.
func (s *session) readMessage(room *int64) (*arrival, error) {
	a := &arrival{ctx: s.ctx}
	if !s.dec.ExpectAppendMessage(&a.form) {
		return nil, s.dec.Err()
	}
	if a.form.UTF8 && !s.utf8 { // RFC 6855, 4
		return nil, misuse(fault.New(fault.Invalid, "APPEND UTF8 needs ENABLE UTF8=ACCEPT"))
	}
	var err error
	a.read, err = s.receive(&a.form, room)
	if err != nil && s.dec.Err() == nil && err != io.ErrUnexpectedEOF {
		err = notTakenIn(err)
	}
	return a, err
}

// notTakenIn is why a message could not be taken in, for the client.
func notTakenIn(err error) error {
	if fault.Of(err) == fault.Internal {
		return fault.Wrap(fault.Unavailable, "the message could not be taken in", err)
	}
	return err
}

// left returns how many bytes the quota leaves.
func left(snap *store.Snapshot) int64 {
	quota, usage := snap.Quota()
	if quota.Bytes == 0 {
		return 1<<63 - 1
	}
	return max(0, quota.Bytes-usage.Bytes)
}

// receive reads one message from the connection.
func (s *session) receive(m *imap.AppendMessage, room *int64) (*store.Arrival, error) {
	if m.Parts {
		return s.putTogether(room)
	}
	switch size := m.Data.Size; {
	case size == 0: // how a client gives an APPEND up (RFC 3502, 6.3.11)
		return nil, fault.New(fault.Invalid, "an empty message is not taken in")
	case size > s.srv.opt.Store.MaxMessage():
		return nil, fault.Newf(fault.TooLarge, "a message may have %d bytes", s.srv.opt.Store.MaxMessage())
	case size > *room:
		return nil, fault.New(fault.OverQuota, "the account is full")
	default:
		*room -= size
	}
	return s.srv.opt.Store.Read(s.ctx, m.Data)
}

// appendAll puts the messages into the mailbox as one change.
func (s *session) appendAll(at *target, messages []store.NewMessage) (reply, error) {
	var uids mail.UIDSet
	err := at.acct.Update(at.acct.Foresee(s.ctx, "", messages...), func(tx *store.Tx) error {
		uids = nil
		if err := tx.Expect(messages); err != nil {
			return err
		}
		for _, m := range messages {
			uid, err := tx.Append(at.box.ID, m)
			if err != nil && len(m.Notes) > 0 {
				err = noteRefusal(err)
			}
			if err != nil {
				return err
			}
			uids.Add(uid)
		}
		return nil
	})
	if err != nil {
		return reply{}, noTarget(err)
	}
	s.tellNormal(at.use(&at.box), at.shown(at.box.Name))
	return okCode(fmt.Sprintf("APPENDUID %d %s", at.box.UIDValidity, uids), "APPEND done"), nil
}
