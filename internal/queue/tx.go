package queue

import (
	"github.com/martlet-mail/martlet/internal/engine"
)

// look reads the queue as of one moment.
type look struct{ engine.Reader }

// tx changes the queue inside an Update. It may run more than once.
type tx struct {
	engine.Writer
	b *batch
}

func (t tx) look() look { return look{t} }

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

// eachGroup reads the groups of a message. One that cannot be read is left out: verify tells
// of it.
func (l look) eachGroup(id ID, fn func(n int, g *group)) error {
	prefix := engine.Key(famGroup, uint64(id))
	return l.Scan(prefix, engine.After(prefix), false, func(k, v []byte) bool {
		if g, err := decodeGroup(v); err == nil {
			fn(int(engine.Num(k, 1)), g)
		}
		return true
	})
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
func (t tx) count(messages, held int) {
	t.b.counts.messages += messages
	t.b.counts.held += held
}

func (t tx) settleCounts() error {
	if t.b.counts == (counts{}) {
		return nil
	}
	c, err := t.look().counts()
	if err != nil {
		return err
	}
	c.messages += t.b.counts.messages
	c.held += t.b.counts.held
	return t.Put([]byte{famCount}, c.encode())
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
	return t.wipeOut(m)
}

// removeGroup deletes all records of a message of which only a group is listed any more.
func (t tx) removeGroup(m *message, n int, g *group) error {
	if g.waiting > 0 && m.heldAt == 0 {
		if err := t.unlist(m.id, n, g); err != nil {
			return err
		}
	}
	return t.wipeOut(m)
}

// wipeOut deletes the records of a message that is in no lane.
func (t tx) wipeOut(m *message) error {
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
	t.count(-1, -held)
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
