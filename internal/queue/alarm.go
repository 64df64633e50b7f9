package queue

import (
	"context"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/trace"
)

// alarmBatch bounds the alarms that one look brings.
const alarmBatch = 200

// reportRetry is the wait after a report could not be sent on its way.
const reportRetry = 5 * time.Minute

// alarm is something that happens to a message at a time.
type alarm struct {
	at   int64
	id   ID
	kind int
	key  string // of alarmForget
}

// ring does what is due apart from attempts: notices of delay, giving up, reports.
// It returns when more will be due.
func (q *Queue) ring(ctx context.Context) (next int64, err error) {
	now, err := q.mind(ctx)
	if err == nil {
		err = q.sweepBounced(ctx, now)
	}
	if err != nil {
		return 0, err
	}
	for {
		due, next, err := q.dueAlarms(ctx, now)
		if err != nil || len(due) == 0 {
			return next, err
		}
		for _, a := range due {
			switch a.kind {
			case alarmReport:
				err = q.report(ctx, a)
			case alarmForget:
				err = q.forget(ctx, a)
			default:
				err = q.strike(ctx, a)
			}
			if unreadable(err) {
				// verify tells of it; here it must not stop the others.
				q.opt.Log.Error("a queue record cannot be read", "queue_id", a.id.String(), "error", err)
				err = q.snooze(ctx, a)
			}
			if err != nil {
				return 0, err
			}
		}
	}
}

func readAlarm(k, v []byte) alarm {
	return alarm{int64(engine.Num(k, 0)), ID(engine.Num(k, 1)), int(engine.Num(k, 2)), string(v)}
}

// dueAlarms returns alarms that are due at a time: not a later one, which nobody has minded.
func (q *Queue) dueAlarms(ctx context.Context, now int64) (due []alarm, next int64, err error) {
	err = q.eng.View(ctx, q.shard, func(r engine.Reader) error {
		due, next = nil, 0
		if err := q.duty(ctx).current(r); err != nil {
			return err
		}
		// No further than Run sleeps: what is deleted there is walked over.
		end := engine.Key(famAlarm, uint64(now+2*maxSleep.Milliseconds()))
		return r.Scan([]byte{famAlarm}, end, false, func(k, v []byte) bool {
			a := readAlarm(k, v)
			if a.at > now {
				next = a.at
				return false
			}
			q.mu.Lock()
			busy := q.arriving[a.id]
			q.mu.Unlock()
			if !busy {
				due = append(due, a)
			}
			return len(due) < alarmBatch
		})
	})
	return due, next, err
}

// forget drops an idempotency key that has served.
func (q *Queue) forget(ctx context.Context, a alarm) error {
	return q.write(ctx, func(w engine.Writer) error {
		if err := w.Delete(keyKey(a.key)); err != nil {
			return err
		}
		return w.Delete(alarmKey(a.kind, a.id, a.at))
	})
}

// snooze moves an alarm that cannot be dealt with by an hour.
func (q *Queue) snooze(ctx context.Context, a alarm) error {
	later := q.now() + time.Hour.Milliseconds()
	return q.write(ctx, func(w engine.Writer) error {
		if err := w.Delete(alarmKey(a.kind, a.id, a.at)); err != nil {
			return err
		}
		return w.Put(alarmKey(a.kind, a.id, later), []byte(a.key))
	})
}

// strike handles the alarms of delay and expiry. A message that is held is left in
// peace: somebody wants it so.
func (q *Queue) strike(ctx context.Context, a alarm) error {
	now := q.now()
	var story *trace.Event
	err := q.update(ctx, func(t tx) error {
		story = nil
		m, ok, err := t.message(a.id)
		if err != nil {
			return err
		}
		current := ok && (a.kind == alarmDelay && m.delayAt == a.at || a.kind == alarmExpiry && m.expiryAt == a.at)
		if !current {
			return t.Delete(alarmKey(a.kind, a.id, a.at))
		}
		if to := q.early(m, a.kind, now); to != 0 {
			if a.kind == alarmExpiry && m.expires < now+keptLife.Milliseconds() {
				if kept, err := q.keptBy(t, m, now); err != nil {
					return err
				} else if len(kept) > 0 {
					to = m.keep(now)
				}
			}
			return t.again(m, a, to)
		}
		if q.late(m, a, now) {
			return t.again(m, a, now+lateBy.Milliseconds())
		}
		if a.kind == alarmDelay {
			if err := t.setAlarm(alarmDelay, a.id, m.delayAt, 0); err != nil {
				return err
			}
			m.delayAt = 0
			if m.heldAt != 0 {
				return t.putMessage(m)
			}
			err = t.each(m, func(_ int, r *recipient) bool { m.owe(r, owedDelay); return true })
		} else {
			story = &trace.Event{What: trace.GivenUp, Queue: a.id.String(), From: sender(m.env.From)}
			err = q.expire(t, m, now, story)
		}
		if err != nil {
			return err
		}
		return t.finish(m, now)
	})
	q.keep(story, err)
	return err
}

// late tells whether an alarm comes so late that the server must have been down:
// then mail gets a last try before anybody is told anything. It is so only once.
func (q *Queue) late(m *message, a alarm, now int64) bool {
	planned := m.expires
	if a.kind == alarmDelay {
		planned = m.created + q.opt.DelayAfter.Milliseconds()
	}
	return a.at == planned && now-a.at >= lateBy.Milliseconds() && m.heldAt == 0 && !(a.kind == alarmExpiry && m.returns() && a.at == m.deadline())
}

// again puts an alarm off.
func (t tx) again(m *message, a alarm, to int64) error {
	if err := t.setAlarm(a.kind, m.id, a.at, to); err != nil {
		return err
	}
	if a.kind == alarmDelay {
		m.delayAt = to
	} else {
		m.expiryAt = to
	}
	return t.putMessage(m)
}

// expire gives up on all recipients that wait. Those under way keep a few minutes:
// the record of their attempt will see that the time is over.
func (q *Queue) expire(t tx, m *message, now int64, story *trace.Event) error {
	left := false
	kept, err := q.keptBy(t, m, now)
	if err != nil {
		return err
	}
	closed := map[int]int{}
	err = t.each(m, func(_ int, r *recipient) bool {
		if kept[r.group] {
			return false
		}
		q.mu.Lock()
		flying := q.flying[flight{m.id, r.group}]
		q.mu.Unlock()
		if flying || m.heldAt != 0 {
			left = true
			return false
		}
		m.expire(r)
		story.To = append(story.To, outcome(r))
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
	next := int64(0)
	switch {
	case left:
		next = now + (5 * time.Minute).Milliseconds()
	case len(kept) > 0:
		next = m.keep(now)
	}
	err = t.setAlarm(alarmExpiry, m.id, m.expiryAt, next)
	m.expiryAt = next
	return err
}

// Mail of a domain that a schedule holds is not given up meanwhile. Every so often its end is
// put off, so that it has at least the difference once the hold is over.
const (
	keptAgain = time.Hour
	keptLife  = 25 * time.Hour
)

// keep puts a message's end off, and returns when to look at it again.
func (m *message) keep(now int64) (next int64) {
	next, m.expires = now+keptAgain.Milliseconds(), now+keptLife.Milliseconds()
	if m.returns() {
		next, m.expires = min(next, m.deadline()), min(m.expires, m.deadline())
	}
	return next
}

// keptBy returns the groups of a message that wait for a domain that is held, or was until a
// moment ago: then they have not been tried yet. A deadline stands.
func (q *Queue) keptBy(t tx, m *message, now int64) (map[int]bool, error) {
	if m.road != Remote || q.opt.Rules == nil || m.returns() && now >= m.deadline() {
		return nil, nil
	}
	kept, bad := map[int]bool{}, error(nil)
	err := t.look().eachGroup(m.id, func(n int, g *group) {
		if g.waiting == 0 || g.lane == "" {
			return
		}
		if q.rules(g.lane).Hold {
			kept[n] = true
			return
		}
		l, ok, err := t.look().lane(g.lane)
		if err != nil {
			bad = err
		}
		if ok && l.reason == heldReason && l.notBefore > now {
			kept[n] = true
		}
	})
	if err == nil {
		err = bad
	}
	return kept, err
}

// each calls fn for the recipients that wait, and writes back those for which it
// returns true.
func (t tx) each(m *message, fn func(n int, r *recipient) bool) error {
	changed := map[int]*recipient{}
	err := t.look().eachRecipient(m, func(n int, r *recipient) {
		if r.state == waiting && fn(n, r) {
			changed[n] = r
		}
	})
	for n, r := range changed {
		if err == nil {
			err = t.putRecipient(m.id, n, r)
		}
	}
	return err
}

// closeGroups takes numbers of recipients off groups.
func (t tx) closeGroups(m *message, closed map[int]int) error {
	for n, k := range closed {
		g, err := t.look().group(m.id, n)
		if err != nil {
			return err
		}
		g.waiting -= k
		if g.waiting == 0 && m.heldAt == 0 {
			if err := t.unlist(m.id, n, g); err != nil {
				return err
			}
		}
		if err := t.putGroup(m.id, n, g); err != nil {
			return err
		}
	}
	return nil
}
