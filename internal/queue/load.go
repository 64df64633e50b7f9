package queue

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/store"
)

// loaded is a group that is read for an attempt.
type loaded struct {
	m      *message
	job    Job
	who    []int  // indices of its recipients that wait
	parcel []byte // nil: to be read when it is wanted
	late   bool   // its deadline is past, and it goes back

	withheld *atomic.Bool // its end was kept back, as it may be another node's
	err      error
}

// maxCarried is the size of a parcel that a look brings along.
const maxCarried = 32 << 10

// loadAlone reads a group in a look of its own.
func (q *Queue) loadAlone(ctx context.Context, f flight) (l *loaded) {
	now := q.now()
	err := q.eng.View(ctx, q.shard, func(r engine.Reader) error { l = q.load(look{r}, f, now); return nil })
	if err != nil {
		return &loaded{err: err}
	}
	return l
}

// load makes the job of a group.
func (q *Queue) load(l look, f flight, now int64) *loaded {
	m, ok, err := l.message(f.id)
	if err != nil || !ok || m.heldAt != 0 {
		return &loaded{err: err}
	}
	g, err := l.group(f.id, f.group)
	if err != nil || g.next > now { // chosen from a look that was older than its last attempt
		return &loaded{err: err}
	}
	out := &loaded{m: m, job: Job{ID: f.id, Attempt: g.attempts + 1, Envelope: m.env}}
	out.late = m.returns() && now >= m.deadline()
	out.err = l.eachRecipient(m, func(n int, r *recipient) {
		if r.group == f.group && r.state == waiting {
			out.who = append(out.who, n)
			out.job.Envelope.To = append(out.job.Envelope.To, r.Recipient)
		}
	})
	if m.env.VERP && len(out.job.Envelope.To) == 1 {
		// This is done once: mail that waits here for its release is queued anew after that.
		out.job.Envelope.From = verp(m.env.From, out.job.Envelope.To[0].Address)
		out.job.Envelope.VERP = false
	}
	if out.err == nil && m.pieces == 1 && m.size <= maxCarried {
		out.parcel, out.err = l.parcel(m)
	}
	out.job.Message = Message{Size: m.size, Has8Bit: m.has8Bit, NeedsUTF8: m.needsUTF8,
		Open: func(ctx context.Context) (io.ReadCloser, error) { return q.open(ctx, out) }}
	out.job.Parcel = func(ctx context.Context) (*store.Parcel, error) { return q.parcel(ctx, m) }
	return out
}

// eachRecipient reads all recipients of a message.
func (l look) eachRecipient(m *message, fn func(n int, r *recipient)) error {
	prefix := engine.Key(famRecipient, uint64(m.id))
	var bad error
	err := l.Scan(prefix, engine.After(prefix), false, func(k, v []byte) bool {
		var r *recipient
		if r, bad = decodeRecipient(v); bad == nil {
			fn(int(engine.Num(k, 1)), r)
		}
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	return err
}

// parcel reads the message back.
func (q *Queue) parcel(ctx context.Context, m *message) (*store.Parcel, error) {
	var record []byte
	err := q.eng.View(ctx, q.shard, func(r engine.Reader) (err error) {
		record, err = look{r}.parcel(m)
		return err
	})
	if err != nil {
		return nil, err
	}
	return q.store.DecodeParcel(ctx, record)
}

// open reads the message as it is sent.
func (q *Queue) open(ctx context.Context, l *loaded) (io.ReadCloser, error) {
	record := l.parcel
	if record == nil {
		err := q.eng.View(ctx, q.shard, func(r engine.Reader) (err error) {
			record, err = look{r}.parcel(l.m)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return q.store.OpenParcel(ctx, record)
}
