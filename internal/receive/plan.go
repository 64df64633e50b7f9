package receive

import (
	"context"
	"slices"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
)

// plan says where one message goes. Two recipients that lead to the same place
// share it, so that nobody gets the message twice.
type plan struct {
	recipients []recipient
	drops      []*drop
	remote     []*onward
	signed     string     // by which keys, for its story
	thrown     bool       // a filter throws it away
	ids        []queue.ID // of what waits after a failure
	found      *Assessment
	part       uint64 // of the queue that has what is for other hosts
	refused    bool   // as a whole: nothing is to be done
	later      Result // why it is to come again as a whole, if it is
}

// recipient is one of the envelope with the places it leads to.
type recipient struct {
	mail.Recipient
	junk   bool   // he has it in Junk
	failed Result // why it leads nowhere
	drops  []*drop
	remote []*onward
	queued bool // the whole of it waits in the queue

	unheard bool // the client gets no answer of him
}

// drop is an account that gets the message.
type drop struct {
	account mail.AccountID
	rcpt    mail.Recipient // as it would wait in the queue
	junk    bool           // into Junk, not into INBOX
	earlier []string       // keys of earlier tries in doubt
	err     error
	queued  bool
}

// onward is an address elsewhere.
type onward struct {
	rcpt mail.Recipient
	via  string // the domain here whose alias leads there, "" if the sender wrote the address himself
	err  error
	id   queue.ID
}

// route resolves the recipients (rewritten senders, aliases, details, catch-alls).
//
// f.junk tells of each recipient whether his message goes into Junk; nil: of none. An account
// that several of them lead to has it there if any of them wants it so.
func (r *Receiver) route(ctx context.Context, env mail.Envelope, f findings) *plan {
	p := &plan{recipients: make([]recipient, len(env.To))}
	f.stays = f.stays || env.Stays
	drops := map[mail.AccountID]*drop{}
	remote := map[mail.Address]*onward{}
	for i, to := range env.To {
		rcpt := &p.recipients[i]
		rcpt.Recipient = to
		rcpt.junk = env.Junk || f.junk != nil && f.junk[i]
		rcpt.unheard = f.unheard != nil && f.unheard[i]
		if back, ok := r.returns(env.From, to.Address); ok {
			if why := r.withheld(f, rcpt.junk, ""); why.Err != nil {
				p.withhold(rcpt, why, f)
			} else {
				p.addRemote(remote, rcpt, to, back, "")
			}
			continue
		}
		found, err := r.opt.Directory.Resolve(ctx, to.Address)
		if err != nil {
			rcpt.failed.Err = err
			r.mayStay(p, rcpt, f)
			continue
		}
		for _, t := range found.Accounts {
			d := drops[t.Account]
			if d == nil {
				d = &drop{account: t.Account, rcpt: redirected(to, t.Address)}
				drops[t.Account] = d
				p.drops = append(p.drops, d)
			}
			d.junk = d.junk || rcpt.junk
			rcpt.drops = append(rcpt.drops, d)
		}
		r.routeRemote(p, remote, rcpt, found.Remote, f)
	}
	if p.later.Err != nil {
		return refused(env, p.later)
	}
	return p
}

// routeRemote lets a recipient lead to the addresses elsewhere that an alias has, but for
// what must not be sent on.
func (r *Receiver) routeRemote(p *plan, known map[mail.Address]*onward, rcpt *recipient, all []mail.Address, f findings) {
	var why Result
	for _, a := range all {
		via := rcpt.Address.Domain
		if a.Folded() == rcpt.Address.Folded() {
			via = ""
		} else if why = r.withheld(f, rcpt.junk, via); why.Err != nil {
			r.opt.Log.Info("not sent on", "alias", rcpt.Address.String(), "to", a.String(), "reason", fault.Say(why.Err))
			p.postpone(why)
			continue
		}
		p.addRemote(known, rcpt, rcpt.Recipient, a, via)
	}
	if why.Err != nil && len(rcpt.drops)+len(rcpt.remote) == 0 {
		p.withhold(rcpt, why, f)
	}
}

// mayStay is for a recipient who leads nowhere now, and later perhaps to where the message must not be sent on.
func (r *Receiver) mayStay(p *plan, t *recipient, f findings) {
	if !fault.Of(t.failed.Err).Temporary() {
		return
	}
	if why := r.withheld(f, t.junk, t.Address.Domain); why.Err != nil {
		p.postpone(why)
		t.quiet(f)
	}
}

// withhold is for a recipient who leads only to where the message is not sent on. If others
// have it, the queue refuses it once more, with a report unless its sender may be forged.
func (p *plan) withhold(t *recipient, why Result, f findings) {
	p.postpone(why)
	t.failed, t.junk = why, true
	t.quiet(f)
}

// quiet has the queue tell no sender who may be forged what becomes of his message.
func (t *recipient) quiet(f findings) {
	if f.found.forgedSender() {
		t.Notify = mail.NotifyNever
	}
}

// postpone has the sender come again with the whole message if the reason may go: what was
// found out about it does not wait in the queue, so it could not be found out anew there.
func (p *plan) postpone(why Result) {
	if fault.Of(why.Err).Temporary() {
		p.later = why
	}
}

// addRemote lets a recipient lead to an address elsewhere.
func (p *plan) addRemote(known map[mail.Address]*onward, rcpt *recipient, to mail.Recipient, a mail.Address, via string) {
	o := known[a.Folded()]
	if o == nil {
		o = &onward{rcpt: redirected(to, a), via: via}
		known[a.Folded()] = o
		p.remote = append(p.remote, o)
	}
	rcpt.remote = append(rcpt.remote, o)
}

// redirected is a recipient under another address; a report still names the one the
// sender knows (RFC 3461, 5.2.7.1).
func redirected(to mail.Recipient, a mail.Address) mail.Recipient {
	if to.ORcpt == "" && to.Address.Folded() != a.Folded() && to.Address.Domain != "" {
		kind := "rfc822;"
		if !to.Address.IsASCII() {
			kind = "utf-8;"
		}
		to.ORcpt = kind + to.Address.String()
	}
	to.Address = a
	return to
}

// served tells whether some part of the recipient is stored or queued.
func (t *recipient) served() bool {
	for _, d := range t.drops {
		if d.err == nil || d.queued {
			return true
		}
	}
	for _, o := range t.remote {
		if o.err == nil {
			return true
		}
	}
	return t.queued
}

// doubtful tells whether a part of the recipient has failed that may have the message by an
// earlier try.
func (t *recipient) doubtful() bool {
	return slices.ContainsFunc(t.drops, func(d *drop) bool {
		return d.err != nil && len(d.earlier) > 0 && fault.Of(d.err).Temporary()
	})
}

// early tells whether a part of the recipient was tried before.
func (t *recipient) early() bool {
	return slices.ContainsFunc(t.drops, func(d *drop) bool { return len(d.earlier) > 0 })
}

// failure returns why the recipient is not served in full, a temporary reason
// first: then trying again may help.
func (t *recipient) failure() Result {
	if t.queued {
		return Result{}
	}
	worst := t.failed
	consider := func(err error) {
		if err != nil && (worst.Err == nil || fault.Of(err).Temporary()) {
			worst = Result{Err: err}
		}
	}
	for _, d := range t.drops {
		if !d.queued {
			consider(d.err)
		}
	}
	for _, o := range t.remote {
		consider(o.err)
	}
	return worst
}

// anyQueued tells whether some part of the recipient waits after a failure.
func (t *recipient) anyQueued() bool {
	for _, d := range t.drops {
		if d.queued {
			return true
		}
	}
	return t.queued
}

// refused is the plan of a message that goes nowhere.
func refused(env mail.Envelope, why Result) *plan {
	p := &plan{recipients: make([]recipient, len(env.To)), refused: true}
	for i, to := range env.To {
		p.recipients[i] = recipient{Recipient: to, failed: why}
	}
	return p
}

func (p *plan) results() []Result {
	out := make([]Result, len(p.recipients))
	for i := range p.recipients {
		out[i] = p.recipients[i].failure()
	}
	return out
}

// anyServed tells whether the sender could not send the message again without a
// duplicate.
func (p *plan) anyServed() bool {
	for i := range p.recipients {
		if p.recipients[i].served() {
			return true
		}
	}
	return false
}
