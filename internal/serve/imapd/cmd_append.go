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
// header until all are there, for they come in as one change (RFC 3502).
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
	var messages []store.NewMessage
	for more := true; more; {
		if limit := s.srv.opt.saveLimit(); limit > 0 && len(messages) == limit {
			return reply{}, tooMany(limit)
		}
		if len(messages) == maxAppend {
			return no("LIMIT", "one APPEND may bring %d messages", maxAppend), nil
		}
		m, message, err := s.readMessage(&at.room)
		if err != nil {
			return reply{}, err
		}
		messages = append(messages, message)
		if !d.ExpectAppendEnd(m, &more) {
			return reply{}, d.Err()
		}
	}
	if !d.ExpectCRLF() {
		return reply{}, d.Err()
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
		t.box, err = t.lookup(snap, mail.RightInsert)
		t.room = left(snap)
		return err
	})
	return t, err
}

// readMessage reads one message of APPEND or REPLACE up to its end, for ExpectAppendEnd,
// into the store.
func (s *session) readMessage(room *int64) (m imap.AppendMessage, message store.NewMessage, err error) {
	if !s.dec.ExpectAppendMessage(&m) {
		return m, message, s.dec.Err()
	}
	if m.UTF8 && !s.utf8 { // RFC 6855, 4
		return m, message, misuse(fault.New(fault.Invalid, "APPEND UTF8 needs ENABLE UTF8=ACCEPT"))
	}
	parcel, err := s.takeIn(&m, room)
	if err == nil && !hasParts(parcel.Message().Root, m.Notes) {
		err = noPart()
	}
	return m, store.NewMessage{
		Parcel: parcel, Flags: m.Flags.System, Keywords: m.Flags.Keywords, InternalDate: m.Date,
		Notes: noteChanges(m.Notes),
	}, err
}

// left returns how many bytes the quota leaves.
func left(snap *store.Snapshot) int64 {
	quota, usage := snap.Quota()
	if quota.Bytes == 0 {
		return 1<<63 - 1
	}
	return max(0, quota.Bytes-usage.Bytes)
}

// takeIn reads one message from the connection into the store.
func (s *session) takeIn(m *imap.AppendMessage, room *int64) (*store.Parcel, error) {
	parcel, err := s.receive(m, room)
	if err == nil {
		if parcel, err = parcel.WithoutNUL(s.ctx); fault.Is(err, fault.Unsupported) {
			err = coded("UNKNOWN-CTE", err)
		}
		return parcel, err
	}
	if err != nil && s.dec.Err() == nil && fault.Of(err) == fault.Internal && err != io.ErrUnexpectedEOF {
		return nil, fault.Wrap(fault.Unavailable, "the message could not be taken in", err)
	}
	return parcel, err
}

// receive is takeIn for a message as it comes.
func (s *session) receive(m *imap.AppendMessage, room *int64) (*store.Parcel, error) {
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
	return s.srv.opt.Store.Receive(s.ctx, m.Data)
}

// appendAll puts the messages into the mailbox as one change.
func (s *session) appendAll(at *target, messages []store.NewMessage) (reply, error) {
	var uids mail.UIDSet
	err := at.acct.Update(s.ctx, func(tx *store.Tx) error {
		uids = nil
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
