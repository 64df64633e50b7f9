package receive

import (
	"context"

	"github.com/martlet-mail/martlet/internal/doubt"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
)

// hold keeps a message whole until its sender wants it released (RFC 4865): nobody has
// got it before, and it can be taken back. Then the queue has it delivered as if it came
// in at that moment.
func (r *Receiver) hold(ctx context.Context, env mail.Envelope, msg *store.Parcel, key string) *plan {
	entries := entriesFor(env, env.To, msg, queue.Entry{Road: queue.Local})
	what := doubt.What{Sent: env.Sent, From: env.From, To: keyFor("held", env.To)}
	ids, _, err := r.enqueue(ctx, what, key+" held", entries)
	if err != nil {
		r.opt.Log.Warn("message not held", "err", err)
		return refused(env, Result{Err: err})
	}
	p := &plan{ids: ids}
	for _, to := range env.To {
		p.recipients = append(p.recipients, recipient{Recipient: to, queued: true})
	}
	return p
}
