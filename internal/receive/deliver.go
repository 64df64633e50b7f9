package receive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/martlet-mail/martlet/internal/doubt"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// circles tells whether a message has been through so many hosts that it must be
// running in a circle (RFC 5321, 6.3).
func circles(msg *store.Parcel, limit int) bool {
	n := 0
	for name := range mime.Fields(msg.Header()) {
		if strings.EqualFold(string(name), "Received") {
			n++
		}
	}
	return n > limit
}

func isLMTP(protocol string) bool { return strings.Contains(protocol, "LMTP") }

// letter is a message made ready for mailboxes. key names this reception of it, so
// that no account takes it twice.
type letter struct {
	msg  *store.Parcel
	key  string
	sent [32]byte // as in the envelope
	from mail.Address
}

// keyOf returns the key of a message. It follows from the bytes: the topmost
// Received field is like no other. So it is the same again when the message comes
// back from the queue.
func keyOf(msg *store.Parcel) string {
	sum := sha256.New()
	sum.Write(msg.Header())
	body := msg.Digest()
	sum.Write(body[:])
	return "delivery " + hex.EncodeToString(sum.Sum(nil)[:16])
}

// sealed puts the return path in front (RFC 5321, 4.4).
func sealed(from mail.Address, msg *store.Parcel) *store.Parcel {
	return msg.Prepend(fmt.Appendf(nil, "Return-Path: <%s>\r\n", from))
}

// many is the number of mailboxes from which on the body of a letter is kept once for
// all of them, however small.
const many = 8

// storeAll puts the letter into all mailboxes at the same time: then they share the
// disk's sync.
func (r *Receiver) storeAll(ctx context.Context, p *plan, l letter) {
	for _, d := range p.drops {
		d.earlier = r.earlier(l.into(d))
	}
	if len(p.drops) == 1 {
		p.drops[0].err = r.store(ctx, p.drops[0], l)
		return
	}
	if len(p.drops) >= many {
		shared, err := l.msg.Shared(ctx)
		if err != nil {
			for _, d := range p.drops {
				d.err = passing(err)
			}
			return
		}
		l.msg = shared
	}
	places := make(chan struct{}, r.opt.Parallel)
	var wg sync.WaitGroup
	for _, d := range p.drops {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			d.err = r.store(ctx, d, l)
		})
	}
	wg.Wait()
}

// keywords returns what a message is marked with at delivery (RFC 9979, 4; $Junk is what
// mail programs know junk by).
func (r *Receiver) keywords(msg *store.Parcel, junk bool) (words []string) {
	if junk {
		words = append(words, "$Junk")
	}
	switch {
	case !r.opt.MarkAttachments:
	case msg.Message().HasAttachment:
		words = append(words, mail.HasAttachment)
	default:
		words = append(words, mail.HasNoAttachment)
	}
	return words
}

// mailbox is the one that a message goes into. An account that has no mailbox for junk any
// more gets another, if its name is free.
func mailbox(tx *store.Tx, junk bool) (store.Mailbox, error) {
	if !junk {
		return tx.Mailbox("INBOX")
	}
	const usual = "Junk"
	box, err := tx.Mailbox(usual)
	if err == nil && box.Role == mail.RoleJunk {
		return box, nil
	}
	free := fault.Is(err, fault.NotFound)
	if err != nil && !free {
		return box, err
	}
	all, err := tx.Mailboxes()
	if err != nil {
		return box, err
	}
	for _, b := range all {
		if b.Role == mail.RoleJunk {
			return b, nil
		}
	}
	if free {
		return tx.CreateMailbox(usual, mail.RoleJunk)
	}
	return box, nil // of this name, whatever it is for
}

// store puts the letter into one account's INBOX, or Junk. A commit of which nobody knows
// whether it came to be is tried again, which the key makes harmless.
func (r *Receiver) store(ctx context.Context, d *drop, l letter) (err error) {
	id := d.account
	defer func() {
		if p := recover(); p != nil { // here so that it fails one delivery, not the process
			r.opt.Log.Error("panic in a delivery", "account", id, "panic", p, "stack", string(debug.Stack()))
			err = fault.Newf(fault.Internal, "delivery failed")
		}
	}()
	deliver := func(tx *store.Tx) error {
		there, err := arrived(tx, l.key, d.earlier)
		if err != nil || there {
			return err
		}
		box, err := mailbox(tx, d.junk)
		if err != nil {
			return err
		}
		_, err = tx.Append(box.ID, store.NewMessage{Parcel: l.msg, Keywords: r.keywords(l.msg, d.junk)})
		return err
	}
	account := r.opt.Store.Account(id)
	ctx = account.Foresee(ctx, l.key, store.NewMessage{Parcel: l.msg})
	err = doubtless(ctx, func(ctx context.Context) error { return account.Update(ctx, deliver) })
	if err == nil { // what is in doubt may wait in the queue still
		r.opt.Doubts.Note(l.into(d), doubt.Try{Key: l.key}, nil)
	}
	if fault.Is(err, fault.OverQuota) {
		r.full.note(id, r.opt.Now())
	}
	if err != nil {
		r.opt.Log.Warn("delivery failed", "account", id, "err", err)
	}
	return passing(err)
}
