package receive

import (
	"context"
	"io"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
)

// Local is the queue's road back: its courier to the mailboxes here, and the way of
// its reports. Queue and Receiver need each other; Receiver must be set before the
// queue runs.
type Local struct{ Receiver *Receiver }

// Deliver tries again what waited in the queue. Each failure is reported, and what
// was stored before is not stored again. It makes Local a queue.Courier.
func (l *Local) Deliver(ctx context.Context, job queue.Job) []queue.Result {
	var p *plan
	msg, err := job.Parcel(ctx)
	if err == nil {
		job.Envelope.ReleaseAt = time.Time{} // it is past
		p = l.Receiver.way(ctx, job.Envelope, msg, findings{})
		l.Receiver.carry(ctx, job.Envelope, p, msg, keyOf(msg), true)
	} else {
		p = refused(job.Envelope, Result{Err: passing(err)})
	}
	found := p.results()
	out := make([]queue.Result, len(found))
	for i, r := range found {
		out[i].Code, out[i].Enhanced, out[i].Text = r.Reply()
		out[i].DSN = len(p.recipients[i].remote) > 0 // who takes it further tells the sender
	}
	return out
}

// Report takes a report of the queue to its recipient, here or elsewhere. Two calls
// with one key are one report. It is the Report of queue.Options.
func (l *Local) Report(ctx context.Context, key string, env mail.Envelope, message io.Reader) error {
	msg, err := l.Receiver.opt.Store.Receive(ctx, message)
	if err != nil {
		return err
	}
	p := l.Receiver.way(ctx, env, msg, findings{})
	if msg, err = l.Receiver.signed(ctx, &env, p, msg, true); err != nil {
		return err
	}
	l.Receiver.carry(ctx, env, p, msg, "report "+key, true)
	for _, r := range p.results() {
		if r.Err != nil && (err == nil || fault.Of(r.Err).Temporary()) {
			err = r.Err
		}
	}
	return err
}
