package queue

import (
	"context"
	"slices"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// Entry is a message to be queued.
type Entry struct {
	Envelope mail.Envelope
	Parcel   *store.Parcel
	Road     Road
	// Reason says in words why a delivery that was tried already must wait. With
	// one, the first attempt comes after the first gap, else at once.
	Reason string
	// Key makes the entry idempotent for a week: a second one with the same key is
	// the first. "" is none. At most 200 bytes.
	Key string
	// Earlier are keys of tries of which nobody knows whether they have queued the same message,
	// for whoever has a Key. One of them that has is this entry: once, since who queues it again,
	// having been told that it is there, means another. One that has not never will.
	Earlier []string
}

// Enqueue takes messages over, all or none; they are durable when it returns nil.
// Faults: Invalid (no recipient, key too long), TooLarge (over 2000 recipients),
// those of the engine. After Unknown they may be there, or come to be.
func (q *Queue) Enqueue(ctx context.Context, entries ...Entry) ([]ID, error) {
	return q.into(ctx).enqueue(ctx, entries)
}

func (q *Queue) enqueue(ctx context.Context, entries []Entry) ([]ID, error) {
	now := q.now()
	drafts := make([]*draft, len(entries))
	for i, e := range entries {
		d, err := q.draft(e, now)
		if err != nil {
			return nil, err
		}
		drafts[i] = d
	}
	defer q.arrived(drafts)
	bytes := 0
	for _, d := range drafts {
		bytes += d.bytes()
	}
	put := func(t tx) error {
		for _, d := range drafts {
			if err := d.put(t, q, now); err != nil {
				return err
			}
		}
		return nil
	}
	if err := q.arrive(ctx, bytes, put); err != nil {
		return nil, err
	}
	ids := make([]ID, len(drafts))
	for i, d := range drafts {
		ids[i] = d.m.id
		q.opt.Log.Info("queued", "queue_id", d.m.id.String(), "from", d.m.env.From.String(), "recipients", d.m.recipients)
	}
	return ids, nil
}

// arrive puts drafts, once more if nobody knows whether they are there: put finds its own
// nonces. If that fails for another reason nobody knows it still. Who is patient for so long only
// does not go together with what waits for as long as the engine does, nor behind it.
func (q *Queue) arrive(ctx context.Context, bytes int, put func(tx) error) error {
	line := &q.arrivals
	if engine.Patience(ctx, -1) < 0 {
		line = &q.own
	}
	err := line.do(ctx, bytes, put)
	for tries := 0; fault.Is(err, fault.Unknown) && tries < 3; tries++ {
		again := line.do(ctx, bytes, put)
		if again != nil && !fault.Is(again, fault.Unknown) {
			return fault.Wrap(fault.Unknown, fault.Say(err), again)
		}
		err = again
	}
	return err
}

// draft is an entry on its way in.
type draft struct {
	m      message
	rcpts  []recipient
	groups []group
	parcel []byte
	key    string
	before []string // keys of earlier tries in doubt
	atOnce bool     // it is to be tried at once
	behind int64    // this node's clock is, against that of who works the part
}

func (q *Queue) draft(e Entry, now int64) (*draft, error) {
	switch {
	case len(e.Envelope.To) == 0:
		return nil, fault.New(fault.Invalid, "the message has no recipient")
	case len(e.Envelope.To) > maxRecipients:
		return nil, fault.Newf(fault.TooLarge, "the message has more than %d recipients", maxRecipients)
	case slices.ContainsFunc(append(e.Earlier[:len(e.Earlier):len(e.Earlier)], e.Key), func(key string) bool { return len(key) > 200 }):
		return nil, fault.New(fault.Invalid, "the key is too long")
	}
	nonce, err := q.number()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	env := e.Envelope
	env.To = nil
	info := e.Parcel.Message()
	d := &draft{key: e.Key, before: e.Earlier, parcel: e.Parcel.Encode()}
	d.m = message{
		nonce: nonce, created: now, env: env,
		road: e.Road, size: e.Parcel.Size(), has8Bit: info.Has8Bit, needsUTF8: env.UTF8 && info.HeaderHas8Bit,
		blob: e.Parcel.Blob(), pieces: (len(d.parcel) + maxPiece - 1) / maxPiece,
		recipients: len(e.Envelope.To), open: len(e.Envelope.To),
	}
	d.m.times(q.longestRules(e), q.opt.DelayAfter)
	first := max(now, d.m.release())
	if e.Reason != "" {
		first += q.gap(1)
	}
	d.atOnce = e.Reason == ""
	d.split(e, first)
	return d, nil
}

// split puts the recipients into groups by domain.
func (d *draft) split(e Entry, first int64) {
	last := map[string]int{}
	for _, r := range e.Envelope.To {
		lane := laneOf(destinationOf(e.Road, r.Address.Domain), &e.Envelope)
		g, ok := last[lane]
		if !ok || d.groups[g].waiting == groupSize || e.Envelope.VERP {
			g = len(d.groups)
			last[lane] = g
			d.groups = append(d.groups, group{lane: lane, next: first, reason: e.Reason})
		}
		d.groups[g].waiting++
		d.rcpts = append(d.rcpts, recipient{Recipient: r, group: g})
	}
	d.m.groups = len(d.groups)
}

// bytes is about what the draft takes in an Update.
func (d *draft) bytes() int { return len(d.parcel) + 1000 + 500*len(d.rcpts) }

// put writes the draft, unless its key, its nonce, or the key of an earlier try says that it is
// there already.
func (d *draft) put(t tx, q *Queue, now int64) error {
	if there, err := d.known(t, now); err != nil || there {
		return err
	}
	there, err := d.claim(t, q)
	if err != nil || there {
		return err
	}
	if err := d.abreast(t, now); err != nil {
		return err
	}
	if err := d.putParts(t); err != nil {
		return err
	}
	if d.key != "" {
		if err := t.remember(d.key, d.m.id, now+keyAge.Milliseconds()); err != nil {
			return err
		}
	}
	if err := d.takeBefore(t, now); err != nil {
		return err
	}
	if err := t.setAlarm(alarmDelay, d.m.id, 0, d.m.delayAt); err != nil {
		return err
	}
	if err := t.setAlarm(alarmExpiry, d.m.id, 0, d.m.expiryAt); err != nil {
		return err
	}
	t.count(1, 0)
	return t.putMessage(&d.m)
}

// putParts writes the content, the recipients, and the groups into their lanes.
func (d *draft) putParts(t tx) error {
	for n := range d.m.pieces {
		piece := d.parcel[n*maxPiece : min(len(d.parcel), (n+1)*maxPiece)]
		if err := t.Put(engine.Key(famPiece, uint64(d.m.id), uint64(n)), piece); err != nil {
			return err
		}
	}
	for n := range d.rcpts {
		if err := t.putRecipient(d.m.id, n, &d.rcpts[n]); err != nil {
			return err
		}
	}
	for n := range d.groups {
		g := &d.groups[n]
		if err := t.putGroup(d.m.id, n, g); err != nil {
			return err
		}
		if err := t.list(d.m.id, n, g); err != nil {
			return err
		}
	}
	return nil
}

// claim gives the draft an ID that nobody has, and tells whether the draft itself is
// there already under the one it has.
func (d *draft) claim(t tx, q *Queue) (there bool, err error) {
	for {
		if d.m.id != 0 {
			old, ok, err := t.message(d.m.id)
			if err != nil || !ok {
				return false, err
			}
			if old.nonce == d.m.nonce {
				return true, nil
			}
		}
		q.mu.Lock()
		delete(q.arriving, d.m.id)
		d.m.id = q.newID()
		q.arriving[d.m.id] = true
		q.mu.Unlock()
	}
}

// arrived lets the loop touch the messages.
func (q *Queue) arrived(drafts []*draft) {
	q.mu.Lock()
	for _, d := range drafts {
		delete(q.arriving, d.m.id)
	}
	q.mu.Unlock()
	q.tick()
}
