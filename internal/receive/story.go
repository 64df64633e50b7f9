package receive

import (
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/trace"
)

// note keeps where a message came from and where it went.
func (r *Receiver) note(env mail.Envelope, p *plan, msg *store.Parcel, f findings) {
	if r.opt.Trace == nil {
		return
	}
	info := msg.Message()
	e := trace.Event{
		What: trace.Received, ID: env.ID, MessageID: info.MessageID, From: env.From.String(), Subject: info.Subject,
		Login: env.Login, Peer: env.Peer, Helo: env.Helo, Protocol: env.Protocol, TLS: env.TLS, Size: msg.Size(),
		Verdict: f.verdict, Action: f.action, Signed: p.signed,
	}
	if env.From.IsZero() {
		e.From = "<>"
	}
	if len(info.From) > 0 {
		e.Author = info.From[0].Mailbox + "@" + info.From[0].Host
	}
	for i := range p.recipients {
		e.To = append(e.To, p.outcomes(&p.recipients[i])...)
	}
	if !p.anyServed() && !p.thrown {
		e.What = trace.Refused
	}
	r.opt.Trace.Note(e)
}

// outcomes say what became of the message for one recipient, in each place that he leads
// to.
func (p *plan) outcomes(t *recipient) (all []trace.Recipient) {
	waits := ""
	if len(p.ids) > 0 {
		waits = p.ids[0].String()
	}
	mailbox := "INBOX"
	outcome := func(to mail.Recipient, state trace.State, id string, err error) {
		o := trace.Recipient{Address: to.Address.String(), State: state, Queue: id}
		if to.Address != t.Address {
			o.For = t.Address.String()
		}
		if state == trace.Delivered {
			o.Mailbox = mailbox
		}
		if err != nil {
			o.Code, o.Enhanced, o.Text = Result{Err: err, Status: t.failed.Status}.Reply()
		}
		all = append(all, o)
	}
	state := func(done trace.State, err error, queued bool) trace.State {
		switch {
		case queued:
			return trace.Waiting
		case err != nil:
			return trace.Failed
		}
		return done
	}
	for _, d := range t.drops {
		id := ""
		if mailbox = "INBOX"; d.junk {
			mailbox = "Junk"
		}
		if d.queued {
			id = waits
		}
		outcome(d.rcpt, state(trace.Delivered, d.err, d.queued), id, d.err)
	}
	for _, o := range t.remote {
		id := ""
		if o.err == nil {
			id = o.id.String()
		}
		outcome(o.rcpt, state(trace.Queued, o.err, false), id, o.err)
	}
	if len(all) == 0 {
		outcome(t.Recipient, state(trace.Delivered, t.failed.Err, t.queued), waits, t.failed.Err)
	}
	return all
}
