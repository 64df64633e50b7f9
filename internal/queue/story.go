package queue

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/trace"
)

// attempted begins what is told of an attempt.
func attempted(id ID, m *message) trace.Event {
	return trace.Event{What: trace.Attempt, Queue: id.String(), From: sender(m.env.From)}
}

// sender is an envelope's sender as people are shown it.
func sender(a mail.Address) string {
	if a.IsZero() {
		return "<>"
	}
	return a.String()
}

// outcome is what is told of a recipient that has a result.
func outcome(r *recipient) trace.Recipient {
	o := trace.Recipient{
		Address: r.Address.String(), Code: r.result.Code, Enhanced: r.result.Enhanced, Text: r.result.Text,
		Host: r.result.Host, At: r.result.Address, TLS: r.result.TLS,
	}
	switch {
	case r.state == waiting:
		o.State = trace.Waiting
	case r.state == failed:
		o.State = trace.Failed
	case r.result.Host == "":
		o.State = trace.Delivered
	default:
		o.State = trace.Sent
	}
	return o
}

// nextIn tells when those that wait are tried again.
func nextIn(story *trace.Event, g *group) {
	story.Attempts = g.attempts
	at := time.UnixMilli(g.next).UTC()
	for i := range story.To {
		if story.To[i].State == trace.Waiting {
			story.To[i].Next = &at
		}
	}
}

// keep keeps the story of something that is durable: err is what came of its Update.
func (q *Queue) keep(story *trace.Event, err error) {
	if err == nil && story != nil && len(story.To) > 0 {
		q.opt.Trace.Note(*story)
	}
}

// keepReport keeps that a report was sent on its way, or why it was not.
func (q *Queue) keepReport(m *message, kind uint8, err error) {
	of := map[uint8]string{owedFailure: "failure", owedDelay: "delay", owedSuccess: "success"}[kind]
	to := trace.Recipient{Address: m.env.From.String(), State: trace.Sent}
	if err != nil {
		to.State, to.Text = trace.Failed, fault.Say(err)
	}
	q.opt.Trace.Note(trace.Event{What: trace.Report, Queue: m.id.String(), Text: of, To: []trace.Recipient{to}})
}

// keepChange keeps what somebody did to a message.
func (q *Queue) keepChange(id ID, how string, err error) error {
	if err == nil {
		q.opt.Trace.Note(trace.Event{What: trace.Changed, Queue: id.String(), Text: how})
	}
	return err
}

// Hold keeps a message from being tried until Release. An attempt under way is not
// called back. While it is held it does not grow too old. Faults: NotFound.
func (q *Queue) Hold(ctx context.Context, id ID) error {
	return q.keepChange(id, "held", q.hold(ctx, id))
}

// Release makes a held message due now and gives it back the time it was held for.
// Faults: NotFound.
func (q *Queue) Release(ctx context.Context, id ID) error {
	return q.keepChange(id, "released", q.release(ctx, id))
}

// Drop gives a message up: with a report to the sender, or silently and at once. An
// attempt under way is not called back. Faults: NotFound.
func (q *Queue) Drop(ctx context.Context, id ID, bounce bool) error {
	how := "removed without a report"
	if bounce {
		how = "removed, with a report to the sender"
	}
	return q.keepChange(id, how, q.drop(ctx, id, bounce))
}
