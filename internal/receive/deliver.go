package receive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"

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

func loop(n int) []Result {
	out := make([]Result, n)
	for i := range out {
		out[i] = Result{fault.New(fault.Invalid, "message runs in a circle: it has too many Received fields"), "5.4.6"}
	}
	return out
}

func isLMTP(protocol string) bool { return strings.Contains(protocol, "LMTP") }

// letter is a message made ready for mailboxes.
type letter struct {
	msg *store.Parcel
	// key names this reception of the message. It follows from the message, whose
	// topmost Received field is like no other, so that it is the same again after the
	// queue has kept it.
	key string
}

// sealed puts the return path in front (RFC 5321, 4.4).
func sealed(from mail.Address, msg *store.Parcel) letter {
	sum := sha256.New()
	sum.Write(msg.Header())
	blob := msg.Blob()
	sum.Write(blob[:])
	return letter{
		msg: msg.Prepend(fmt.Appendf(nil, "Return-Path: <%s>\r\n", from)),
		key: "delivery " + hex.EncodeToString(sum.Sum(nil)[:16]),
	}
}

// storeAll puts the letter into all mailboxes at the same time: then they share the
// disk's sync.
func (r *Receiver) storeAll(ctx context.Context, p *plan, l letter) {
	if len(p.drops) == 1 {
		p.drops[0].err = r.store(ctx, p.drops[0].account, l)
		return
	}
	places := make(chan struct{}, r.opt.Parallel)
	var wg sync.WaitGroup
	for _, d := range p.drops {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			d.err = r.store(ctx, d.account, l)
		})
	}
	wg.Wait()
}

// store puts the letter into one account's INBOX. A commit of which nobody knows
// whether it came to be is tried again, which the key makes harmless.
func (r *Receiver) store(ctx context.Context, id mail.AccountID, l letter) (err error) {
	defer func() {
		if p := recover(); p != nil { // here so that it fails one delivery, not the process
			r.opt.Log.Error("panic in a delivery", "account", id, "panic", p, "stack", string(debug.Stack()))
			err = fault.Newf(fault.Internal, "delivery failed")
		}
	}()
	deliver := func(tx *store.Tx) error {
		first, err := tx.Once(l.key)
		if err != nil || !first {
			return err
		}
		inbox, err := tx.Mailbox("INBOX")
		if err != nil {
			return err
		}
		_, err = tx.Append(inbox.ID, store.NewMessage{Parcel: l.msg})
		return err
	}
	account := r.opt.Store.Account(id)
	if err = account.Update(ctx, deliver); fault.Is(err, fault.Unknown) {
		err = account.Update(ctx, deliver)
	}
	if fault.Is(err, fault.OverQuota) {
		r.full.note(id, r.opt.Now())
	}
	if err != nil {
		r.opt.Log.Warn("delivery failed", "account", id, "err", err)
	}
	return err
}

// queueRemote hands on what is for other hosts. It comes first: if it fails, most
// often nothing has happened yet, and the sender can try it all again.
func (r *Receiver) queueRemote(ctx context.Context, env mail.Envelope, p *plan, msg *store.Parcel) {
	if len(p.remote) == 0 {
		return
	}
	env.To = nil
	for _, o := range p.remote {
		env.To = append(env.To, o.rcpt)
	}
	if err := r.opt.Queue.Add(ctx, env, msg); err != nil {
		r.opt.Log.Warn("message not queued", "err", err)
		for _, o := range p.remote {
			o.err = err
		}
	}
}

// queueFailed lets those wait whose failure cannot be reported: because the answer
// is one for all recipients and another is served, or because a part of the
// recipient itself is.
func (r *Receiver) queueFailed(ctx context.Context, env mail.Envelope, p *plan, msg *store.Parcel, each bool) {
	env.To = nil
	var done []*bool
	wait := func(to mail.Recipient, queued *bool) {
		env.To = append(env.To, to)
		done = append(done, queued)
	}
	any := !each && p.anyServed()
	waits := map[*drop]bool{}
	for i := range p.recipients {
		t := &p.recipients[i]
		if !any && !t.served() {
			continue
		}
		if t.err != nil {
			wait(t.Recipient, &t.queued)
		}
		for _, d := range t.drops {
			if d.err != nil && !waits[d] {
				waits[d] = true
				wait(d.rcpt, &d.queued)
			}
		}
	}
	if len(done) == 0 {
		return
	}
	if err := r.opt.Queue.Add(ctx, env, msg); err != nil {
		r.opt.Log.Warn("failed deliveries not queued", "err", err)
		return
	}
	for _, queued := range done {
		*queued = true
	}
}
