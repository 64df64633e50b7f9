package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// unwell is a message that is not all there.
type unwell struct {
	m        Message
	keywords []string
	found    Mended
}

// mailbox mends the messages of a mailbox.
func (r *mender) mailbox() error {
	var list []unwell
	err := r.a.View(r.ctx, func(s *Snapshot) (err error) {
		list, err = r.unwell(s)
		return err
	})
	if fault.Is(err, fault.Corrupt) {
		r.note(0, "its messages cannot be listed: %s", fault.Say(err))
		return nil
	}
	var ids []mail.MessageID
	for _, u := range list {
		ids = append(ids, u.m.ID)
	}
	if err == nil {
		err = r.findTies(ids)
	}
	for _, u := range list {
		if err == nil {
			err = r.message(u)
		}
	}
	return err
}

// unwell lists the messages of the mailbox that are not all there.
func (r *mender) unwell(s *Snapshot) (list []unwell, err error) {
	asked := r.box
	asked.Messages = max(asked.Messages, 1) // the count may be what is wrong
	p, err := s.load(asked)
	if err != nil {
		return nil, err
	}
	for _, m := range p.Messages(All()) {
		what, err := s.whole(r.ctx, m)
		if err != nil {
			return list, err
		}
		if what == "" {
			continue
		}
		u := unwell{m: m, keywords: p.Keywords(m)}
		u.found = Mended{Problem: Problem{Account: r.a.id, Mailbox: r.box.Name, UID: m.UID, What: what}}
		if k, err := s.Keys(m.ID); err == nil {
			u.found.Subject, u.found.From = string(k.Subject), string(k.DisplayFrom)
		}
		list = append(list, u)
	}
	return list, nil
}

// whole tells what is wrong with the records of a message, "" if nothing is.
func (s *Snapshot) whole(ctx context.Context, m Message) (what string, err error) {
	v := verifier{ctx: ctx, store: s.account.store, snap: s, seen: map[mail.MessageID][]place{}, good: map[mail.BlobRef]int64{},
		report: func(p Problem) { what = p.What }}
	v.message(m)
	return what, ctx.Err()
}

// rescue returns the bytes of a message, nil if they are not all there.
func (s *Snapshot) rescue(ctx context.Context, m Message) []byte {
	head, err := s.Head(nil, m.ID)
	if err != nil {
		return nil
	}
	all := head
	f, err := s.Facts(m.ID)
	if err != nil {
		f = Facts{Size: m.Size, head: int64(len(head))} // the name of a large body is lost with them
	}
	if body, err := s.body(m.ID, &f); err == nil && f.Size > f.head {
		r, err := body.open(ctx, s.account.store, 0, f.Size-f.head)
		if err != nil {
			return nil
		}
		rest, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			return nil
		}
		all = append(all, rest...)
	}
	if int64(len(all)) != m.Size {
		return nil
	}
	return all
}

// message puts a message whose bytes are there in anew, and takes out the old one.
func (r *mender) message(u unwell) error {
	var all []byte // of one message at a time
	err := r.a.View(r.ctx, func(s *Snapshot) error { all = s.rescue(r.ctx, u.m); return nil })
	if err != nil {
		return err
	}
	var p *Parcel
	if all != nil {
		if p, err = r.a.store.Receive(r.ctx, bytes.NewReader(all)); err != nil {
			return err
		}
	}
	ties := r.tied[u.m.ID]
	u.found.Lost = p == nil
	return r.told(func(tx *Tx) error {
		found := u.found
		var err error
		if _, err = tx.expunge(r.box.ID, mail.SetOf(u.m.UID), false, false); err != nil {
			return err
		}
		if p != nil {
			var uid mail.UID
			uid, err = tx.again(r.box.ID, NewMessage{Parcel: p, Flags: u.m.Flags, Keywords: u.keywords, InternalDate: time.Unix(u.m.Internal, 0)})
			if err != nil {
				return err
			}
			found.What += fmt.Sprintf("; parsed anew, it is UID %d now", uid)
			err = tx.retie(ties, r.box.ID, uid)
		} else if r.box.ID != tx.acct.kept { // of deleted messages that are kept none comes again
			err = tx.untie(ties)
		}
		r.found = append(r.found, found)
		return err
	})
}

// again puts a message in a mailbox in which it was: the inbox, if that is the one of deleted
// messages, in which nothing is put.
func (tx *Tx) again(to mail.MailboxID, m NewMessage) (mail.UID, error) {
	if to == tx.acct.kept {
		inbox, err := tx.Mailbox("INBOX")
		if err != nil {
			return 0, err
		}
		to = inbox.ID
	}
	return tx.Append(to, m)
}
