package receive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/martlet-mail/martlet/internal/doubt"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// queueRemote hands on what is for other hosts. It comes first: if it fails, most
// often nothing has happened yet, and the sender can try it all again.
func (r *Receiver) queueRemote(ctx context.Context, env mail.Envelope, p *plan, msg *store.Parcel, key string) {
	if len(p.remote) == 0 {
		return
	}
	// The wish is one of who submits, or of TLS reports of ours, which set it themselves. Mail
	// of strangers that is sent on does not lift what the next host's domain asks for.
	env.TLSOptional = !env.RequireTLS && (env.TLSOptional || env.Login != "" && waivesTLS(msg.Header()))
	var entries []queue.Entry
	var of []*onward // recipients in the order of the entries
	for _, b := range bundles(p.remote) {
		var to []mail.Recipient
		for _, o := range b.to {
			to = append(to, o.rcpt)
		}
		leaves := env
		var form *store.Parcel
		leaves.From, form = r.sentOn(ctx, env, b, p, msg)
		entries = append(entries, entriesFor(leaves, to, form, queue.Entry{Road: queue.Remote})...)
		of = append(of, b.to...)
	}
	ids, part, err := r.enqueue(ctx, doubt.What{Sent: env.Sent, From: env.From, To: onwards(p.remote)}, key, entries)
	if p.part = part; err != nil {
		r.opt.Log.Warn("message not queued", "err", err)
	}
	for i := range entries {
		for range entries[i].Envelope.To {
			if of[0].err = err; err == nil {
				of[0].id = ids[i]
			}
			of = of[1:]
		}
	}
}

// enqueue has the queue take entries over under a key, each of them once, also if earlier tries are in
// doubt. It returns into which part: where those are known.
func (r *Receiver) enqueue(ctx context.Context, what doubt.What, key string, entries []queue.Entry) (ids []queue.ID, part uint64, err error) {
	part = r.opt.Part
	earlier := r.opt.Doubts.Earlier(what)
	if len(earlier) > 0 {
		part = earlier[0].Part
	}
	for i := range entries {
		e := &entries[i]
		e.Key = keyFor(key, e.Envelope.To)
		for _, t := range earlier {
			if t.Part == part {
				e.Earlier = append(e.Earlier, keyFor(t.Key, e.Envelope.To))
			}
		}
	}
	err = doubtless(queue.InPart(ctx, part), func(ctx context.Context) (err error) {
		ids, err = r.opt.Queue.Enqueue(ctx, entries...)
		return err
	})
	r.opt.Doubts.Note(what, doubt.Try{Key: key, Part: part}, err)
	return ids, part, passing(err)
}

// waivesTLS tells whether a message has the field "TLS-Required: No" (RFC 8689, 3).
func waivesTLS(header []byte) bool {
	for name, value := range mime.Fields(header) {
		if bytes.EqualFold(name, []byte("TLS-Required")) {
			return bytes.EqualFold(bytes.TrimSpace(value), []byte("No"))
		}
	}
	return false
}

// queueFailed lets those wait whose failure cannot be reported.
func (r *Receiver) queueFailed(ctx context.Context, env mail.Envelope, p *plan, msg *store.Parcel, l letter, each bool) {
	w, any := r.left(env, p, l, each)
	if !any {
		return
	}
	var entries []queue.Entry
	for _, reason := range w.reasons {
		env.Junk, env.Stays = reason.junk, reason.stays
		entries = append(entries, entriesFor(env, w.to[reason], msg, queue.Entry{Road: queue.Local, Reason: reason.text})...)
	}
	ids, err := r.opt.Queue.Enqueue(ctx, entries...)
	for _, d := range p.drops {
		if slices.Contains(w.done, &d.queued) { // the queue stores it under this key, if it has it
			r.opt.Doubts.Note(l.into(d), doubt.Try{Key: l.key}, err)
		}
	}
	if err != nil {
		r.opt.Log.Warn("failed deliveries not queued", "err", err)
		return
	}
	for _, queued := range w.done {
		*queued = true
	}
	p.ids = ids
}

// left returns whose failure cannot be reported: because the answer
// is one for all recipients and another is served, or is none for this one, or because a
// part of the recipient itself is.
//
// Who may have the message already, under the key of an earlier attempt, must not wait: the queue
// knows only the key of what it is given. He is told to come again, and where there is one
// answer for all so are the others.
func (r *Receiver) left(env mail.Envelope, p *plan, l letter, each bool) (w waiting, any bool) {
	w.to = map[why][]mail.Recipient{}
	served := p.anyServed()
	for i := range p.recipients {
		t := &p.recipients[i]
		if !t.unheard && t.doubtful() {
			if !each {
				return w, false
			}
			continue
		}
		if told := each && !t.unheard; !t.served() && (told || !served) {
			continue
		}
		if t.failed.Err != nil {
			w.add(t.Recipient, why{fault.Say(t.failed.Err), t.junk, r.stays(env, p, t.Recipient, false)}, &t.queued)
		}
		for _, d := range t.drops {
			if d.err != nil && !slices.Contains(w.done, &d.queued) {
				w.add(d.rcpt, why{fault.Say(d.err), d.junk, r.stays(env, p, d.rcpt, false)}, &d.queued)
			}
		}
	}
	return w, len(w.done) > 0
}

// remember keeps the keys of what is in doubt, and of what was done for a client who is told that
// something failed all the same. He comes again with the message, and whoever has it then is not to
// have it twice: not those either of whom he hears nothing. What waits in the queue is in doubt at no
// moment: he is told that it is taken in, and whatever comes after that is another message.
func (r *Receiver) remember(p *plan, l letter, each bool) {
	for _, d := range p.drops {
		if !d.queued && fault.Is(d.err, fault.Unknown) {
			r.opt.Doubts.Note(l.into(d), doubt.Try{Key: l.key}, d.err)
		}
	}
	told := func(t recipient) bool { return !t.unheard && t.failure().Err != nil }
	if !slices.ContainsFunc(p.recipients, told) {
		return
	}
	again := fault.New(fault.Unknown, "the client comes again")
	for _, t := range p.recipients {
		if each && !t.unheard && !told(t) {
			continue
		}
		for _, d := range t.drops {
			if d.err == nil || d.queued {
				r.opt.Doubts.Note(l.into(d), doubt.Try{Key: l.key}, again)
			}
		}
		if slices.ContainsFunc(t.remote, func(o *onward) bool { return o.err == nil }) {
			r.opt.Doubts.Note(doubt.What{Sent: l.sent, From: l.from, To: onwards(p.remote)}, doubt.Try{Key: l.key, Part: p.part}, again)
		}
	}
}

// waiting are recipients on their way to the queue, by the reason for it, by where they will have
// the message, and by whether it may be sent on.
type waiting struct {
	reasons []why
	to      map[why][]mail.Recipient
	done    []*bool
}

type why struct {
	text        string
	junk, stays bool
}

func (w *waiting) add(to mail.Recipient, reason why, queued *bool) {
	if w.to[reason] == nil {
		w.reasons = append(w.reasons, reason)
	}
	w.to[reason] = append(w.to[reason], to)
	w.done = append(w.done, queued)
}

// reportSuccess has the queue tell the sender of deliveries with NOTIFY=SUCCESS
// (RFC 3461, 5.2.3): it delivers once more, which the key makes an empty act, and
// reports that. The mail itself is stored already; failing here costs a report. So does it if an
// earlier attempt may have stored it: the queue, which knows the key of its own bytes only, would
// deliver it once more in fact.
func (r *Receiver) reportSuccess(ctx context.Context, env mail.Envelope, p *plan, msg *store.Parcel, key string) {
	if env.From.IsZero() {
		return
	}
	var to [2][]mail.Recipient // by whether the message may be sent on
	for i := range p.recipients {
		t := &p.recipients[i]
		if t.Notify&mail.NotifySuccess != 0 && len(t.remote) == 0 && t.failure().Err == nil && !t.anyQueued() && !t.early() {
			may := &to[0]
			if r.stays(env, p, t.Recipient, t.junk) {
				may = &to[1]
			}
			*may = append(*may, t.Recipient)
		}
	}
	entries := entriesFor(env, to[0], msg, queue.Entry{Road: queue.Local})
	env.Stays = true
	entries = append(entries, entriesFor(env, to[1], msg, queue.Entry{Road: queue.Local})...)
	if len(entries) == 0 {
		return
	}
	if _, err := r.opt.Queue.Enqueue(ctx, entries...); err != nil {
		r.opt.Log.Warn("report of success not queued", "err", err)
	}
}

// perEntry is how many recipients one entry of the queue gets.
const perEntry = 1000

// entriesFor fills like for the recipients, in as many entries as it takes.
func entriesFor(env mail.Envelope, to []mail.Recipient, msg *store.Parcel, like queue.Entry) []queue.Entry {
	var entries []queue.Entry
	for part := range slices.Chunk(to, perEntry) {
		like.Envelope, like.Parcel = env, msg
		like.Envelope.To = part
		entries = append(entries, like)
	}
	return entries
}

// keyFor makes an entry for these recipients of this reception one of its kind, so
// that a delivery from the queue that is cut short sends nothing on twice.
func keyFor(key string, to []mail.Recipient) string {
	sum := sha256.New()
	for _, t := range to {
		sum.Write([]byte(t.Address.String() + "\n"))
	}
	return key + " " + hex.EncodeToString(sum.Sum(nil)[:16])
}
