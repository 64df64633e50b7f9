package queue

import (
	"context"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

func notQueued(id ID) error {
	return fault.Newf(fault.NotFound, "no message %s is in the queue", id)
}

// change runs fn on one message, in whichever part it lies. Faults: NotFound.
func (q *Queue) change(ctx context.Context, id ID, fn func(t tx, m *message) error) error {
	return q.at(ctx, id, func(p *Queue) error { return p.changeHere(ctx, id, fn) })
}

func (q *Queue) changeHere(ctx context.Context, id ID, fn func(t tx, m *message) error) error {
	return q.update(ctx, func(t tx) error {
		m, ok, err := t.message(id)
		if err != nil {
			return err
		}
		if !ok || m.open == 0 {
			return notQueued(id)
		}
		return fn(t, m)
	})
}

// Retry makes a message due now, and ends the pause of where it goes. One that is
// held stays so. Faults: NotFound.
func (q *Queue) Retry(ctx context.Context, id ID) error {
	now := q.now()
	return q.change(ctx, id, func(t tx, m *message) error {
		if m.heldAt != 0 {
			return fault.Newf(fault.Invalid, "message %s is held; release it first", id)
		}
		return t.hurry(m, now)
	})
}

// hurry makes all groups of a message due at a time.
func (t tx) hurry(m *message, at int64) error {
	at, err := t.soon(at)
	if err != nil {
		return err
	}
	for n := range m.groups {
		g, err := t.look().group(m.id, n)
		if err != nil {
			return err
		}
		if g.waiting == 0 {
			continue
		}
		old := *g
		g.next = min(g.next, max(at, m.release()))
		if err := t.relist(m, n, true, &old, g); err != nil {
			return err
		}
		t.b.dest(destOf(g.lane)).change(resume)
	}
	return nil
}

// resume ends a lane's pause.
func resume(l *lane) { l.fails, l.notBefore, l.reason = 0, 0, "" }

// RetryAll makes every message due now but those that are held, and returns how
// many. It works through the queue in steps; a crash leaves the rest as it was.
func (q *Queue) RetryAll(ctx context.Context) (count int, err error) {
	parts, err := q.all(ctx)
	for _, p := range parts {
		if err == nil {
			n := 0
			n, err = p.retryAll(ctx)
			count += n
		}
	}
	return count, err
}

func (q *Queue) retryAll(ctx context.Context) (count int, err error) {
	from := []byte{famMessage}
	for from != nil {
		var batch []ID
		groups := 0
		next, err := q.messages(ctx, from, func(_ look, m *message) error {
			if m.open > 0 && m.heldAt == 0 {
				batch = append(batch, m.id)
				groups += m.groups
			}
			return nil
		})
		if err != nil {
			return count, err
		}
		step := len(batch)
		if groups > 2000 { // keep an Update small
			step = 1
		}
		for len(batch) > 0 {
			n, err := q.hurryAll(ctx, batch[:min(step, len(batch))])
			if err != nil {
				return count, err
			}
			count += n
			batch = batch[min(step, len(batch)):]
		}
		from = next
	}
	return count, nil
}

func (q *Queue) hurryAll(ctx context.Context, ids []ID) (done int, err error) {
	now := q.now()
	err = q.update(ctx, func(t tx) error {
		done = 0
		for _, id := range ids {
			m, ok, err := t.message(id)
			if err != nil {
				return err
			}
			if !ok || m.open == 0 || m.heldAt != 0 {
				continue
			}
			if err := t.hurry(m, now); err != nil {
				return err
			}
			done++
		}
		return nil
	})
	return done, err
}

func (q *Queue) hold(ctx context.Context, id ID) error {
	now := q.now()
	return q.change(ctx, id, func(t tx, m *message) error {
		if m.heldAt != 0 {
			return nil
		}
		err := t.eachGroup(m, func(n int, g *group) error { return t.unlist(id, n, g) })
		if err != nil {
			return err
		}
		m.heldAt = max(now, 1)
		if err := t.setAlarm(alarmExpiry, id, m.expiryAt, 0); err != nil {
			return err
		}
		m.expiryAt = 0
		t.count(0, 1)
		return t.putMessage(m)
	})
}

func (q *Queue) release(ctx context.Context, id ID) error {
	now := q.now()
	return q.change(ctx, id, func(t tx, m *message) error {
		if m.heldAt == 0 {
			return nil
		}
		m.expires += max(0, now-m.heldAt)
		m.heldAt = 0
		due, err := t.soon(now)
		if err != nil {
			return err
		}
		err = t.eachGroup(m, func(n int, g *group) error {
			g.next = max(due, m.release())
			if err := t.putGroup(id, n, g); err != nil {
				return err
			}
			return t.list(id, n, g)
		})
		if err != nil {
			return err
		}
		if err := t.setAlarm(alarmExpiry, id, m.expiryAt, m.expires); err != nil {
			return err
		}
		m.expiryAt = m.expires
		t.count(0, -1)
		return t.putMessage(m)
	})
}

// eachGroup calls fn for the groups that wait.
func (t tx) eachGroup(m *message, fn func(n int, g *group) error) error {
	for n := range m.groups {
		g, err := t.look().group(m.id, n)
		if err != nil {
			return err
		}
		if g.waiting == 0 {
			continue
		}
		if err := fn(n, g); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) drop(ctx context.Context, id ID, bounce bool) error {
	now := q.now()
	return q.change(ctx, id, func(t tx, m *message) error {
		if !bounce {
			return t.remove(m)
		}
		closed := map[int]int{}
		err := t.each(m, func(_ int, r *recipient) bool {
			r.state = failed
			r.result = Result{Code: 554, Enhanced: "5.3.0", Text: "the administrator of the mail server removed the message from its queue"}
			r.at = now
			m.owe(r, owedFailure)
			m.open--
			closed[r.group]++
			return true
		})
		if err != nil {
			return err
		}
		if err := t.closeGroups(m, closed); err != nil {
			return err
		}
		if m.heldAt != 0 {
			m.heldAt = 0
			t.count(0, -1)
		}
		return t.finish(m, now)
	})
}

// blobs is Blobs of one part.
func (q *Queue) blobs(ctx context.Context, yield func(mail.BlobRef)) error {
	from := []byte{famMessage}
	for from != nil {
		next, err := q.messages(ctx, from, func(_ look, m *message) error {
			yield(m.blob)
			return nil
		})
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}
