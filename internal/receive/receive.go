// Package receive is the road that mail takes in, from a complete message to its
// mailboxes: whether it runs in a circle, who its recipients are, into which
// mailboxes it goes at once and for whom it must wait in the queue.
//
// When Deliver returns, each recipient that has no error is served durably. The
// package speaks no protocol, keeps no state but a short memory of full accounts and of
// deliveries whose outcome is unknown, and never talks to other hosts, but that package check asks the name service.
//
// RFC 5321, 4.4 (Return-Path), 6.1 (responsibility) and 6.3 (loops); RFC 3461, 5.2.7
// (aliases and DSN parameters).
package receive

import (
	"context"
	"log/slog"
	"time"

	"github.com/martlet-mail/martlet/internal/check"
	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/doubt"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/srs"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/trace"
)

// Queue keeps mail that must wait: *queue.Queue, whose courier for the local road is
// Local.
type Queue interface {
	Enqueue(ctx context.Context, entries ...queue.Entry) ([]queue.ID, error)
}

// Options of New. Store, Directory, Queue and Now must be given.
type Options struct {
	Store       *store.Store
	Directory   *directory.Directory
	Queue       Queue
	MaxReceived int // Received fields that a message may have; 0: 100
	Parallel    int // mailboxes one message is stored into at the same time; 0: 64
	Now         func() time.Time
	Doubts      *doubt.List // of deliveries whose outcome is unknown; nil: one of its own
	Part        uint64      // of the queue, that Queue puts mail into

	Signers Signers     // sign mail of people here, and seal what is sent on; nil: nothing is signed
	Returns *srs.Scheme // rewrites senders of mail that is sent on; nil: they stay

	MarkAttachments bool // set $hasattachment or $hasnoattachment (RFC 9979, 4)

	Filters []Filter // look at mail after Checks, one after the other

	// Checks are made of what comes by FromOutside; nil: none.
	Checks     *check.Checker
	AuthservID string       // our name in Authentication-Results
	Forged     check.Policy // of domains that set no other
	// Observed is told of each message that was checked, once what became of it is known;
	// nil: nobody. One that failed for now, and comes again, it is not told of. It must not
	// keep the caller waiting.
	Observed func(Observation)
	// Kept is asked about each message that was checked and is not refused: whether somebody
	// has taken it over, durably, so that no mailbox needs it. Nil: nobody does.
	Kept func(ctx context.Context, o Observation) bool

	Log   *slog.Logger // nil: discard
	Trace *trace.Book  // nil: nobody is told where messages went
}

// Receiver delivers. It may be used by many goroutines.
type Receiver struct {
	opt  Options
	full fullAccounts
}

// New returns a Receiver.
func New(o Options) *Receiver {
	if o.MaxReceived <= 0 {
		o.MaxReceived = 100
	}
	if o.Parallel <= 0 {
		o.Parallel = 64
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Doubts == nil {
		o.Doubts = doubt.New(doubt.Options{Now: o.Now})
	}
	return &Receiver{opt: o}
}

// Deliver takes a message in for all recipients of env and returns their results in
// the same order.
//
// A failure is reported only where the sender can act on it alone: if one recipient
// of an SMTP transaction is served, those that failed wait in the queue, which tries
// again or sends a report. LMTP, which answers for each recipient, is told of each.
func (r *Receiver) Deliver(ctx context.Context, env mail.Envelope, msg *store.Parcel) []Result {
	if env.Login != "" && r.opt.AuthservID != "" { // people write no results; hosts that are trusted may (RFC 8601, 5)
		msg, _ = r.cleaned(ctx, msg)
	}
	return r.filtered(ctx, env, msg, findings{}, "", func(env mail.Envelope, msg *store.Parcel, f findings) []Result {
		return r.take(ctx, env, msg, f)
	})
}

// take is Deliver for a message that checks have found something of.
func (r *Receiver) take(ctx context.Context, env mail.Envelope, msg *store.Parcel, f findings) []Result {
	p := r.way(ctx, env, msg, f)
	msg, err := r.signed(ctx, &env, p, msg, false)
	if err != nil {
		p = refused(env, Result{Err: err})
	}
	key := keyOf(msg)
	if !p.refused && env.ReleaseAt.After(r.opt.Now()) {
		p = r.hold(ctx, env, msg, key)
	} else {
		r.carry(ctx, env, p, msg, key, isLMTP(env.Protocol))
	}
	r.reportSuccess(ctx, env, p, msg, key)
	r.note(env, p, msg, f)
	return p.results()
}

// way finds where a message goes.
func (r *Receiver) way(ctx context.Context, env mail.Envelope, msg *store.Parcel, f findings) *plan {
	if circles(msg, r.opt.MaxReceived) {
		return refused(env, Result{errLoop, "5.4.6"})
	}
	p := r.route(ctx, env, f)
	p.found = f.found
	return p
}

// carry brings it there. key names this reception of the message.
func (r *Receiver) carry(ctx context.Context, env mail.Envelope, p *plan, msg *store.Parcel, key string, each bool) {
	if p.refused {
		return
	}
	r.queueRemote(ctx, env, p, msg, key)
	l := letter{sealed(env.From, msg), key, env.Sent, env.From}
	r.storeAll(ctx, p, l)
	r.queueFailed(ctx, env, p, msg, l, each)
	r.remember(p, l, each)
}

// Check tells at RCPT time whether mail from one address for another would be taken in, and
// whether it is local, and of the accounts that it leads to the first's address, zero if
// there is none. For a foreign address err is nil: whether it may be relayed
// is for the caller to say. Kinds: NotFound, OverQuota, TooLarge and temporary ones.
func (r *Receiver) Check(ctx context.Context, from, rcpt mail.Address) (local bool, account mail.Address, err error) {
	if rcpt.Domain != "" {
		if local, err = r.opt.Directory.IsLocal(ctx, rcpt.Domain); err != nil || !local {
			return false, account, err
		}
	}
	if _, ok := r.returns(from, rcpt); ok {
		return true, account, nil
	}
	found, err := r.opt.Directory.Resolve(ctx, rcpt)
	if err != nil {
		return true, account, err
	}
	if len(found.Accounts) > 0 {
		account = found.Accounts[0].Address
	}
	if len(found.Accounts) == 1 && len(found.Remote) == 0 && r.isFull(ctx, found.Accounts[0].Account) {
		return true, account, fault.New(fault.OverQuota, "mailbox is full")
	}
	return true, account, nil
}
