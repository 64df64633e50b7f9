package queue

import (
	"context"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
)

// A clock may be wrong for a while and then be set, by years or by an hour, and nothing says
// when it was right. So the queue never trusts a stored time further than this:
//
//   - Nothing waits longer, from now on, than it could if it had been put there just now: a
//     group no longer than the gap after its last attempt, a lane no longer than the longest
//     pause, a message no longer than its lifetime.
//   - Mail is given up, and keys are forgotten, by time in which the queue has looked on. What
//     came due while it did not is put off by as much as was left.
const (
	stray = time.Minute    // how far back a clock may be set without being noticed
	away  = 36 * time.Hour // without a look at the clock; less does nobody harm

	// lateBy is how late an alarm must be for us to have been away for less than that, and
	// how long it is then put off.
	lateBy = 10 * time.Minute

	noteEvery  = 10 * time.Minute // a look at the clock is put on record
	walkBatch  = 1000             // keys of one View
	walkUpdate = 100              // groups of one Update
)

// timekeeper is what the queue knows of its clock. All but highest belong to ring.
type timekeeper struct {
	highest atomic.Int64 // that was read
	looked  int64        // last time, 0: never
	noted   int64        // of it, on record
	walked  int64        // last time all waits were looked at
}

func (q *Queue) now() int64 {
	now := max(q.opt.Now().UnixMilli(), 1) // keys know no time before 1970
	for {
		was := q.clock.highest.Load()
		if now <= was || q.clock.highest.CompareAndSwap(was, now) {
			return now
		}
	}
}

// mind looks at the clock, mends what a wrong one has done, and returns the time.
func (q *Queue) mind(ctx context.Context) (now int64, err error) {
	c := &q.clock
	highest := c.highest.Load()
	now = q.now()
	if c.looked == 0 {
		if err := q.lastLook(ctx, now); err != nil {
			return 0, err
		}
	}
	if now-c.looked > away.Milliseconds() {
		q.opt.Log.Warn("the clock is far ahead of the last look at the queue: mail is not given up for that", "since", time.UnixMilli(c.looked), "now", time.UnixMilli(now))
		if err := q.excuse(ctx, c.looked, now); err != nil {
			return 0, err
		}
	}
	highest = max(highest, c.looked)
	back := highest-now > stray.Milliseconds()
	if back {
		q.opt.Log.Warn("the clock was set back", "from", time.UnixMilli(highest), "now", time.UnixMilli(now))
	}
	if back || c.walked == 0 || now < c.walked || now-c.walked > q.longestGap() {
		if err := q.hasten(ctx, now, back); err != nil {
			return 0, err
		}
		c.highest.Store(now)
		c.walked = now
	}
	if err := q.hastenAlarms(ctx, now); err != nil {
		return 0, err
	}
	c.looked = now
	return now, q.note(ctx, now)
}

// lastLook finds out when the queue was last looked at, before this process began: by the
// record, or if there is none by the number of the newest message, which has the time.
func (q *Queue) lastLook(ctx context.Context, now int64) error {
	return q.eng.View(ctx, q.shard, func(r engine.Reader) error {
		q.clock.looked, q.clock.noted = now, 0
		v, ok, err := r.Get([]byte{famLook})
		if err != nil {
			return err
		}
		if ok {
			if at, err := decodeLook(v); err == nil { // else it is written anew
				q.clock.looked, q.clock.noted = at, at
				return nil
			}
		}
		return r.Scan([]byte{famMessage}, []byte{famMessage + 1}, true, func(k, _ []byte) bool {
			q.clock.looked = int64(engine.Num(k, 0) >> 20)
			return false
		})
	})
}

// note puts a look on record now and then, while there is anything to look at.
func (q *Queue) note(ctx context.Context, now int64) error {
	if passed := now - q.clock.noted; passed >= 0 && passed < noteEvery.Milliseconds() {
		return nil
	}
	any := false
	err := q.eng.View(ctx, q.shard, func(r engine.Reader) error {
		return r.Scan([]byte{famAlarm}, []byte{famAlarm + 1}, false, func(_, _ []byte) bool { any = true; return false })
	})
	if err != nil || !any {
		return err
	}
	err = q.write(ctx, func(w engine.Writer) error { return w.Put([]byte{famLook}, encodeLook(now)) })
	if err == nil {
		q.clock.noted = now
	}
	return err
}

// excuse puts off the alarms that came due between two looks.
func (q *Queue) excuse(ctx context.Context, before, now int64) error {
	return q.moveAlarms(ctx, before, now, func(_ tx, a alarm) (int64, error) {
		if a.kind == alarmReport {
			return a.at, nil
		}
		return now + max(a.at-before, lateBy.Milliseconds()), nil
	})
}

// hastenAlarms brings alarms near that are farther away than any can be.
func (q *Queue) hastenAlarms(ctx context.Context, now int64) error {
	// One look at those of mail that lives longer than other mail, and the queue knows of it.
	longest := time.Duration(q.longest.Load())
	farthest := max(longest, q.opt.DelayAfter, keyAge) + stray
	return q.moveAlarms(ctx, now+farthest.Milliseconds(), math.MaxInt64-1, func(t tx, a alarm) (int64, error) {
		d := time.Duration(0)
		switch a.kind {
		case alarmDelay:
			d = max(q.opt.DelayAfter, 0)
		case alarmExpiry:
			var err error
			if d, err = t.look().lifetime(q, a.id); err != nil {
				return 0, err
			}
		case alarmForget:
			d = keyAge
		}
		if a.at <= now+(d+stray).Milliseconds() {
			return a.at, nil
		}
		return now + d.Milliseconds(), nil
	})
}

// lifetime is the longest that mail to the domains of a message lives. What cannot be read
// is nothing of it: verify tells of it.
func (l look) lifetime(q *Queue, id ID) (longest time.Duration, err error) {
	err = l.eachGroup(id, func(_ int, g *group) {
		if g.lane != "" {
			longest = max(longest, q.rules(g.lane).Lifetime)
		}
	})
	if longest == 0 {
		longest = q.opt.Lifetime
	}
	return longest, err
}

// moveAlarms gives other times to the alarms after a time and up to another.
func (q *Queue) moveAlarms(ctx context.Context, after, to int64, when func(tx, alarm) (int64, error)) error {
	from, end := engine.Key(famAlarm, uint64(after+1)), engine.Key(famAlarm, uint64(to+1))
	for {
		var batch []alarm
		err := q.eng.View(ctx, q.shard, func(r engine.Reader) error {
			batch = nil
			return r.Scan(from, end, false, func(k, v []byte) bool {
				batch = append(batch, readAlarm(k, v))
				return len(batch) < alarmBatch
			})
		})
		if err != nil || len(batch) == 0 {
			return err
		}
		err = q.update(ctx, func(t tx) error {
			for _, a := range batch {
				to, err := when(t, a)
				if err == nil {
					err = t.move(a, to)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		last := batch[len(batch)-1]
		from = append(alarmKey(last.kind, last.id, last.at), 0)
	}
}

// move gives an alarm another time, if it still counts. With that of giving up the
// message's end moves.
func (t tx) move(a alarm, to int64) error {
	if to == a.at {
		return nil
	}
	// A deadline stands, whatever the clock did meanwhile.
	if m, ok, err := t.message(a.id); a.kind == alarmExpiry && err == nil && ok && m.returns() && a.at == m.deadline() {
		return nil
	}
	if err := t.Delete(alarmKey(a.kind, a.id, a.at)); err != nil {
		return err
	}
	if a.kind == alarmForget {
		return t.Put(alarmKey(a.kind, a.id, to), []byte(a.key))
	}
	m, ok, err := t.message(a.id)
	if unreadable(err) {
		return t.Put(alarmKey(a.kind, a.id, to), nil) // whoever rings it says so
	}
	if err != nil || !ok {
		return err
	}
	switch {
	case a.kind == alarmDelay && m.delayAt == a.at:
		m.delayAt = to
	case a.kind == alarmReport && m.reportAt == a.at:
		m.reportAt = to
	case a.kind == alarmExpiry && m.expiryAt == a.at:
		m.expiryAt = to
		more := min(max(0, m.expires-a.at), keptLife.Milliseconds())
		if m.expires = to + more; m.release() > 0 {
			d, err := t.look().lifetime(t.b.q, m.id)
			if err != nil {
				return err
			}
			m.expires = max(to, m.release()+d.Milliseconds())
		}
	default:
		return nil
	}
	if err := t.Put(alarmKey(a.kind, a.id, to), nil); err != nil {
		return err
	}
	return t.putMessage(m)
}

// longestGap is the longest time between two attempts.
func (q *Queue) longestGap() int64 { return reach(slices.Max(q.opt.Gaps)) }

// reach is how far away something can be that is put off by a time with jitter.
func reach(d time.Duration) int64 { return (d + d/10 + stray).Milliseconds() }

// hasten brings attempts near that are farther away than any can be. thoroughly looks at
// each group's own gap, too.
func (q *Queue) hasten(ctx context.Context, now int64, thoroughly bool) error {
	least := q.longestGap()
	if thoroughly {
		least = reach(slices.Min(q.opt.Gaps))
	}
	for from := []byte{famWaiting}; from != nil; {
		var far []pick
		var err error
		if far, from, err = q.farGroups(ctx, from, now, least); err != nil {
			return err
		}
		for part := range slices.Chunk(far, walkUpdate) {
			if err := q.hastenGroups(ctx, part, now); err != nil {
				return err
			}
		}
	}
	late := now
	if !thoroughly {
		late += least
	}
	if err := q.walkTurns(ctx, late); err != nil {
		return err
	}
	return q.hastenLanes(ctx, now)
}

// walkTurns puts lanes that stand later than a time where they belong.
func (q *Queue) walkTurns(ctx context.Context, after int64) error {
	for from := []byte{famFlow}; from != nil; {
		var late []string
		next := []byte(nil)
		err := q.eng.View(ctx, q.shard, func(r engine.Reader) error {
			late, next = nil, nil
			n := 0
			return r.Scan(from, []byte{famFlow + 1}, false, func(k, v []byte) bool {
				if n++; n > walkBatch {
					next = slices.Clone(k)
					return false
				}
				if is, err := decodePlace(v); err == nil && is.at > after {
					late = append(late, string(k[1:]))
				}
				return true
			})
		})
		if err != nil {
			return err
		}
		for part := range slices.Chunk(late, walkUpdate) {
			err := q.update(ctx, func(t tx) error {
				for _, name := range part {
					t.b.lane(name).removed = true
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		from = next
	}
	return nil
}

// farGroups returns groups of the keys from one on that wait too long, and the key to go
// on at, nil at the end.
func (q *Queue) farGroups(ctx context.Context, from []byte, now, least int64) (far []pick, next []byte, err error) {
	err = q.eng.View(ctx, q.shard, func(r engine.Reader) error {
		far, next = nil, nil
		n := 0
		return r.Scan(from, []byte{famWaiting + 1}, false, func(k, _ []byte) bool {
			if n++; n > walkBatch {
				next = slices.Clone(k)
				return false
			}
			if name, at, id, group := splitWaiting(k); at > now+least {
				far = append(far, pick{flight: flight{id, group}, lane: name})
			}
			return true
		})
	})
	return far, next, err
}

// hastenGroups gives those of the groups a new time that wait for longer than their gap.
func (q *Queue) hastenGroups(ctx context.Context, far []pick, now int64) error {
	return q.update(ctx, func(t tx) error {
		for _, p := range far {
			m, ok, err := t.message(p.id)
			if err != nil || !ok || m.heldAt != 0 {
				continue // verify tells of what cannot be read
			}
			g, err := t.look().group(p.id, p.group)
			if err != nil || g.waiting == 0 || g.next <= now+reach(q.rules(g.lane).gapAfter(g.attempts)) || g.attempts == 0 && g.next <= m.release() {
				continue
			}
			old := *g
			g.next = now + q.gap(g.attempts)
			if err := t.relist(m, p.group, true, &old, g); err != nil {
				return err
			}
		}
		return nil
	})
}

// hastenLanes ends pauses that are longer than any.
func (q *Queue) hastenLanes(ctx context.Context, now int64) error {
	far := now + reach(longestPause)
	for from := engine.Key(famDue, uint64(far)); ; {
		var keys [][]byte
		err := q.eng.View(ctx, q.shard, func(r engine.Reader) error {
			keys = nil
			return r.Scan(from, []byte{famDue + 1}, false, func(k, _ []byte) bool {
				keys = append(keys, slices.Clone(k))
				return len(keys) < walkUpdate
			})
		})
		if err != nil || len(keys) == 0 {
			return err
		}
		err = q.update(ctx, func(t tx) error {
			for _, k := range keys {
				rec, ok, err := t.look().lane(string(k[9:]))
				if err != nil || !ok || rec.due <= far {
					continue
				}
				t.b.dest(string(k[9:])).change(func(l *lane) { l.notBefore = min(l.notBefore, now) })
			}
			return nil
		})
		if err != nil {
			return err
		}
		from = append(keys[len(keys)-1], 0)
	}
}
