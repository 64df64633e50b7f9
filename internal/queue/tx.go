package queue

import (
	"encoding/binary"

	"github.com/martlet-mail/martlet/internal/engine"
)

// look reads the queue as of one moment.
type look struct{ engine.Reader }

// tx changes the queue inside an Update. It may run more than once.
type tx struct{ engine.Writer }

func (t tx) look() look                            { return look{t} }
func (t tx) message(id ID) (*message, bool, error) { return t.look().message(id) }

func (l look) message(id ID) (*message, bool, error) {
	v, ok, err := l.Get(engine.Key(famMessage, uint64(id)))
	if err != nil || !ok {
		return nil, false, err
	}
	m, err := decodeMessage(id, v)
	return m, err == nil, err
}

func (l look) recipient(id ID, n int) (*recipient, error) {
	v, _, err := l.Get(engine.Key(famRecipient, uint64(id), uint64(n)))
	if err != nil {
		return nil, err
	}
	return decodeRecipient(v)
}

func (l look) group(id ID, n int) (*group, error) {
	v, _, err := l.Get(engine.Key(famGroup, uint64(id), uint64(n)))
	if err != nil {
		return nil, err
	}
	return decodeGroup(v)
}

func (l look) lane(name string) (*lane, bool, error) {
	v, ok, err := l.Get(engine.KeyString(famLane, name))
	if err != nil || !ok {
		return nil, false, err
	}
	rec, err := decodeLane(v)
	return rec, err == nil, err
}

// parcel returns the encoded parcel of a message.
func (l look) parcel(m *message) ([]byte, error) {
	var b []byte
	for n := range m.pieces {
		v, _, err := l.Get(engine.Key(famPiece, uint64(m.id), uint64(n)))
		if err != nil {
			return nil, err
		}
		b = append(b, v...)
	}
	return b, nil
}

func (t tx) putMessage(m *message) error {
	return t.Put(engine.Key(famMessage, uint64(m.id)), m.encode())
}

func (t tx) putRecipient(id ID, n int, r *recipient) error {
	return t.Put(engine.Key(famRecipient, uint64(id), uint64(n)), r.encode())
}

func (t tx) putGroup(id ID, n int, g *group) error {
	return t.Put(engine.Key(famGroup, uint64(id), uint64(n)), g.encode())
}

func (l look) counts() (counts, error) {
	v, ok, err := l.Get([]byte{famCount})
	if err != nil || !ok {
		return counts{}, err
	}
	return decodeCounts(v)
}

// count adds to the numbers of messages and of held ones.
func (t tx) count(messages, held int) error {
	c, err := t.look().counts()
	if err != nil {
		return err
	}
	c.messages += messages
	c.held += held
	return t.Put([]byte{famCount}, c.encode())
}

// waitingKey is a group's place in its lane.
func waitingKey(lane string, at int64, id ID, n int) []byte {
	k := lanePrefix(lane)
	k = binary.BigEndian.AppendUint64(k, uint64(at))
	k = binary.BigEndian.AppendUint64(k, uint64(id))
	return binary.BigEndian.AppendUint64(k, uint64(n))
}

// lanePrefix begins the keys of all waiting groups of a lane. A lane's name has no
// zero byte.
func lanePrefix(lane string) []byte {
	return append(engine.KeyString(famWaiting, lane), 0)
}

// splitWaiting reads a key of waitingKey.
func splitWaiting(key []byte) (lane string, at int64, id ID, n int) {
	tail := key[len(key)-24:]
	return string(key[1 : len(key)-25]), int64(binary.BigEndian.Uint64(tail)),
		ID(binary.BigEndian.Uint64(tail[8:])), int(binary.BigEndian.Uint64(tail[16:]))
}

func dueKey(at int64, lane string) []byte {
	return append(engine.Key(famDue, uint64(at)), lane...)
}

// list puts a group into its lane, at g.next.
func (t tx) list(id ID, n int, g *group) error {
	if err := t.Put(waitingKey(g.lane, g.next, id, n), nil); err != nil {
		return err
	}
	return t.settleLane(g.lane, nil)
}

// unlist takes a group out of its lane, where it stands at g.next.
func (t tx) unlist(id ID, n int, g *group) error {
	if err := t.Delete(waitingKey(g.lane, g.next, id, n)); err != nil {
		return err
	}
	return t.settleLane(g.lane, nil)
}

// settleLane applies a change to a lane and puts it where it belongs among the due:
// at its first group's time, or at the end of its pause. A lane without groups is
// forgotten, with its pause.
func (t tx) settleLane(name string, change func(*lane)) error {
	l, had, err := t.look().lane(name)
	if err != nil {
		return err
	}
	first, any, err := t.look().firstOf(name)
	if err != nil {
		return err
	}
	if !had {
		l = &lane{}
	}
	old := l.due
	if !any {
		if !had {
			return nil
		}
		if err := t.Delete(dueKey(old, name)); err != nil {
			return err
		}
		return t.Delete(engine.KeyString(famLane, name))
	}
	if change != nil {
		change(l)
	}
	l.due = max(first, l.notBefore)
	if had && old != l.due {
		if err := t.Delete(dueKey(old, name)); err != nil {
			return err
		}
	}
	if !had || old != l.due {
		if err := t.Put(dueKey(l.due, name), nil); err != nil {
			return err
		}
	} else if change == nil {
		return nil
	}
	return t.Put(engine.KeyString(famLane, name), l.encode())
}

// firstOf returns the time of the first group that waits in a lane.
func (l look) firstOf(lane string) (at int64, any bool, err error) {
	prefix := lanePrefix(lane)
	err = l.Scan(prefix, engine.After(prefix), false, func(k, _ []byte) bool {
		_, at, _, _ = splitWaiting(k)
		any = true
		return false
	})
	return at, any, err
}

func alarmKey(kind int, id ID, at int64) []byte {
	return engine.Key(famAlarm, uint64(at), uint64(id), uint64(kind))
}

// setAlarm moves an alarm of a message from one time to another; 0 is no alarm.
func (t tx) setAlarm(kind int, id ID, from, to int64) error {
	if from == to {
		return nil
	}
	if from != 0 {
		if err := t.Delete(alarmKey(kind, id, from)); err != nil {
			return err
		}
	}
	if to == 0 {
		return nil
	}
	return t.Put(alarmKey(kind, id, to), nil)
}

// remember notes an idempotency key until a time.
func (t tx) remember(key string, id ID, until int64) error {
	if err := t.Put(keyKey(key), encodeKeyRecord(id)); err != nil {
		return err
	}
	return t.Put(alarmKey(alarmForget, id, until), []byte(key))
}

// finish writes m back, or removes the message if nobody waits for anything any
// more. A report that is owed gets its alarm.
func (t tx) finish(m *message, now int64) error {
	if m.open == 0 && m.owed == 0 {
		return t.remove(m)
	}
	at := m.reportAt
	switch {
	case m.owed == 0:
		at = 0
	case at == 0:
		at = now
	}
	if err := t.setAlarm(alarmReport, m.id, m.reportAt, at); err != nil {
		return err
	}
	m.reportAt = at
	return t.putMessage(m)
}

// remove deletes all records of a message.
func (t tx) remove(m *message) error {
	for n := range m.groups {
		g, err := t.look().group(m.id, n)
		if err != nil {
			return err
		}
		if g.waiting > 0 && m.heldAt == 0 {
			if err := t.unlist(m.id, n, g); err != nil {
				return err
			}
		}
	}
	for _, a := range [...]struct {
		kind int
		at   int64
	}{{alarmDelay, m.delayAt}, {alarmExpiry, m.expiryAt}, {alarmReport, m.reportAt}} {
		if err := t.setAlarm(a.kind, m.id, a.at, 0); err != nil {
			return err
		}
	}
	held := 0
	if m.heldAt != 0 {
		held = 1
	}
	if err := t.count(-1, -held); err != nil {
		return err
	}
	// One by one: engines slow down for everybody while many deleted ranges are young.
	for _, f := range [...]struct {
		fam byte
		n   int
	}{{famPiece, m.pieces}, {famRecipient, m.recipients}, {famGroup, m.groups}} {
		for n := range f.n {
			if err := t.Delete(engine.Key(f.fam, uint64(m.id), uint64(n))); err != nil {
				return err
			}
		}
	}
	return t.Delete(engine.Key(famMessage, uint64(m.id)))
}
